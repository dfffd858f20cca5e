"""Plays about due times, expiry, and what changes them."""

from checker.play import BACK_OFF, CheckerTest


class ClockTest(CheckerTest):
    """With a take at the beginning, which tells how the clocks differ."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "clock")
        self.two.consume("orders", "clock")


class Due(CheckerTest):
    """When a message is due."""

    def test_early(self) -> None:
        self.producer.send("reminders", "a.1", delay=2.0)
        self.play.wait(1)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_in_time(self) -> None:
        self.producer.send("reminders", "a.1", delay=2.0)
        self.play.wait(2)
        self.one.consume("reminders", "a.1")
        results = self.clean()
        self.assertEqual(results["due_time_kept"].checked, 1)

    def test_early_by_time_of_day(self) -> None:
        self.producer.send("reminders", "a.1",
                           deliver_at=self.play.clock() + 2)
        self.play.wait(1.9)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_in_time_by_time_of_day(self) -> None:
        self.producer.send("reminders", "a.1",
                           deliver_at=self.play.clock() + 2)
        self.play.wait(2)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_time_that_is_past(self) -> None:
        self.producer.send("reminders", "a.1",
                           deliver_at=self.play.clock() - 5)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_early_after_a_crash(self) -> None:
        """The row knows, not memory."""
        self.producer.send("reminders", "a.1", delay=3.0)
        self.play.crash()
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_unknown_commit(self) -> None:
        self.producer.begin()
        self.producer.send("reminders", "a.1", delay=2.0)
        self.play.fault("terminate_backend")
        self.producer.commit("lost", 1)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_never_delivered(self) -> None:
        self.producer.send("reminders", "a.1", delay=1.0)
        self.play.wait(5)
        self.play.remain("reminders", "a.1")
        self.violates("drained")

    def test_vanishes_before_it_is_due(self) -> None:
        self.producer.send("reminders", "a.1", delay=1.0)
        self.violates("no_loss")

    def test_delayed_is_not_passed_over(self) -> None:
        self.producer.send("reminders", "a.1", delay=6.0)
        for number in range(80):
            self.two.send("reminders", "b.%d" % number)
            self.two.consume("reminders", "b.%d" % number)
            self.play.wait(0.08)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_passed_over_since_it_is_due(self) -> None:
        self.producer.send("reminders", "a.1", delay=1.0)
        for number in range(80):
            self.two.send("reminders", "b.%d" % number)
            self.two.consume("reminders", "b.%d" % number)
            self.play.wait(0.08)
        self.one.consume("reminders", "a.1")
        self.violates("passed_over")


class Expiry(ClockTest):
    """When a message is too old."""

    def test_too_late(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.play.wait(1.5)
        self.one.consume("reminders", "a.1")
        self.violates("expiry_kept")

    def test_just_in_time(self) -> None:
        """A take that began before may end after."""
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.play.wait(0.98)
        self.one.begin()
        self.one.dequeue("reminders", "a.1", took=0.5)
        self.one.effect("reminders", "a.1")
        self.one.commit()
        results = self.clean()
        self.assertEqual(results["expiry_kept"].checked, 1)

    def test_counted_from_when_it_is_due(self) -> None:
        self.producer.send("reminders", "a.1", delay=2.0, expires_in=1.0)
        self.play.wait(2.5)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_too_late_by_the_setting_of_the_queue(self) -> None:
        self.producer.send("offers", "a.1")
        self.play.wait(3.1)
        self.one.consume("offers", "a.1")
        self.violates("expiry_kept")

    def test_a_row_with_its_id_knows_no_setting(self) -> None:
        self.producer.send("offers", "a.1", how="by_hand")
        self.play.wait(3.1)
        self.one.consume("offers", "a.1")
        self.clean()

    def test_too_late_by_a_plain_insert(self) -> None:
        self.producer.send("reminders", "a.1",
                           expires_at=self.play.clock() + 1)
        self.play.wait(1.1)
        self.one.consume("reminders", "a.1")
        self.violates("expiry_kept")

    def test_lease_ends_after_it(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        receipt, = self.one.receive("reminders", "a.1")
        self.play.wait(1.5)
        self.one.ack("reminders", "a.1", receipt)
        self.clean()

    def test_failed_and_delivered_again(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        receipt, = self.one.receive("reminders", "a.1")
        self.play.wait(1.5)
        self.one.settle("nack", receipt, queue="reminders", delay=0)
        self.one.consume("reminders", ("a.1", 2))
        self.violates("expiry_kept")

    def test_dead_letter(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.play.wait(1.5)
        self.play.dead("reminders", "a.1", "expired", 0)
        results = self.clean()
        self.assertEqual(results["expired_for_a_reason"].checked, 1)

    def test_dead_too_early(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.producer.send("reminders", "a.2")
        self.play.dead("reminders", "a.1", "expired", 0)
        self.one.consume("reminders", "a.2")
        self.violates("expired_for_a_reason")

    def test_dead_though_it_never_expires(self) -> None:
        self.producer.send("reminders", "a.1")
        self.play.wait(10)
        self.play.dead("reminders", "a.1", "expired", 0)
        self.violates("expired_for_a_reason")

    def test_dead_and_consumed(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.one.consume("reminders", "a.1")
        self.play.wait(2)
        self.play.dead("reminders", "a.1", "expired", 0)
        self.violates("dead_or_alive")

    def test_discarded(self) -> None:
        self.producer.begin()
        self.producer.send("offers", "a.1")
        self.producer.send("offers", "a.2")
        self.producer.commit()
        self.one.consume("offers", "a.1")
        self.play.wait(4)
        results = self.clean()
        self.assertEqual(results["expired_for_a_reason"].checked, 1)

    def test_discarded_too_early(self) -> None:
        self.producer.send("offers", "a.1")
        self.violates("no_loss")

    def test_discarded_though_it_should_be_dead(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.play.wait(4)
        self.violates("no_loss")

    def test_dead_though_it_should_be_discarded(self) -> None:
        self.producer.send("offers", "a.1")
        self.play.wait(4)
        self.play.dead("offers", "a.1", "expired", 0)
        self.violates("expired_for_a_reason")

    def test_stays(self) -> None:
        self.producer.send("offers", "a.1")
        self.play.wait(4)
        self.play.remain("offers", "a.1")
        self.violates("drained")


class Rescheduled(ClockTest):
    """Messages that are due at another time than at first."""

    def reschedule(self, seconds: float, **options) -> None:
        """To so much later than now."""
        self.two.reschedule("reminders", "a.1",
                            self.play.clock() + seconds, **options)

    def test_to_an_earlier_time(self) -> None:
        self.producer.send("reminders", "a.1", delay=9.0)
        self.reschedule(1)
        self.play.wait(1.1)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_too_early_all_the_same(self) -> None:
        self.producer.send("reminders", "a.1", delay=9.0)
        self.reschedule(1)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_to_a_later_time(self) -> None:
        self.producer.send("reminders", "a.1", delay=1.0)
        self.reschedule(3)
        self.play.wait(1.5)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_twice(self) -> None:
        self.producer.send("reminders", "a.1", delay=9.0)
        self.reschedule(1)
        self.reschedule(5)
        self.play.wait(1.5)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_refused(self) -> None:
        self.producer.send("reminders", "a.1", delay=1.0)
        self.reschedule(3, done=False)
        self.play.wait(1.5)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_rolled_back(self) -> None:
        self.producer.send("reminders", "a.1", delay=3.0)
        self.two.begin()
        self.reschedule(0)
        self.two.rollback()
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_not_committed_yet(self) -> None:
        self.producer.send("reminders", "a.1", delay=3.0)
        self.two.begin()
        self.reschedule(0)
        self.one.begin()
        self.one.dequeue("reminders", "a.1")
        self.play.wait(0.1)
        self.two.commit()
        self.one.effect("reminders", "a.1")
        self.one.commit()
        self.violates("change_spares_held")

    def test_perhaps(self) -> None:
        """Nobody knows, so either may be."""
        self.producer.send("reminders", "a.1", delay=9.0)
        self.play.fault("terminate_backend")
        self.reschedule(1, state="lost", closed=1)
        self.play.wait(1.5)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_perhaps_but_not_so_early(self) -> None:
        self.producer.send("reminders", "a.1", delay=9.0)
        self.play.fault("terminate_backend")
        self.reschedule(5, state="lost", closed=1)
        self.play.wait(1.5)
        self.one.consume("reminders", "a.1")
        self.violates("due_time_kept")

    def test_while_it_backs_off(self) -> None:
        self.producer.send("reminders", "a.1")
        receipt, = self.one.receive("reminders", "a.1")
        self.one.settle("nack", receipt, queue="reminders", delay=5)
        self.reschedule(0)
        self.one.consume("reminders", ("a.1", 2))
        self.clean()

    def test_expiry_moves_along(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.reschedule(2, expires_at=self.play.clock() + 3)
        self.play.wait(2.5)
        self.one.consume("reminders", "a.1")
        results = self.clean()
        self.assertEqual(results["expiry_moves_along"].checked, 1)

    def test_expiry_of_one_that_was_overdue(self) -> None:
        """By a plain INSERT, whose row says so."""
        now = self.play.clock()
        self.producer.send("reminders", "a.1", deliver_at=now - 3,
                           expires_at=now + 2)
        self.reschedule(2, expires_at=self.play.clock() + 7)
        self.play.wait(2.5)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_expiry_stays_behind(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=3.0)
        self.reschedule(2, expires_at=self.play.clock() + 3)
        self.play.wait(2.5)
        self.one.consume("reminders", "a.1")
        self.violates("expiry_moves_along")

    def test_expiry_comes_from_nowhere(self) -> None:
        self.producer.send("reminders", "a.1")
        self.reschedule(2, expires_at=self.play.clock() + 3)
        self.play.wait(2.5)
        self.one.consume("reminders", "a.1")
        self.violates("expiry_moves_along")

    def test_expiry_after_a_failure(self) -> None:
        """The row has the due time of the back-off by then."""
        self.producer.send("reminders", "a.1", expires_in=9.0)
        self.one.roll_back("reminders", "a.1")
        self.reschedule(2, expires_at=self.play.clock() + 7)
        self.play.wait(2.5)
        self.one.consume("reminders", ("a.1", 2))
        self.clean()

    def test_too_late_all_the_same(self) -> None:
        self.producer.send("reminders", "a.1", expires_in=1.0)
        self.reschedule(2, expires_at=self.play.clock() + 3)
        self.play.wait(3.5)
        self.one.consume("reminders", "a.1")
        self.violates("expiry_kept")

    def test_held(self) -> None:
        self.producer.send("reminders", "a.1")
        receipt, = self.one.receive("reminders", "a.1")
        self.reschedule(1)
        self.play.wait(0.1)
        self.one.settle("nack", receipt, queue="reminders")
        self.play.wait(BACK_OFF + 1)
        self.one.consume("reminders", ("a.1", 2))
        self.violates("change_spares_held")


class Cancelled(CheckerTest):
    """Messages that are to go."""

    def test_cancelled(self) -> None:
        self.producer.send("reminders", "a.1", delay=1.0)
        self.two.cancel("reminders", "a.1")
        results = self.clean()
        self.assertEqual(results["change_spares_held"].checked, 1)

    def test_refused(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.cancel("reminders", "a.1", done=False)
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_refused_and_gone(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.cancel("reminders", "a.1", done=False)
        self.violates("no_loss")

    def test_rolled_back(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.begin()
        self.two.cancel("reminders", "a.1")
        self.two.rollback()
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_rolled_back_and_gone(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.begin()
        self.two.cancel("reminders", "a.1")
        self.two.rollback()
        self.violates("no_loss")

    def test_delivered_afterwards(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.cancel("reminders", "a.1")
        self.one.roll_back("reminders", "a.1")
        self.violates("consumed_stays_consumed")

    def test_delivered_meanwhile(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.begin()
        self.two.cancel("reminders", "a.1")
        self.one.roll_back("reminders", "a.1")
        self.two.commit()
        self.violates("change_spares_held")

    def test_held(self) -> None:
        self.producer.send("reminders", "a.1")
        self.one.begin()
        self.one.dequeue("reminders", "a.1")
        self.two.begin()
        self.two.cancel("reminders", "a.1")
        self.play.wait(0.1)
        self.two.rollback()
        self.one.effect("reminders", "a.1")
        self.one.commit()
        self.violates("change_spares_held")

    def test_stays(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.cancel("reminders", "a.1")
        self.play.remain("reminders", "a.1")
        self.violates("one_effect", "drained")

    def test_perhaps(self) -> None:
        """The row in the ledger decides."""
        self.producer.send("reminders", "a.1", "a.2")
        self.play.fault("terminate_backend")
        for value in ("a.1", "a.2"):
            txn = self.two.cancel("reminders", value, state="lost", closed=1)
        self.play.write([("ledger", ["reminders", "a.2", txn, "cancelled"])])
        self.one.consume("reminders", "a.1")
        self.clean()

    def test_refused_though_free(self) -> None:
        self.producer.send("reminders", "a.1")
        self.two.cancel("reminders", "a.1", done=False, must=True)
        self.one.consume("reminders", "a.1")
        self.violates("change_does_what_it_can")

    def test_done_though_held(self) -> None:
        """The hold is over by the answer, but the probe knew."""
        self.producer.send("reminders", "a.1")
        self.two.reschedule("reminders", "a.1", self.play.clock(),
                            must=False)
        self.one.consume("reminders", "a.1")
        self.violates("change_does_what_it_can")

"""Plays about attempts, back-off and dead letters."""

from checker.play import CheckerTest


class Failures(CheckerTest):
    """Attempts, the limit, and dead letters."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "a.1")

    def test_rollback_not_counted(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.one.consume("orders", ("a.1", 1))
        self.violates("attempts_add_up")

    def test_counted_twice(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.one.consume("orders", ("a.1", 3))
        self.violates("attempts_add_up")

    def test_release_counted(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("release", receipt)
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_nack_not_counted(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.one.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_end_of_lease_not_counted(self) -> None:
        self.one.receive("orders", "a.1", lease=1)
        self.play.wait(2)
        self.two.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_ends_of_lease_in_quick_succession(self) -> None:
        """No other message is looked at in between."""
        for attempt in (1, 2, 3):
            self.one.receive("orders", ("a.1", attempt), lease=0.011)
        self.two.consume("orders", ("a.1", 4))
        self.clean()

    def test_rolled_back_without_a_mark(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.call("uncount")
        self.one.rollback()
        self.one.consume("orders", "a.1")
        self.clean()

    def test_counted_though_it_should_not(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.call("uncount")
        self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_without_a_mark_under_a_savepoint(self) -> None:
        """What a savepoint has said is good for all that is rolled back."""
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        self.one.savepoint("s")
        self.one.call("uncount")
        self.one.rollback()
        self.one.consume("orders", ("a.1", 1))
        self.clean()

    def test_lease_counted_though_it_should_not(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.call("uncount")
        self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_rolled_back_receive(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.rollback()
        self.two.consume("orders", ("a.1", 2))
        self.clean()

    def test_rolled_back_receive_not_counted(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.rollback()
        self.two.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_rolled_back_receive_counted_twice(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.rollback()
        self.two.consume("orders", ("a.1", 3))
        self.violates("attempts_add_up")

    def test_full_disk_counted(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=5)
        self.one.call("business", state="53100")
        self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up", "errors_expected")

    def test_rolled_back_prepared_not_counted(self) -> None:
        self.one.begin()
        self.one.dequeue("orders", "a.1")
        txn = self.one.prepare()
        self.one.finish(txn, "rollback")
        self.two.consume("orders", "a.1")
        self.violates("attempts_add_up")

    def test_failures_forgotten_in_crash(self) -> None:
        self.one.roll_back("orders", "a.1")
        self.play.crash()
        self.one.consume("orders", "a.1")
        self.clean()

    def fail_to_serialize(self, attempt: int) -> None:
        """Dequeue, and meet a serialization failure."""
        self.one.begin("SERIALIZABLE")
        self.one.dequeue("orders", ("a.1", attempt))
        self.one.call("business", state="40001")
        self.one.rollback()

    def test_serialization_failure(self) -> None:
        self.fail_to_serialize(1)
        self.fail_to_serialize(1)
        self.one.consume("orders", "a.1")
        self.clean()

    def test_serialization_failure_counted(self) -> None:
        self.fail_to_serialize(1)
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_serialization_failure_of_commit_counted(self) -> None:
        self.one.begin("SERIALIZABLE")
        self.one.dequeue("orders", "a.1")
        self.one.commit("40001", happens=False)
        self.one.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_serialization_failure_in_savepoint(self) -> None:
        """What was dequeued before it is the server's to judge."""
        for attempt in (1, 2):
            self.one.begin("SERIALIZABLE")
            self.one.dequeue("orders", ("a.1", attempt))
            self.one.savepoint("s")
            self.one.call("business", state="40001")
            self.one.rollback_to("s")
            self.one.rollback()
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_terminated(self) -> None:
        """Counted or not."""
        for attempt in (1, 1, 2):
            self.one.begin()
            self.one.dequeue("orders", ("a.1", attempt))
            self.play.fault("terminate_backend", 0.01)
            self.one.call("business", state="57P01", closed=1)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_unseen_take(self) -> None:
        """A take that failed had the message in its hands."""
        self.play.fault("cancel_backend")
        self.one.lose_take("dequeue", "orders", "57014", 0)
        self.two.consume("orders", ("a.1", 2))
        self.clean()

    def test_unseen_take_of_another_time(self) -> None:
        self.play.fault("cancel_backend")
        self.one.lose_take("dequeue", "orders", "57014", 0)
        self.producer.send("orders", "a.2")
        self.two.consume("orders", "a.1")
        self.two.consume("orders", ("a.2", 2))
        self.violates("attempts_add_up")

    def test_refused_take(self) -> None:
        """A take of a paused queue has nothing in its hands."""
        self.play.fault("pause_queue")
        self.one.lose_take("dequeue", "orders", "QU002", 0)
        self.two.consume("orders", ("a.1", 2))
        self.violates("attempts_add_up")

    def test_failed_in_company(self) -> None:
        self.producer.send("orders", "a.2")
        self.one.roll_back("orders", "a.1")
        self.one.consume("orders", "a.2", ("a.1", 2))
        self.violates("failed_batch_halved", "batch_in_order")

    def test_failed_batch_halved(self) -> None:
        self.producer.send("orders", "a.2", "a.3", "a.4")
        self.one.roll_back("orders", "a.1", "a.2", "a.3", "a.4")
        self.one.consume("orders", ("a.1", 2), ("a.2", 2))
        self.one.consume("orders", ("a.3", 2), ("a.4", 2))
        self.clean()

    def test_failed_behind_a_group(self) -> None:
        self.producer.send("devices", "b.1", "b.2", group="g")
        self.producer.send("devices", "b.3", "b.4")
        self.one.roll_back("devices", "b.1", "b.2", "b.3", "b.4", pause=0)
        self.producer.send("devices", "b.5", group="g")
        self.one.consume("orders", "a.1")
        self.one.begin()
        self.one.dequeue("devices", ("b.1", 2), ("b.2", 2))
        self.one.effect("devices", "b.1", "b.2")
        self.one.commit()
        self.one.begin()
        self.one.dequeue("devices", "b.5", ("b.3", 2))
        self.one.effect("devices", "b.5", "b.3")
        self.one.commit()
        self.one.consume("devices", ("b.4", 2))
        self.clean()

    def test_failed_before_a_take_that_waited(self) -> None:
        self.producer.send("orders", "a.2", "a.3", "a.4")
        began = self.play.now - 0.05
        self.one.roll_back("orders", "a.1", "a.2", "a.3", "a.4", pause=0)
        self.two.begin()
        ended, self.play.now = self.play.now, began
        self.two.dequeue("orders", ("a.1", 2), ("a.2", 2), wait=1.0,
                         took=ended - began + 0.01)
        self.two.effect("orders", "a.1", "a.2")
        self.two.commit()
        self.two.consume("orders", ("a.3", 2), ("a.4", 2))
        self.clean()

    def test_failed_batch_whole(self) -> None:
        self.producer.send("orders", "a.2")
        self.one.roll_back("orders", "a.1", "a.2")
        self.one.consume("orders", ("a.1", 2), ("a.2", 2))
        self.violates("failed_batch_halved")

    def test_failed_with_others(self) -> None:
        self.producer.send("orders", "a.2", "a.3", "a.4")
        self.one.roll_back("orders", "a.1", "a.2", "a.3", "a.4")
        self.producer.send("orders", "a.5")
        self.one.consume("orders", ("a.1", 2), ("a.2", 2))
        self.one.consume("orders", ("a.3", 2))
        self.one.consume("orders", ("a.4", 2), "a.5")
        self.violates("failed_batch_halved")

    def test_limit_overrun(self) -> None:
        for attempt in range(1, 6):
            self.one.roll_back("orders", ("a.1", attempt))
        self.one.consume("orders", ("a.1", 6))
        self.violates("limit_kept")

    def test_dead_and_consumed(self) -> None:
        for attempt in range(1, 6):
            self.one.roll_back("orders", ("a.1", attempt))
        self.play.dead("orders", "a.1", "max_attempts reached", 5)
        self.one.consume("orders", ("a.1", 5))
        self.violates("dead_or_alive", "attempts_add_up")

    def test_dead_and_left(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.play.remain("orders", "a.1")
        self.violates("dead_or_alive", "drained")

    def test_dead_twice(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        for _ in range(2):
            self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.violates("dead_or_alive")

    def test_dead_too_early(self) -> None:
        for attempt in range(1, 4):
            self.one.roll_back("orders", ("a.1", attempt))
        self.play.dead("orders", "a.1", "max_attempts reached", 5)
        self.violates("dead_or_alive")

    def test_rejected_by_nobody(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.begin()
        self.one.settle("reject", receipt)
        self.one.rollback()
        self.play.dead("orders", "a.1", "rejected on purpose", 0)
        self.violates("dead_or_alive")

    def test_rejected_but_alive(self) -> None:
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("reject", receipt)
        self.play.remain("orders", "a.1")
        self.violates("dead_or_alive", "drained")

    def test_dead_by_failures_nobody_saw(self) -> None:
        for _ in range(5):
            self.play.fault("cancel_backend", 0.01)
            self.one.lose_take("dequeue", "orders", "57014", 0)
        self.play.dead("orders", "a.1", "max_attempts reached", 5)
        self.clean()


class AnotherWithItsId(CheckerTest):
    """A message has the id of one that had failed."""

    def test_failures_of_another_with_its_id(self) -> None:
        self.play.ids["orders", "a.2"] = self.play.id("orders", "a.1")
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.two.begin()
        self.two.call("remove", "orders", "truncate", result=["a.1"])
        self.two.effect("orders", "a.1", effect="purged")
        self.two.commit()
        self.producer.send("orders", "a.2")
        self.play.wait(1)
        self.one.consume("orders", ("a.2", 2))
        self.violates("attempts_add_up")


class Delays(CheckerTest):
    """A message that has failed stays away for a while."""

    def test_delay_ignored(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=5.0)
        self.play.wait(4)
        self.one.consume("orders", ("a.1", 2))
        self.violates("delay_kept")

    def test_delay_of_release_ignored(self) -> None:
        self.producer.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.play.wait(0.1)
        self.one.settle("release", receipt, delay=5.0)
        self.play.wait(1)
        self.one.consume("orders", "a.1")
        self.violates("delay_kept")

    def test_delay_kept(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=5.0)
        self.play.wait(5)
        self.one.consume("orders", ("a.1", 2))
        self.clean()

    def test_delay_forgotten(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt, delay=5.0)
        self.play.crash()
        self.one.consume("orders", "a.1")
        self.clean()

    def fail_twice(self, pause: float) -> None:
        """Two failed dequeues, and soon another one."""
        self.one.send("orders", "a.1")
        self.one.roll_back("orders", "a.1", pause=0)
        self.one.roll_back("orders", ("a.1", 2), pause=pause)
        self.one.consume("orders", ("a.1", 3))

    def test_back_off_ignored(self) -> None:
        self.fail_twice(0)
        self.violates("back_off_kept")

    def test_back_off_kept(self) -> None:
        """The first failure needs none."""
        self.fail_twice(0.05)
        self.clean()

    def test_back_off_of_nack_ignored(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True, took=0)
        self.violates("back_off_kept")

    def test_back_off_forgotten(self) -> None:
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.settle("nack", receipt)
        self.play.faults.append(["fault", self.play.now, self.play.now,
                                 "kill_backend", {"crash": True}])
        self.two.take("dequeue", "orders", "a.1", with_row=True, took=0)
        self.clean()

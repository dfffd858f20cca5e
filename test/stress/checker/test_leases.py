"""Plays about leases and their receipts."""

from typing import Any

from checker.play import CALL, CheckerTest


class Leased(CheckerTest):
    """What is held by a receipt."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("orders", "a.1")

    def end(self, *got: Any) -> None:
        """The message is consumed after all."""
        self.play.wait(40)
        self.two.consume("orders", *got)

    def test_redelivered_too_early(self) -> None:
        self.one.receive("orders", "a.1", lease=5)
        self.play.wait(3)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_redelivered_after_deadline(self) -> None:
        self.one.receive("orders", "a.1", lease=5)
        self.play.wait(5)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_default_lease_may_be_short(self) -> None:
        """The queue may have been altered."""
        self.one.receive("orders", "a.1")
        self.play.wait(1.0)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_extended(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.settle("extend", receipt, lease=5)
        self.play.wait(3)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_extend_without_answer(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.settle("extend", receipt, lease=5, state="lost", closed=1)
        self.play.fault("terminate_backend")
        self.play.wait(1)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_shortened(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.settle("extend", receipt, lease=0.2)
        self.play.wait(0.3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_perhaps_nacked(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.play.fault("cancel_backend")
        self.one.settle("nack", receipt, state="57014")
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_release_refused(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.settle("release", receipt, "other", state="QU001")
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_receive_rolled_back(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=9)
        self.one.rollback()
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_receive_committed(self) -> None:
        self.one.begin()
        self.one.receive("orders", "a.1", lease=9)
        self.one.commit()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_acking_past_deadline(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.play.wait(3)
        self.two.roll_back("orders", ("a.1", 2))
        self.one.effect("orders", "a.1")
        self.one.commit()
        self.violates("leases_do_not_overlap")

    def test_ack_rolled_back_past_deadline(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.play.wait(3)
        self.one.rollback()
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_young_lease_ends_in_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(1)
        self.play.crash()
        self.one.settle("ack", receipt, state="QU001")
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_old_lease_ends_in_crash(self) -> None:
        self.one.receive("orders", "a.1", lease=30)
        self.play.wait(6)
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def test_receipt_lost_in_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(6)
        self.play.crash()
        self.one.settle("ack", receipt, state="QU001")
        self.end(("a.1", 2))
        self.violates("lease_survives_crash")

    def test_lease_seen_on_disk(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.call("stored", "orders", {"receipts": [receipt]})
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def blow(self, deadline: float) -> None:
        """A crash, by somebody who saw the lease on disk with a deadline."""
        for actor in self.play.actors.values():
            actor.forget()
        self.play.fault("kill_postmaster", crash=True, stored=[
            ["orders", self.play.id("orders", "a.1"), deadline]])

    def test_lease_seen_before_crash(self) -> None:
        granted = self.play.clock()
        self.one.receive("orders", "a.1", lease=30)
        self.blow(granted + 30.005)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def test_receipt_of_lease_seen_before_crash(self) -> None:
        granted = self.play.clock()
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.blow(granted + 30.005)
        self.one.settle("ack", receipt, state="QU001")
        self.end("a.1")
        self.violates("lease_survives_crash")

    def test_lease_seen_ends_after_crash(self) -> None:
        granted = self.play.clock()
        self.one.receive("orders", "a.1", lease=3)
        self.blow(granted + 3.005)
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_lease_seen_and_extended(self) -> None:
        """The worker may have written the new deadline, or not."""
        granted = self.play.clock()
        receipt, = self.one.receive("orders", "a.1", lease=3)
        self.one.settle("extend", receipt, lease=30)
        self.blow(granted + 3.005)
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_lease_seen_and_released(self) -> None:
        granted = self.play.clock()
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("release", receipt)
        self.blow(granted + 30.005)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_older_lease_seen(self) -> None:
        """It had ended, but was still on disk."""
        granted = self.play.clock()
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("release", receipt)
        self.one.receive("orders", "a.1", lease=30)
        self.blow(granted + 30.005)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_worker_was_stopped_later(self) -> None:
        """It had written the lease by then."""
        self.one.receive("orders", "a.1", lease=30)
        self.play.wait(5)
        self.play.fault("pause_worker", 6)
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("lease_survives_crash")

    def test_worker_was_stopped(self) -> None:
        self.one.receive("orders", "a.1", lease=30)
        self.play.fault("pause_worker", 6)
        self.play.crash()
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_extended_just_before_crash(self) -> None:
        """The deadline on disk is the old one."""
        receipt, = self.one.receive("orders", "a.1", lease=8)
        self.play.wait(6)
        self.one.settle("extend", receipt, lease=30)
        self.play.crash()
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.clean()

    def test_extended_just_before_blow(self) -> None:
        """A fault begins a moment before it has an effect."""
        self.play.faults.append(["fault", self.play.now, self.play.now + 0.5,
                                 "kill_backend", {"crash": True}])
        receipt, = self.one.receive("orders", "a.1", lease=9)
        self.one.settle("extend", receipt, lease=30)
        self.play.wait(1)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.clean()

    def test_old_deadline_on_disk(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=12)
        self.play.wait(6)
        self.one.settle("extend", receipt, lease=30)
        self.play.crash()
        self.play.wait(3)
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.violates("lease_survives_crash")

    def test_good_receipt_refused(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("ack", receipt, state="QU001")
        self.end(("a.1", 2))
        self.violates("lease_honoured")

    def test_batch_with_stale_receipt_refused(self) -> None:
        self.producer.send("orders", "a.2")
        stale, = self.one.receive("orders", "a.2", lease=30)
        self.one.settle("release", stale)
        good, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("ack", stale, good, state="QU001")
        self.one.ack("orders", "a.1", good)
        self.two.consume("orders", "a.2")
        self.clean()

    def test_receipt_of_purged_message(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.two.begin("REPEATABLE READ")
        self.two.call("remove", "orders", "purge", result=["a.1"])
        self.two.effect("orders", "a.1", effect="purged")
        self.two.commit()
        self.one.settle("ack", receipt, state="QU001")
        self.clean()

    def test_stale_after_redelivery(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(2)
        self.two.receive("orders", ("a.1", 2), lease=30)
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_stale_after_rolled_back_dequeue(self) -> None:
        """Nobody has it any more, but somebody had."""
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(2)
        self.two.begin()
        self.two.take("dequeue", "orders", ("a.1", 2), with_row=True)
        self.two.rollback()
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_extended_after_deadline(self) -> None:
        """Good, as nobody has taken it; and then it is exclusive again."""
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(3)
        self.one.settle("extend", receipt, lease=10)
        self.play.wait(3)
        self.two.take("dequeue", "orders", "a.1", with_row=True)
        self.violates("leases_do_not_overlap")

    def test_late_but_not_stale(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=1)
        self.play.wait(20)
        self.one.ack("orders", "a.1", receipt)
        self.clean()

    def test_stale_after_nack(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("nack", receipt)
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_stale_after_rollback(self) -> None:
        self.one.begin()
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.rollback()
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_stale_after_ack(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.ack("orders", "a.1", receipt)
        self.one.settle("extend", receipt, lease=5)
        self.violates("stale_receipt_refused")

    def test_receipt_of_former_life(self) -> None:
        """The same number of another epoch, after a crash."""
        old, = self.one.receive("orders", "a.1", lease=30)
        self.play.crash()
        self.two.receive("orders", "a.1", lease=30)
        self.one.ack("orders", "a.1", old)
        self.violates("stale_receipt_refused")

    def test_lease_brought_back(self) -> None:
        """The crash came before its end was written."""
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(5)
        self.one.settle("release", receipt)
        self.play.crash()
        self.one.ack("orders", "a.1", receipt)
        self.clean()

    def test_end_written_before_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.play.wait(1)
        self.one.settle("release", receipt)
        self.play.wait(10)
        self.play.crash()
        self.one.ack("orders", "a.1", receipt)
        self.violates("stale_receipt_refused")

    def test_acked_before_crash(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.ack("orders", "a.1", receipt)
        self.play.crash()
        self.one.settle("extend", receipt, lease=5)
        self.violates("stale_receipt_refused")

    def test_same_receipt(self) -> None:
        receipt, = self.one.receive("orders", "a.1", lease=30)
        self.one.settle("release", receipt)
        self.two.receive("orders", "a.1", lease=30, receipt=receipt)
        self.end(("a.1", 2))
        self.violates("receipts_unique")


class Extended(CheckerTest):
    """What extend returns."""

    def extend(self, late: float) -> None:
        """Extend a lease by five seconds, and be told so or not."""
        self.one.send("orders", "a.1")
        receipt, = self.one.receive("orders", "a.1")
        self.one.call("extend", "orders",
                      {"receipts": [receipt], "lease": 5.0},
                      result=self.play.clock() + 5.0 + late)
        self.one.begin()
        self.one.settle("ack", receipt)
        self.one.effect("orders", "a.1")
        self.one.commit()

    def test_deadline_told(self) -> None:
        self.extend(CALL / 2)
        self.clean()

    def test_wrong_deadline_told(self) -> None:
        self.extend(1.0)
        self.violates("extend_tells_deadline")

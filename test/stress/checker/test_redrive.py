"""Plays about dead letters that are brought back."""

from checker.play import CheckerTest


class Redriven(CheckerTest):
    """A message is rejected, and comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.producer.send("returns", "a.1")

    def reject(self) -> None:
        """It dies."""
        receipt, = self.one.receive("returns", "a.1")
        self.one.settle("reject", receipt, queue="returns")

    def redrive(self) -> None:
        """It is brought back."""
        self.two.call("redrive", "returns", 5, result=1)

    def test_dead(self) -> None:
        self.reject()
        self.play.dead("returns", "a.1", "rejected on purpose", 0)
        self.clean()

    def test_back(self) -> None:
        self.reject()
        self.redrive()
        self.one.consume("returns", "a.1")
        results = self.clean()
        self.assertEqual(results["redriven_as_it_was"].checked, 2)

    def test_gone(self) -> None:
        self.reject()
        self.redrive()
        self.violates("no_loss")

    def test_doubled(self) -> None:
        self.reject()
        self.redrive()
        self.one.consume("returns", "a.1")
        self.play.dead("returns", "a.1", "rejected on purpose", 0)
        self.violates("dead_or_alive")

    def test_by_itself(self) -> None:
        self.reject()
        self.one.consume("returns", "a.1")
        self.violates("redriven_as_it_was")

    def test_with_failures(self) -> None:
        self.one.roll_back("returns", "a.1")
        receipt, = self.one.receive("returns", ("a.1", 2))
        self.one.settle("reject", receipt, queue="returns")
        self.redrive()
        self.one.consume("returns", ("a.1", 2))
        self.violates("redriven_as_it_was")

    def test_anew(self) -> None:
        self.one.roll_back("returns", "a.1")
        receipt, = self.one.receive("returns", ("a.1", 2))
        self.one.settle("reject", receipt, queue="returns")
        self.redrive()
        self.one.consume("returns", "a.1")
        self.clean()

    def test_other_id(self) -> None:
        self.reject()
        self.redrive()
        self.one.begin()
        self.one.dequeue("returns", "a.1", id=77)
        self.one.effect("returns", "a.1")
        self.one.commit()
        self.violates("content_intact")


class Exhausted(CheckerTest):
    """A message fails too often, and comes back while later ones are taken."""

    def setUp(self) -> None:
        super().setUp()
        self.values = 1
        self.producer.send("returns", "a.1")

    def wear_out(self, times: int) -> None:
        """It fails so often; the last time, its lease runs out."""
        for attempt in range(1, times):
            self.one.roll_back("returns", ("a.1", attempt))
        self.one.receive("returns", ("a.1", times))

    def others_pass(self, seconds: float) -> None:
        """Others are sent and consumed for so long."""
        until = self.play.now + seconds
        while self.play.now < until:
            self.values += 1
            value = "a.%d" % self.values
            self.producer.send("returns", value)
            self.two.consume("returns", value)
            self.play.wait(0.1)

    def test_back_late(self) -> None:
        self.wear_out(5)
        self.others_pass(16)
        self.two.call("redrive", "returns", 5, result=1)
        self.one.consume("returns", "a.1")
        self.clean()

    def test_back_late_after_rejection_undone(self) -> None:
        for attempt in range(1, 5):
            self.one.roll_back("returns", ("a.1", attempt))
        receipt, = self.one.receive("returns", ("a.1", 5))
        self.one.begin()
        self.one.settle("reject", receipt, queue="returns")
        txn = self.one.prepare()
        self.two.finish(txn, "rollback")
        self.others_pass(16)
        self.two.call("redrive", "returns", 5, result=1)
        self.one.consume("returns", "a.1")
        self.clean()

    def test_back_late_after_lost_take(self) -> None:
        self.wear_out(4)
        self.play.wait(5)
        self.play.fault("terminate_backend")
        self.two.lose_take("dequeue", "returns")
        self.others_pass(16)
        self.two.call("redrive", "returns", 5, result=1)
        self.one.consume("returns", "a.1")
        self.clean()

    def test_passed_over(self) -> None:
        self.wear_out(4)
        self.others_pass(16)
        self.one.consume("returns", ("a.1", 5))
        self.violates("passed_over")

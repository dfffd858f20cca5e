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

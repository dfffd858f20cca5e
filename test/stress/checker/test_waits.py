"""Plays about waiting."""

from checker.play import CheckerTest


class Waits(CheckerTest):
    """Nobody waits for another, and no message for long."""

    def test_no_wait(self) -> None:
        self.play.note_waits()
        self.clean()

    def test_wait(self) -> None:
        self.play.note_waits(["wait", self.play.now, 17, "one", "SELECT",
                              [["two", "SELECT"]]])
        self.violates("never_waits")

    def test_not_drained(self) -> None:
        self.play.drain_time = None
        self.violates("drained")

    def test_drained_too_late(self) -> None:
        self.play.drain_time = 11.0
        self.violates("drained")

    def test_left_in_queue(self) -> None:
        self.producer.send("orders", "a.1")
        self.play.remain("orders", "a.1")
        self.violates("drained")

    def test_woken_late(self) -> None:
        self.one.call("wake", "calm", result={"late_ms": 250.0})
        self.violates("waiter_wakes")

    def test_not_woken(self) -> None:
        self.one.call("wake", "calm", state="57014", result=None)
        self.violates("waiter_wakes")

    def test_hidden(self) -> None:
        self.play.left["hidden"].append(
            "LOG:  messages of queue \"public.q\" were hidden from consumers:"
            " 3")
        self.violates("nothing_hidden")

"""A client that rejects messages, and brings the dead ones back."""

from client import Client
from which import SELECTORS

QUEUE = "returns"
DEAD = "returns_dead"


class Reviver(Client):
    """Sends, consumes, rejects and redrives."""

    def step(self) -> None:
        """One transaction, or one call."""
        if self.is_draining:
            if not self.main.consume(QUEUE, 50):
                self.pause(0.02)
            return
        self.breathe()
        what = self.choose(send=30, reject=35, redrive=25, consume=20)
        if what == "reject":
            self.reject()
            return
        self.main.begin(self.isolation())
        if what == "send":
            self.main.enqueue(
                QUEUE, [self.new_value() for _ in range(self.some())],
                "batch", self.chance(0.5))
        elif what == "consume":
            messages = self.main.take("dequeue", QUEUE, self.some())
            if messages:
                self.main.effect(messages, "consumed")
        elif self.chance(0.2):
            self.in_savepoint(self.main, 0, self.redrive)
        else:
            self.redrive()
        self.finish(self.main, commit=75, rollback=12, prepare=8)

    def some(self) -> int:
        """A small number."""
        return self.rng.randint(1, 5)

    def reject(self) -> None:
        """Send some to the dead letters."""
        messages = self.main.take("receive", QUEUE, self.some())
        if not messages:
            self.pause(0.02)
        elif self.chance(0.5):
            self.main.settle("reject", messages)
        else:
            self.main.begin()
            self.main.settle("reject", messages)
            self.finish(self.main)

    def redrive(self) -> None:
        """Bring some of the dead ones back."""
        selector = None
        if self.chance(0.3):
            selector = SELECTORS["even value"]
        self.main.redrive(QUEUE, DEAD, self.some(), selector)


ROLES: dict[str, type[Client]] = {"reviver": Reviver}

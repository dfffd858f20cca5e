"""Clients of the queues with limits: who fills them, and who empties them.

More is sent than consumers take, so the queues are full most of the time: who
sends to one gets QU003, which is no error of the run, who sends to the other
one waits.  A clerk counts the messages, by one snapshot each time.  Who empties
them also consumes what repeaters send (repeater.py).
"""

from client import Client
from clients import Consumer, Leaser, Producer
from repeater import ONCE
from session import Session, read_value

LIMITED = ("shelf", "counter")
EMPTIED = LIMITED + ONCE


class Filler(Producer):
    """Sends a few messages at a time, and never stops."""

    queues = LIMITED

    def step(self) -> None:
        """One transaction."""
        self.breathe()
        super().step()

    def send(self, session: Session, queues: list[str]) -> None:
        """Send one message, or a batch that fits if there is room."""
        how = self.choose(enqueue=40, batch=45, insert=15)
        count = 1 if how == "enqueue" else self.rng.randint(1, 10)
        session.enqueue(self.rng.choice(queues),
                        [self.new_value() for _ in range(count)], how,
                        self.chance(0.5))


class Emptier(Consumer):
    """Dequeues a few messages at a time."""

    queues = EMPTIED

    def step(self) -> None:
        """One transaction."""
        self.breathe()
        super().step()

    def most(self) -> int:
        """How many messages to ask for."""
        return self.rng.randint(1, 5)


class Borrower(Leaser):
    """Receives a few messages at a time, and has many of them."""

    queues = EMPTIED

    def most(self) -> int:
        """How many messages to ask for."""
        return self.rng.randint(1, 5)


class Clerk(Client):
    """Counts what there is."""

    def step(self) -> None:
        """Count each queue."""
        for queue in LIMITED:
            self.main.call("count", "SELECT count(*) FROM " + queue, None,
                           read_value, queue)
        self.pause(self.rng.uniform(0.02, 0.1))


ROLES: dict[str, type[Client]] = {
    "filler": Filler,
    "emptier": Emptier,
    "borrower": Borrower,
    "clerk": Clerk}

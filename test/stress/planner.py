"""A client that sends for later, in order or by urgency, and changes its mind.
"""

import time
from typing import Any, Optional

from client import REPEATABLE_READ
from clients import Producer
from session import Session
from wish import random_wish

# How many messages one remembers, to change them.
MOST_WAITING = 100

# Keys of groups, and the queues that have some.
GROUPED = ("devices", "reminders")
DEVICES = tuple("device%d" % number for number in range(12))


class Planner(Producer):
    """Sends what is due later, urgent or not, and changes its mind.

    What is for a device comes to it in order; who is reminded takes turns.
    """

    queues = ("reminders", "offers", "devices")

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        # Queue, id and value of messages that may still wait.
        self.waiting: list[tuple[str, int, str]] = []

    def step(self) -> None:
        """One transaction."""
        if self.waiting and not self.is_draining and self.chance(0.3):
            self.change_some()
        else:
            super().step()

    def send(self, session: Session, queues: list[str]) -> None:
        """Send one message, or a batch, all of them with one wish."""
        how = self.choose(enqueue=50, batch=30, insert=20)
        count = 1 if how == "enqueue" else self.rng.randint(1, 10)
        queue = self.rng.choice(queues)
        values = [self.new_value() for _ in range(count)]
        groups = None
        if queue in GROUPED:
            groups = self.random_groups(count)
        ids = session.enqueue(queue, values, how, self.chance(0.5),
                              random_wish(self.rng, how), groups)
        for id, value in zip(ids[:3], values):
            if len(self.waiting) == MOST_WAITING:
                self.waiting.pop(self.rng.randrange(MOST_WAITING))
            self.waiting.append((queue, id, value))

    def random_groups(self, count: int) -> list[Optional[str]]:
        """For one device, or for several; some are for none."""
        if self.chance(0.5):
            return [self.rng.choice(DEVICES)] * count
        return [self.rng.choice(DEVICES + (None,)) for _ in range(count)]

    def change_some(self) -> None:
        """Change some messages, mostly in a transaction."""
        if self.chance(0.4):
            self.change()
            return
        self.main.begin(self.rng.choice((None, None, REPEATABLE_READ)))
        for depth in range(self.rng.choice((1, 1, 2))):
            if self.chance(0.2):
                self.in_savepoint(self.main, depth, self.change)
            else:
                self.change()
        if self.chance(0.1):
            self.pause(self.rng.uniform(0, 0.5))
        self.finish(self.main, commit=75, rollback=15)

    def change(self) -> None:
        """Reschedule a message, or cancel it."""
        at = self.rng.randrange(len(self.waiting))
        queue, id, value = self.waiting[at]
        if self.chance(0.4):
            self.main.cancel(queue, id, value)
        else:
            due = time.time() + self.rng.choice((-1, 0.05, 0.5, 1, 2, 4))
            self.main.reschedule(queue, id, value, round(due, 6))
        if self.chance(0.5) and len(self.waiting) > 1:
            del self.waiting[at]

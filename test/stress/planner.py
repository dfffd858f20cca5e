"""A client that sends for later, or by urgency, and changes its mind.
"""

import time
from typing import Any

from client import REPEATABLE_READ
from clients import Producer
from session import Session
from wish import random_wish

# How many messages one remembers, to change them.
MOST_WAITING = 100


class Planner(Producer):
    """Sends what is due later, urgent or not, and changes its mind."""

    queues = ("reminders", "offers")

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
        ids = session.enqueue(queue, values, how, self.chance(0.5),
                              random_wish(self.rng, how))
        for id, value in zip(ids[:3], values):
            if len(self.waiting) == MOST_WAITING:
                self.waiting.pop(self.rng.randrange(MOST_WAITING))
            self.waiting.append((queue, id, value))

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

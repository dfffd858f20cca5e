"""Clients that read topics: by subscriptions, or from a place of their own."""

import time
from typing import Any, NamedTuple, Optional

from client import Client, REPEATABLE_READ
from publisher import TopicClient
from topic_session import Parcel

SUBSCRIBED = ("mail", "mail", "digest", "ticker")

# In the end a message may be away for so long, in seconds.
LONGEST_LEASE = 4.0


class Batch(NamedTuple):
    """What is left of a batch under a lease, and when to do more about it."""

    due: float
    parcels: list[Parcel]


class Subscriber(TopicClient):
    """Consumes in transactions, and under leases."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.batches: list[Batch] = []

    def step(self) -> None:
        """Take something, or settle it."""
        due = [batch for batch in self.batches
               if batch.due <= time.monotonic() or self.is_draining]
        if due:
            batch = min(due)
            self.batches.remove(batch)
            self.settle(batch.parcels)
            return
        subscription = self.rng.choice(SUBSCRIBED)
        if self.is_draining:
            if not self.main.consume(subscription, 50):
                self.pause(0.03)
        elif self.chance(0.15):
            self.main.consume(subscription, self.most(), self.wait())
        elif self.chance(0.45) and len(self.batches) < 4:
            self.receive(subscription)
        else:
            self.dequeue(subscription)
        if not self.is_draining:
            # Something is to be there that is newer than an old snapshot.
            self.pause(self.rng.expovariate(1 / 0.03))

    def most(self) -> int:
        """How many messages to ask for."""
        return self.rng.randint(1, self.rng.choice((1, 5, 20, 50)))

    def wait(self) -> float:
        """How long to wait if there is none."""
        return self.rng.uniform(0, 0.5) if self.chance(0.3) else 0

    # In transactions

    def dequeue(self, subscription: str) -> None:
        """Consume in a transaction, whose snapshot may be an old one."""
        isolation = self.isolation()
        self.main.begin(isolation)
        if isolation is not None and self.chance(0.7):
            # That is the snapshot, and what comes meanwhile is newer.
            self.main.call("business", "SELECT count(*) FROM wire"
                           " WHERE partition < 0")
            self.pause(self.rng.uniform(0, 0.3))
        self.dequeue_parts(subscription, isolation is None, 0)
        if self.chance(0.1):
            self.pause(self.rng.uniform(0, 0.4))
        self.finish(self.main, commit=80, rollback=9, prepare=8)

    def dequeue_parts(self, subscription: str, may_wait: bool,
                      depth: int) -> None:
        """Dequeue more than once, some of it in subtransactions."""
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            if depth < 2 and self.chance(0.25):
                self.in_savepoint(
                    self.main, depth,
                    lambda: self.dequeue_parts(subscription, may_wait,
                                               depth + 1))
                continue
            wait = self.wait() if may_wait else 0
            if self.chance(0.3):
                self.main.consume(subscription, self.most(), wait)
                continue
            parcels = self.main.get("dequeue", subscription, self.most(),
                                    wait)
            if parcels:
                self.main.note_taken(parcels, "dequeue")

    # Under leases

    def receive(self, subscription: str) -> None:
        """Take batches under a lease: one a partition."""
        lease = self.rng.choice((None, None, 0.3, 1.0, LONGEST_LEASE))
        parcels = self.main.get("receive", subscription, self.most(),
                                self.wait(), lease)
        by_partition: dict[int, list[Parcel]] = {}
        for parcel in parcels:
            by_partition.setdefault(parcel.partition, []).append(parcel)
        for batch in by_partition.values():
            self.keep(batch, 0.3 if self.chance(0.85) else 1.5)

    def keep(self, parcels: list[Parcel], longest: float) -> None:
        """Do something about these within so many seconds."""
        if parcels:
            self.batches.append(Batch(
                time.monotonic() + self.rng.uniform(0, longest), parcels))

    def settle(self, parcels: list[Parcel]) -> None:
        """Do something about a batch, or about the first part of it."""
        count = len(parcels)
        if not self.is_draining and count > 1 and self.chance(0.5):
            count = self.rng.randint(1, count - 1)
        first, rest = parcels[:count], parcels[count:]
        what = "ack" if self.is_draining else self.choose(
            ack=65, nack=8, release=5, reject=2, extend=12, nothing=8)
        if what == "ack":
            self.ack(first, rest)
        elif what == "extend":
            lease = self.rng.choice((0.5, 2.0, LONGEST_LEASE))
            self.main.settle_parcels("extend", first[:1],
                                     ", make_interval(secs => %s)", lease,
                                     lease=lease)
            self.keep(parcels, 0.3)
        elif what == "nack":
            self.main.settle_parcels("nack", parcels[:1], ", NULL, 'no'")
        elif what == "release":
            self.main.settle_parcels("release", parcels[:1])
        elif what == "reject":
            self.reject(parcels[:1])

    def ack(self, first: list[Parcel], rest: list[Parcel]) -> None:
        """Consume some; by the last receipt of them, or by all.

        What is behind them is settled later, if it is known how this ended.
        """
        used = first[-1:] if self.chance(0.6) else first
        self.main.begin()
        how = self.choose(plain=70, undone=15 if rest else 0,
                          more=15 if rest else 0)
        behind = rest
        if how == "undone":
            if not self.in_savepoint(self.main, 0,
                                     lambda: self.ack_these(first, used)):
                behind = first + rest
        else:
            self.ack_these(first, used)
        if how == "more" and self.in_savepoint(
                self.main, 0, lambda: self.ack_these(rest[:1], rest[:1])):
            behind = rest[1:]
        done = self.finish(self.main, commit=85, rollback=5, prepare=8)
        if done is not None:
            self.keep(behind if done else first + rest, 0.3)

    def ack_these(self, parcels: list[Parcel], used: list[Parcel]) -> None:
        """Acknowledge these by some of their receipts."""
        self.main.settle_parcels("ack", used)
        self.main.note_taken(parcels, "ack")

    def reject(self, parcels: list[Parcel]) -> None:
        """Send a message to the dead letters."""
        self.main.begin()
        self.main.settle_parcels("reject", parcels, ", 'on purpose'")
        self.main.note_taken(parcels, "reject")
        self.finish(self.main, prepare=0)


class Follower(TopicClient):
    """Reads on from a place that it keeps itself.

    The first one by queue.read(), the second one by plain SQL.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.is_stable = self.name.endswith("2")
        self.after = {"news": 0, "wire": 0}

    def step(self) -> None:
        """Read something, by a snapshot that may be an old one."""
        topic = self.rng.choice(list(self.after))
        isolation: Optional[str] = None
        if self.is_stable or self.chance(0.4):
            isolation = REPEATABLE_READ
            self.main.begin(isolation)
            if not self.is_stable:
                self.main.call("business", "SELECT 1 FROM wire"
                               " WHERE partition < 0")
                self.pause(self.rng.uniform(0, 0.15))
        for _ in range(self.rng.randint(1, 3)):
            self.after[topic] = self.main.read(
                topic, self.after[topic], self.rng.choice((5, 20, 100)),
                self.is_stable)
        if isolation is not None:
            self.main.commit()
        self.pause(self.rng.uniform(0, 0.1))


ROLES: dict[str, type[Client]] = {"subscriber": Subscriber,
                                  "follower": Follower}

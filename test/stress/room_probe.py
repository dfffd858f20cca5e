"""Probes of limits, on the quiet server: who waits for room, and exactness.

A queue is filled until it takes no more.  Then senders wait while somebody
makes room, and takers wait, of a queue of which no more may be held, while
somebody lets go of a message; each must be woken at once.
"""

import time
from typing import Any, Callable

from client import Shared
from probes import CALL_TIMEOUT_MS, HOLD, TURN, Probe
from room import LIMITED
from session import Failed, Message
from sleeper import Bench, Sleep, Wake
from wish import interval

# The queue whose senders wait, and how many of its messages may be held.
QUEUE = "counter"
MAX_IN_FLIGHT = 12

# More than any queue takes.
MANY = 100

# How long it may take to consume what is left, in seconds.
PATIENCE = 10.0


class RoomProbe:
    """Measures how long it takes from "there is room" to "let in"."""

    def __init__(self, run_dir: str, seed: int, shared: Shared, cluster: Any):
        self.cluster = cluster
        self.probe = Probe(run_dir, seed, shared, "probe_room")
        self.bench = Bench(self.probe,
                           Probe(run_dir, seed, shared, "probe_sender"))
        # Under a lease.
        self.held: list[Message] = []

    def run(self, rounds: int) -> None:
        """Try all there is."""
        for queue in LIMITED:
            self.fill(queue)
            self.note(queue, "max_messages", self.count(queue))
        for _ in range(rounds):
            for give in (self.commit, self.commit_prepared, self.ack,
                         self.reject, self.cancel, self.purge):
                self.measure(send_one, give)
            self.measure(wait_for_room, self.commit)
            self.measure(send_one, self.roll_back_send)
        self.hold_all()
        for _ in range(rounds):
            for give in (self.ack_held, self.release, self.nack,
                         self.let_expire, self.roll_back):
                self.measure(take_one, give)
        self.finish()

    def finish(self) -> None:
        """Consume all that is left."""
        self.probe.ack(self.held)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and any(
                self.count(queue) for queue in LIMITED):
            for queue in LIMITED:
                self.probe.attempt(self.probe.main.consume, queue, MANY, 0.1)
        self.bench.close()

    def count(self, queue: str) -> int:
        """How many messages it has."""
        return self.cluster.query("SELECT count(*) FROM stress." + queue)[0][0]

    # What is measured

    def fill(self, queue: str) -> None:
        """Send until there is no room."""
        session = self.probe.main
        for _ in range(MANY):
            try:
                session.begin()
                session.enqueue(queue, [self.probe.new_value()], "enqueue",
                                False)
                session.commit()
            except Failed as failure:
                self.probe.recover()
                if failure.state == "QU003":
                    return

    def note(self, queue: str, setting: str, number: int) -> None:
        """Note how many a queue has let in."""
        log = self.probe.history
        n = log.before("limit", self.probe.next_txn(), queue,
                       {"setting": setting})
        log.after(n, "ok", {"number": number})

    def hold_all(self) -> None:
        """Hold as many as one can get."""
        self.fill(QUEUE)
        self.held = self.probe.attempt(self.probe.main.take, "receive", QUEUE,
                                       MANY, 0, HOLD) or []
        self.note(QUEUE, "max_in_flight", len(self.held))

    def measure(self, sleep: Sleep, prepare: Callable[[], Wake]) -> None:
        """Somebody sleeps because there is no room."""

        def prepare_all() -> Wake:
            self.fill(QUEUE)
            missing = MAX_IN_FLIGHT - len(self.held)
            if sleep is take_one and missing > 0:
                self.held += self.probe.main.take("receive", QUEUE, missing, 0,
                                                  HOLD)
            return prepare()

        prepare_all.__name__ = prepare.__name__
        self.bench.measure(QUEUE, sleep, prepare_all)

    # Ways to make room for a message

    def commit(self) -> Wake:
        """One is consumed."""
        session = self.probe.side
        session.begin()
        session.effect(session.take("dequeue", QUEUE), "consumed")
        return session.commit

    def commit_prepared(self) -> Wake:
        """One is consumed by a prepared transaction."""
        session = self.probe.side
        session.begin()
        session.effect(session.take("dequeue", QUEUE), "consumed")
        txn = session.prepare()
        return lambda: session.finish_prepared(txn, True)

    def ack(self) -> Wake:
        """One is acked."""
        messages = self.probe.main.take("receive", QUEUE, 1, 0, HOLD)
        return lambda: self.probe.ack(messages)

    def reject(self) -> Wake:
        """One goes to the dead letters."""
        messages = self.probe.main.take("receive", QUEUE, 1, 0, HOLD)
        return lambda: self.probe.main.settle("reject", messages)

    def cancel(self) -> Wake:
        """One is cancelled."""
        session = self.probe.main
        messages = session.take("receive", QUEUE, 1, 0, HOLD)
        session.settle("release", messages)
        return lambda: session.cancel(QUEUE, messages[0].id,
                                      messages[0].value, True)

    def purge(self) -> Wake:
        """All are purged."""
        session = self.probe.main

        def give() -> None:
            session.begin()
            values = session.call(
                "business", "SELECT payload ->> 'v' FROM " + QUEUE, None,
                lambda cursor: [value for value, in cursor])
            session.call("remove", "SELECT queue.purge(%s)", [QUEUE],
                         lambda cursor: values, QUEUE, "purge")
            session.effect([Message(QUEUE, 0, value, None)
                            for value in values], "purged")
            session.commit()

        return give

    def roll_back_send(self) -> Wake:
        """Who had the last room gives it back."""
        self.probe.main.consume(QUEUE, 1)
        session = self.probe.side
        session.begin()
        session.enqueue(QUEUE, [self.probe.new_value()], "enqueue", False)
        return session.rollback

    # Ways to let go of a message

    def ack_held(self) -> Wake:
        """One of those held is consumed."""
        message = self.held.pop()
        return lambda: self.probe.ack([message])

    def release(self) -> Wake:
        """It is given back."""
        message = self.held.pop()
        return lambda: self.probe.main.settle("release", [message])

    def nack(self) -> Wake:
        """It is given back, for later."""
        message = self.held.pop()
        return lambda: self.probe.main.settle("nack", [message], delay=0.2)

    def let_expire(self) -> Wake:
        """Its lease runs out."""
        message = self.held.pop()

        def give() -> float:
            deadline = self.probe.main.settle("extend", [message], lease=0.1)
            return deadline - (time.time() - time.monotonic())

        return give

    def roll_back(self) -> Wake:
        """It was dequeued by somebody who fails."""
        session = self.probe.side
        self.probe.ack([self.held.pop()])
        session.begin()
        session.take("dequeue", QUEUE)
        return session.rollback


# What somebody sleeps in

def send_one(probe: Probe) -> bool:
    """Send a message."""
    probe.main.enqueue(QUEUE, [probe.new_value()], "enqueue")
    return True


def wait_for_room(probe: Probe) -> bool:
    """Wait until there is room."""
    probe.main.call("business", "CALL queue.wait_for_room(%s, %s)",
                    [QUEUE, interval(TURN)])
    return True


def take_one(probe: Probe) -> bool:
    """Take a message."""
    return bool(probe.main.consume(QUEUE, 1, TURN))


def run(run_dir: str, cluster: Any, seed: int, quick: bool = False) -> None:
    """Run these probes."""
    shared = Shared(cluster.port)
    shared.statement_timeout_ms = CALL_TIMEOUT_MS
    RoomProbe(run_dir, seed, shared, cluster).run(1 if quick else 4)

"""What can only be seen on a quiet server: probes, after the drain.

Under load nobody can tell a wake-up that came late from a machine that was
busy, and a crash at the right moment is a matter of luck.  So a queue of its
own, "calm", is kept for the end, when all clients are gone:

wake    Consumers wait; messages become available one by one, in every way
        there is.  Each must reach somebody at once.
epoch   Leases are taken right after a start of the server, the server
        crashes, and leases are taken again: the same messages, the same
        count of leases since the start.  Receipts from before must be dead.
durable A lease that has been written to disk holds over a crash.
limit   A message fails until it is a dead letter, in every way to fail.
stale   Receipts of leases that are over are used.
change  Messages that are free, held or gone are rescheduled and cancelled.
urgent  One consumer takes what has priorities and is due at several times.

Probes are clients like the others: they write their history, and the checker
judges it.  What would be a failure is noted and passed over, so that the end
of a probe says nothing about its outcome.
"""

import json
import os
import threading
import time
from typing import Any, Callable, NamedTuple, Optional

from client import Client, Shared
from session import Failed, Message, Session
from wish import NOTHING, Wish

QUEUE = "calm"

# Of the queue, as schema.sql has it.
MAX_ATTEMPTS = 5

# How many consumers wait for messages, and in one call how long, in seconds.
WAITERS = 8
TURN = 5.0

# How long a lease is, in seconds, that must not end by itself.
HOLD = 60.0

# A call that takes longer than this, in milliseconds, waits for what it should
# not wait for; probes hold messages on one session and look from another.
CALL_TIMEOUT_MS = 20000

# Seconds after which a message that reaches nobody counts as forgotten.
FORGOTTEN = 6.0

# The control thread sleeps so long, and if it wakes up so much later the
# machine has stalled, and the waiters with it.
TICK = 0.005
STALL = 0.020


class Probe(Client):
    """A client that does what run() tells it."""

    def __init__(self, run_dir: str, seed: int, shared: Shared, name: str):
        super().__init__(run_dir, seed, shared, 0, name, "probe")

    def count(self, queue: str, enqueued: int, consumed: int) -> None:
        """Probes are not part of the progress."""

    def send(self, count: int = 1) -> list[str]:
        """Send messages and commit."""
        values = [self.new_value() for _ in range(count)]
        self.main.begin()
        self.main.enqueue(QUEUE, values, "batch")
        self.main.commit()
        return values

    def attempt(self, call: Callable, *arguments: Any,
                **options: Any) -> Any:
        """Make a call that may fail; None if it does."""
        try:
            return call(*arguments, **options)
        except Failed:
            self.recover()
            return None

    def ack(self, messages: list[Message]) -> None:
        """Consume what was received, if the receipts allow it."""
        def settle() -> None:
            self.main.begin()
            self.main.settle("ack", messages)
            self.main.effect(messages, "consumed")
            self.main.commit()

        if messages:
            self.attempt(settle)

    def disconnect(self) -> None:
        """Leave the server; the next call comes back."""
        self.recover()
        self.main.close()
        self.side.close()

    def close(self) -> None:
        """End in good order."""
        self.disconnect()
        self.history.close()


class Crashes:
    """Stops the server as a crash would, and starts it again."""

    def __init__(self, run_dir: str, cluster: Any, shared: Shared):
        self._path = os.path.join(run_dir, "faults.jsonl")
        self._cluster = cluster
        self._shared = shared

    def crash(self, probe: Probe) -> None:
        """Crash, and write it to the list of faults."""
        probe.disconnect()
        begin = time.monotonic()
        self._cluster.stop("immediate")
        self._cluster.start()
        self._cluster.wait_ready(60)
        self._shared.port = self._cluster.port
        with open(self._path, "a", encoding="utf-8") as file:
            json.dump(["fault", begin, time.monotonic(), "probe_crash",
                       {"crash": True}], file)
            file.write("\n")


class StallWatch(threading.Thread):
    """Notices when the machine does not run what is ready to run."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._is_over = threading.Event()
        self._stalls: list[float] = []

    def run(self) -> None:
        """Sleep for a moment, again and again, and look at the clock."""
        while not self._is_over.is_set():
            begin = time.monotonic()
            time.sleep(TICK)
            if time.monotonic() - begin > TICK + STALL:
                self._stalls.append(time.monotonic())

    def has_stalled(self, since: float) -> bool:
        """Did it happen after that time, or does it happen now?"""
        time.sleep(2 * TICK)
        return any(stall >= since for stall in self._stalls)

    def stop(self) -> None:
        """End the thread."""
        self._is_over.set()
        self.join()


class Arrivals:
    """When which message reached a waiter."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._times: dict[str, float] = {}

    def note(self, messages: list[Message]) -> None:
        """These have just arrived."""
        now = time.monotonic()
        with self._condition:
            for message in messages:
                self._times[message.value] = now
            self._condition.notify_all()

    def wait(self, value: str, seconds: float) -> Optional[float]:
        """The time at which the message arrived; None if it did not."""
        with self._condition:
            self._condition.wait_for(lambda: value in self._times, seconds)
            return self._times.get(value)


class Waiter(threading.Thread):
    """A consumer that waits for messages, in one of the three ways."""

    def __init__(self, probe: Probe, arrivals: Arrivals, number: int):
        super().__init__(daemon=True)
        self._probe = probe
        self._arrivals = arrivals
        ways = (self._dequeue, self._receive, self._wait)
        self._consume = ways[number % len(ways)]
        self._is_over = threading.Event()

    def run(self) -> None:
        """Consume until told to stop."""
        while not self._is_over.is_set():
            self._probe.attempt(self._consume)
        self._probe.close()

    def stop(self) -> None:
        """End when the wait that is under way does."""
        self._is_over.set()

    def _receive(self) -> None:
        messages = self._probe.main.take("receive", QUEUE, 1, TURN)
        self._arrivals.note(messages)
        self._probe.ack(messages)

    def _wait(self) -> None:
        self._probe.main.wait([QUEUE], TURN)
        self._dequeue(0)

    def _dequeue(self, wait: float = TURN) -> None:
        session = self._probe.main
        session.begin()
        messages = session.take("dequeue", QUEUE, 1, wait)
        self._arrivals.note(messages)
        if messages:
            session.effect(messages, "consumed")
        session.commit()


class Giver(NamedTuple):
    """Something that makes one message available.

    give() returns when it has done so, or the time, on the clock of this
    process, at which it will happen by itself.
    """

    value: str
    give: Callable[[], Optional[float]]


class WakeProbe:
    """Measures how long it takes from "available" to "delivered"."""

    def __init__(self, run_dir: str, seed: int, shared: Shared):
        self.probe = Probe(run_dir, seed, shared, "probe_wake")
        self.arrivals = Arrivals()
        self.watch = StallWatch()
        self.waiters = [
            Waiter(Probe(run_dir, seed, shared, "probe_waiter%d" % number),
                   self.arrivals, number)
            for number in range(1, WAITERS + 1)]
        # Those that hold a message in an open transaction.
        self.sessions: list[Session] = []

    def run(self, rounds: int) -> None:
        """Measure each way so many times."""
        ways = [self.commit, self.commit_prepared, self.roll_back,
                self.roll_back_prepared, self.nack, self.release,
                self.let_expire, self.fall_due, self.reschedule]
        # Twice as many as are needed, since stalls make some of them void,
        # and all beforehand, since most must hold a message before there are
        # waiters who would take it.
        givers = []
        for way in ways:
            tries = [self.probe.attempt(way) for _ in range(2 * rounds)]
            givers.append([giver for giver in tries if giver is not None])
        self.watch.start()
        for waiter in self.waiters:
            waiter.start()
        # One for each, which connects all of them and fills their caches.
        for value in self.probe.send(len(self.waiters)):
            self.arrivals.wait(value, FORGOTTEN)
        for _ in range(rounds):
            for way in givers:
                while way and not self.measure(way.pop()):
                    pass
        self.finish([giver for way in givers for giver in way])

    def finish(self, rest: list[Giver]) -> None:
        """Use up what is left, and end the waiters."""
        for giver in rest:
            self.probe.attempt(giver.give)
        for waiter in self.waiters:
            waiter.stop()
        # One message for each, and nobody has to wait for the end of his
        # patience.
        self.probe.send(len(self.waiters))
        for waiter in self.waiters:
            waiter.join()
        self.watch.stop()
        for session in self.sessions:
            session.close()
        self.probe.close()

    def measure(self, giver: Giver) -> bool:
        """One measurement; false if it is void."""
        # Let those who were woken for nothing fall asleep again.
        time.sleep(self.probe.rng.uniform(0.01, 0.05))
        begin = time.monotonic()
        try:
            due = giver.give() or time.monotonic()
        except Failed:
            self.probe.recover()
            return False
        arrival = self.arrivals.wait(giver.value, FORGOTTEN)
        if self.watch.has_stalled(begin):
            return False
        late = FORGOTTEN if arrival is None else max(0.0, arrival - due)
        log = self.probe.history
        n = log.before("wake", self.probe.next_txn(), QUEUE,
                       {"value": giver.value})
        log.after(n, "ok", {"late_ms": round(1000 * late, 3)})
        return True

    # Ways for a message to become available.  Nobody else takes anything
    # while these prepare themselves.

    def hold(self, session: Session, op: str) -> tuple[str, list[Message]]:
        """Send a message and take it."""
        self.probe.send()
        if op == "dequeue":
            session.begin()
        messages = session.take(op, QUEUE, lease=HOLD)
        if not messages:
            raise Failed("nothing to hold", False)
        return messages[0].value, messages

    def commit(self) -> Giver:
        """It is sent."""
        value = self.probe.new_value()
        session = self.probe.main

        def give() -> None:
            session.begin()
            session.enqueue(QUEUE, [value], "enqueue", False)
            session.commit()

        return Giver(value, give)

    def commit_prepared(self) -> Giver:
        """It was sent by a prepared transaction."""
        value = self.probe.new_value()
        session = self.probe.main
        session.begin()
        session.enqueue(QUEUE, [value], "enqueue")
        txn = session.prepare()
        return Giver(value, lambda: session.finish_prepared(txn, True))

    def roll_back(self) -> Giver:
        """It was dequeued by somebody who fails."""
        session = Session(self.probe)
        self.sessions.append(session)
        value, _ = self.hold(session, "dequeue")
        return Giver(value, session.rollback)

    def roll_back_prepared(self) -> Giver:
        """It was dequeued by a prepared transaction."""
        session = self.probe.main
        value, _ = self.hold(session, "dequeue")
        txn = session.prepare()
        return Giver(value, lambda: session.finish_prepared(txn, False))

    def nack(self) -> Giver:
        """Its holder could not do the work."""
        session = self.probe.main
        value, messages = self.hold(session, "receive")

        def give() -> None:
            session.settle("nack", messages, delay=0)

        return Giver(value, give)

    def release(self) -> Giver:
        """Its holder gave it back."""
        session = self.probe.main
        value, messages = self.hold(session, "receive")

        def give() -> None:
            session.settle("release", messages)

        return Giver(value, give)

    def let_expire(self) -> Giver:
        """Its lease runs out."""
        session = self.probe.main
        value, messages = self.hold(session, "receive")

        def give() -> float:
            deadline = session.settle("extend", messages, lease=0.1)
            return deadline - (time.time() - time.monotonic())

        return Giver(value, give)

    def fall_due(self) -> Giver:
        """It was sent with a delay."""
        value = self.probe.new_value()

        def give() -> float:
            due = round(time.time() + 0.1, 6)
            self.probe.main.enqueue(QUEUE, [value], "enqueue",
                                    wish=Wish(deliver_at=due))
            return max(due - (time.time() - time.monotonic()),
                       time.monotonic())

        return Giver(value, give)

    def reschedule(self) -> Giver:
        """It was for later, and is to come soon."""
        value = self.probe.new_value()
        session = self.probe.main
        id, = session.enqueue(QUEUE, [value], "enqueue",
                              wish=Wish(delay=HOLD))

        def give() -> float:
            due = round(time.time() + 0.05, 6)
            session.reschedule(QUEUE, id, value, due, True)
            # If the call took longer, that is when it can be taken.
            return max(due - (time.time() - time.monotonic()),
                       time.monotonic())

        return Giver(value, give)


def probe_epoch(probe: Probe, crashes: Crashes, count: int) -> None:
    """Receipts from before a crash, when everything is counted anew."""
    probe.send(count)
    crashes.crash(probe)
    old = probe.attempt(probe.main.take, "receive", QUEUE, count, 0, 30)
    crashes.crash(probe)
    new = probe.attempt(probe.main.take, "receive", QUEUE, count, 0, 30)
    for message in old or []:
        probe.ack([message])
        probe.attempt(probe.main.settle, "extend", [message], lease=30)
    probe.ack(new or [])


def probe_durable(probe: Probe, crashes: Crashes, cluster: Any) -> None:
    """A lease that is on disk is honoured after a crash."""
    probe.send(2)
    messages = probe.attempt(probe.main.take, "receive", QUEUE, 2, 0, 20) or []
    call = probe.history.before(
        "stored", probe.next_txn(), QUEUE,
        {"receipts": [message.receipt for message in messages]})
    if is_written(cluster, [message.id for message in messages]):
        probe.history.after(call, "ok")
    crashes.crash(probe)
    others = probe.attempt(probe.main.take, "receive", QUEUE, 2, 0.3)
    for message in messages:
        probe.ack([message])
    probe.ack(others or [])


def is_written(cluster: Any, ids: list[int]) -> bool:
    """Wait until the leases on these messages are in queue.lease."""
    deadline = time.monotonic() + 10
    connection = cluster.connect()
    try:
        with connection.cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(
                    "SELECT count(*) FROM queue.lease"
                    " WHERE queue = 'stress.calm'::regclass"
                    " AND id = ANY (%s)", [ids])
                if cursor.fetchone()[0] == len(ids):
                    return True
                time.sleep(0.05)
    finally:
        connection.close()
    return False


# Ways to fail.  Each takes the message, if there is one, and fails; false if
# there was none.  What is due is waited for, and backing off takes 0.4 s at
# most.

def fail_by_nack(probe: Probe) -> bool:
    """Nack it."""
    messages = probe.main.take("receive", QUEUE, 1, 1)
    if messages:
        probe.main.settle("nack", messages)
    return bool(messages)


def fail_by_rollback(probe: Probe) -> bool:
    """Roll the transaction back."""
    probe.main.begin()
    messages = probe.main.take("dequeue", QUEUE, 1, 1)
    probe.main.rollback()
    return bool(messages)


def fail_by_savepoint(probe: Probe) -> bool:
    """Roll back to a savepoint only."""
    probe.main.begin()
    probe.main.savepoint("s")
    messages = probe.main.take("dequeue", QUEUE, 1, 1)
    probe.main.rollback_to("s")
    probe.main.commit()
    return bool(messages)


def fail_by_error(probe: Probe) -> bool:
    """Let a statement fail."""
    probe.main.begin()
    messages = probe.main.take("dequeue", QUEUE, 1, 1)
    probe.attempt(probe.main.fail_on_purpose)
    return bool(messages)


def fail_by_rollback_prepared(probe: Probe) -> bool:
    """Roll back the prepared transaction."""
    probe.main.begin()
    messages = probe.main.take("dequeue", QUEUE, 1, 1)
    probe.main.finish_prepared(probe.main.prepare(), False)
    return bool(messages)


def fail_by_expiry(probe: Probe) -> bool:
    """Let the lease run out."""
    return bool(probe.main.take("receive", QUEUE, 1, 1, 0.1))


FAILURES = (fail_by_nack, fail_by_rollback, fail_by_expiry,
            fail_by_savepoint, fail_by_error, fail_by_rollback_prepared)


def probe_limit(probe: Probe, failures: list[Callable[[Probe], bool]]
                ) -> None:
    """Let a message fail in these ways, again and again until it is dead.

    If the limit does not hold, it would go on for ever.
    """
    probe.send()
    for number in range(2 * MAX_ATTEMPTS):
        fail = failures[number % len(failures)]
        if probe.attempt(fail, probe) is not True:
            break


def use_all_ways(probe: Probe, stale: list[Message],
                 good: list[Message]) -> None:
    """Use receipts that are over, alone and together with good ones."""
    for messages in (stale, stale + good):
        probe.ack(messages)
        for op in ("extend", "nack", "release", "reject"):
            probe.attempt(probe.main.settle, op, messages, lease=5)


def probe_stale(probe: Probe) -> None:
    """Use receipts after their leases have ended in every way."""
    session = probe.main

    def nack(messages: list[Message]) -> None:
        session.settle("nack", messages, delay=0)

    def release(messages: list[Message]) -> None:
        session.settle("release", messages)

    def expire(messages: list[Message]) -> None:
        session.settle("extend", messages, lease=0.05)
        time.sleep(0.1)

    for end in (nack, release, expire):
        probe.send()
        old = session.take("receive", QUEUE, 1, 1)
        if not old:
            continue
        probe.attempt(end, old)
        if end is not expire:
            probe.ack(old)
        new = session.take("receive", QUEUE, 1, 1, 5)
        use_all_ways(probe, old, new)
        probe.ack(new)
        use_all_ways(probe, new, [])
    stale_by_rollback(probe)


def stale_by_rollback(probe: Probe) -> None:
    """Leases end with the subtransaction that took them."""
    session = probe.main
    probe.send(2)
    session.begin()
    first = session.take("receive", QUEUE)
    session.savepoint("s")
    second = session.take("receive", QUEUE)
    session.rollback_to("s")
    session.commit()
    probe.ack(second)
    probe.ack(first)
    session.begin()
    second = session.take("receive", QUEUE)
    session.rollback()
    probe.ack(second)
    probe.ack(session.take("receive", QUEUE, 1, 1))


def probe_purge(probe: Probe) -> None:
    """Purge what is leased: the leases go with the messages."""
    session = probe.main
    values = probe.send(3)
    held = session.take("receive", QUEUE, 2, 0, HOLD)
    session.begin()
    session.call("remove", "SELECT queue.purge(%s)", [QUEUE],
                 lambda cursor: values, QUEUE, "purge")
    session.effect([Message(QUEUE, 0, value, None) for value in values],
                   "purged")
    session.commit()
    probe.ack(held)


def try_changes(probe: Probe, id: int, value: str, can: bool) -> None:
    """Reschedule and cancel a message, in a transaction that is undone."""
    session = probe.side
    session.begin()
    session.reschedule(QUEUE, id, value, time.time() + HOLD, can)
    session.cancel(QUEUE, id, value, can)
    session.rollback()


def probe_change(probe: Probe) -> None:
    """Change messages that are free, and try to change others."""
    session = probe.main
    for wish in (NOTHING, Wish(priority=7, delay=HOLD),
                 Wish(expires_in=HOLD), Wish(delay=0.01)):
        value = probe.new_value()
        id, = session.enqueue(QUEUE, [value], "enqueue", wish=wish)
        try_changes(probe, id, value, True)
        # Held, in both ways, and free again.
        session.reschedule(QUEUE, id, value, time.time(), True)
        session.begin()
        if session.take("dequeue", QUEUE, 1):
            try_changes(probe, id, value, False)
        session.rollback()
        messages = session.take("receive", QUEUE, 1, 1, HOLD)
        if messages:
            try_changes(probe, id, value, False)
            session.settle("nack", messages, delay=HOLD)
        try_changes(probe, id, value, True)
        session.cancel(QUEUE, id, value, True)
        try_changes(probe, id, value, False)


def probe_urgent(probe: Probe) -> None:
    """Take one after the other what has priorities, as a single consumer."""
    session = probe.main
    for _ in range(20):
        session.enqueue("tickets", [probe.new_value()], "enqueue",
                        wish=Wish(probe.rng.randrange(10),
                                  probe.rng.choice((None, 0.1, 0.3))))
    for pause in (0, 0.15, 0.2):
        time.sleep(pause)
        for _ in range(7):
            session.consume("tickets", 1)
    while session.consume("tickets", 1):
        pass


def clear(probe: Probe, cluster: Any) -> None:
    """Consume what is left, and let the dead go where they belong."""
    deadline = time.monotonic() + 10
    connection = cluster.connect()
    try:
        with connection.cursor() as cursor:
            while time.monotonic() < deadline:
                probe.attempt(probe.main.consume, QUEUE, 50)
                cursor.execute("SELECT count(*) FROM stress.calm")
                if cursor.fetchone()[0] == 0:
                    return
                time.sleep(0.1)
    finally:
        connection.close()


def run(run_dir: str, cluster: Any, seed: int, quick: bool = False) -> None:
    """Run all probes."""
    shared = Shared(cluster.port)
    # No call of a probe takes long, unless the server hangs.
    shared.statement_timeout_ms = CALL_TIMEOUT_MS
    crashes = Crashes(run_dir, cluster, shared)
    WakeProbe(run_dir, seed, shared).run(3 if quick else 9)
    probe = Probe(run_dir, seed, shared, "probe")
    clear(probe, cluster)
    probe.attempt(probe_stale, probe)
    probe.attempt(probe_urgent, probe)
    probe.attempt(probe_change, probe)
    if quick:
        probe_limit(probe, list(FAILURES))
    else:
        for failure in FAILURES:
            probe_limit(probe, [failure])
        probe_limit(probe, list(FAILURES[::-1]))
    for number in range(1 if quick else 4):
        probe.attempt(probe_epoch, probe, crashes, 1 + number % 3)
    for _ in range(1 if quick else 2):
        probe.attempt(probe_durable, probe, crashes, cluster)
    clear(probe, cluster)
    # No crash comes after this one: it may leave something in memory.
    probe.attempt(probe_purge, probe)
    clear(probe, cluster)
    probe.close()

"""Probes of subscriptions, on the quiet server.

One consumer waits, and must have the message as soon as it can be had: when a
publisher commits, when one that was in its way ends, when a partition is given
back.  And what becomes of a batch is looked at step by step.
"""

import threading
import time
from typing import Any, Callable, Optional

from client import Shared
from probes import CALL_TIMEOUT_MS, FORGOTTEN, Crashes, Probe, StallWatch
from session import Failed, Session, read_column

TOPIC = "quiet"
SUBSCRIPTION = "listener"

# Of the subscription, as topics.sql has it.
MAX_ATTEMPTS = 3

# A lease that is not to end by itself, in seconds.
HOLD = 10.0

# A waiter has fallen asleep by then, in seconds.
ASLEEP = 0.3

# A measurement that the machine has spoiled is made again, so often.
TRIES = 4

# How long the worker may take to move a dead letter, in seconds.
PATIENCE = 10.0

PUBLISH = "SELECT queue.publish(%s, jsonb_build_object('v', %s::text))"
DEQUEUE = "SELECT payload ->> 'v' FROM queue.dequeue(%s, %s, wait => %s)"
RECEIVE = ("SELECT receipt FROM queue.receive(%s, %s,"
           " lease => make_interval(secs => %s))")
DEAD = "SELECT payload ->> 'v' FROM listener_dead"


class Listening:
    """The probes, and who does what in them."""

    def __init__(self, run_dir: str, seed: int, shared: Shared,
                 crashes: Crashes):
        self.probe = Probe(run_dir, seed, shared, "probe_topic")
        # One session for each who takes part: none makes two calls at a time.
        self.one, self.two, self.three = (Session(self.probe)
                                          for _ in range(3))
        self.listener = Probe(run_dir, seed, shared, "probe_listener")
        self.crashes = crashes
        self.watch = StallWatch()
        self.arrived: Optional[float] = None

    # Calls

    def ask(self, session: Session, sql: str, *parameters: Any) -> list:
        """The first column of a query."""
        return session.call("business", sql, parameters, read_column)

    def publish(self, session: Session) -> str:
        """Publish a message."""
        value = self.probe.new_value()
        self.ask(session, PUBLISH, TOPIC, value)
        return value

    def dequeue(self, session: Session, most: int = 1,
                wait: str = "0") -> list[str]:
        """Dequeue messages; their values."""
        return self.ask(session, DEQUEUE, SUBSCRIPTION, most, wait)

    def receive(self, most: int, lease: float = HOLD) -> list[str]:
        """Receive so many messages; their receipts."""
        receipts = self.ask(self.one, RECEIVE, SUBSCRIPTION, most, lease)
        if len(receipts) < most:
            raise Failed("nothing to hold", False)
        return receipts

    def ack(self, receipt: str) -> None:
        """Consume up to this one."""
        self.ask(self.one, "SELECT queue.ack(%s)", receipt)

    def note(self, what: str, found: Any, expected: Any) -> None:
        """Note what was found, if it is not what it should be."""
        log = self.probe.history
        n = log.before("claim", self.probe.next_txn(), SUBSCRIPTION,
                       {"what": what})
        log.after(n, "ok", {"found": None if found == expected else
                            "%s, not %s" % (found, expected)})

    # Waking

    def listen(self) -> None:
        """Wait for a message, in a thread."""
        if self.probe.attempt(self.dequeue, self.listener.main, 1,
                              "%d s" % FORGOTTEN):
            self.arrived = time.monotonic()

    def measure(self, make: Callable[[], Callable[[], Optional[float]]]
                ) -> None:
        """Measure one way, until the machine lets that happen."""
        for _ in range(TRIES):
            give = make()
            self.arrived = None
            thread = threading.Thread(target=self.listen)
            thread.start()
            time.sleep(ASLEEP)
            begin = time.monotonic()
            due = give() or time.monotonic()
            thread.join()
            while self.dequeue(self.three, 100):
                pass
            if not self.watch.has_stalled(begin):
                break
        else:
            return
        late = (FORGOTTEN if self.arrived is None
                else max(0.0, self.arrived - due))
        log = self.probe.history
        n = log.before("wake", self.probe.next_txn(), SUBSCRIPTION,
                       {"value": make.__name__})
        log.after(n, "ok", {"late_ms": round(1000 * late, 3)})

    def commit(self) -> Callable[[], None]:
        """A publisher commits."""
        def give() -> None:
            self.one.begin()
            self.publish(self.one)
            self.one.commit()

        return give

    def commit_prepared(self) -> Callable[[], None]:
        """A prepared publisher commits."""
        self.one.begin()
        self.publish(self.one)
        txn = self.one.prepare()
        return lambda: self.one.finish_prepared(txn, True)

    def out_of_the_way(self) -> Callable[[], None]:
        """A publisher with a lower id rolls back."""
        self.one.begin()
        self.publish(self.one)
        self.publish(self.two)
        return self.one.rollback

    def give_back(self) -> Callable[[], None]:
        """Who has dequeued rolls back."""
        self.publish(self.two)
        self.one.begin()
        self.dequeue(self.one)
        return self.one.rollback

    def ack_all(self) -> Callable[[], None]:
        """A batch is consumed, and there is more behind it."""
        self.publish(self.two)
        self.publish(self.two)
        receipt, = self.receive(1)
        return lambda: self.ack(receipt)

    def release(self) -> Callable[[], None]:
        """A batch is released."""
        self.publish(self.two)
        receipt, = self.receive(1)

        def give() -> None:
            self.ask(self.one, "SELECT queue.release(%s)", receipt)

        return give

    def let_expire(self) -> Callable[[], float]:
        """A lease runs out."""
        self.publish(self.two)
        self.receive(1, 1.0)
        end = time.monotonic() + 1.0
        return lambda: end

    def wake(self) -> None:
        """Measure all ways."""
        self.watch.start()
        for make in (self.commit, self.commit_prepared, self.out_of_the_way,
                     self.give_back, self.ack_all, self.release,
                     self.let_expire) * 2:
            self.probe.attempt(self.measure, make)
            self.leave()
        self.watch.stop()

    # Batches

    def settle_parts(self) -> None:
        """A lease goes on after a part of its batch, and ends with all."""
        values = [self.publish(self.two) for _ in range(4)]
        receipts = self.receive(3)
        self.ack(receipts[0])
        self.note("a batch of which a part was consumed",
                  self.dequeue(self.two), [])
        self.ack(receipts[2])
        self.note("what is behind a batch that was consumed",
                  self.dequeue(self.two), values[3:])

    def roll_back_part(self) -> None:
        """A savepoint takes back what was done after it, and nothing else."""
        values = [self.publish(self.two) for _ in range(3)]
        self.one.begin()
        got = self.dequeue(self.one)
        self.one.savepoint("s")
        got += self.dequeue(self.one, 2)
        self.one.rollback_to("s")
        self.one.commit()
        for _ in range(2):
            got += self.dequeue(self.two, 1, "1 s")
        self.note("what was taken around a savepoint", got,
                  values + values[1:])

    def die(self) -> None:
        """Fail until the message is dead; what is behind it comes next."""
        value, behind = (self.publish(self.two) for _ in range(2))
        tries = 0
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.one.begin()
            got = self.dequeue(self.one, 1, "2 s")
            if got == [value]:
                tries += 1
                self.one.rollback()
                continue
            self.one.commit()
            if got:
                break
        dead = [letter for letter in self.ask(self.two, DEAD)
                if letter in (value, behind)]
        self.note("what failed and what is behind it", [tries, dead, got],
                  [MAX_ATTEMPTS, [value], [behind]])

    def keep_prepared(self) -> None:
        """A prepared consumer has its messages, over a crash too."""
        self.publish(self.two)
        self.one.begin()
        self.dequeue(self.one)
        txn = self.one.prepare()
        found = [self.dequeue(self.two),
                 self.ask(self.two, RECEIVE, SUBSCRIPTION, 1, 0.1)]
        for session in (self.one, self.two, self.three):
            session.close()
        self.listener.disconnect()
        self.crashes.crash(self.probe)
        found.append(self.dequeue(self.two))
        self.one.finish_prepared(txn, True)
        found.append(self.dequeue(self.two))
        value = self.publish(self.two)
        found.append(self.dequeue(self.two))
        self.note("what a prepared transaction has consumed", found,
                  [[], [], [], [], [value]])

    def leave(self) -> None:
        """Leave no transaction open."""
        for session in (self.one, self.two, self.three):
            if session.txn is not None:
                session.close()

    def run(self) -> None:
        """All of it."""
        for one in (self.wake, self.settle_parts, self.roll_back_part,
                    self.die, self.keep_prepared):
            self.probe.attempt(one)
            self.leave()
            while self.probe.attempt(self.dequeue, self.three, 100):
                pass
        for session in (self.one, self.two, self.three):
            session.close()
        self.listener.close()
        self.probe.close()


def run(run_dir: str, cluster: Any, seed: int) -> None:
    """Run these probes."""
    shared = Shared(cluster.port)
    shared.statement_timeout_ms = CALL_TIMEOUT_MS
    Listening(run_dir, seed, shared, Crashes(run_dir, cluster, shared)).run()

"""A client of the stress test, whatever its role: its life and its errors.

Nothing that goes wrong is an end: after an error the transaction is rolled
back, a connection that is lost is opened again, at the port where the server
is by then.  A client ends when it is told to, and when its parent is gone.
"""

import os
import random
import select
import time
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any, Callable, Optional

import psycopg2
from psycopg2 import extensions

import history
from session import PATIENCE, Failed, Session, Stopped

QUEUES = ("orders", "parts", "stream", "tickets", "reminders", "offers",
          "devices", "shelf", "counter", "asks", "answers", "letters",
          "refresh", "returns")

MAX_CLIENTS = 64

REPEATABLE_READ = "REPEATABLE READ"
SERIALIZABLE = "SERIALIZABLE"


class Shared:
    """What clients, fault injection and progress know of each other.

    Single machine words in shared memory, each written by one process only;
    nobody needs a lock, and a client that is killed leaves none behind.
    """

    def __init__(self, port: int, host: str = "127.0.0.1",
                 database: str = "postgres", rate: float = float("inf")):
        self.host = host
        # How many messages a second a producer sends at most.
        self.rate = rate
        self.database = database
        self._port = RawValue("i", port)
        self._stop = RawValue("i", 0)
        self._drain = RawValue("i", 0)
        self._statement_timeout = RawValue("i", 0)
        self._lock_timeout = RawValue("i", 0)
        # By queue: how long it was when somebody looked, and what the
        # counters below said at that time.
        self._depth = {queue: RawValue("q", 0) for queue in QUEUES}
        # By queue and client.
        self._enqueued = {queue: RawArray("q", MAX_CLIENTS)
                          for queue in QUEUES}
        self._consumed = {queue: RawArray("q", MAX_CLIENTS)
                          for queue in QUEUES}
        # By client.
        self.calls = RawArray("q", MAX_CLIENTS)
        self.failed = RawArray("q", MAX_CLIENTS)
        self.reconnects = RawArray("q", MAX_CLIENTS)

    @property
    def port(self) -> int:
        """The port that the server listens on; it may move."""
        return self._port.value

    @port.setter
    def port(self, port: int) -> None:
        self._port.value = port

    @property
    def stop(self) -> bool:
        """Clients are to end."""
        return bool(self._stop.value)

    @stop.setter
    def stop(self, stop: bool) -> None:
        self._stop.value = stop

    @property
    def drain(self) -> bool:
        """Nothing new is sent, and nothing fails on purpose any more."""
        return bool(self._drain.value)

    @drain.setter
    def drain(self, drain: bool) -> None:
        self._drain.value = drain

    @property
    def statement_timeout_ms(self) -> int:
        """What clients set at their next transaction; 0 is none."""
        return self._statement_timeout.value

    @statement_timeout_ms.setter
    def statement_timeout_ms(self, timeout: int) -> None:
        self._statement_timeout.value = timeout

    @property
    def lock_timeout_ms(self) -> int:
        """What clients set at their next transaction; 0 is none."""
        return self._lock_timeout.value

    @lock_timeout_ms.setter
    def lock_timeout_ms(self, timeout: int) -> None:
        self._lock_timeout.value = timeout

    def count(self, client: int, queue: str, enqueued: int,
              consumed: int) -> None:
        """Add to the counters of a client."""
        if queue in QUEUES:
            self._enqueued[queue][client] += enqueued
            self._consumed[queue][client] += consumed

    def set_depth(self, queue: str, depth: int) -> None:
        """Say how long the queue is now; to be called about once a second."""
        self._depth[queue].value = depth - self._flow(queue)

    def depth(self, queue: str) -> int:
        """About how long the queue is: as seen last, and counted since."""
        return self._depth[queue].value + self._flow(queue)

    def _flow(self, queue: str) -> int:
        return sum(self._enqueued[queue]) - sum(self._consumed[queue])

    def totals(self) -> dict[str, int]:
        """The counters of all clients together, for the progress line."""
        return {
            "enqueued": sum(sum(counts) for counts
                            in self._enqueued.values()),
            "consumed": sum(sum(counts) for counts
                            in self._consumed.values()),
            "calls": sum(self.calls),
            "failed": sum(self.failed),
            "reconnects": sum(self.reconnects)}


class Client:
    """What all roles have in common."""

    def __init__(self, run_dir: str, seed: int, shared: Shared, index: int,
                 name: str, role: str):
        directory = os.path.join(run_dir, "history")
        os.makedirs(directory, exist_ok=True)
        self.name = name
        self.index = index
        self.shared = shared
        self.rng = random.Random("%s/%s" % (seed, name))
        self.history = history.Writer(
            os.path.join(directory, name + ".jsonl"), name, role)
        self.main = Session(self)
        # A second connection: what was taken on one may be settled on the
        # other, and a transaction may stay open on it.
        self.side = Session(self)
        self.connecting_since: Optional[float] = None
        self._connections = 0
        self._txns = 0
        self._values = 0
        self._started_at = time.monotonic()
        self._parent = os.getppid()
        self._is_terminated = False
        self._stopped_since: Optional[float] = None

    # Life

    def run(self) -> None:
        """Work until told to stop."""
        try:
            while not self.is_stopped():
                try:
                    self.step()
                except Failed:
                    self.recover()
                    self.pause(0.005)
        except Stopped:
            pass
        finally:
            self.recover()
            self.main.close()
            self.side.close()
            self.history.close()

    def step(self) -> None:
        """Do one thing."""
        raise NotImplementedError

    def recover(self) -> None:
        """Roll back what a failure has left open."""
        if self.main.txn is not None:
            self.roll_back(self.main)

    def roll_back(self, session: Session) -> None:
        """Roll back, whatever the server says to it.

        Some programs commit after an error, which comes to the same.
        """
        try:
            if session.has_failed and self.chance(0.1):
                session.commit()
            else:
                session.rollback()
        except Failed as failure:
            # Only a lost connection prevents a rollback, or a cancellation
            # that came while it was asked for; end the transaction anyhow.
            if not failure.closed:
                session.close()

    def terminate(self, *_signal: Any) -> None:
        """End, as a signal handler."""
        self._is_terminated = True

    def is_stopped(self) -> bool:
        """Is the client to end?"""
        return (self._is_terminated or self.shared.stop or
                os.getppid() != self._parent)

    @property
    def is_draining(self) -> bool:
        """Is it time to come to an end in good order?"""
        return self.shared.drain

    def pause(self, seconds: float) -> None:
        """Do nothing for a while."""
        deadline = time.monotonic() + seconds
        while not self.is_stopped():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, 0.05))

    def breathe(self) -> None:
        """Leave time to clients of queues where more goes on."""
        if not self.is_draining:
            self.pause(self.rng.expovariate(1 / 0.02))

    def wait_for_server(self, connection) -> None:
        """The driver's wait callback, so that no call lasts for ever.

        To leave it by an exception closes the connection.
        """
        while True:
            state = connection.poll()
            if state == extensions.POLL_OK:
                return
            descriptor = [connection.fileno()]
            if state == extensions.POLL_READ:
                ready = select.select(descriptor, [], [], 0.5)
            else:
                ready = select.select([], descriptor, [], 0.5)
            if not (ready[0] or ready[1]):
                self.check_patience()

    def check_patience(self) -> None:
        """Raise an error if the server has had time enough."""
        now = time.monotonic()
        if self.is_stopped() and self._stopped_since is None:
            self._stopped_since = now
        for since in (self.connecting_since, self._stopped_since):
            if since is not None and now - since > PATIENCE:
                raise psycopg2.OperationalError("no answer in time")

    # Names and counters

    def next_txn(self) -> str:
        """The name of a new transaction."""
        self._txns += 1
        return "%s.t%d" % (self.name, self._txns)

    def new_value(self) -> str:
        """A value that no other message has."""
        self._values += 1
        return "%s.%d" % (self.name, self._values)

    def count(self, queue: str, enqueued: int, consumed: int) -> None:
        """Count messages for the progress line."""
        self.shared.count(self.index, queue, enqueued, consumed)

    def count_call(self, failed: bool = False) -> None:
        """Count a call for the progress line."""
        self.shared.calls[self.index] += 1
        if failed:
            self.shared.failed[self.index] += 1

    def count_connection(self) -> None:
        """Count connections; the first two are no reconnections."""
        self._connections += 1
        if self._connections > 2:
            self.shared.reconnects[self.index] += 1

    # Choices

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self.rng.random() < probability

    def choose(self, **weights: float) -> str:
        """One of the names, by weight."""
        return self.rng.choices(list(weights), list(weights.values()))[0]

    def isolation(self) -> Optional[str]:
        """Mostly the default."""
        if self.chance(0.9):
            return None
        return self.rng.choice((REPEATABLE_READ, SERIALIZABLE))

    # Transactions

    def in_savepoint(self, session: Session, depth: int,
                     work: Callable[[], None]) -> bool:
        """Do work in a subtransaction, and perhaps undo it; true if it stays.

        An error in it is the end of the subtransaction or, for some clients,
        of all.
        """
        name = "s%d" % depth
        session.savepoint(name)
        try:
            work()
            if self.chance(0.1):
                session.fail_on_purpose()
        except Failed as failure:
            if failure.closed or self.chance(0.3):
                raise
            session.rollback_to(name)
            return False
        end = self.choose(release=50, rollback=35, both=10, leave=5)
        if end in ("rollback", "both"):
            session.rollback_to(name)
        if end in ("release", "both"):
            session.release_savepoint(name)
        return end in ("release", "leave")

    def finish(self, session: Session, commit: float = 90,
               rollback: float = 5, error: float = 2,
               prepare: float = 3) -> Optional[bool]:
        """End a transaction: true if it committed, None if in doubt."""
        if self.is_draining:
            return session.commit()
        end = self.choose(commit=commit, rollback=rollback, error=error,
                          prepare=prepare)
        if end == "commit":
            return session.commit()
        if end == "prepare":
            return self.finish_prepared(session.prepare())
        if end == "error":
            try:
                session.fail_on_purpose()
            except Failed as failure:
                if failure.closed:
                    raise
        elif self.chance(0.2):
            session.uncount()
        session.rollback()
        return False

    def finish_prepared(self, txn: str) -> Optional[bool]:
        """Finish a prepared transaction, or leave it to the resolver."""
        if self.chance(0.3):
            return None
        if self.chance(0.5):
            self.pause(self.rng.uniform(0, 0.3))
        session = self.main
        if self.chance(0.5) and self.side.txn is None:
            session = self.side
        elif session.txn is not None:
            return None
        commit = self.is_draining or self.chance(0.75)
        session.finish_prepared(txn, commit)
        return commit

"""Probes of what the server keeps of a message, on the quiet server.

Bodies come byte for byte, whatever becomes of a message meanwhile; the dead
letter of one that failed tells why; and one that is brought back is what it
was.  What is found is noted, and the checker judges it.
"""

import time
from typing import Any, Callable, Optional

from client import Shared
from probes import CALL_TIMEOUT_MS, MAX_ATTEMPTS, QUEUE, Crashes, Probe
from reviver import DEAD
from reviver import QUEUE as RETURNS
from session import Message
from wish import Wish

# The queue of bodies, which is there for its probe only.
BODIES = "bodies"

# How long the worker may take to move a dead letter, in seconds.
PATIENCE = 10.0

ENQUEUE_BYTES = "SELECT queue.enqueue_bytes(%s, %s, %s)"
ENQUEUE_BYTES_BATCH = "SELECT queue.enqueue_bytes_batch(%s, %s::bytea[], %s)"
DEQUEUE_BYTES = ("SELECT body FROM queue.dequeue(%s, 100)"
                 " WHERE payload IS NULL"
                 " AND content_type = 'application/test' ORDER BY id")

REASONS = """
SELECT array(SELECT f ->> 'message' FROM jsonb_array_elements(
                 headers -> 'dead_letter' -> 'failures') f)
  FROM calm_dead WHERE payload ->> 'v' = %s
"""

ROWS = """
SELECT id, priority, failures, group_key, correlation_id, headers, payload,
       expires_at
  FROM {} ORDER BY id
"""


class Keeper:
    """One who looks."""

    def __init__(self, probe: Probe, crashes: Crashes):
        self.probe = probe
        self.crashes = crashes

    def note(self, what: str, found: Optional[str]) -> None:
        """Note what was found, if it is not what it should be."""
        log = self.probe.history
        n = log.before("claim", self.probe.next_txn(), QUEUE, {"what": what})
        log.after(n, "ok", {"found": found})

    def ask(self, sql: str, *parameters: Any) -> list[tuple]:
        """The rows of a query, which do not go into the history."""
        rows: list[tuple] = []
        self.probe.main.call("business", sql, parameters,
                             lambda cursor: rows.extend(cursor.fetchall()))
        return rows

    # Bytes

    def keep_bytes(self) -> None:
        """Send bodies, fail with them, crash, and have them."""
        rng = self.probe.rng
        bodies = [b"", b"\0", bytes(range(256)), b"\\x41", b"\0" * 200000,
                  *(rng.randbytes(rng.choice((1, 100, 5000, 300000)))
                    for _ in range(5))]
        self.ask("SELECT queue.create_queue(%s)", BODIES)
        for body in bodies[:5]:
            self.ask(ENQUEUE_BYTES, BODIES, body, "application/test")
        self.ask(ENQUEUE_BYTES_BATCH, BODIES, bodies[5:], "application/test")
        self.probe.main.begin()
        self.ask(DEQUEUE_BYTES, BODIES)
        self.probe.main.rollback()
        self.crashes.crash(self.probe)
        got: list[bytes] = []
        end = time.monotonic() + PATIENCE
        while len(got) < len(bodies) and time.monotonic() < end:
            got += [bytes(body) for body, in self.ask(DEQUEUE_BYTES, BODIES)]
            time.sleep(0.05)
        self.ask("SELECT queue.drop_queue(%s)", BODIES)
        self.note("bodies", None if sorted(got) == sorted(bodies) else
                  "sent %s and got %s" % (shape(bodies), shape(got)))

    # Reasons

    def keep_reasons(self) -> None:
        """Fail with a reason until the message is dead."""
        value, = self.probe.send()
        reasons = ["reason %d" % number for number in range(MAX_ATTEMPTS)]
        for reason in reasons:
            session = self.probe.main
            session.begin()
            session.take("dequeue", QUEUE, 1, 2)
            self.ask("SELECT queue.fail(%s)", reason)
            session.rollback()
        found: list[tuple] = []
        end = time.monotonic() + PATIENCE
        while not found and time.monotonic() < end:
            found = self.ask(REASONS, value)
            time.sleep(0.05)
        told = found[0][0] if found else None
        self.note("reasons of failures", None if told == reasons else
                  "said %s, and the dead letter has %s" % (reasons, told))

    def count_nothing(self) -> None:
        """Roll back without a mark, and release for later."""
        session = self.probe.main
        self.probe.send()
        for _ in range(3):
            session.begin()
            session.take("dequeue", QUEUE, 1, 2)
            session.uncount()
            session.rollback()
        for _ in range(2):
            messages = session.take("receive", QUEUE, 1, 2)
            session.settle("release", messages, delay=0.2)
            session.take("receive", QUEUE, 1)
        session.consume(QUEUE, 1, 2)

    # Dead letters

    def keep_dead(self) -> None:
        """Reject messages and bring them back; with a crash in between."""
        session = self.probe.main
        for number in range(6):
            session.enqueue(RETURNS, [self.probe.new_value()], "enqueue",
                            wish=Wish(priority=number,
                                      correlation_id="c%d" % number))
        self.ask("UPDATE " + RETURNS + " SET headers = '{\"a\": 1}'"
                 " WHERE priority > 3 RETURNING id")
        before = self.ask(ROWS.format(RETURNS))
        # One of them fails before.
        session.begin()
        session.take("dequeue", RETURNS, 1)
        session.rollback()
        held: list[Message] = []
        while len(held) < 6:
            messages = session.take("receive", RETURNS, 6, 1)
            if not messages:
                break
            held += messages
        session.settle("reject", held)
        session.begin()
        session.redrive(RETURNS, DEAD, 4)
        session.rollback()
        session.begin()
        session.redrive(RETURNS, DEAD, 1000000)
        txn = session.prepare()
        self.crashes.crash(self.probe)
        session.finish_prepared(txn, True)
        after = [row for row in self.ask(ROWS.format(RETURNS))
                 if row[0] in {row[0] for row in before}]
        self.note("dead letters that were brought back",
                  None if after == before else
                  "they were %s and are %s" % (before, after))
        while session.consume(RETURNS, 100, 0.5):
            pass


def shape(bodies: list[bytes]) -> list[str]:
    """Bodies in short."""
    return ["%d bytes %s" % (len(body), body[:4].hex()) for body in bodies]


def run(run_dir: str, cluster: Any, seed: int) -> None:
    """Run these probes."""
    shared = Shared(cluster.port)
    shared.statement_timeout_ms = CALL_TIMEOUT_MS
    probe = Probe(run_dir, seed, shared, "probe_keeping")
    keeper = Keeper(probe, Crashes(run_dir, cluster, shared))
    probes: list[Callable[[], None]] = [
        keeper.keep_bytes, keeper.keep_reasons, keeper.count_nothing,
        keeper.keep_dead]
    for one in probes:
        probe.attempt(one)
    probe.close()

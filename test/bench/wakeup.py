"""How long a waiting consumer takes to get a message, on an idle queue.

The sender enqueues in a transaction, notes the time and commits; the consumer,
a process of its own, notes the time when it has the row.  Both clocks are the
machine's monotonic one.  So the figures contain the commit of the sender, with
its flush to disk, and the client's own share.  To tell these apart, the same
is done with synchronous_commit off in the sender's session, with LISTEN and
NOTIFY, where the sender's transaction inserts a row into a plain table, and
with SELECT 1 alone.
"""

import multiprocessing
import random
import select
import time
from typing import Any, Callable

import psycopg2

import cluster
import parts

SAMPLES = 200
ROUNDS = 3
SHORT_SAMPLES = 20

# A wake-up that has not come by then is lost.
PATIENCE = 5.0

QUANTILES = 100

SET_UP = """
SELECT queue.create_queue('bench.wakeup');
CREATE TABLE bench.notified (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload jsonb NOT NULL);
"""
TEAR_DOWN = """
DROP TABLE bench.wakeup, bench.wakeup_dead, bench.notified;
"""

ENQUEUE = "SELECT queue.enqueue('bench.wakeup', %s::text::jsonb)"
NOTIFY = ("INSERT INTO bench.notified (payload) VALUES (%s::text::jsonb);"
          " NOTIFY bench")

DEQUEUE = "SELECT payload FROM queue.dequeue('bench.wakeup'{})"
RECEIVE = "SELECT payload, receipt FROM queue.receive('bench.wakeup'{})"
WAIT = ", wait => '10 s'"


def dequeue(connection) -> list[Any]:
    """Wait in a dequeue; note the time before the commit."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(DEQUEUE.format(WAIT))
        at = time.monotonic()
        rows = cursor.fetchall()
        cursor.execute("COMMIT")
    return [(at, row[0]) for row in rows]


def receive(connection) -> list[Any]:
    """Wait in a receive; settle after the time was noted."""
    with connection.cursor() as cursor:
        cursor.execute(RECEIVE.format(WAIT))
        at = time.monotonic()
        rows = cursor.fetchall()
        for row in rows:
            cursor.execute("SELECT queue.ack(%s::text)", (row[1],))
    return [(at, row[0]) for row in rows]


def call_wait(connection) -> list[Any]:
    """Wait by CALL, then dequeue."""
    with connection.cursor() as cursor:
        cursor.execute("CALL queue.wait('bench.wakeup', '10 s')")
        cursor.execute("BEGIN")
        cursor.execute(DEQUEUE.format(""))
        at = time.monotonic()
        rows = cursor.fetchall()
        cursor.execute("COMMIT")
    return [(at, row[0]) for row in rows]


def listen(connection) -> list[Any]:
    """Wait for a notification."""
    select.select([connection], [], [], 10)
    connection.poll()
    at = time.monotonic()
    heard = len(connection.notifies)
    connection.notifies.clear()
    return [(at, None)] * heard


KINDS = {
    "notify": ("INSERT and NOTIFY; LISTEN", NOTIFY, listen),
    "dequeue": ("`dequeue(wait => ...)`", ENQUEUE, dequeue),
    "receive": ("`receive(wait => ...)`", ENQUEUE, receive),
    "wait": ("`CALL queue.wait`, then `dequeue`", ENQUEUE, call_wait),
}


def consume(server: cluster.Cluster, kind: str, pipe) -> None:
    """Be the consumer: report each message until the sender is gone."""
    connection = server.session()
    with connection.cursor() as cursor:
        if kind == "notify":
            cursor.execute("LISTEN bench")
    pipe.send("ready")
    try:
        while True:
            for found in KINDS[kind][2](connection):
                pipe.send(found)
    except (psycopg2.Error, OSError):
        # The sender ended the session, or left.
        pass


def measure(server: cluster.Cluster, kind: str, is_flushing: bool,
            samples: int) -> tuple[list[float], list[str]]:
    """Return the latencies of one kind in seconds, and what was wrong."""
    latencies: list[float] = []
    trouble: list[str] = []
    ours, theirs = multiprocessing.Pipe()
    consumer = multiprocessing.get_context("fork").Process(
        target=consume, args=(server, kind, theirs), daemon=True)
    consumer.start()
    sender = server.connect()
    rest = random.Random(samples)
    try:
        with sender.cursor() as cursor:
            cursor.execute("SET synchronous_commit = %s",
                           ("on" if is_flushing else "off",))
            sender.commit()
            if not ours.poll(PATIENCE):
                return [], ["%s: the consumer does not start" % kind]
            ours.recv()
            for number in range(samples):
                # It has to settle and to fall asleep again.
                time.sleep(0.01 + rest.random() * 0.01)
                cursor.execute(KINDS[kind][1], (str(number),))
                began = time.monotonic()
                sender.commit()
                if not ours.poll(PATIENCE):
                    trouble.append("%s: a waiter was not woken in %d s"
                                   % (kind, PATIENCE))
                    break
                at, payload = ours.recv()
                if payload is not None and payload != number:
                    trouble.append("%s: message %s came instead of %d"
                                   % (kind, payload, number))
                latencies.append(at - began)
            if ours.poll(0.05):
                trouble.append("%s: a message came twice" % kind)
    finally:
        sender.close()
        consumer.kill()
        consumer.join()
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                       " WHERE datname = current_database()"
                       " AND pid <> pg_backend_pid()"
                       " AND backend_type = 'client backend'")
        server.wait_for_sessions()
    return latencies, trouble


def ping(server: cluster.Cluster, samples: int) -> list[float]:
    """Return how long SELECT 1 takes, each in seconds."""
    latencies = []
    connection = server.session()
    with connection.cursor() as cursor:
        for _ in range(samples):
            time.sleep(0.005)
            began = time.monotonic()
            cursor.execute("SELECT 1")
            latencies.append(time.monotonic() - began)
    connection.close()
    server.wait_for_sessions()
    return latencies


def quantiles(values: list[float]) -> list[float]:
    """Return the quantiles of some latencies, in milliseconds."""
    values = sorted(values)
    if not values:
        return []
    return [round(values[min(len(values) - 1,
                             int(len(values) * i / QUANTILES))] * 1000, 4)
            for i in range(QUANTILES + 1)]


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    samples = SHORT_SAMPLES if extent.is_short else SAMPLES
    rounds = 1 if extent.is_short else ROUNDS
    found: dict[tuple[str, bool], list[float]] = {}
    trouble: list[str] = []
    server.execute(SET_UP)
    for _ in range(rounds):
        found.setdefault(("ping", False), []).extend(ping(server, samples))
        for is_flushing in (True, False):
            for kind in KINDS:
                latencies, wrong = measure(server, kind, is_flushing, samples)
                found.setdefault((kind, is_flushing), []).extend(latencies)
                trouble += wrong
    left = server.ask("SELECT count(*) FROM bench.wakeup")
    if left:
        trouble.append("%d messages are left" % left)
    server.execute(TEAR_DOWN)
    rows = []
    for (kind, is_flushing), latencies in found.items():
        row = {"kind": kind, "flush": is_flushing, "samples": len(latencies),
               "title": "SELECT 1" if kind == "ping" else KINDS[kind][0],
               "quantiles": quantiles(latencies)}
        rows.append(row)
        if latencies:
            say("%-10s %-8s p50 %.3f ms, p99 %.3f ms"
                % (kind, "flush" if is_flushing else "", row["quantiles"][50],
                   row["quantiles"][99]))
    for text in trouble:
        say("        FAILED: " + text)
    return {"rows": rows, "trouble": trouble}

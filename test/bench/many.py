"""Many queues: does it matter how many there are?

Queues are made in bulk.  Traffic over all of them, most of it on a few as it
is (Zipf's law), is measured in turn with the same traffic on one queue.  Then
one session touches all of them, to see what it keeps in memory; then nobody
does anything, to see what that costs; and all are dropped in bulk.
"""

import time
from typing import Any, Callable

import cluster
import machine
import parts
import runs

QUEUES = 10000
SHORT_QUEUES = 500
SMOKE_QUEUES = 100

CLIENTS = 8

# Seconds of one run of traffic, as a multiple of other runs: sessions begin
# without knowing any queue, and should have met most of them.
LENGTH = 2

# Made or dropped in one transaction: each takes some locks.
BULK = 100

# What is compared between the first and the last of what is made or dropped.
SHARE = 10

IDLE_SECONDS = 10
SHORT_IDLE_SECONDS = 1

# The worker goes over what has changed, now and then; it is idle when it takes
# less than so many seconds of CPU in this time.
QUIET = 0.005
QUIET_SECONDS = 5
SHORT_QUIET_SECONDS = 1
PATIENCE = 180.0

MAKE = ("SELECT queue.create_queue('many.q' || n)"
        " FROM generate_series(%d, %d) n")
DROP = ("SELECT queue.drop_queue(('many.q' || n)::regclass)"
        " FROM generate_series(%d, %d) n")

# What PostgreSQL itself takes for as many tables.
MAKE_TABLES = ("DO $$ BEGIN FOR n IN %d..%d LOOP EXECUTE format("
               "'CREATE TABLE many.t%%s (id bigint GENERATED ALWAYS AS"
               " IDENTITY PRIMARY KEY, payload jsonb)', n);"
               " END LOOP; END $$")
DROP_TABLES = ("DO $$ BEGIN FOR n IN %d..%d LOOP EXECUTE format("
               "'DROP TABLE many.t%%s', n); END LOOP; END $$")

TRAFFIC = ("\\set n random_zipfian(1, {0}, 1.07)\n"
           "SELECT queue.enqueue(('many.q' || :n::int)::regclass, :payload)"
           " AS sent \\gset\n"
           "\\set id 0\n"
           "SELECT id, payload"
           " FROM queue.dequeue(('many.q' || :n::int)::regclass) \\aset\n")

TOUCH = ("SELECT count(queue.enqueue(('many.q' || n)::regclass, '{}'))"
         " FROM generate_series(%d, %d) n",
         "SELECT count(id) FROM generate_series(%d, %d) n,"
         " queue.dequeue(('many.q' || n)::regclass)")

MEMORY = """
SELECT sum(total_bytes),
       coalesce(sum(total_bytes) FILTER (WHERE 'queue definitions'
                                         IN (name, parent)), 0)
FROM pg_backend_memory_contexts
"""
WORKERS = ("SELECT pid FROM pg_stat_activity"
           " WHERE backend_type LIKE 'queue %'")


def in_bulk(server: cluster.Cluster, statement: str,
            count: int) -> dict[str, float]:
    """Make or drop so many; return ms for each, of all and at both ends."""
    taken = []
    for first in range(1, count + 1, BULK):
        began = time.monotonic()
        last = min(first + BULK - 1, count)
        server.execute(statement % (first, last))
        taken.append((time.monotonic() - began) * 1000 / (last - first + 1))
    ends = max(len(taken) // SHARE, 1)
    return {"each": sum(taken) / len(taken),
            "first": sum(taken[:ends]) / ends,
            "last": sum(taken[-ends:]) / ends}


def left(server: cluster.Cluster, count: int) -> int:
    """Return how many messages wait in all queues."""
    total = 0
    for first in range(1, count + 1, BULK):
        names = ["SELECT count(*) FROM many.q%d" % n
                 for n in range(first, min(first + BULK, count + 1))]
        total += server.ask("SELECT sum(count) FROM (%s) AS counts"
                            % " UNION ALL ".join(names))
    return int(total)


def traffic(server: cluster.Cluster, kind: str, count: int,
            extent: parts.Extent) -> dict[str, Any]:
    """Send and consume on so many queues."""
    length = extent.length
    if extent.mode != "smoke":
        length = ["-T", str(extent.seconds * LENGTH)]
    done = runs.Pgbench(server, TRAFFIC.format(count), CLIENTS, length,
                        runs.PAYLOADS["100 B"], 1).result()
    server.wait_for_sessions()
    return {"kind": kind, "rate": done["rate"], "sent": done["runs"],
            "progress": done["progress"],
            "trouble": ["%d transactions failed" % done["failed"]]
            if done["failed"] else []}


def resident(pid: int) -> int:
    """Return the bytes that a process has for itself."""
    return int(machine.find("/proc/%d/status" % pid,
                            r"RssAnon:\s+(\d+)")) * 1024


def touch_all(server: cluster.Cluster, count: int) -> dict[str, float]:
    """Send to and consume from each queue in one session; what does it keep?

    Bytes a queue: of its memory contexts, of those of the extension, and of
    the process.
    """
    session = server.session()
    with session.cursor() as cursor:
        def memory() -> list[int]:
            cursor.execute(MEMORY)
            return [int(value) for value in cursor.fetchone()]

        memory()
        before = memory() + [resident(session.info.backend_pid)]
        began = time.monotonic()
        taken = 0
        for first in range(1, count + 1, BULK):
            for statement in TOUCH:
                cursor.execute(statement
                               % (first, min(first + BULK - 1, count)))
                taken += cursor.fetchone()[0]
        seconds = time.monotonic() - began
        after = memory() + [resident(session.info.backend_pid)]
    session.close()
    server.wait_for_sessions()
    names = ("contexts", "ours", "process")
    result = {name: (now - then) / count
              for name, now, then in zip(names, after, before)}
    result["total"] = after[2]
    result["calls"] = 2 * count / seconds
    result["missed"] = 2 * count - taken
    return result


def idle(server: cluster.Cluster, extent: parts.Extent) -> dict[str, float]:
    """Return what worker and leader take when nobody does anything."""
    pause = SHORT_QUIET_SECONDS if extent.is_short else QUIET_SECONDS
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE:
        cpu = workers_cpu(server)
        time.sleep(pause)
        if workers_cpu(server) - cpu < QUIET:
            break
    quiet_after = time.monotonic() - began - pause
    seconds = SHORT_IDLE_SECONDS if extent.is_short else IDLE_SECONDS
    cpu = workers_cpu(server)
    began = time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - began
    return {"quiet_after": quiet_after,
            "memory": max(resident(pid) for pid in server.column(WORKERS)),
            "cpu": (workers_cpu(server) - cpu) * 1000 / taken}


def workers_cpu(server: cluster.Cluster) -> float:
    """Return the seconds of CPU that the extension's processes have used."""
    return sum(server.cpu_of(pid) for pid in server.column(WORKERS))


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              queues: int | None,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    count = queues
    if count is None:
        count = {"full": QUEUES, "short": SHORT_QUEUES,
                 "smoke": SMOKE_QUEUES}[extent.mode]
    tables = min(count, max(count // SHARE, BULK))
    server.execute("DROP SCHEMA IF EXISTS many CASCADE; CREATE SCHEMA many")
    trouble = []
    bulk = {}

    def measure_bulk(name: str, statement: str, number: int) -> None:
        bulk[name] = in_bulk(server, statement, number)
        say("%-15s %5d: %.2f ms each, the first %.2f, the last %.2f"
            % (name, number, bulk[name]["each"], bulk[name]["first"],
               bulk[name]["last"]))

    measure_bulk("create_table", MAKE_TABLES, tables)
    measure_bulk("create", MAKE, count)
    found = []
    sent = 0
    for _ in range(extent.repetitions):
        for kind, number in (("one", 1), ("many", count)):
            row = traffic(server, kind, number, extent)
            sent += row["sent"]
            trouble += row["trouble"]
            found.append(row)
            say("%-5s %9.0f msg/s" % (kind, row["rate"]))
    quiet = idle(server, extent)
    say("worker quiet after %.0f s, then %.2f ms of CPU a second"
        % (quiet["quiet_after"], quiet["cpu"]))
    memory = touch_all(server, count)
    say("a session that uses all: %.0f bytes a queue in contexts, %.0f of"
        " them ours; %.1f MB in all"
        % (memory["contexts"], memory["ours"], memory["total"] / 1e6))
    # One that is sent is consumed by the same client or by another.
    waiting = left(server, count)
    if waiting > CLIENTS * len(found):
        trouble.append("%d of %d messages are left" % (waiting, sent))
    measure_bulk("drop_table", DROP_TABLES, tables)
    measure_bulk("drop", DROP, count)
    for text in trouble:
        say("        FAILED: " + text)
    server.execute("DROP SCHEMA many CASCADE")
    return {"queues": count, "tables": tables, "bulk": bulk,
            "traffic": found, "memory": memory, "idle": quiet,
            "shared": server.shared_memory(),
            "max_queues": int(server.ask("SHOW queue.max_queues")),
            "max_in_flight": int(server.ask("SHOW queue.max_in_flight")),
            "trouble": trouble}

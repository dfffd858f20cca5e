"""What a queue costs when there is nothing to do.

An empty queue is asked again and again: does that touch its table, and what
CPU does it take?  And a thousand consumers wait: do they take any?
"""

import resource
import selectors
import time
from typing import Any, Callable

import psycopg2
import psycopg2.extensions

import cluster
import parts
import runs
from workloads import ALL

CALLS = 100000
SHORT_CALLS = 2000
ASKING_CLIENTS = 2

WAITERS = 1000
SHORT_WAITERS = 50
SECONDS = 10
SHORT_SECONDS = 1

# All of a thousand sessions should be woken by then.
PATIENCE = 30.0

# What is asked: the script, and the workload whose table it is.
ASKED = {
    "select": ("SELECT 1", "SELECT 1 AS one \\gset\n", None),
    "dequeue": ("`dequeue`",
                "SELECT id, payload FROM queue.dequeue('bench.dequeue')"
                " \\aset\n", "dequeue"),
    "receive": ("`receive`",
                "SELECT id, receipt, payload FROM queue.receive('bench.lease')"
                " \\aset\n", "lease"),
    "pop": ("DELETE with SKIP LOCKED",
            "DELETE FROM bench.pop WHERE id = (SELECT id FROM bench.pop"
            " ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)"
            " RETURNING id, payload \\aset\n", "pop"),
    "claim": ("UPDATE with SKIP LOCKED",
              "UPDATE bench.claim SET visible_at = now() + '30 s' WHERE id ="
              " (SELECT id FROM bench.claim WHERE visible_at <= now()"
              " ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)"
              " RETURNING id, payload \\aset\n", "claim"),
}

ACCESS = """
SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0),
       coalesce(heap_blks_read + heap_blks_hit, 0)
       + coalesce(idx_blks_read + idx_blks_hit, 0)
FROM pg_stat_user_tables JOIN pg_statio_user_tables USING (relid)
WHERE relid = %s::regclass
"""

WAITS = {
    "idle": ("sessions that do nothing", None),
    "dequeue": ("`dequeue(wait => '60 s')`",
                "SELECT id FROM queue.dequeue('bench.dequeue',"
                " wait => '60 s')"),
    "wait": ("`CALL queue.wait(..., '60 s')`",
             "CALL queue.wait('bench.dequeue', '60 s')"),
}


def ask(server: cluster.Cluster, kind: str, calls: int) -> dict[str, Any]:
    """Ask an empty queue; return what that cost."""
    title, script, name = ASKED[kind]
    relation = ALL[name].relation if name else None
    trouble = []
    if name:
        runs.fresh(ALL[name], server)
        # One message's life: what is looked at is a queue that was in use.
        runs.Pgbench(server, ALL[name].script, 1, ["-t", "1"], 100).result()
        server.wait_for_sessions()
    before = server.row(ACCESS, (relation,)) if name else (0, 0)
    cpu = server.cpu()
    done = runs.Pgbench(server, script, ASKING_CLIENTS,
                        ["-t", str(calls // ASKING_CLIENTS)], 100).result()
    server.wait_for_sessions()
    cpu = server.cpu() - cpu
    after = server.row(ACCESS, (relation,)) if name else (0, 0)
    if done["failed"]:
        trouble.append("%s: %d transactions failed" % (kind, done["failed"]))
    if name:
        left = server.ask(ALL[name].left)
        if left:
            trouble.append("%s: %d messages are left" % (kind, left))
        server.execute(ALL[name].tear_down)
    return {"kind": kind, "title": title, "calls": done["runs"],
            "rate": done["rate"], "cpu": cpu * 1e6 / done["runs"],
            "scans": after[0] - before[0], "blocks": after[1] - before[1],
            "trouble": trouble}


class Crowd:
    """Many sessions in one thread."""

    def __init__(self, server: cluster.Cluster, size: int):
        self.selector = selectors.DefaultSelector()
        self.sessions = []
        for _ in range(size):
            session = server.connect(async_=1)
            self.sessions.append(session)
            self.selector.register(session, selectors.EVENT_READ)
            while session.poll() != psycopg2.extensions.POLL_OK:
                time.sleep(0.0005)

    def start(self, statement: str) -> None:
        """Send a statement in each session."""
        self.cursors = {}
        for session in self.sessions:
            cursor = session.cursor()
            cursor.execute(statement)
            self.cursors[session] = cursor

    def results(self, wanted: int) -> tuple[list[Any], list[str]]:
        """Return the rows of so many results that come, and errors."""
        rows: list[Any] = []
        errors: list[str] = []
        ended = 0
        deadline = time.monotonic() + PATIENCE
        while ended < wanted and time.monotonic() < deadline:
            for key, _ in self.selector.select(0.1):
                session = key.fileobj
                try:
                    if session.poll() != psycopg2.extensions.POLL_OK:
                        continue
                    if session.isexecuting() or session not in self.cursors:
                        continue
                    cursor = self.cursors.pop(session)
                    if cursor.description is not None:
                        rows.extend(cursor.fetchall())
                except psycopg2.Error as error:
                    self.cursors.pop(session, None)
                    errors.append(str(error).strip())
                ended += 1
        if ended < wanted:
            errors.append("%d of %d waiters did not return in %d s"
                          % (wanted - ended, wanted, PATIENCE))
        return rows, errors

    def close(self) -> None:
        """End all sessions."""
        for session in self.sessions:
            session.close()
        self.selector.close()


ACTIVE = ("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
          " AND datname = current_database() AND pid <> pg_backend_pid()")


def wait(server: cluster.Cluster, kind: str, size: int,
         seconds: int) -> dict[str, Any]:
    """Let many sessions wait; return what that cost, then wake them."""
    title, statement = WAITS[kind]
    trouble = []
    woken = None
    runs.fresh(ALL["dequeue"], server)
    crowd = Crowd(server, size)
    try:
        if statement is not None:
            crowd.start(statement)
            deadline = time.monotonic() + PATIENCE
            while server.ask(ACTIVE) < size:
                if time.monotonic() > deadline:
                    trouble.append("%s: only %d of %d sessions wait"
                                   % (kind, server.ask(ACTIVE), size))
                    break
                time.sleep(0.1)
        time.sleep(1)
        cpu = server.cpu()
        began = time.monotonic()
        time.sleep(seconds)
        cpu = server.cpu() - cpu
        seconds_taken = time.monotonic() - began
        if statement is not None:
            began = time.monotonic()
            server.execute("SELECT queue.enqueue_batch('bench.dequeue',"
                           " array_fill('{}'::jsonb, ARRAY[%d]))" % size)
            rows, errors = crowd.results(size)
            woken = time.monotonic() - began
            trouble += ["%s: %s" % (kind, text) for text in set(errors)]
            ids = [row[0] for row in rows]
            left = server.ask(ALL["dequeue"].left)
            if len(set(ids)) != len(ids):
                trouble.append("%s: a message came twice" % kind)
            if len(ids) + left != size:
                trouble.append("%s: %d sent, %d delivered, %d left"
                               % (kind, size, len(ids), left))
    finally:
        crowd.close()
    server.wait_for_sessions()
    server.execute(ALL["dequeue"].tear_down)
    return {"kind": kind, "title": title, "sessions": size,
            "cpu": cpu * 1000 / seconds_taken, "woken": woken,
            "trouble": trouble}


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asked = []
    waits = []
    for _ in range(extent.repetitions):
        for kind in ASKED:
            row = ask(server, kind, SHORT_CALLS if extent.is_short else CALLS)
            asked.append(row)
            say("%-10s %9.0f calls/s, %6.2f us CPU, %d scans, %d blocks"
                % (kind, row["rate"], row["cpu"], row["scans"],
                   row["blocks"]))
        for kind in WAITS:
            row = wait(server, kind,
                       SHORT_WAITERS if extent.is_short else WAITERS,
                       SHORT_SECONDS if extent.is_short else SECONDS)
            waits.append(row)
            say("%-10s %d sessions, %.2f ms CPU a second%s"
                % (kind, row["sessions"], row["cpu"],
                   "" if row["woken"] is None
                   else ", all woken in %.0f ms" % (row["woken"] * 1000)))
    trouble = [text for row in asked + waits for text in row["trouble"]]
    for text in trouble:
        say("        FAILED: " + text)
    return {"asked": asked, "waits": waits, "trouble": trouble}

"""A deep queue: many messages wait, and it should not matter.

A queue and a hand-written table are filled with as many messages.  What is
then sent and consumed is measured in turn with the same on a short queue (or
table) of the same kind, in each round.  The queue is then drained to the half;
the server is restarted, and crashes; the rest is purged.
"""

import time
from typing import Any, Callable

import cluster
import parts
import runs
import watch
from workloads import ALL, BATCH, Workload

MESSAGES = 1000000
SHORT_MESSAGES = 40000
SMOKE_MESSAGES = 8000

CLIENTS = 8

# As a share of the messages: what one round drains, and what is left for the
# end.  A short queue has no more than so many.
ROUND_SHARE = 20
LEFT_SHARE = 2
SHORT_QUEUE = 20000

KINDS = {"ours": ("enqueue_batch, dequeue by 100", "dequeue_batch"),
         "peer": ("INSERT, DELETE with SKIP LOCKED by 100", "pop_batch")}

# Sends a message, for singles on top of what waits; {0} is the table.
ON_TOP = {
    "ours": "SELECT queue.enqueue('{0}', :payload) AS sent \\gset\n",
    "peer": "INSERT INTO {0} (payload) VALUES (:payload)"
            " RETURNING id AS sent \\gset\n"}
FIRST = {
    "ours": "SELECT id, payload FROM queue.dequeue('{0}')",
    "peer": "DELETE FROM {0} WHERE id = (SELECT id FROM {0} ORDER BY id"
            " FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id, payload"}
EMPTY = {"ours": "SELECT queue.purge('{0}')", "peer": "DELETE FROM {0}"}
DROP = {"ours": "SELECT queue.drop_queue('{0}')", "peer": "DROP TABLE {0}"}

BLOCKS = """
SELECT heap_blks_read + heap_blks_hit + coalesce(idx_blks_read, 0)
       + coalesce(idx_blks_hit, 0)
FROM pg_statio_all_tables WHERE relid = %s::regclass
"""

FLUSH = "SELECT pg_stat_force_next_flush()"


def halves(workload: Workload) -> tuple[str, str]:
    """Return what sends and what consumes, of a workload's script."""
    sends, _, consumes = workload.script.partition("\n")
    return sends + "\n", consumes


class Deep:
    """A queue or a table, a short one of the same kind, and their books."""

    def __init__(self, server: cluster.Cluster, kind: str, messages: int):
        self.server = server
        self.kind = kind
        self.messages = messages
        self.trouble: list[str] = []
        self.workload = ALL[KINDS[kind][1]]
        self.name = self.workload.relation
        self.short = self.name + "_short"
        # How many there should be.
        self.waiting = {self.name: 0, self.short: 0}
        for statement in (self.workload.tear_down, self.workload.set_up):
            server.execute(statement)
            server.execute(statement.replace(self.workload.name,
                                             self.workload.name + "_short"))

    def pgbench(self, script: str, name: str, length: list[str],
                progress: int = 0, watch_it=None) -> dict[str, Any]:
        """Run a script of this workload on one of the two."""
        script = script.replace(self.name, name)
        pgbench = runs.Pgbench(self.server, script, CLIENTS, length,
                               runs.PAYLOADS["100 B"], progress)
        try:
            while watch_it is not None and pgbench.is_running():
                watch_it()
            done = pgbench.result()
        finally:
            if pgbench.is_running():
                pgbench.kill()
        self.server.wait_for_sessions()
        if done["failed"]:
            self.trouble.append("%d transactions failed" % done["failed"])
        return done

    def fill(self, name: str, messages: int) -> float:
        """Send so many by a hundred; return messages a second."""
        done = self.pgbench(halves(self.workload)[0], name,
                            times(messages))
        self.waiting[name] += done["runs"] * BATCH
        return done["rate"] * BATCH

    def on_top(self, name: str, length: list[str]) -> float:
        """Send single messages; return how many a second."""
        done = self.pgbench(ON_TOP[self.kind].format(self.name), name, length)
        self.waiting[name] += done["runs"]
        return done["rate"]

    def drain(self, name: str, messages: int, **how) -> dict[str, Any]:
        """Consume so many by a hundred.

        A batch may be smaller: what others look at counts as taken.
        """
        before = self.server.row(runs.COUNTS, (name,))[1]
        done = self.pgbench(halves(self.workload)[1], name, times(messages),
                            **how)
        count = self.server.row(runs.COUNTS, (name,))[1] - before
        self.waiting[name] -= count
        done["rate"] *= count / done["runs"]
        return done

    def check(self, when: str) -> None:
        """Count what is there."""
        self.server.execute("SET enable_seqscan = on")
        for name, waiting in self.waiting.items():
            there = self.server.ask("SELECT count(*) FROM " + name)
            if there != waiting:
                self.trouble.append("%s: %d should wait in %s, %d do"
                                    % (when, waiting, name, there))
        self.server.execute("RESET enable_seqscan")

    def first(self) -> dict[str, float]:
        """Take the first message, in a new session; how long does it take?

        Connecting and planning are part of it.
        """
        before = self.server.ask(BLOCKS, (self.name,))
        began = time.monotonic()
        session = self.server.session()
        with session.cursor() as cursor:
            cursor.execute(FIRST[self.kind].format(self.name))
            rows = cursor.fetchall()
            seconds = time.monotonic() - began
            cursor.execute(FLUSH)
        session.close()
        self.server.wait_for_sessions()
        if len(rows) != 1:
            self.trouble.append("after a start %d messages came" % len(rows))
        self.waiting[self.name] -= len(rows)
        return {"seconds": seconds,
                "blocks": self.server.ask(BLOCKS, (self.name,)) - before}

    def timed(self, statement: str) -> float:
        """Carry out a statement in a transaction; return its seconds."""
        began = time.monotonic()
        self.server.execute(statement.format(self.name))
        return time.monotonic() - began


def times(messages: int) -> list[str]:
    """Return pgbench's option for so many messages by a hundred."""
    return ["-t", str(max(messages // (CLIENTS * BATCH), 1))]


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              messages: int | None,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    if messages is None:
        messages = {"full": MESSAGES, "short": SHORT_MESSAGES,
                    "smoke": SMOKE_MESSAGES}[extent.mode]
    deeps = [Deep(server, kind, messages) for kind in KINDS]
    found: list[dict[str, Any]] = [{"kind": deep.kind} for deep in deeps]
    for deep, result in zip(deeps, found):
        result["fill"] = deep.fill(deep.name, messages)
        say("%-5s filled with %d, %.0f msg/s"
            % (deep.kind, deep.waiting[deep.name], result["fill"]))
    server.checkpoint()
    for result in found:
        result["rounds"] = []
    for _ in range(extent.repetitions):
        for deep, result in zip(deeps, found):
            result["rounds"].append(one_round(deep, extent))
            say("%-5s on top %.0f msg/s, short %.0f; drained %.0f, short %.0f"
                % ((deep.kind,) + tuple(
                    result["rounds"][-1][name] for name in
                    ("top", "top_short", "drain", "drain_short"))))
    for deep, result in zip(deeps, found):
        drain_half(deep, result)
        deep.check("drained")
        say("%-5s drained to %d, %.0f msg/s"
            % (deep.kind, deep.waiting[deep.name], result["half"]["rate"]))
    for how in ("stop", "crash"):
        start = server.restart(how)
        for deep, result in zip(deeps, found):
            result[how] = deep.first()
            result[how]["start"] = start
            say("%-5s %s: %.1f s until it runs, first message %.3f s, %d"
                " blocks" % (deep.kind, how, start, result[how]["seconds"],
                             result[how]["blocks"]))
    for deep, result in zip(deeps, found):
        deep.check("after restart and crash")
        empty(deep, result)
        result["trouble"] = deep.trouble
        say("%-5s purged %d, %.0f a second; dropped in %.2f s"
            % (deep.kind, result["purged"], result["purge"], result["drop"]))
        for text in deep.trouble:
            say("        FAILED: " + text)
    return {"messages": messages, "rows": found,
            "trouble": ["%s: %s" % (result["kind"], text)
                        for result in found for text in result["trouble"]]}


def one_round(deep: Deep, extent: parts.Extent) -> dict[str, float]:
    """Measure the deep and the short one in turn."""
    messages = deep.messages // ROUND_SHARE
    piece = min(messages, SHORT_QUEUE)
    result = {"top": deep.on_top(deep.name, extent.length),
              "top_short": deep.on_top(deep.short, extent.length)}
    deep.drain(deep.short, deep.waiting[deep.short] + CLIENTS * BATCH)

    # As many messages in both, but no more than a piece waits in the short.
    seconds = 0.0
    count = 0
    while count < messages:
        deep.fill(deep.short, piece)
        waiting = deep.waiting[deep.short]
        rate = deep.drain(deep.short, piece)["rate"]
        drained = waiting - deep.waiting[deep.short]
        if drained == 0:
            raise cluster.ClusterError("a short queue is not drained")
        seconds += drained / rate
        count += drained
    result["drain_short"] = count / seconds
    result["drain"] = deep.drain(deep.name, messages)["rate"]
    return result


def drain_half(deep: Deep, result: dict[str, Any]) -> None:
    """Drain the deep one until half of its messages are left."""
    watcher = watch.Watcher(deep.server, deep.name, 1)
    done = deep.drain(deep.name, deep.waiting[deep.name]
                      - deep.messages // LEFT_SHARE,
                      progress=1, watch_it=watcher.look)
    watcher.sample()
    result["half"] = {"rate": done["rate"],
                      "progress": [(at, rate * BATCH)
                                   for at, rate, _ in done["progress"]],
                      "samples": watcher.samples}


def empty(deep: Deep, result: dict[str, Any]) -> None:
    """Delete what is left, fill it a little again, and drop it."""
    result["purged"] = deep.waiting[deep.name]
    result["purge"] = result["purged"] / deep.timed(EMPTY[deep.kind])
    deep.waiting[deep.name] = 0
    deep.check("purged")
    deep.fill(deep.name, deep.messages // ROUND_SHARE)
    result["drop"] = deep.timed(DROP[deep.kind])
    deep.server.execute("DROP TABLE IF EXISTS {0}, {0}_dead"
                        .format(deep.short))

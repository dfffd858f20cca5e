"""What it costs to publish to queues that are bound, beside sending to each.

A topic is bound to one queue, to ten, or to a hundred, so each message that is
published becomes a row of the topic and one of each queue.  Beside it as many
messages are sent to the same queues, by as many calls in one transaction: by a
statement for each call, as an application would do it, and by one statement
with all calls in it, which is as cheap as it can be had.

The books: the topic and each of its queues got as many rows as were sent.
Before the measurement the ids are compared: each queue has each message once.
"""

import dataclasses
import statistics
from typing import Any, Callable

import cluster
import load
import parts
import runs
from tables import marked, ratio, spread, table
from workloads import BATCH

QUEUES = [1, 10, 100]
SMOKE_QUEUES = [1, 3]
CLIENTS = 8

# Sixty-four with ten thousand copies a transaction do not end one in a second,
# so each of them has so many.
MANY_CLIENTS = 64
MANY_TIMES = ["-t", "2"]

MUST = 0.9

KINDS = {"publish": "publish", "calls": "a statement a queue",
         "statement": "one statement for all queues"}

# Of a queue: what it has not got once, and what came from nowhere.
WRONG_COPIES = """
SELECT count(*) FROM (
    (SELECT id FROM bench.fan_{0} EXCEPT ALL
     SELECT (headers->'published'->>'id')::bigint FROM bench.copy_{1})
    UNION ALL
    (SELECT (headers->'published'->>'id')::bigint FROM bench.copy_{1}
     EXCEPT ALL SELECT id FROM bench.fan_{0})) AS wrong
"""
VERIFIED = ["-t", "5"]

# What each queue ever got.
COPIES = """
SELECT pg_stat_get_tuples_inserted(('bench.copy_' || n)::regclass)
FROM generate_series(1, %d) n ORDER BY n
"""


@dataclasses.dataclass
class Case:
    """So many messages a transaction, to so many queues."""

    size: int
    queues: int
    clients: int

    @property
    def name(self) -> str:
        """Return what it is called."""
        return "by %d to %d" % (self.size, self.queues)

    def length(self, extent: parts.Extent) -> list[str]:
        """Return for how long."""
        return MANY_TIMES if self.clients == MANY_CLIENTS else extent.length

    def script(self, kind: str) -> str:
        """Return what one transaction does."""
        if self.size == 1:
            function, value = "enqueue", ":payload"
        else:
            function, value = "enqueue_batch", ":payloads::jsonb[]"
        if kind == "publish":
            return ("SELECT queue.%s('bench.fan_%d', %s) AS sent \\gset\n"
                    % (function.replace("enqueue", "publish"), self.queues,
                       value))
        numbers = range(1, self.queues + 1)
        if kind == "calls":
            calls = "".join(
                "SELECT queue.%s('bench.copy_%d', %s) AS sent \\gset\n"
                % (function, number, value) for number in numbers)
            return calls if self.queues == 1 else "BEGIN;\n%sCOMMIT;\n" % calls
        # The payload is converted once, as publish does.
        calls = ",\n".join("    queue.%s('bench.copy_%d', value)"
                           % (function, number) for number in numbers)
        return ("SELECT\n%s\nFROM (SELECT %s AS value OFFSET 0) AS one;\n"
                % (calls, value if self.size > 1 else value + "::jsonb"))


def cases(extent: parts.Extent) -> list[Case]:
    """Return what is measured."""
    if extent.mode == "smoke":
        return [Case(size, queues, 2) for size in (1, BATCH)
                for queues in SMOKE_QUEUES]
    found = [Case(size, queues, CLIENTS) for size in (1, BATCH)
             for queues in QUEUES]
    return found + [Case(BATCH, QUEUES[-1], MANY_CLIENTS)]


class FanOut:
    """The topics and the queues, and what is sent to them."""

    def __init__(self, server: cluster.Cluster, counts: list[int]):
        self.server = server
        self.counts = counts
        self.trouble: list[str] = []
        server.execute("SELECT queue.create_queue('bench.copy_' || n)"
                       " FROM generate_series(1, %d) n" % counts[-1])
        for count in counts:
            server.execute("SELECT queue.create_topic('bench.fan_%d')" % count)
            server.execute(
                "SELECT queue.bind('bench.fan_%d', ('bench.copy_' || n)"
                "::regclass) FROM generate_series(1, %d) n" % (count, count))
        for count in counts:
            self.verify(count)

    def empty(self, queues: int) -> None:
        """Take away the messages of a topic, and of its queues."""
        self.server.execute("TRUNCATE " + ", ".join(
            ["bench.fan_%d" % queues]
            + ["bench.copy_%d" % number for number in range(1, queues + 1)]))

    def verify(self, count: int) -> None:
        """Publish, and compare the ids."""
        for size in (1, BATCH):
            load.Load(Case(size, count, 2).script("publish"), 2, VERIFIED,
                      size).put(self.server)
        wrong = sum(self.server.ask(WRONG_COPIES.format(count, number))
                    for number in range(1, count + 1))
        if wrong:
            self.trouble.append("to %d queues: %d copies lost, or too many"
                                % (count, wrong))
        self.empty(count)

    def inserted(self, case: Case) -> list[int]:
        """Return what each queue ever got, and then what the topic did."""
        return (self.server.column(COPIES % case.queues)
                + [self.server.ask(load.INSERTED,
                                   ("bench.fan_%d" % case.queues,))])

    def measure(self, case: Case, kind: str,
                extent: parts.Extent) -> dict[str, Any]:
        """Measure once."""
        before = self.inserted(case)
        found = load.Load(case.script(kind), case.clients,
                          case.length(extent), case.size).put(self.server, 1)
        *came, logged = (now - was for now, was
                         in zip(self.inserted(case), before))
        if set(came) != {found["messages"]}:
            found["trouble"].append("%d sent, but the queues got %s"
                                    % (found["messages"], sorted(set(came))))
        if logged != (found["messages"] if kind == "publish" else 0):
            found["trouble"].append("%d sent, but the topic got %d"
                                    % (found["messages"], logged))
        return found

    def drop(self) -> None:
        """Drop all of it."""
        for count in self.counts:
            self.server.execute("DROP TABLE bench.fan_%d" % count)
        for number in range(1, self.counts[-1] + 1):
            self.server.execute("DROP TABLE bench.copy_{0}, bench.copy_{0}_dead"
                                .format(number))


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure; return the rows of the file of results."""
    wanted = cases(extent)
    fan_out = FanOut(server, sorted({case.queues for case in wanted}))
    rows = [{"what": "fan_out", "name": "to bound queues",
             "size": case.size, "queues": case.queues, "clients": case.clients,
             "rounds": [], "trouble": list(fan_out.trouble)}
            for case in wanted]
    for _ in range(extent.repetitions):
        for case, row in zip(wanted, rows):
            # Once for all kinds: a hundred queues are many files to flush.
            fan_out.empty(case.queues)
            server.checkpoint()
            found = {}
            for kind in KINDS:
                try:
                    found[kind] = fan_out.measure(case, kind, extent)
                except runs.RunFailed as error:
                    row["trouble"].append("%s: %s" % (kind, error))
                    say("%s %s FAILED: %s" % (kind, case.name, error))
                    server.wait_for_sessions()
                    break
                row["trouble"] += ["%s: %s" % (kind, text)
                                   for text in found[kind]["trouble"]]
                # Sessions that begin have yet to get to know the queues.
                found[kind]["late_rate"] = load.late_rate(found[kind])
                say(load.describe("%s %s" % (kind, case.name), case.clients,
                                  found[kind]))
            else:
                row["rounds"].append(found)
    fan_out.drop()
    return rows


def section(rows: list[dict[str, Any]]) -> str:
    """Return what the page says of it."""
    lines = [["publish to bound queues", "by", "clients",
              "messages a second", "copies a second", "÷ " + KINDS["calls"],
              "must reach", "÷ " + KINDS["statement"],
              "CPU ÷ " + KINDS["statement"]]]
    for row in rows:
        cells = ["**%d**" % row["queues"], str(row["size"]),
                 str(row["clients"])]
        if row["trouble"] or not row["rounds"]:
            lines.append(cells + ["FAILED"] + [""] * 5)
            continue
        rates = [found["publish"]["late_rate"] for found in row["rounds"]]
        ratios = {(figure, kind): [ratio(found["publish"][figure],
                                         found[kind][figure])
                                   for found in row["rounds"]]
                  for figure in ("late_rate", "cpu")
                  for kind in ("calls", "statement")}
        lines.append(cells + [
            spread(rates, "{:,.0f}".format),
            "{:,.0f}".format(statistics.median(rates) * row["queues"]),
            marked(spread(ratios["late_rate", "calls"], "{:.2f}".format),
                   statistics.median(ratios["late_rate", "calls"]) >= MUST),
            "≥ %g" % MUST,
            spread(ratios["late_rate", "statement"], "{:.2f}".format),
            spread(ratios["cpu", "statement"], "{:.2f}".format)])
    return ("Each message that is published becomes a row of the topic and a"
            " message of each bound queue. What it is compared with sends the"
            " same to the same queues in one transaction, and has no topic: so"
            " with one queue publish writes two rows where the others write"
            " one. *%s* is one call after the other, with a round trip each;"
            " *%s* has all calls in its list, and converts the payload once."
            " Each run begins with fresh sessions, which have to get to know the"
            " queues; what is shown is the second half of it, but for %d"
            " clients, who have two transactions each. All queues have default"
            " settings. Nobody consumes.\n\n"
            % (KINDS["calls"].capitalize(), KINDS["statement"].capitalize(),
               MANY_CLIENTS)
            + table(lines))

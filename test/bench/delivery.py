"""When, in what order, how often and which: what that costs, and the others.

Each case is a queue with the load of an ordinary one: on top of messages that
are due next week, or of many that are less urgent than some of what comes; or
with groups, few or many, or with a million that wait behind one of their
group.  Or each message has a key that keeps others away, or is of bytes, or only one in
two is for who takes some, or the queue has limits.  In each round it is
measured in turn with the ordinary queue, and the ratio of the two is what
counts.

What waits is put there when the load has been verified, with each id noted, on
the queue while it is short.  From then on the books are counts.
"""

import dataclasses
import statistics
from typing import Any, Callable

import cluster
import parts
import runs
from tables import marked, ratio, spread, table
from workloads import (BATCH, LOG_SENT, LOG_SENT_MANY, LOG_TAKEN, Workload,
                       queue)

# How many are due next week; of low priority ten times as many wait.
MESSAGES = 1000000
SHORT_MESSAGES = 20000
SMOKE_MESSAGES = 1000
LOW_FACTOR = 10

CLIENTS = 8

# Messages that are put there by one call.
FILL_BATCH = 1000

LOW, HIGH = 1, 9

# What is sent on top of those of low priority.
ONE_OF_TEN = "\\set n random(1, 10)\n\\if :n = 1\n{}\\else\n{}\\endif\n"

FILL = """
SELECT count(queue.enqueue_batch('{0}', payloads{1}))
FROM (SELECT array_agg('{2}'::jsonb) AS payloads
      FROM generate_series(1, {3})) AS batch, generate_series(1, {4})
"""

# What is asked for, one in two.
HALF = "\\set h random(0, 1)\n"
HALF_IS = "CASE :h::int WHEN 0 THEN '%s'::%s ELSE '%s'::%s END"
SELECTOR = ", selector => " + HALF_IS % (
    "$.headers.half == 0", "jsonpath", "$.headers.half == 1", "jsonpath")
HEADERS = ['{"half": %d}' % half for half in (0, 1)]
HEADER = ", headers => " + HALF_IS % (HEADERS[0], "jsonb", HEADERS[1], "jsonb")
HEADERS_MANY = ", headers => ARRAY['%s']::jsonb[]" % "', '".join(
    HEADERS * (BATCH // 2))

LIMITS = ", max_messages => 1000000000, max_bytes => 1000000000000"

# A key that no other message has.
KEY = ", dedup_key => gen_random_uuid()::text"
KEYS = (", dedup_keys => array(SELECT gen_random_uuid()::text"
        " FROM generate_series(1, %d))" % BATCH)

BLOCKED = ", group_keys => array_fill('blocked'::text, ARRAY[%d])" % FILL_BATCH
LEASE = "SELECT count(*) FROM queue.receive('{0}', lease => '1 day')"

DELAYED = "SELECT count(*) FROM {0} WHERE visible_at > now() + '1 day'"


@dataclasses.dataclass
class Case:
    """A queue on which the load is put."""

    name: str
    title: str
    # The ordinary queue that it is compared with, by name.
    base: str | None
    # Messages a transaction.
    size: int
    # What is said of those that wait, and how many times as many there are.
    waits: str = ""
    factor: int = 0
    # Is a tenth of what comes urgent, and all else as low as what waits?
    is_mixed: bool = False
    # How many groups there are of what comes; 0: none.
    groups: int = 0
    # Done when what waits is there.
    then: str = ""
    # Of the queue; what is said when messages are sent, and when some are taken.
    settings: str = ""
    says: str = ""
    asks: str = ""
    is_bytes: bool = False
    clients: int = CLIENTS
    must: float = 0.9

    @property
    def relation(self) -> str:
        """Return its table."""
        return "bench." + self.name

    def workload(self) -> Workload:
        """Return its load."""
        if self.is_mixed:
            sends = ONE_OF_TEN.format(*(
                self.send(", priority => %d" % priority)
                for priority in (HIGH, LOW)))
        elif self.groups:
            sends = ("\\set g random(1, %d)\n" % self.groups
                     + self.send(self.keys()))
        else:
            sends = self.send(self.says)
        if ":h" in self.says + self.asks:
            sends = HALF + sends
        take = "queue.dequeue('%s', %d%s)" % (self.relation, self.size,
                                              self.asks)
        takes = "\\set id 0\nSELECT id, %s FROM %s \\aset\n" % (
            "body" if self.is_bytes else "payload", take)
        if self.size == 1:
            verify = (sends + LOG_SENT + takes + "\\if :id > 0\n" + LOG_TAKEN
                      + "\\endif\n")
        else:
            verify = (sends + LOG_SENT_MANY
                      + "WITH taken AS (SELECT id FROM %s) INSERT INTO"
                        " bench.taken SELECT id FROM taken;\n" % take)
        return queue(self.name, self.title, self.size, sends + takes, verify,
                     self.settings)

    def keys(self) -> str:
        """Return the argument for groups, of one message or of a batch."""
        if self.size == 1:
            return ", group_key => 'g' || :g::int"
        return (", group_keys => (SELECT array_agg('g' || n %% %d) FROM"
                " generate_series(:g::int, :g::int + %d) n)"
                % (self.groups, self.size - 1))

    def send(self, more: str = "") -> str:
        """Return what sends one message, or a batch."""
        if self.is_bytes and self.size == 1:
            call = "enqueue_bytes('%s', :payload::bytea%s)"
        elif self.is_bytes:
            call = "enqueue_bytes_batch('%s', :payloads::bytea[]%s)"
        elif self.size == 1:
            call = "enqueue('%s', :payload%s)"
        else:
            call = "enqueue_batch('%s', :payloads::jsonb[]%s)"
        return "SELECT queue.%s AS sent \\gset\n" % (call % (self.relation,
                                                             more))


def cases() -> list[Case]:
    """Return all of them, one by one and by a hundred."""
    found = []
    for size, name in ((1, "one"), (BATCH, "many")):
        base = "plain_" + name
        found += [
            Case(base, "ordinary queue", None, size),
            Case("later_" + name, "{} due next week", base, size,
                 ", delay => '7 days'", 1),
            Case("one_group_" + name, "one group", "client_" + name, size,
                 groups=1, must=0.8 if size == 1 else 0.6),
            Case("one_group_waits_" + name, "one group, whose consumers wait"
                 " for it", "client_" + name, size, groups=1,
                 asks=", wait => '1 s'", must=0.8 if size == 1 else 0.6),
            *(Case("groups_%d_%s" % (groups, name),
                   "{:,} groups".format(groups), base, size, groups=groups,
                   must=0.6) for groups in (100, 100000)),
            Case("urgent_" + name, "{} of low priority; of what comes nine"
                 " are low, one is high", base, size,
                 ", priority => %d" % LOW, LOW_FACTOR, True),
            Case("keys_" + name, "keys that keep duplicates away for an hour",
                 base, size, settings=", dedup_window => '1 hour'",
                 says=KEY if size == 1 else KEYS, must=0.7),
            Case("half_" + name, "a selector that matches one in two", base,
                 size, says=HEADER if size == 1 else HEADERS_MANY,
                 asks=SELECTOR, must=0.5),
            Case("bytes_" + name, "bytes in place of a JSON payload", base,
                 size, is_bytes=True, must=1.0),
            Case("limits_" + name, "limits that are far away", base, size,
                 settings=LIMITS, must=0.95)]
        # A group is held by one at a time.
        found.append(Case("client_" + name, "ordinary queue", None, size,
                          clients=1))
    found.append(Case("blocked_one", "100,000 groups; {} of another one behind"
                      " a message that is leased", "plain_one", 1, BLOCKED, 1,
                      groups=100000, then=LEASE, must=0.6))
    return found


class Measured:
    """A case, and what came of it."""

    def __init__(self, server: cluster.Cluster, case: Case,
                 extent: parts.Extent, messages: int):
        self.server = server
        self.case = case
        self.workload = case.workload()
        batches = max(messages * case.factor // FILL_BATCH, 1)
        self.waiting = batches * FILL_BATCH if case.waits else 0
        self.rounds: list[runs.Run] = []
        self.trouble: list[str] = []
        run = self._run(-1)
        runs.fresh(self.workload, server)
        runs.verify(self.workload, server, run, extent.verify_length)
        self.trouble += run.trouble
        if self.waiting:
            server.execute(FILL.format(
                case.relation, case.waits,
                runs.payload(runs.PAYLOADS["100 B"]), FILL_BATCH, batches))
            if case.then:
                server.execute(case.then.format(case.relation))

    def _run(self, repetition: int) -> runs.Run:
        return runs.Run(self.case.name, self.case.clients, "100 B",
                        repetition)

    def one_round(self, repetition: int, extent: parts.Extent) -> runs.Run:
        """Measure it once."""
        run = self._run(repetition)
        # Counting is not what is measured.
        self.server.execute("SET enable_seqscan = on")
        try:
            runs.measure(self.workload, self.server, run, extent.length)
        except runs.RunFailed as error:
            run.trouble.append(str(error))
            self.server.wait_for_sessions()
        self.rounds.append(run)
        self.trouble += run.trouble
        return run

    def finish(self) -> dict[str, Any]:
        """Drop the queue; return what goes into the file of results."""
        if "delay" in self.case.waits:
            there = self.server.ask(DELAYED.format(self.case.relation))
            if there != self.waiting:
                self.trouble.append("%d are due next week, not %d"
                                    % (there, self.waiting))
        self.server.execute(self.workload.tear_down)
        self.server.execute("RESET enable_seqscan")
        return {"name": self.case.name, "base": self.case.base,
                "title": self.case.title.format("{:,}".format(self.waiting)),
                "size": self.case.size, "clients": self.case.clients,
                "must": self.case.must,
                "rounds": [run.as_dict() for run in self.rounds],
                "trouble": self.trouble}


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              messages: int | None,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    if messages is None:
        messages = {"full": MESSAGES, "short": SHORT_MESSAGES,
                    "smoke": SMOKE_MESSAGES}[extent.mode]
    measured = []
    for case in cases():
        measured.append(Measured(server, case, extent, messages))
        if measured[-1].waiting:
            say("%-12s filled with %d" % (case.name, measured[-1].waiting))
    for repetition in range(extent.repetitions):
        for item in measured:
            run = item.one_round(repetition, extent)
            say(parts.describe(run))
    rows = [item.finish() for item in measured]
    return {"messages": messages, "rows": rows,
            "trouble": ["%s: %s" % (row["name"], text)
                        for row in rows for text in row["trouble"]]}


def section(part: dict[str, Any]) -> str:
    """Return what the page says of it."""
    by_name = {row["name"]: row for row in part["rows"]}
    lines = [["on a queue with", "by", "clients", "messages a second",
              "ordinary queue", "ratio", "CPU ratio", "must reach"]]
    for row in part["rows"]:
        if row["base"] is None:
            continue
        base = by_name[row["base"]]
        cells = ["**%s**" % row["title"], str(row["size"]),
                 str(row["clients"])]
        if row["trouble"] or base["trouble"]:
            lines.append(cells + ["FAILED"] + [""] * 4)
            continue
        pairs = list(zip(row["rounds"], base["rounds"]))
        ratios = [ratio(run["rate"], plain["rate"]) for run, plain in pairs]
        cpu = [ratio(run["cpu"], plain["cpu"]) for run, plain in pairs]
        lines.append(cells + [
            spread([run["rate"] for run, _ in pairs], "{:,.0f}".format),
            spread([plain["rate"] for _, plain in pairs], "{:,.0f}".format),
            marked(spread(ratios, "{:.2f}".format),
                   round(statistics.median(ratios), 2) >= row["must"]),
            spread(cpu, "{:.2f}".format), "≥ %g" % row["must"]])
    return ("Each transaction sends one message, or a hundred, and the next one"
            " takes up to as many, on top of what waits in the queue. The"
            " ordinary queue had the same load in the same round, without"
            " groups, and nothing else in it. One group is compared with one"
            " client, since one transaction at a time has messages of it. While"
            " another has it, a consumer that does not wait gets nothing, and"
            " its client sends again: most of what that does is sending, and"
            " the queue grows. One that waits takes as much as it"
            " sends.\n\n" + table(lines))

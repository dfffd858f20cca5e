"""How long subscriptions take to get what is published, when all of them wait.

Twenty times a second somebody publishes, with the server's clock in the
payload as it is before that.  Each subscription has a consumer that waits,
takes what comes in a transaction, and notes the clock as it gets the row.  So
a lag contains the publishing itself, its commit with the flush, and the turn
of this consumer among all that were woken; what a client is told of it comes
on top.  Consumers are sessions of pgbench, since a hundred that are woken
twenty times a second should not be slow themselves.

The books: each subscription has noted each id once, or has not passed it.
"""

import dataclasses
import random
import time
from typing import Any, Callable

import psycopg2

import cluster
import horizon
import idle
import parts
import runs
import wakeup
from tables import marked, table

RATE = 20
SUBSCRIPTIONS = [1, 10, 100]
SMOKE_SUBSCRIPTIONS = [3]

# What is published: for half a minute.  All consumers of a message are late
# together if its publisher was, so of a hundred messages p99 would tell of one.
PUBLISHES = 600
SHORT_PUBLISHES = 40
SMOKE_PUBLISHES = 10

OPEN_PUBLISHERS = 1000
SHORT_OPEN_PUBLISHERS = 100
SMOKE_OPEN_PUBLISHERS = 10

# Sessions that are left for the benchmark, the server and its own workers.
SPARED = 20

MUST = {99: 10.0}

# Consumers look again so often, in seconds.
LOOK = 10

PATIENCE = 60.0

SET_UP = """
SELECT queue.create_topic('bench.live'), queue.create_topic('bench.elsewhere');
CREATE UNLOGGED TABLE bench.lags (
    subscription int, id bigint, took double precision)
"""
TEAR_DOWN = "DROP TABLE bench.live, bench.elsewhere, bench.lags"

PUBLISH = """
SELECT queue.publish('bench.live',
                     jsonb_build_object('at', clock_timestamp()))
"""
PUBLISH_ELSEWHERE = """
BEGIN;
SELECT queue.publish('bench.elsewhere', '1')
"""

CONSUME = """
INSERT INTO bench.lags
SELECT :client_id::int, id,
       extract(epoch FROM clock_timestamp()
                          - (payload->>'at')::timestamptz)
FROM queue.dequeue(('bench.live_' || :client_id::int)::regclass, 100,
                   wait => '%d s');
""" % LOOK

CONSUMERS = """
SELECT {0} FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active'
  AND query ~ 'bench.live_' AND pid <> pg_backend_pid()
"""
WAITING = CONSUMERS.format("count(*)")
END_THEM = CONSUMERS.format("pg_terminate_backend(pid)")

# Ids that a subscription noted twice, or neither noted nor left.
TWICE = """
SELECT count(*) - count(DISTINCT (subscription, id)) FROM bench.lags
"""
NOT_NOTED = """
SELECT count(*) FROM bench.live l JOIN bench.live_{0} s USING (partition)
WHERE l.id <= s.position AND NOT EXISTS (
    SELECT FROM bench.lags n WHERE n.subscription = {0} AND n.id = l.id)
"""


class Elsewhere(horizon.Snapshot):
    """Transactions that have published to another topic and stay open."""

    title = "open publishers of another topic"

    def __init__(self, server: cluster.Cluster, seconds: float, count: int):
        super().__init__(server, seconds)
        self.count = count
        self.crowd: idle.Crowd | None = None

    def hold(self) -> None:
        """Open them."""
        self.crowd = idle.Crowd(self.server, self.count)
        self.crowd.start(PUBLISH_ELSEWHERE)
        errors = self.crowd.results(self.count)[1]
        if errors:
            raise cluster.ClusterError(errors[0])

    def let_go(self) -> None:
        """End them."""
        if self.crowd is not None:
            self.crowd.close()
            self.crowd = None


class Writer(horizon.Snapshot):
    """A transaction that has a snapshot, and has written to another table."""

    title = "an idle transaction that has written"

    def hold(self) -> None:
        """Begin it."""
        super().hold()
        with self.session.cursor() as cursor:
            cursor.execute("INSERT INTO bench.sent VALUES (0)")


@dataclasses.dataclass
class Case:
    """So many subscriptions, and what there is elsewhere."""

    subscriptions: int
    holder: Any
    title: str
    # As the plot names it.
    label: str
    publishes: int


def cases(server: cluster.Cluster, extent: parts.Extent,
          hold: int | None) -> list[Case]:
    """Return what is measured."""
    counts, publishes, others = {
        "full": (SUBSCRIPTIONS, PUBLISHES, OPEN_PUBLISHERS),
        "short": (SUBSCRIPTIONS, SHORT_PUBLISHES, SHORT_OPEN_PUBLISHERS),
        "smoke": (SMOKE_SUBSCRIPTIONS, SMOKE_PUBLISHES,
                  SMOKE_OPEN_PUBLISHERS)}[extent.mode]
    most = counts[-1]
    room = int(server.ask("SHOW max_connections"))
    others = min(others, room - most - SPARED)
    found = [Case(count, horizon.Nothing(server, 0), "nothing",
                  "%d waiting" % count, publishes) for count in counts]
    found.append(Case(most, Elsewhere(server, 0, others),
                      "%d %s" % (others, Elsewhere.title), "open publishers",
                      publishes))
    found.append(Case(most, Writer(server, 0), Writer.title,
                      "idle transaction",
                      publishes if hold is None else hold * RATE))
    return found


def publish(server: cluster.Cluster, count: int) -> None:
    """Publish so often, at about the rate."""
    rest = random.Random(count)
    session = server.session()
    with session.cursor() as cursor:
        begins = time.monotonic()
        for _ in range(count):
            begins += (0.5 + rest.random()) / RATE
            time.sleep(max(begins - time.monotonic(), 0))
            cursor.execute(PUBLISH)
    session.close()


def measure(server: cluster.Cluster, case: Case) -> dict[str, Any]:
    """Measure one case; return the row of the file of results."""
    server.execute("TRUNCATE bench.live, bench.lags, bench.sent")
    numbers = range(case.subscriptions)
    for number in numbers:
        server.execute("SELECT queue.subscribe('bench.live', 'bench.live_%d')"
                       % number)
    trouble: list[str] = []
    pgbench = None
    try:
        case.holder.hold()
        others = server.sessions()
        # It could last for longer, and is ended when all is there.
        pgbench = runs.Pgbench(
            server, CONSUME, case.subscriptions,
            ["-T", str(round(case.publishes / RATE + PATIENCE))], 100)
        until(lambda: server.ask(WAITING) == case.subscriptions)
        publish(server, case.publishes)
        wanted = case.publishes * case.subscriptions
        until(lambda: server.ask("SELECT count(*) FROM bench.lags") >= wanted)
        pgbench.kill()
        server.execute(END_THEM)
        server.wait_for_sessions(others)
    finally:
        if pgbench is not None and pgbench.is_running():
            pgbench.kill()
        case.holder.let_go()
    server.wait_for_sessions()
    noted = server.ask("SELECT count(*) FROM bench.lags")
    if noted != wanted:
        trouble.append("%d published to %d subscriptions, but %d came"
                       % (case.publishes, case.subscriptions, noted))
    for count, what in (
            (server.ask(TWICE), "came twice"),
            (sum(server.ask(NOT_NOTED.format(number)) for number in numbers),
             "were passed by and never came")):
        if count:
            trouble.append("%d messages %s" % (count, what))
    lags = server.column("SELECT took FROM bench.lags")
    # Of each message, when the last of its readers had it.
    lasts = server.column("SELECT max(took) FROM bench.lags GROUP BY id")
    server.execute("DROP TABLE " + ", ".join(
        "bench.live_{0}, bench.live_{0}_dead".format(number)
        for number in numbers))
    return {"what": "lag", "subscriptions": case.subscriptions,
            "elsewhere": case.title, "label": case.label, "publishes": case.publishes,
            "quantiles": wakeup.quantiles(lags),
            "lasts": wakeup.quantiles(lasts), "trouble": trouble}


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, or for long enough."""
    end = time.monotonic() + PATIENCE
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              hold: int | None,
              say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure; return the rows of the file of results."""
    server.execute(SET_UP)
    rows = []
    for case in cases(server, extent, hold):
        try:
            row = measure(server, case)
        except psycopg2.Error as error:
            raise cluster.ClusterError("%s: %s" % (case.title, error)) \
                from error
        rows.append(row)
        if row["quantiles"]:
            say("%3d subscriptions, elsewhere %s: p50 %.2f ms, p99 %.2f ms"
                % (row["subscriptions"], row["elsewhere"],
                   row["quantiles"][50], row["quantiles"][99]))
        for text in row["trouble"]:
            say("        FAILED: " + text)
    server.execute(TEAR_DOWN)
    return rows


def section(rows: list[dict[str, Any]]) -> str:
    """Return what the page says of it."""
    lines = [["subscriptions that wait", "elsewhere", "p50", "p90", "p99",
              "largest", "the last of all, p50", "messages", "must reach"]]
    for row in rows:
        cells = ["**%d**" % row["subscriptions"], row["elsewhere"]]
        if row["trouble"] or not row["quantiles"]:
            lines.append(cells + ["FAILED"] + [""] * 6)
            continue
        for percent in (50, 90, 99, 100):
            value = row["quantiles"][percent]
            cells.append(marked("%.2f ms" % value, percent not in MUST
                                or round(value, 2) <= MUST[percent]))
        lines.append(cells + ["%.2f ms" % row["lasts"][50],
                              "{:,}".format(row["publishes"]),
                              "p99 ≤ %g ms" % MUST[99]])
    return ("Somebody publishes %d times a second, and each subscription has"
            " one consumer that waits. The lag is from just before the publish"
            " until the consumer has the row, by the server's clock: it"
            " contains the publishing and its flush, but no client. All"
            " consumers are woken at once, and each commits what it took, so"
            " with many of them most of the lag of one is the turns of the"
            " others on the processors; *the last of all* is when the slowest"
            " had the message.\n\n" % RATE + table(lines))

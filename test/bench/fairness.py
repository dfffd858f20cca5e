"""How long a tenant waits while another one floods the queue.

A thousand tenants send ten messages each, one tenant after the other, at a
fraction of what the consumers can do.  That is measured alone, beside a tenant
who has sent a million messages just before, and beside the same in a queue
whose groups take no turns.  What counts is how long it takes from the commit
of a tenant's ten messages until the last of them has been taken.

Who is alone has a machine that is mostly idle, and beside a flood it is busy.
So it is also measured alone in the queue, while as many consumers take the same
flood from another queue: what is longer beside a flood than there is what
sharing the queue costs.

Consumers take one message a transaction.  All times are of the machine's
monotonic clock.
"""

import multiprocessing
import statistics
import time
from typing import Any, Callable

import cluster
import parts
from tables import marked, table

TENANTS = 1000
EACH = 10
CONSUMERS = 4

# What the flooding tenant sends, in how many seconds what is measured, and how
# many times.
FLOOD = {"full": 1000000, "short": 20000, "smoke": 1000}
SECONDS = {"full": 30, "short": 3, "smoke": 1}

# How much of what the consumers do beside a flood the other tenants send.
SHARE = 0.25

PAYLOAD = '{"tenant": %d, "what": "%s"}'
FILLER = "of about a hundred bytes, as is customary here"

QUEUE = "bench.fairness"
OTHER_QUEUE = "bench.elsewhere"

SET_UP = """
SELECT queue.create_queue('{0}', max_attempts => 0, group_mode => '{1}');
"""
TEAR_DOWN = "DROP TABLE {0}, {0}_dead"

FILL = """
SELECT count(queue.enqueue_batch('{3}', payloads,
    group_keys => array_fill('flood'::text, ARRAY[{0}])))
FROM (SELECT array_agg('{{"n": 0, "what": "{1}"}}'::jsonb) AS payloads
      FROM generate_series(1, {0})) AS batch, generate_series(1, {2})
"""
FILL_BATCH = 1000

SEND = ("SELECT queue.enqueue_batch('bench.fairness', %s::jsonb[],"
        " group_keys => array_fill(%s::text, ARRAY[%s]))")
TAKE = ("SELECT payload ->> 'tenant'"
        " FROM queue.dequeue('%s', wait => '200 ms')")

ALONE = "alone"
ELSEWHERE = "alone, a flood in another queue"

# Name, group_mode, where the flood is, and how it is drawn
CASES = ((ALONE, "fair", None, "floor"),
         (ELSEWHERE, "fair", OTHER_QUEUE, "floor"),
         ("beside a flood", "fair", QUEUE, "ours"),
         ("beside a flood, without turns", "none", QUEUE, "peer"))

MUST = 2.0


def consume(server: cluster.Cluster, queue: str, pipe, end: float) -> None:
    """Take messages until then; tell when each one of a tenant came."""
    connection = server.session()
    taken = []
    count = 0
    pipe.send("ready")
    with connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute(TAKE % queue)
            for (tenant,) in cursor.fetchall():
                count += 1
                if tenant is not None:
                    taken.append((int(tenant), time.monotonic()))
    pipe.send((count, taken))
    connection.close()


def send(server: cluster.Cluster, rate: float, end: float) -> list[float]:
    """Send at this rate until then; return when each tenant did."""
    connection = server.connect()
    sent = []
    with connection.cursor() as cursor:
        began = time.monotonic()
        while True:
            due = began + len(sent) * EACH / rate
            if due >= end:
                break
            time.sleep(max(due - time.monotonic(), 0))
            at = time.monotonic()
            cursor.execute(SEND, (
                [PAYLOAD % (len(sent), FILLER)] * EACH,
                "tenant %d" % (len(sent) % TENANTS), EACH))
            connection.commit()
            sent.append(at)
    connection.close()
    return sent


def one_run(server: cluster.Cluster, mode: str, where: str | None, flood: int,
            rate: float, seconds: float) -> dict[str, Any]:
    """Measure one case once, with the flood in this queue."""
    queues = [QUEUE] + [OTHER_QUEUE] * (where == OTHER_QUEUE)
    for queue in queues:
        server.execute(SET_UP.format(queue, mode))
    if where is not None:
        server.execute(FILL.format(FILL_BATCH, FILLER, flood // FILL_BATCH,
                                   where))
    end = time.monotonic() + seconds + 1
    consumers = []
    for queue in queues * CONSUMERS:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=consume, args=(server, queue, theirs, end), daemon=True)
        process.start()
        consumers.append((process, ours))
    for _, pipe in consumers:
        pipe.recv()
    began = time.monotonic()
    sent = send(server, rate, end - 0.5) if rate else []
    last: dict[int, float] = {}
    counts: dict[int, int] = {}
    taken = 0
    for process, pipe in consumers:
        count, found = pipe.recv()
        process.join()
        taken += count
        for tenant, at in found:
            last[tenant] = max(last.get(tenant, 0), at)
            counts[tenant] = counts.get(tenant, 0) + 1
    left = 0
    for queue in queues:
        left += server.ask("SELECT count(*) FROM " + queue)
        server.execute(TEAR_DOWN.format(queue))
    server.wait_for_sessions()
    trouble = []
    total = len(sent) * EACH
    if where is not None:
        total += flood // FILL_BATCH * FILL_BATCH
    if taken + left != total:
        trouble.append("%d were sent, %d taken, %d are left"
                       % (total, taken, left))
    # Those that are not served yet have waited until now, at least.
    waits = [(at - began, (last[tenant] if counts.get(tenant) == EACH
                           else end) - at)
             for tenant, at in enumerate(sent)]
    return {"rate": taken / (end - began), "waits": waits,
            "unserved": sum(counts.get(tenant) != EACH
                            for tenant in range(len(sent))),
            "trouble": trouble}


def percentile(waits: list[float], percent: int) -> float:
    """Return this percentile of some waits, in milliseconds."""
    waits = sorted(waits)
    return waits[min(len(waits) - 1, len(waits) * percent // 100)] * 1000


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    flood, seconds = FLOOD[extent.mode], SECONDS[extent.mode]
    rate = one_run(server, "fair", QUEUE, flood, 0, 1)["rate"] * SHARE
    rows: list[dict[str, Any]] = [{"name": name, "kind": kind, "rounds": []}
                                  for name, _, _, kind in CASES]
    trouble = []
    for _ in range(extent.repetitions):
        for row, (name, mode, where, _) in zip(rows, CASES):
            run = one_run(server, mode, where, flood, rate, seconds)
            waits = [wait for _, wait in run["waits"]]
            run["p50"], run["p99"] = (percentile(waits, 50),
                                      percentile(waits, 99))
            row["rounds"].append(run)
            trouble += ["%s: %s" % (name, text) for text in run["trouble"]]
            say("%-30s p50 %9.2f ms, p99 %9.2f ms, %6.0f msg/s, %d of %d not"
                " served" % (name, run["p50"], run["p99"], run["rate"],
                             run["unserved"], len(waits)))
    return {"rows": rows, "trouble": trouble, "rate": rate, "flood": flood}


def curve(row: dict[str, Any]) -> list[tuple[float, float]]:
    """Return what is drawn: the waits of the first round over time.

    Some hundred of them: a picture of all has megabytes.
    """
    waits = row["rounds"][0]["waits"]
    return [(at, wait * 1000) for at, wait in waits[::len(waits) // 700 + 1]]


def section(part: dict[str, Any]) -> str:
    """Return what the page says of it."""
    lines = [["ten messages of a tenant", "p50", "p99", "p99 to alone",
              "must reach", "p99 to a flood elsewhere", "not served",
              "messages a second"]]
    p99 = {row["name"]: [run["p99"] for run in row["rounds"]]
           for row in part["rows"]}

    def times(name: str, other: str) -> float:
        return statistics.median(one / base for one, base
                                 in zip(p99[name], p99[other]))

    for row in part["rows"]:
        name, rounds = row["name"], row["rounds"]
        is_ours = row["kind"] == "ours"
        # A run of before that was had no such case.
        has_other = name not in (ALONE, ELSEWHERE) and ELSEWHERE in p99
        ratio = times(name, ALONE)
        lines.append([
            "**%s**" % name if is_ours else name,
            "%.1f ms" % statistics.median(run["p50"] for run in rounds),
            "%.1f ms" % statistics.median(p99[name]),
            "" if name == ALONE else
            marked("%.1f" % ratio, not is_ours or round(ratio, 1) <= MUST),
            "≤ %g" % MUST if is_ours else "",
            "%.1f" % times(name, ELSEWHERE) if has_other else "",
            "%d of %d" % (sum(run["unserved"] for run in rounds),
                          sum(len(run["waits"]) for run in rounds)),
            "%.0f" % statistics.median(run["rate"] for run in rounds)])
    return ("A thousand tenants send ten messages each, {0:.0f} messages a"
            " second together, to a queue with {1} consumers; from the commit"
            " of the ten to the last of them. The flood is {2:,} messages that"
            " another tenant has sent before. Who is not served when the run"
            " ends counts with the time until then.\n\n"
            "Alone they have a machine that is mostly idle, and beside a flood"
            " it is busy. *{3}* has {1} consumers more, who take the flood from"
            " a queue of its own: what is longer beside a flood than there is"
            " what sharing the queue costs, and the rest is that of a busy"
            " machine.\n\n".format(part["rate"], CONSUMERS, part["flood"],
                                   ELSEWHERE.capitalize())
            + table(lines))

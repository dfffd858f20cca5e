"""Writes docs/performance.md from the results.

What the page says is what was measured: tables, plots, how they came about.
What the figures mean is not said, since the next run may say otherwise.

Ratios are taken within each round, that is between runs that followed each
other, and the median of these is shown: on a machine that is faster at one
time than at another that is steadier than the ratio of two medians.
"""

import os
import statistics
from typing import Any, Callable

import backlog
import delivery
import fairness
import held
import horizon
import many
import paragraphs
import parts as grids
import plots
import soak
import topics
import watch
from comparison import BATCH, PAYLOAD, PAYLOAD_100_KB, SINGLE, Comparison
from tables import NOT_REACHED, marked, ratio, spread, table
from workloads import ALL

# What each of them is held against when 256 clients are.
FLOORS = {"dequeue": "pair", "pop": "pair", "lease": "lease_floor",
          "claim": "lease_floor"}

FIGURES = {"rate": "messages a second", "cpu": "server CPU, µs a message",
           "wal": "WAL, bytes a message"}


class Runs:
    """The runs of a grid, by workload, clients and repetition."""

    def __init__(self, runs: list[dict[str, Any]]):
        self.runs = runs
        self.workloads = list(dict.fromkeys(r["workload"] for r in runs))
        self.clients = list(dict.fromkeys(r["clients"] for r in runs))
        self.payloads = list(dict.fromkeys(r["payload"] for r in runs))

    def of(self, workload: str, clients: int) -> list[dict[str, Any]]:
        """Return the repetitions of a workload."""
        return [run for run in self.runs if run["workload"] == workload
                and run["clients"] == clients]

    def with_payload(self, payload: str) -> "Runs":
        """Return those with one payload."""
        return Runs([r for r in self.runs if r["payload"] == payload])


def title(name: str) -> str:
    """Return a workload as the tables name it."""
    workload = ALL[name]
    text = "%s: %s" % (name, workload.title)
    return "**%s**" % text if workload.kind == "ours" else text


def figures(runs: Runs, figure: str) -> str:
    """Return the table of one figure of all workloads."""
    rows = [[FIGURES[figure]] + ["%d client%s" % (n, "s" if n > 1 else "")
                                 for n in runs.clients]]
    form = "%.1f" if figure == "cpu" else "{:,.0f}"

    def show(value: float) -> str:
        return form % value if figure == "cpu" else form.format(value)

    for name in runs.workloads:
        row = [title(name)]
        for clients in runs.clients:
            found = runs.of(name, clients)
            wrong = sum(1 for run in found if run["trouble"])
            if not found:
                row.append("")
            elif wrong:
                row.append("FAILED (%d of %d)" % (wrong, len(found)))
            else:
                row.append(spread([run[figure] for run in found], show))
        rows.append(row)
    return table(rows)


def comparisons(runs: Runs, wanted: list[Comparison]) -> str:
    """Return the table of ratios."""
    rows = [["ratio"] + ["%d client%s" % (n, "s" if n > 1 else "")
                         for n in runs.clients] + ["must reach"]]
    for comparison in wanted:
        what = {"rate": "", "cpu": " CPU", "wal": " WAL"}[comparison.figure]
        row = ["%s%s %s %s" % (comparison.of, what,
                               "−" if comparison.is_difference else "÷",
                               comparison.to)]
        for clients in runs.clients:
            values = [comparison.of_round(of, to) for of, to in
                      zip(runs.of(comparison.of, clients),
                          runs.of(comparison.to, clients))
                      if not of["trouble"] and not to["trouble"]]
            if not values:
                row.append("")
                continue
            text = spread(values, comparison.show)
            if not comparison.is_reached(statistics.median(values), clients):
                text += NOT_REACHED
            row.append(text)
        rows.append(row + [comparison.show_must(runs.clients)])
    return table(rows)


def grid_section(part: dict[str, Any], wanted: list[Comparison]) -> str:
    """Return the tables of a part with one payload."""
    runs = Runs(part["runs"])
    return "\n".join([figures(runs, "rate"), comparisons(runs, wanted),
                      figures(runs, "cpu"), figures(runs, "wal")])


def single(part: dict[str, Any]) -> str:
    """Return what the part "single" found."""
    return ("One message a transaction, %s of payload. Each client sends one"
            " and consumes one, in turn.\n\n" % "about 100 bytes"
            + grid_section(part, SINGLE))


def batch(part: dict[str, Any]) -> str:
    """Return what the part "batch" found."""
    return ("A hundred messages a transaction, each of about 100 bytes."
            " Each client sends a hundred and consumes up to a hundred, in"
            " turn.\n\n" + grid_section(part, BATCH))


def clients(part: dict[str, Any]) -> str:
    """Return what the part "clients" found."""
    runs = Runs(part["runs"])
    most = max(runs.clients)
    rows = [["ratio", "of rounds", "must reach"]]
    for name, floor in FLOORS.items():
        values = []
        repetitions = 1 + max(run["repetition"] for run in part["runs"])
        for repetition in range(repetitions):
            rates = {}
            for workload in (name, floor):
                found = [r for r in part["runs"]
                         if r["workload"] == workload and not r["trouble"]
                         and r["repetition"] == repetition]
                many = [r["rate"] for r in found if r["clients"] == most]
                best = max((r["rate"] for r in found), default=0.0)
                if many and best:
                    rates[workload] = many[0] / best
            if len(rates) == 2 and rates[floor]:
                values.append(rates[name] / rates[floor])
        if not values:
            continue
        must = 0.9 if ALL[name].kind == "ours" else None
        text = spread(values, lambda value: "%.2f" % value)
        if must is not None and round(statistics.median(values), 2) < must:
            text += NOT_REACHED
        rows.append(["%s at %d clients ÷ its best, against the same of %s"
                     % (name, most, floor), text,
                     "≥ %g" % must if must else ""])
    return ("One message a transaction, as in *single*, with many clients.\n\n"
            + figures(runs, "rate") + "\n" + table(rows) + "\n"
            + figures(runs, "cpu"))


def payload(part: dict[str, Any]) -> str:
    """Return what the part "payload" found."""
    runs = Runs(part["runs"])
    texts = ["Larger messages, one a transaction. Their text is noise that"
             " does not compress.\n"]
    for size in runs.payloads:
        some = runs.with_payload(size)
        wanted = PAYLOAD_100_KB if size == "100 KB" else PAYLOAD
        texts += ["Payload of %s:\n" % size, figures(some, "rate"),
                  comparisons(some, wanted), figures(some, "cpu"),
                  figures(some, "wal")]
    return "\n".join(texts)


def megabytes(size: float) -> str:
    """Return a size."""
    return "%.1f MB" % (size / 1e6)


def seconds_text(seconds: float | None) -> str:
    """Return how long something took, if it came to pass."""
    return "not seen" if seconds is None else "%.0f s" % seconds


def is_ours(run: dict[str, Any]) -> bool:
    """Return whether a run is one of the extension."""
    return ALL[run["workload"]].kind == "ours"


HELD_MUST = 0.95
HELD_PARTS = 10
HELD_SIZES = ["table and index", "before", "when the hold ended", "largest",
              "watched for, s", "at the end",
              "half of the dead rows gone after", "half of the size after",
              "vacuums during, after"]


def held_snapshot(part: dict[str, Any]) -> str:
    """Return what the part "held-snapshot" found."""
    texts = [
        "%d clients, one message a transaction. %d s without disturbance are"
        " followed by a time in which something keeps dead rows from being"
        " removed, then by a while without that. One run each. \"Held\" is"
        " the last quarter of the hold, \"after\" the last half of what"
        " follows. Throughput must stay at %g, and latency with it.\n"
        % (held.CLIENTS, part["runs"][0]["phases"]["clean"], HELD_MUST)]
    if part.get("beside"):
        texts.insert(0, beside(*part["beside"]))
    for holder in dict.fromkeys(run["holder"] for run in part["runs"]):
        some = [run for run in part["runs"] if run["holder"] == holder]
        rates = [["messages a second", "held for, s", "before", "held",
                  "after", "held ÷ before", "ms before", "ms held"]]
        sizes = [HELD_SIZES]
        for run in some:
            row = [title(run["workload"])]
            if run["trouble"]:
                rates.append(row + ["FAILED"] + [""] * 6)
                continue
            value = ratio(run["held_rate"], run["clean_rate"])
            rates.append(row + [
                "%d" % run["phases"]["hold"],
                "{:,.0f}".format(run["clean_rate"]),
                "{:,.0f}".format(run["held_rate"]),
                "{:,.0f}".format(run["after_rate"]),
                marked("%.2f" % value,
                       value >= HELD_MUST or not is_ours(run)),
                "%.2f" % run["clean_latency"], "%.2f" % run["held_latency"]])
            sizes.append(row + held_sizes(run))
        texts += ["### %s\n" % horizon.HOLDERS[holder].title.capitalize(),
                  table(rates), table(sizes)]
    return "\n".join(texts)


def beside(held_back: dict[str, Any], other: dict[str, Any]) -> str:
    """Return how a queue that is held back does beside one that is not."""
    if held_back["trouble"] or other["trouble"]:
        return "FAILED\n"
    phases = held_back["phases"]
    start = phases["clean"]
    end = start + phases["hold"]

    def compare(since: float, until: float, column: int = 1) -> float:
        return ratio(*(watch.mean(run["progress"], since, until, column)
                       for run in (held_back, other)))

    spans = [(start + number * phases["hold"] / HELD_PARTS,
              start + (number + 1) * phases["hold"] / HELD_PARTS)
             for number in range(HELD_PARTS)]
    ratios = [compare(*span) for span in spans]
    value = compare(start, end)
    rows = [["held ÷ beside", "before", "held", "tenths of the hold", "after",
             "must reach"],
            ["messages a second", "%.2f" % compare(0, start),
             marked("%.2f" % value, value >= HELD_MUST),
             "%.2f … %.2f" % (min(ratios), max(ratios)),
             "%.2f" % compare(end, end + phases["after"]),
             "≥ %g" % HELD_MUST],
            ["latency", "%.2f" % compare(0, start, 2),
             "%.2f" % compare(start, end, 2), "",
             "%.2f" % compare(end, end + phases["after"], 2), ""]]
    sizes = [HELD_SIZES]
    for run, name in ((held_back, "**held**"), (other, "**beside it**")):
        sizes.append([name] + held_sizes(run))
    return ("Two databases of one server, a queue in each, with the same load"
            " by %d clients at the same time. An old snapshot is held in one"
            " of them during %d s. Both wait for the same flushes and share"
            " the processors at each moment. So the ratio is what the snapshot"
            " costs, except for what hides in the wait for a flush."
            " Before PostgreSQL 16 the pages of an index wait for the"
            " snapshots of all databases, so both indexes grow."
            " %s messages were consumed in the hold.\n\n"
            % (held_back["clients"], phases["hold"], "{:,.0f}".format(
                watch.mean(held_back["progress"], start, end)
                * phases["hold"]))
            + table(rows) + "\n" + table(sizes)
            + "\nThe workloads below ran alone, one after the other. A machine"
              " changes from minute to minute, so compare them with the"
              " floor.\n")


def held_sizes(run: dict[str, Any]) -> list[str]:
    """Return the cells that tell of the size of a table."""
    phases = run["phases"]
    samples = run["samples"]
    end = phases["clean"] + phases["hold"]
    before = [s for s in samples if s[0] < phases["clean"]] or samples[:1]
    held_samples = [s for s in samples if phases["clean"] <= s[0] <= end]
    held_samples = held_samples or before
    return [megabytes(max(map(watch.size, before))),
            megabytes(watch.size(held_samples[-1])),
            megabytes(max(map(watch.size, samples))),
            "%d" % phases["after"], megabytes(watch.size(samples[-1])),
            seconds_text(run["usable"]), seconds_text(run["shrunk"]),
            "%d, %d" % (held_samples[-1][5] - held_samples[0][5],
                        samples[-1][5] - held_samples[-1][5])]


SOAK_SIZE = 200e6
SOAK_MUST = 0.95


def soak_section(part: dict[str, Any]) -> str:
    """Return what the part "soak" found."""
    rows = [["full speed", "payload", "seconds", "stretch", "second", "last",
             "last ÷ second", "messages", "left", "largest table", "indexes",
             "toast", "dead rows at most", "vacuums"]]
    for run in part["runs"]:
        row = [title(run["workload"]), run["payload"], str(run["length"]),
               str(run["stretch"])]
        if run["trouble"]:
            rows.append(row + ["FAILED"] + [""] * 9)
            continue
        value = ratio(run["last_rate"], run["second_rate"])
        samples = run["samples"]
        largest = max(map(watch.size, samples))
        columns = list(zip(*samples))
        rows.append(row + [
            "{:,.0f}".format(run["second_rate"]),
            "{:,.0f}".format(run["last_rate"]),
            marked("%.2f" % value, value >= SOAK_MUST or not is_ours(run)),
            "{:,}".format(run["consumed"]), "{:,}".format(run["left"]),
            marked(megabytes(max(columns[1])),
                   largest <= SOAK_SIZE or not is_ours(run)),
            megabytes(max(columns[2])), megabytes(max(columns[3])),
            "{:,}".format(max(columns[4])),
            "%d" % (samples[-1][5] - samples[0][5])])
    return ("At full speed without interruption, by {} clients; each sends"
            " one message or a hundred and then consumes as many, so at most"
            " {} wait. A stretch is a minute, or a quarter of a shorter run,"
            " in seconds. The last stretch must reach {:g} of the messages a"
            " second of the second one, with no more than {:.0f} MB of table"
            " and index.\n\n".format(
                soak.CLIENTS, soak.MOST_WAITING, SOAK_MUST, SOAK_SIZE / 1e6)
            + table(rows))


DRAIN_MUST = 0.8
FIRST_MUST = 2.0


def backlog_section(part: dict[str, Any]) -> str:
    """Return what the part "backlog" found."""
    found = part["rows"]
    ours = found[0]

    def rounds(row: dict[str, Any], name: str) -> str:
        return spread([r[name] for r in row["rounds"]], "{:,.0f}".format)

    def ratios(row: dict[str, Any], name: str, must: float) -> str:
        values = [ratio(r[name], r[name + "_short"]) for r in row["rounds"]]
        return marked(spread(values, lambda value: "%.2f" % value),
                      row is not ours or statistics.median(values) >= must)

    def first(row: dict[str, Any], how: str) -> str:
        seconds = row[how]["seconds"]
        return marked("%.3f s, %d blocks" % (seconds, row[how]["blocks"]),
                      row is not ours or seconds <= FIRST_MUST)

    rows = [["{:,} messages wait".format(part["messages"])]
            + ["**%s**" % backlog.KINDS[row["kind"]][0]
               if row is ours else backlog.KINDS[row["kind"]][0]
               for row in found] + ["must reach"]]

    def add(name: str, show: Callable[[dict[str, Any]], str],
            must: str = "") -> None:
        rows.append([name] + [show(row) for row in found] + [must])

    add("filled by a hundred, messages a second",
        lambda row: "{:,.0f}".format(row["fill"]))
    add("single messages sent on top, a second", lambda row: rounds(row,
                                                                    "top"))
    add("… ÷ the same on a short one",
        lambda row: ratios(row, "top", DRAIN_MUST), "≥ %g" % DRAIN_MUST)
    add("consumed by a hundred, messages a second",
        lambda row: rounds(row, "drain"))
    add("… of a short one", lambda row: rounds(row, "drain_short"))
    add("… ÷ the same of a short one",
        lambda row: ratios(row, "drain", DRAIN_MUST), "≥ %g" % DRAIN_MUST)
    add("drained to the half, messages a second",
        lambda row: "{:,.0f}".format(row["half"]["rate"]))
    for how, name in (("stop", "a restart"), ("crash", "a crash")):
        add("first message after %s" % name, lambda row, how=how:
            first(row, how), "≤ %g s" % FIRST_MUST)
        add("… until the server accepted connections", lambda row, how=how:
            "%.1f s" % row[how]["start"])
    add("purge, or DELETE, of {:,}; messages a second".format(ours["purged"]),
        lambda row: "{:,.0f}".format(row["purge"]))
    add("drop", lambda row: "%.3f s" % row["drop"])
    return ("{:,} messages of about 100 bytes wait in a queue, and as many in"
            " a hand-written table. In each round the deep one and a short"
            " one of no more than {:,} messages are measured in turn, by {}"
            " clients. A first message is taken by a new session, and its time"
            " includes the time to connect. Blocks are those of table and"
            " index that were looked at for it.\n\n".format(part["messages"],
                                            backlog.SHORT_QUEUE,
                                            backlog.CLIENTS)
            + table(rows))


MANY_MUST = 0.8


def many_section(part: dict[str, Any]) -> str:
    """Return what the part "many-queues" found."""
    count = part["queues"]
    rates = {kind: [row["rate"] for row in part["traffic"]
                    if row["kind"] == kind] for kind in ("one", "many")}
    late = {kind: [watch.mean(row["progress"], row["progress"][-1][0] / 2,
                              row["progress"][-1][0])
                   for row in part["traffic"]
                   if row["kind"] == kind and row["progress"]]
            for kind in ("one", "many")}
    rows = [["messages a second", "one queue", "{:,} queues".format(count),
             "ratio", "must reach"]]
    for name, found, must in (("from fresh sessions on", rates, None),
                              ("second half of each run", late, MANY_MUST)):
        if not found["one"] or not found["many"]:
            continue
        values = [ratio(many_rate, one) for one, many_rate
                  in zip(found["one"], found["many"])]
        rows.append([name, spread(found["one"], "{:,.0f}".format),
                     spread(found["many"], "{:,.0f}".format),
                     marked(spread(values, lambda value: "%.2f" % value),
                            must is None
                            or statistics.median(values) >= must),
                     "≥ %g" % must if must else ""])
    bulk = [["in bulk, %d in a transaction" % many.BULK, "number", "ms each",
             "the first tenth", "the last tenth"]]
    for key, name, number in (
            ("create", "**create_queue, with a dead-letter queue**", count),
            ("create_table", "CREATE TABLE", part["tables"]),
            ("drop", "**drop_queue, with its dead-letter queue**", count),
            ("drop_table", "DROP TABLE", part["tables"])):
        found = part["bulk"][key]
        bulk.append([name, "{:,}".format(number)]
                    + ["%.2f" % found[column]
                       for column in ("each", "first", "last")])
    memory = part["memory"]
    return ("One message a transaction by {} clients, each of which sends one"
            " to a queue and consumes one of it. Queues are chosen by Zipf's law"
            " (exponent 1.07), and named in each call, the single one"
            " too.\n\n".format(many.CLIENTS) + table(rows)
            + "\n" + table(bulk)
            + "\nA session that has used all of them keeps {:.1f} kB a queue."
              " {:.2f} kB of it are the extension's, the rest the server's"
              " caches of tables and indexes. Its process has {} for itself. In a"
              " session that does not know them {:,.0f} calls a second were"
              " made. Shared memory of the extension, whatever the number of"
              " queues: {} MB (`queue.max_queues = {}`,"
              " `queue.max_in_flight = {}`).\n".format(
                  memory["contexts"] / 1e3, memory["ours"] / 1e3,
                  megabytes(memory["total"]), memory["calls"],
                  part["shared"], part["max_queues"], part["max_in_flight"])
            + "\nWhen the traffic had ended the worker was quiet after {:.0f}"
              " s. After that it and the leader took {:.1f} ms of CPU a second, with"
              " {:,} queues that nobody used; its process had {} for"
              " itself.\n".format(part["idle"]["quiet_after"],
                                  part["idle"]["cpu"], count,
                                  megabytes(part["idle"]["memory"])))


WAKEUP_MUST = {50: 0.5, 99: 2.0}


def wakeup(part: dict[str, Any]) -> str:
    """Return what the part "wakeup" found."""
    rows = [["", "sender's commit", "p50", "p90", "p99", "largest",
             "samples"]]
    for row in part["rows"]:
        quantiles = row["quantiles"]
        name = row["title"]
        if row["kind"] not in ("ping", "notify"):
            name = "**%s**" % name
        if not quantiles:
            rows.append([name, "", "FAILED", "", "", "", "0"])
            continue
        cells = []
        for percent in (50, 90, 99, 100):
            text = "%.2f ms" % quantiles[percent]
            must = WAKEUP_MUST.get(percent)
            if (must is not None and name.startswith("**")
                    and not row["flush"]
                    and round(quantiles[percent], 2) > must):
                text += NOT_REACHED
            cells.append(text)
        commit = ("" if row["kind"] == "ping" else
                  "flushed" if row["flush"] else "not flushed")
        rows.append([name, commit] + cells + [str(row["samples"])])
    return ("From sending COMMIT in one session to having the message in"
            " another, on an idle queue, as clients in Python see it. *Not"
            " flushed* means `synchronous_commit = off` in the sender's"
            " session, which takes the disk out of the figure. The table also"
            " has the same with `LISTEN` and `NOTIFY`, where the sender"
            " inserts a row into a plain table, and the round trip of"
            " `SELECT 1`. Not flushed, p50 must reach 0.5 ms and p99 2 ms.\n\n" + table(rows))


def idle(part: dict[str, Any]) -> str:
    """Return what the part "idle" found."""
    kinds = list(dict.fromkeys(row["kind"] for row in part["asked"]))
    rows = [["an empty queue is asked", "calls a second",
             "server CPU, µs a call", "scans a call", "blocks a call",
             "must reach"]]
    for kind in kinds:
        found = [row for row in part["asked"] if row["kind"] == kind]
        name = found[0]["title"]
        is_ours = kind in ("dequeue", "receive")
        scans = statistics.median(r["scans"] / r["calls"] for r in found)
        blocks = statistics.median(r["blocks"] / r["calls"] for r in found)
        reached = round(scans, 2) == 0 and round(blocks, 2) == 0
        rows.append([
            "**%s**" % name if is_ours else name,
            spread([r["rate"] for r in found], "{:,.0f}".format),
            spread([r["cpu"] for r in found], lambda value: "%.1f" % value),
            "%.2f" % scans, "%.2f" % blocks + ("" if reached or not is_ours
                                               else NOT_REACHED),
            "no table access" if is_ours else ""])
    waits = [["waiting sessions", "sessions", "server CPU, ms a second",
              "all woken in", "must reach"]]
    for kind in dict.fromkeys(row["kind"] for row in part["waits"]):
        found = [row for row in part["waits"] if row["kind"] == kind]
        is_ours = kind != "idle"
        name = found[0]["title"]
        waits.append([
            "**%s**" % name if is_ours else name,
            "{:,}".format(found[0]["sessions"]),
            spread([r["cpu"] for r in found], lambda value: "%.1f" % value),
            spread([r["woken"] * 1000 for r in found],
                   lambda value: "%.0f ms" % value) if is_ours else "",
            "as idle sessions" if is_ours else ""])
    return ("{:,} calls on an empty queue, by {:d} clients. Scans and blocks"
            " are those of the table and its indexes, as"
            " `pg_stat_user_tables` and `pg_statio_user_tables` count"
            " them.\n\n".format(part["asked"][0]["calls"], 2)
            + table(rows)
            + "\nSessions wait for a message that does not come, while the CPU"
              " time of all the server's processes is taken. Then as many"
              " messages are sent in one batch.\n\n" + table(waits))


SECTIONS = {
    "single": ("Single messages", single),
    "batch": ("Batches of a hundred", batch),
    "clients": ("Many clients", clients),
    "payload": ("Larger payloads", payload),
    "held-snapshot": ("A snapshot held open", held_snapshot),
    "soak": ("Full speed for long", soak_section),
    "backlog": ("A deep queue", backlog_section),
    "many-queues": ("Many queues", many_section),
    "delivery": ("When and in what order", delivery.section),
    "fairness": ("A tenant who floods", fairness.section),
    "topics": ("Topics and subscriptions", topics.section),
    "wakeup": ("Wake-up", wakeup),
    "idle": ("Nothing to do", idle),
}

HEAD = """# Performance

This page is written by `make bench` from what it measured; edit
`test/bench/page.py` instead. [testing.md](testing.md#the-benchmark) says how
to run it.

All of it ran on one machine, clients and server together, with `fsync` and
`synchronous_commit` on. So figures of one part can be compared with each
other, but not with those of other machines. In each part the workloads ran in
turn, round after round. A figure is the median of the rounds, with the
smallest and the largest in brackets. A ratio is taken in each round. ✗ marks
a figure that does not reach its target, which the column "must reach" has.

A *floor* is what the same rows cost without any queue: INSERT, and DELETE by
the key that the INSERT returned. Peers are what one would use instead.
[workloads.py](../test/bench/workloads.py) has all statements; every consumer
gets id and payload.

* **Load**: `pgbench -M prepared -n`, two threads (one for one client).
* **Books**: each run is preceded by one that writes down each id sent and each
  id delivered; none may be lost, and none delivered twice. In the measured run
  the table must hold what was sent less what was deleted. Runs whose books did
  not balance are marked FAILED.
* **Server CPU**: user and system time of the postmaster and all its children,
  those that have ended included, from /proc. The clients' connecting is part of
  it: with 256 of them a visible one.
* **WAL**: what `pg_waldump --stats` counts, without full-page images.
* **PgQ** has one consumer for all producers, since several would each get every
  message, and is ticked fifty times a second. What counts is what its consumer
  had read when the producers ended.
"""


def same_facts(part: dict[str, Any]) -> tuple:
    """Return what a part was found on."""
    return (part["machine"], part["server"], part["optimization"],
            str(part["settings"]), str(part["session"]))


def settings(pairs: list[list[str]]) -> str:
    """Return settings as a list."""
    return ", ".join("`%s = %s`" % tuple(pair) for pair in pairs)


def facts(parts: dict[str, dict[str, Any]]) -> str:
    """Return the machine, the settings, and when what was run."""
    groups: dict[tuple, list[str]] = {}
    for name, part in parts.items():
        groups.setdefault(same_facts(part), []).append(name)
    texts = ["## Where and how\n"]
    for names in groups.values():
        part = parts[names[0]]
        if len(groups) > 1:
            texts.append("%s:\n" % ", ".join(names))
        texts.append(
            "* Machine: %s; a page of 8 kB was written and flushed %s times a"
            " second\n* PostgreSQL %s; the extension built without assertions,"
            " %s\n* Server: %s; all else as it is by default\n"
            "* Sessions, in all workloads: %s\n"
            % (part["machine"], "{:,.0f}".format(part["flushes"]),
               part["server"], part["optimization"],
               settings(part["settings"]), settings(part["session"])))
    rows = [["part", "began", "revision", "load before", "runs",
             "command"]]
    for name, part in parts.items():
        rows.append([name, part["began"], part["revision"] or "unknown",
                     "%.1f" % part["load"],
                     "%d × %d s" % (part["repetitions"], part["seconds"])
                     if name in grids.GRIDS else "",
                     "`%s`" % part["command"]])
    texts.append(table(rows))
    return "\n".join(texts)


def troubles(part: dict[str, Any]) -> str:
    """Return what was wrong in a part."""
    found = list(part.get("trouble", []))
    for run in part.get("runs", []):
        found += ["%s, %d clients: %s" % (run["workload"], run["clients"],
                                          text) for text in run["trouble"]]
    return "".join("\nFAILED: %s\n" % text for text in dict.fromkeys(found))


def write(results: dict[str, Any], directory: str) -> str:
    """Write the page and the plots; return the page."""
    parts = {name: results["parts"][name] for name in SECTIONS
             if name in results["parts"]}
    texts = [HEAD, facts(parts)]
    drawn = plots.draw(parts, directory)
    for name, part in parts.items():
        heading, section = SECTIONS[name]
        texts.append("## %s\n" % heading)
        if part["short"]:
            texts.append("This part was run with `SHORT=1`, to try it: its"
                         " figures mean nothing.\n")
        for text in part["missing"]:
            texts.append("Left out: %s.\n" % text)
        texts.append(section(part) + troubles(part))
        if name in drawn:
            texts.append("![%s](%s)\n" % (heading, drawn[name]))
    page = paragraphs.wrap("\n".join(texts))
    with open(os.path.join(directory, "performance.md"), "w",
              encoding="utf-8") as file:
        file.write(page)
    return page

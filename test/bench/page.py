"""Writes docs/performance.md from the results.

What the page says is what was measured: tables, plots, how they came about.
What the figures mean is not said, since the next run may say otherwise.

Ratios are taken within each round, that is between runs that followed each
other, and the median of these is shown: on a machine that is faster at one
time than at another that is steadier than the ratio of two medians.
"""

import os
import statistics
from dataclasses import dataclass
from typing import Any, Callable

import held
import plots
from workloads import ALL

NOT_REACHED = " ✗"


@dataclass
class Comparison:
    """A figure of one workload beside that of another."""

    of: str
    to: str
    # "rate", "cpu" or "wal".
    figure: str = "rate"
    # What must be reached with so many clients; None where nothing must.
    must: Callable[[int], float | None] = lambda clients: None
    # At most rather than at least.
    is_limit: bool = False
    is_difference: bool = False

    def of_round(self, of: dict[str, Any], to: dict[str, Any]) -> float:
        """Return the figure of one round."""
        if self.is_difference:
            return of[self.figure] - to[self.figure]
        return of[self.figure] / to[self.figure] if to[self.figure] else 0.0

    def is_reached(self, value: float, clients: int) -> bool:
        """Return whether a value is good enough."""
        must = self.must(clients)
        if must is None:
            return True
        # As it is shown, not in digits that nobody sees.
        value = round(value, 0 if self.is_difference else 2)
        return value <= must if self.is_limit else value >= must

    def show(self, value: float) -> str:
        """Return a value as the table has it."""
        return "%+.0f B" % value if self.is_difference else "%.2f" % value

    def show_must(self, clients: list[int]) -> str:
        """Return what must be reached with these numbers of clients."""
        musts = [self.must(count) for count in clients]
        if None in musts:
            return ""
        shown = []
        for must in musts:
            text = "%g" % must
            if not shown or shown[-1] != text:
                shown.append(text)
        unit = " B" if self.is_difference else ""
        return (("≤ " if self.is_limit else "≥ ")
                + " / ".join(shown) + unit)


def at_least(value: float, from_8: float | None = None):
    """Return what must be reached, for one client and for more."""
    return lambda clients: (value if clients < 8 or from_8 is None
                            else from_8)


SINGLE = [
    Comparison("dequeue", "pair", must=at_least(0.95)),
    Comparison("dequeue", "pop", must=at_least(1.0)),
    Comparison("lease", "lease_floor", must=at_least(0.9)),
    Comparison("lease", "claim", must=at_least(1.3)),
    Comparison("dequeue", "pair", "cpu", at_least(1.0), is_limit=True),
    Comparison("lease", "lease_floor", "cpu", at_least(1.0), is_limit=True),
    Comparison("dequeue", "pair", "wal", at_least(48), is_limit=True,
               is_difference=True),
    Comparison("lease", "lease_floor", "wal", at_least(48), is_limit=True,
               is_difference=True),
]
BATCH = [
    Comparison("dequeue_batch", "batch_pair", must=at_least(1.0)),
    Comparison("dequeue_batch", "pop_batch", must=at_least(2.5, 4.0)),
    Comparison("lease_batch", "batch_pair", must=at_least(0.9)),
    Comparison("lease_batch", "claim_batch", must=at_least(3.0, 5.0)),
    Comparison("dequeue_batch", "batch_pair", "cpu"),
    Comparison("lease_batch", "batch_pair", "cpu"),
    Comparison("dequeue_batch", "batch_pair", "wal", at_least(48),
               is_limit=True, is_difference=True),
    Comparison("lease_batch", "batch_pair", "wal", at_least(48),
               is_limit=True, is_difference=True),
]
PAYLOAD = [
    Comparison("dequeue", "pair"),
    Comparison("dequeue", "pop"),
    Comparison("lease", "lease_floor"),
    Comparison("lease", "claim"),
]
PAYLOAD_100_KB = [
    Comparison("dequeue", "pair", must=at_least(0.8)),
    Comparison("dequeue", "pop"),
    Comparison("lease", "lease_floor", must=at_least(0.8)),
    Comparison("lease", "claim"),
]

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


def spread(values: list[float], show: Callable[[float], str]) -> str:
    """Return the median, and what it lies between."""
    middle = show(statistics.median(values))
    if len(values) == 1:
        return middle
    return "%s <small>(%s … %s)</small>" % (middle, show(min(values)),
                                            show(max(values)))


def table(rows: list[list[str]]) -> str:
    """Return a table; numbers are to the right."""
    head = rows[0]
    lines = ["| " + " | ".join(head) + " |",
             "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return "\n".join(lines) + "\n"


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


def held_snapshot(part: dict[str, Any]) -> str:
    """Return what the part "held-snapshot" found."""
    phases = part["phases"]
    rows = [["messages a second", "before",
             "last quarter of the hold", "after", "hold ÷ before",
             "must reach", "size before", "largest", "at the end"]]
    for run in part["runs"]:
        row = [title(run["workload"])]
        if run["trouble"]:
            rows.append(row + ["FAILED"] + [""] * 7)
            continue
        ratio = (run["held_rate"] / run["clean_rate"]
                 if run["clean_rate"] else 0.0)
        must = 0.95 if ALL[run["workload"]].kind == "ours" else None
        before = [size for at, size in run["sizes"] if at < phases["clean"]]
        sizes = [size for _, size in run["sizes"]]
        rows.append(row + [
            "{:,.0f}".format(run["clean_rate"]),
            "{:,.0f}".format(run["held_rate"]),
            "{:,.0f}".format(run["after_rate"]),
            "%.2f%s" % (ratio, NOT_REACHED if must is not None
                        and round(ratio, 2) < must else ""),
            "≥ %g" % must if must else "",
            megabytes(max(before, default=0)), megabytes(max(sizes)),
            megabytes(sizes[-1])])
    return ("%d clients, one message a transaction: %d s as always, %d s with"
            " the snapshot of an idle `REPEATABLE READ` transaction held, %d s"
            " after it. One run each. \"After\" is the last half of that time."
            " Sizes are those of the table with its indexes.\n\n"
            % (held.CLIENTS, phases["clean"], phases["hold"], phases["after"])
            + table(rows))


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
            " session: that takes the disk out of the figure. Beside it the"
            " same with `LISTEN` and `NOTIFY`, where the sender inserts a row"
            " into a plain table, and the round trip of `SELECT 1`. Must"
            " reach, not flushed: p50 0.5 ms, p99 2 ms.\n\n" + table(rows))


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
            + "\nSessions that wait for a message that does not come, and what"
              " all of the server's processes take meanwhile. Then as many"
              " messages are sent in one batch.\n\n" + table(waits))


SECTIONS = {
    "single": ("Single messages", single),
    "batch": ("Batches of a hundred", batch),
    "clients": ("Many clients", clients),
    "payload": ("Larger payloads", payload),
    "held-snapshot": ("A snapshot held open", held_snapshot),
    "wakeup": ("Wake-up", wakeup),
    "idle": ("Nothing to do", idle),
}

HEAD = """# Performance

This page is written by `make bench` from what it measured; edit
`test/bench/page.py` instead. [testing.md](testing.md#the-benchmark) says how
to run it.

All of it ran on one machine, clients and server together, the server with
`fsync` and `synchronous_commit` on. So figures of one part can be compared
with each other, not with those of other machines. In each part the workloads
were run in turn, round after round; a figure is the median of the rounds, in
brackets the smallest and the largest. A ratio is taken in each round. ✗ marks
what does not reach what it must.

A *floor* is what the same rows cost without any queue: INSERT, and DELETE by
the key that the INSERT returned. Peers are what one would use instead.
[workloads.py](../test/bench/workloads.py) has all statements; every consumer
gets id and payload.

* **Load**: `pgbench -M prepared -n`, two threads (one for one client).
* **Books**: each run is preceded by one that writes down each id sent and each
  id delivered: none may be lost, none delivered twice. In the measured run what
  was sent less what was deleted must be left in the table. Runs whose books
  did not balance are marked FAILED.
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
                     if "runs" in part and name != "held-snapshot" else "",
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
    page = "\n".join(texts)
    with open(os.path.join(directory, "performance.md"), "w",
              encoding="utf-8") as file:
        file.write(page)
    return page

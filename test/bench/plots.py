"""Draws the plots of docs/performance.md, with gnuplot.

Without gnuplot there are none, and the page and the caller say so.
"""

import os
import shutil
import statistics
import subprocess
from typing import Any, Callable

import fairness
import watch
from workloads import ALL, BATCH

# Colours by what it is, floors dashed.
STYLES = {
    "floor": ["lc rgb '#888888' lw 2 dt 2", "lc rgb '#444444' lw 2 dt 3"],
    "ours": ["lc rgb '#1060c0' lw 2", "lc rgb '#20a060' lw 2",
             "lc rgb '#8040c0' lw 2"],
    "peer": ["lc rgb '#d04020'", "lc rgb '#e0a000'", "lc rgb '#a050b0'"],
}

HEAD = """
set terminal svg size 720,400 font 'sans-serif,12' background 'white'
set output '%s'
set key outside right top
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror out
"""


# Several plots above each other.
PANELS = """
set terminal svg size 720,%d font 'sans-serif,12' background 'white'
set multiplot layout %d,1
"""
PANEL_HEIGHT = 300


class Plot:
    """A picture of some lines."""

    def __init__(self, lines: list[str]):
        self.lines = lines
        self.blocks: list[str] = []
        self.curves: list[str] = []
        self.used: dict[str, int] = {}

    def add(self, name: str, kind: str, points: list[tuple[float, float]],
            how: str = "linespoints pt 7 ps 0.4") -> None:
        """Add a line."""
        if not points:
            return
        number = self.used.get(kind, 0)
        self.used[kind] = number + 1
        style = STYLES[kind][number % len(STYLES[kind])]
        block = "$data%d_%d" % (id(self), len(self.blocks))
        self.blocks.append("%s << EOD\n%sEOD\n" % (
            block, "".join("%g %g\n" % point for point in points)))
        self.curves.append("%s using 1:2 with %s %s title \"%s\""
                           % (block, how, style, name.replace("_", "\\\\_")))

    def script(self) -> str:
        """Return what gnuplot is told."""
        return ("unset object\nunset label\nunset logscale\n" + "\n".join(self.lines) + "\n"
                + "plot " + ", ".join(self.curves) + "\n")


def draw_plots(plots: list[Plot], path: str) -> bool:
    """Let gnuplot draw them in one picture; return whether it did."""
    plots = [plot for plot in plots if plot.curves]
    if not plots:
        return False
    script = HEAD % path + "".join("".join(plot.blocks) for plot in plots)
    if len(plots) > 1:
        script += PANELS % (PANEL_HEIGHT * len(plots), len(plots))
    script += "".join(plot.script() for plot in plots)
    done = subprocess.run(["gnuplot"], input=script, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    if done.returncode != 0:
        print("LEFT OUT: a plot; gnuplot: " + done.stdout[:500])
    return done.returncode == 0


def throughput(part: dict[str, Any]) -> list[Plot]:
    """Messages a second over the number of clients."""
    counts = sorted({run["clients"] for run in part["runs"]})
    plot = Plot(["set logscale x 2", "set xlabel 'clients'",
                 "set ylabel 'messages a second'", "set yrange [0:*]",
                 "set xrange [%g:%g]" % (counts[0] * 0.9, counts[-1] * 1.1),
                 "set xtics (%s)" % ", ".join('"%d" %d' % (n, n)
                                              for n in counts)])
    for name in dict.fromkeys(run["workload"] for run in part["runs"]):
        points = []
        for clients in counts:
            rates = [run["rate"] for run in part["runs"]
                     if run["workload"] == name and run["clients"] == clients
                     and not run["trouble"]]
            if rates:
                points.append((clients, statistics.median(rates)))
        if points:
            plot.add(name, ALL[name].kind, points)
    return [plot]


def over_time(label: str, *more: str) -> Plot:
    """Return a plot over time, from zero."""
    return Plot(["set xlabel 'seconds'", 'set ylabel "%s"' % label,
                 "set yrange [0:*]", "set xrange [0:*]", *more])


RATE = "messages a second"
SIZE = "table and index, MB"
TOAST_TOO = "with index and toast, MB"


def sizes(samples: list[list[float]],
          of: Callable[[list[float]], float] = watch.size
          ) -> list[tuple[float, float]]:
    """Return what is drawn of the sizes of a table."""
    return [(sample[0], of(sample) / 1e6) for sample in samples]


def rates(progress: list[list[float]]) -> list[tuple[float, float]]:
    """Return what is drawn of the progress of a run."""
    return [(row[0], row[1]) for row in progress]


def held_snapshot(part: dict[str, Any]) -> list[Plot]:
    """Throughput and size over time, beside each other and alone."""
    plots = []
    beside = part.get("beside", [])
    alone = [run for run in part["runs"] if run["holder"] == "snapshot"]
    for some in beside, alone:
        if not some:
            continue
        pair = [over_time(label, *holds(some)) for label in (RATE, SIZE)]
        for run in some:
            name, kind = run["workload"], ALL[run["workload"]].kind
            if run in beside:
                name, kind = {"snapshot": ("held", "ours"),
                              "nothing": ("beside it", "floor")}[run["holder"]]
            pair[0].add(name, kind, rates(run["progress"]), "lines")
            pair[1].add(name, kind, sizes(run["samples"]), "lines")
        plots += pair
    return plots


def holds(some: list[dict[str, Any]]) -> list[str]:
    """Return what shows when something was held in one of these runs."""
    start = some[0]["phases"]["clean"]
    lines = ["set label 1 'held' at first %g, graph 0.97 offset 0.5,0" % start]
    # For how long differs; where it was for all is darkest.
    for seconds in sorted({run["phases"]["hold"] for run in some}):
        lines.append("set object rectangle from first %g, graph 0 to"
                     " first %g, graph 1 fc rgb '#e8dfc8'"
                     " fs transparent solid 0.4 noborder behind"
                     % (start, start + seconds))
    return lines


def soak(part: dict[str, Any]) -> list[Plot]:
    """Throughput and size over time: by one, by a hundred, large ones."""
    plots = []
    for batch, payload in ((1, "100 B"), (BATCH, "100 B"), (1, "100 KB")):
        some = [run for run in part["runs"] if run["payload"] == payload
                and ALL[run["workload"]].size == batch]
        what = "by %d, %s" % (batch, payload)
        pair = [over_time("%s\\n%s" % (label, what))
                for label in (RATE, TOAST_TOO)]
        for run in some:
            kind = ALL[run["workload"]].kind
            pair[0].add(run["workload"], kind, rates(run["progress"]),
                        "lines")
            pair[1].add(run["workload"], kind,
                        sizes(run["samples"], watch.everything), "lines")
        plots += pair
    return plots


def backlog(part: dict[str, Any]) -> list[Plot]:
    """Throughput and size while half of a deep queue is drained."""
    plots = [over_time(RATE), over_time(SIZE)]
    for row in part["rows"]:
        name = {"ours": "dequeue_batch", "peer": "pop_batch"}[row["kind"]]
        plots[0].add(name, row["kind"], rates(row["half"]["progress"]),
                     "lines")
        plots[1].add(name, row["kind"], sizes(row["half"]["samples"]),
                     "lines")
    return plots


def many_queues(part: dict[str, Any]) -> list[Plot]:
    """Throughput over time in the first round, from fresh sessions on."""
    plot = over_time(RATE)
    for kind, name in (("one", "one queue"), ("many", "many queues")):
        runs = [row for row in part["traffic"] if row["kind"] == kind]
        plot.add(name, {"one": "floor", "many": "ours"}[kind],
                 rates(runs[0]["progress"]), "lines")
    return [plot]


def latency(part: dict[str, Any]) -> list[Plot]:
    """The share of wake-ups that took no longer than a time."""
    plot = Plot(["set xlabel 'ms from COMMIT (not flushed) to the message'",
                 "set ylabel '% of wake-ups'", "set yrange [0:100]",
                 "set logscale x"])
    for row in part["rows"]:
        if row["flush"] or not row["quantiles"]:
            continue
        kind = "floor" if row["kind"] in ("ping", "notify") else "ours"
        plot.add({"ping": "SELECT 1", "notify": "NOTIFY"}
                 .get(row["kind"], row["kind"]), kind,
                 [(value, percent) for percent, value
                  in enumerate(row["quantiles"])], "lines")
    return [plot]


def waits(part: dict[str, Any]) -> list[Plot]:
    """How long tenants waited, over time."""
    plot = over_time("ms until served", "set logscale y", "set yrange [*:*]")
    for row in part["rows"]:
        plot.add(row["name"], row["kind"], fairness.curve(row), "dots")
    return [plot]


def topics(part: dict[str, Any]) -> list[Plot]:
    """Lags, the size under retention, and throughput under a snapshot."""
    lag = Plot(["set xlabel 'ms from the publish to the row'",
                "set ylabel '% of messages'",
                "set yrange [0:100]", "set logscale x"])
    retained = over_time(SIZE)
    moved = over_time(RATE)
    for row in part["rows"]:
        if row["what"] == "lag" and row["quantiles"]:
            kind = "ours" if row["elsewhere"] == "nothing" else "peer"
            lag.add(row["label"], kind, [(value, percent) for percent, value
                                 in enumerate(row["quantiles"])], "lines")
        elif row["what"] == "retention" and row["rounds"]:
            for of, name, kind in (("kept", "without limit", "floor"),
                                   ("retained", "max_bytes", "ours")):
                retained.add(name, kind,
                             sizes(row["rounds"][0][of]["samples"]), "lines")
        elif row["what"] == "positions":
            moved.lines += holds([{"phases": {"clean": row["clean"],
                                              "hold": row["hold"]}}])
            for of, name, kind in (("beside", "without snapshot", "floor"),
                                   ("held", "with snapshot", "ours")):
                moved.add(name, kind, rates(row[of]["progress"]), "lines")
    return [lag, retained, moved]


PLOTS = {"single": throughput, "batch": throughput, "clients": throughput,
         "held-snapshot": held_snapshot, "soak": soak, "backlog": backlog,
         "many-queues": many_queues, "wakeup": latency,
         "fairness": waits, "topics": topics}


MISSING = "plots (gnuplot is not installed)"


def can_draw() -> bool:
    """Return whether there is a gnuplot."""
    return shutil.which("gnuplot") is not None


def draw(parts: dict[str, Any], directory: str) -> dict[str, str]:
    """Draw the plots; return the file of each part that has one."""
    if not can_draw():
        return {}
    drawn = {}
    for name, part in parts.items():
        if name in PLOTS:
            file = "performance-%s.svg" % name
            if draw_plots(PLOTS[name](part), os.path.join(directory, file)):
                drawn[name] = file
    return drawn

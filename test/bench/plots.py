"""Draws the plots of docs/performance.md, with gnuplot.

Without gnuplot there are none, and the page and the caller say so.
"""

import os
import shutil
import statistics
import subprocess
from typing import Any

from workloads import ALL

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
        number = self.used.get(kind, 0)
        self.used[kind] = number + 1
        style = STYLES[kind][number % len(STYLES[kind])]
        block = "$data%d" % len(self.blocks)
        self.blocks.append("%s << EOD\n%sEOD\n" % (
            block, "".join("%g %g\n" % point for point in points)))
        self.curves.append("%s using 1:2 with %s %s title \"%s\""
                           % (block, how, style, name.replace("_", "\\\\_")))

    def draw(self, path: str) -> bool:
        """Let gnuplot draw it; return whether it did."""
        if not self.curves:
            return False
        script = (HEAD % path + "\n".join(self.lines) + "\n"
                  + "".join(self.blocks) + "plot " + ", ".join(self.curves)
                  + "\n")
        done = subprocess.run(["gnuplot"], input=script, text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            print("LEFT OUT: a plot; gnuplot: " + done.stdout[:500])
        return done.returncode == 0


def throughput(part: dict[str, Any]) -> Plot:
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
    return plot


def over_time(part: dict[str, Any]) -> Plot:
    """Messages a second over time, and when the snapshot was held."""
    start = part["phases"]["clean"]
    end = start + part["phases"]["hold"]
    plot = Plot(["set xlabel 'seconds'", "set ylabel 'messages a second'",
                 "set yrange [0:*]", "set xrange [0:*]",
                 "set object 1 rectangle from first %g, graph 0 to"
                 " first %g, graph 1 fc rgb '#f2ead8' fs solid noborder behind"
                 % (start, end),
                 "set label 1 'snapshot held' at first %g, graph 0.97"
                 " offset 0.5,0" % start])
    for run in part["runs"]:
        if run["progress"]:
            plot.add(run["workload"], ALL[run["workload"]].kind,
                     [(at, rate) for at, rate in run["progress"]], "lines")
    return plot


def latency(part: dict[str, Any]) -> Plot:
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
    return plot


PLOTS = {"single": throughput, "batch": throughput, "clients": throughput,
         "held-snapshot": over_time, "wakeup": latency}


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
            if PLOTS[name](part).draw(os.path.join(directory, file)):
                drawn[name] = file
    return drawn

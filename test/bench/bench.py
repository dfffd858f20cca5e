"""The benchmark: floors, the extension, and what one would use instead.

    bench.py --dir DIR [--short | --smoke] [--parts NAME,...]

Each part is measured on a scratch server with fsync on, and adds to
DIR/out/results.json what it found; then DIR/out/performance.md and its plots
are written from all that is there, of this run and of earlier ones.

The exit status is 0 if the books of all runs balanced, 1 if those of one did
not, 2 if the benchmark could not be carried out, 3 if there was nothing to
carry out, 130 if it was interrupted.  How fast anything was does not matter.

See docs/testing.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
sys.path.append(os.path.join(HERE, "..", "stress"))

import backlog  # noqa: E402
import cluster  # noqa: E402
import delivery  # noqa: E402
import fairness  # noqa: E402
import held  # noqa: E402
import idle  # noqa: E402
import machine  # noqa: E402
import many  # noqa: E402
import page  # noqa: E402
import parts  # noqa: E402
import plots  # noqa: E402
import runs  # noqa: E402
import soak  # noqa: E402
import topics  # noqa: E402
import wakeup  # noqa: E402
import workloads  # noqa: E402
from installation import BuildError, Installation  # noqa: E402

PARTS = list(parts.GRIDS) + ["held-snapshot", "soak", "backlog",
                             "many-queues", "delivery", "fairness",
                             "topics", "wakeup", "idle"]

# Of the file of results: one that was written otherwise is not read.
VERSION = 3

EXTENTS = {
    "full": parts.Extent(seconds=5, repetitions=3, mode="full"),
    "short": parts.Extent(seconds=1, repetitions=1, mode="short"),
    "smoke": parts.Extent(seconds=1, repetitions=1, mode="smoke"),
}


class UsageError(Exception):
    """What was asked for does not exist."""


class Interrupted(Exception):
    """Somebody wants the benchmark to end."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Benchmark; see docs/testing.md.")
    parser.add_argument("--dir", required=True, help="where all of it goes")
    parser.add_argument("--parts", metavar="NAME,...",
                        help="only these: " + ", ".join(PARTS))
    parser.add_argument("--short", dest="mode", action="store_const",
                        const="short", default="full",
                        help="runs of a second, once, with fewer clients")
    parser.add_argument("--smoke", dest="mode", action="store_const",
                        const="smoke",
                        help="a few transactions of each, to test this")
    parser.add_argument("--seconds", type=int, help="of each run")
    parser.add_argument("--repetitions", type=int, help="of each run")
    parser.add_argument("--hold", type=int,
                        help="seconds for which dead rows are held")
    parser.add_argument("--messages", type=int,
                        help="how many wait in the deep queue, are due next"
                             " week, or are in the log")
    parser.add_argument("--queues", type=int, help="how many there are")
    parser.add_argument("--revision", default="",
                        help="what is measured, for the page")
    parser.add_argument("--bindir",
                        help="an installation that is there, as it is")
    return parser.parse_args()


def chosen_parts(names: str | None) -> list[str]:
    """Return the parts that were asked for, in their order."""
    if not names:
        return PARTS
    asked = names.split(",")
    for name in asked:
        if name not in PARTS:
            raise UsageError("there is no part \"%s\", only: %s"
                             % (name, ", ".join(PARTS)))
    return [name for name in PARTS if name in asked]


class Benchmark:
    """All parts that were asked for, on one server."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.extent = EXTENTS[arguments.mode]
        if arguments.seconds is not None:
            self.extent.seconds = arguments.seconds
        if arguments.repetitions is not None:
            self.extent.repetitions = arguments.repetitions
        self.out = os.path.join(arguments.dir, "out")
        self.path = os.path.join(self.out, "results.json")
        self.results: dict[str, Any] = {"version": VERSION, "parts": {}}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                earlier = json.load(file)
            if earlier.get("version") == VERSION:
                self.results = earlier
        self.names = list(workloads.ALL)
        self.missing: list[str] = []
        self.trouble: list[str] = []
        self.runs = 0
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print("%5.0f s  %s" % (time.monotonic() - self.started, text))

    def carry_out(self, names: list[str], bindir: str) -> None:
        """Measure these parts."""
        server = cluster.Cluster(os.path.join(self.arguments.dir, "server"),
                                 bindir)
        try:
            server.start()
            server.execute(workloads.SCHEMA)
            runs.prove_books(server)
            self.find_peers(server)
            facts = machine.describe(server)
            for name in names:
                self.say("part %s" % name)
                self.results["parts"][name] = self.part(name, server, facts)
                self.save()
        finally:
            server.stop()
        self.look_at_log(server)

    def find_peers(self, server: cluster.Cluster) -> None:
        """Leave out what is not installed, loudly."""
        if server.has_extension("pgq"):
            server.execute("CREATE EXTENSION pgq")
            return
        self.names = [name for name in self.names
                      if not name.startswith("pgq")]
        self.missing.append("PgQ (postgresql-15-pgq3 is not installed)")

    def part(self, name: str, server: cluster.Cluster,
             facts: dict[str, Any]) -> dict[str, Any]:
        """Measure one part; return what goes into the file of results."""
        part = dict(facts)
        part["began"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        part["load"] = os.getloadavg()[0]
        part["revision"] = self.arguments.revision
        part["short"] = self.extent.is_short
        part["seconds"] = self.extent.seconds
        part["repetitions"] = self.extent.repetitions
        is_with_pgq = name == "topics" or (
            name in parts.GRIDS
            and "pgq" in " ".join(parts.GRIDS[name].workloads))
        part["missing"] = self.missing if is_with_pgq else []
        part["command"] = self.command(name)
        if name in parts.GRIDS:
            done = parts.carry_out(parts.GRIDS[name], server, self.extent,
                                   self.names, self.say)
            found = {"runs": [run.as_dict() for run in done],
                     "trouble": [text for run in done
                                 for text in run.trouble]}
        else:
            carry_out, *settings = {
                "held-snapshot": (held.carry_out, self.arguments.hold),
                "soak": (soak.carry_out, self.arguments.seconds),
                "backlog": (backlog.carry_out, self.arguments.messages),
                "many-queues": (many.carry_out, self.arguments.queues),
                "delivery": (delivery.carry_out, self.arguments.messages),
                "fairness": (fairness.carry_out,),
                "topics": (topics.carry_out, {
                    "seconds": self.arguments.seconds,
                    "hold": self.arguments.hold,
                    "messages": self.arguments.messages}, self.names),
                "wakeup": (wakeup.carry_out,),
                "idle": (idle.carry_out,)}[name]
            found = carry_out(server, self.extent, *settings, self.say)
        part.update(found)
        self.runs += sum(len(found.get(rows, [])) for rows in
                         ("runs", "beside", "rows", "traffic", "asked",
                          "waits"))
        self.trouble += ["%s: %s" % (name, text)
                         for text in found["trouble"]]
        return part

    def command(self, name: str) -> str:
        """Return the command that repeats a part."""
        words = ["make bench PART=" + name]
        for option, value in (("SECONDS", self.arguments.seconds),
                              ("REPETITIONS", self.arguments.repetitions)):
            if value is not None:
                words.append("%s=%d" % (option, value))
        for option, value, where in (
                ("HOLD", self.arguments.hold, "held-snapshot topics"),
                ("MESSAGES", self.arguments.messages,
                 "backlog delivery topics"),
                ("QUEUES", self.arguments.queues, "many-queues")):
            if value is not None and name in where.split():
                words.append("%s=%d" % (option, value))
        if self.extent.is_short:
            words.append("SHORT=1")
        return " ".join(words)

    def look_at_log(self, server: cluster.Cluster) -> None:
        """Let nothing that went wrong in the server go unseen."""
        with open(os.path.join(server.directory, "log"),
                  encoding="utf-8") as file:
            for line in file:
                if any(word in line for word in
                       ("PANIC:", "TRAP:", "terminated by signal")):
                    self.trouble.append("server: " + line.strip())

    def save(self) -> None:
        """Write the file of results."""
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(self.results, file, indent=1)
            file.write("\n")


def interrupt(signum: int, _frame: Any) -> None:
    """End the benchmark, once: cleaning up is not to be interrupted."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise Interrupted("interrupted by signal %d" % signum)


def main() -> int:
    """Carry it out; return the exit status."""
    arguments = options()
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        names = chosen_parts(arguments.parts)
        if arguments.mode != "smoke":
            machine.check_disk(arguments.dir)
        bindir = arguments.bindir
        if bindir is None:
            installation = Installation(arguments.dir, TOP)
            installation.make()
            installation.build(assertions=False)
            bindir = installation.bindir
        benchmark = Benchmark(arguments)
        benchmark.carry_out(names, bindir)
    except (UsageError, machine.MachineError, BuildError) as error:
        print(error)
        return 3
    except Interrupted as error:
        print(error)
        return 130
    except (cluster.ClusterError, runs.RunFailed, psycopg2.Error,
            subprocess.SubprocessError) as error:
        print("the benchmark could not be carried out: %s" % error)
        return 2
    text = page.write(benchmark.results, benchmark.out)
    if not plots.can_draw():
        benchmark.missing = benchmark.missing + [plots.MISSING]
    if arguments.mode != "smoke":
        print(text)
    for text in benchmark.missing:
        print("LEFT OUT: " + text)
    for text in benchmark.trouble:
        print("FAILED: " + text)
    print("the books %s" % ("DO NOT BALANCE" if benchmark.trouble
                            else "of all runs balance"))
    failed = min(len(benchmark.trouble), benchmark.runs)
    print("%d passed, %d failed%s"
          % (benchmark.runs - failed, failed,
             ", %d skipped" % len(benchmark.missing)
             if benchmark.missing else ""))
    return 1 if benchmark.trouble else 0


if __name__ == "__main__":
    sys.exit(main())

"""What an old snapshot costs: throughput while one is held, and size after it.

Each workload runs without interruption: for a while as always, then while
something keeps dead rows from being removed (horizon.py), then for a while
without that again.  A queue that looks for messages where they were deleted
becomes slower and slower meanwhile.  When the hold has ended it shows how soon
the space is used again.

A machine is not the same for ten minutes, so before and after do not tell what
a long hold costs.  That is measured in two databases of the server at the same
time, of which only one is held back: a snapshot concerns its own.
"""

import concurrent.futures
import dataclasses
import threading
from typing import Any, Callable

import cluster
import horizon
import parts
import runs
import watch
import workloads
from workloads import ALL

# What holds, what runs meanwhile, and for which part of the time it is held.
RUNS = [("snapshot", "pair", 1 / 4), ("snapshot", "dequeue", 1 / 4),
        ("snapshot", "lease", 1 / 12), ("snapshot", "pop", 1 / 4),
        ("snapshot", "claim", 1 / 12),
        ("prepared", "dequeue", 1 / 3), ("prepared", "pop", 1 / 12),
        ("slot", "dequeue", 1 / 3), ("slot", "pop", 1 / 12),
        ("dump", "dequeue", 1 / 3), ("dump", "pop", 1 / 12)]
SMOKE_RUNS = [(holder, "dequeue", 1.0) for holder in horizon.HOLDERS]
CLIENTS = 8

# What runs in two databases for all of it, each with half of the clients.
BESIDE = "dequeue"

# What a run shares that shares nothing with another one.
ALONE = threading.Barrier(1)


@dataclasses.dataclass
class Phases:
    """How long each phase lasts, and how often it is looked, in seconds."""

    clean: int
    hold: int
    after: int
    interval: int

    @property
    def end(self) -> int:
        """Return when the hold ends."""
        return self.clean + self.hold

    @property
    def total(self) -> int:
        """Return how long all of it lasts."""
        return self.clean + self.hold + self.after

    def part(self, share: float, of: int) -> "Phases":
        """Return the same with a hold of a share of so many seconds.

        It is not shorter than this one's hold, unless all are.
        """
        hold = max(round(of * share), min(of, self.hold))
        return dataclasses.replace(
            self, hold=hold, after=max(self.after, hold // AFTER_SHARE))


FULL = Phases(clean=8, hold=24, after=16, interval=1)
SHORT = Phases(clean=2, hold=4, after=2, interval=1)
SMOKE = Phases(clean=1, hold=1, after=1, interval=1)

# A longer hold is watched for longer afterwards, this share of it.
AFTER_SHARE = 5

# Space is given back when no more than this share of what was dead or was
# large when the hold ended is so still.
GIVEN_BACK = 0.5


class Watcher(watch.Watcher):
    """Holds and lets go, and notes how big the table is."""

    def __init__(self, server: cluster.Cluster, relation: str,
                 phases: Phases, holder: horizon.Snapshot,
                 both: threading.Barrier):
        super().__init__(server, relation, phases.interval)
        self.phases = phases
        self.holder = holder
        self.both = both
        self.is_held = False
        # What was seen when the hold ended.
        self.ended: list[float] | None = None

    def look(self) -> None:
        """Do what is due, and sleep a little."""
        super().look()
        if self.both.broken:
            raise threading.BrokenBarrierError
        now = self.elapsed()
        if not self.is_held and now >= self.phases.clean:
            self.holder.hold()
            self.is_held = True
        elif self.is_held and self.ended is None:
            self.holder.tend()
            if now >= self.phases.end:
                self.let_go()

    def let_go(self) -> None:
        """End the hold."""
        self.holder.let_go()
        if self.is_held and self.ended is None:
            self.ended = self.sample()

    def seconds_until(self, is_so: Callable[[list[float], list[float]], bool]
                      ) -> float | None:
        """Return how long after the hold something was so for the first time.

        It is asked of a sample, and of the one when the hold ended.
        """
        if self.ended is None:
            return None
        for sample in self.samples:
            if sample[0] > self.ended[0] and is_so(sample, self.ended):
                return round(sample[0] - self.ended[0], 1)
        return None


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              hold: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    usual = {"full": FULL, "short": SHORT, "smoke": SMOKE}[extent.mode]
    if hold is None:
        hold = usual.hold
    beside = two_runs(server, extent, usual.part(1.0, hold))
    for result in beside:
        describe(result, say)
    found = []
    for holder, name, share in (SMOKE_RUNS if extent.mode == "smoke"
                                else RUNS):
        found.append(one_run(server, holder, name, CLIENTS, extent,
                             usual.part(share, hold)))
        describe(found[-1], say)
    return {"runs": found, "beside": beside,
            "trouble": [text for result in beside + found
                        for text in result["trouble"]]}


def describe(result: dict[str, Any], say: Callable[[str], None]) -> None:
    """Say what came out of a run."""
    say("%-14s %-9s %7.0f msg/s, at the end of the hold %7.0f, after it"
        " %7.0f, dead rows gone after %s s"
        % (result["workload"], result["holder"], result["clean_rate"],
           result["held_rate"], result["after_rate"], result["usable"]))
    for text in result["trouble"]:
        say("        FAILED: " + text)


def two_runs(server: cluster.Cluster, extent: parts.Extent,
             phases: Phases) -> list[dict[str, Any]]:
    """Let two databases run through all phases, one of them held back."""
    other = server.beside()
    try:
        other.execute(workloads.SCHEMA)
        both = threading.Barrier(2)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(one_run, other, "nothing", BESIDE,
                                 CLIENTS // 2, extent, phases, both)
            result = one_run(server, "snapshot", BESIDE, CLIENTS // 2, extent,
                             phases, both)
            return [result, future.result()]
    finally:
        other.drop_database()


def one_run(server: cluster.Cluster, holder: str, name: str, clients: int,
            extent: parts.Extent, phases: Phases,
            both: threading.Barrier = ALONE) -> dict[str, Any]:
    """Let one workload run through all phases; return what came out.

    All that share a barrier begin together, and end together if one fails.
    """
    workload = ALL[name]
    run = runs.Run(name, clients, "100 B", 0)
    is_done = False
    holders = dict(horizon.HOLDERS, nothing=horizon.Nothing)
    watcher = Watcher(server, workload.relation, phases,
                      holders[holder](server, phases.hold), both)
    try:
        runs.fresh(workload, server)
        runs.verify(workload, server, run, extent.verify_length)
        watcher.holder.prepare()
        both.wait()
        runs.measure(workload, server, run, ["-T", str(phases.total)],
                     phases.interval, watcher.look)
        is_done = True
    except (runs.RunFailed, threading.BrokenBarrierError) as error:
        run.trouble.append(str(error) or "what runs beside it has failed")
    finally:
        if not is_done and both is not ALONE:
            both.abort()
        watcher.let_go()
    server.wait_for_sessions()
    result = run.as_dict()
    result["holder"] = holder
    result["phases"] = dataclasses.asdict(phases)
    result["samples"] = watcher.samples
    # What comes first and what comes last tells most: the last quarter of
    # the time of the hold.
    for figure, column in (("rate", 1), ("latency", 2)):
        for phase, start, end in (
                ("clean", 0, phases.clean),
                ("held", phases.end - phases.hold / 4, phases.end),
                ("after", phases.end + phases.after / 2, phases.total)):
            result["%s_%s" % (phase, figure)] = watch.mean(
                run.progress, start, end, column)
    result["usable"] = watcher.seconds_until(
        lambda now, end: now[4] <= GIVEN_BACK * end[4])
    result["shrunk"] = watcher.seconds_until(
        lambda now, end: watch.size(now) <= GIVEN_BACK * watch.size(end))
    server.execute(workload.tear_down)
    return result

"""What an old snapshot costs: throughput while one is held open.

Each workload runs without interruption: for a while as always, then with the
snapshot of a REPEATABLE READ transaction held by a session that does nothing
else, then for a while without it again.  Rows that were deleted meanwhile
cannot be removed as long as it is held, so a queue that looks for messages
where they were deleted becomes slower and slower.
"""

import dataclasses
import time
from typing import Any, Callable

import cluster
import parts
import runs
from workloads import ALL

WORKLOADS = ["pair", "dequeue", "lease", "pop", "claim"]
CLIENTS = 8


@dataclasses.dataclass
class Phases:
    """How long each phase lasts, and how often it is looked, in seconds."""

    clean: int
    hold: int
    after: int
    interval: int

    @property
    def total(self) -> int:
        """Return how long all of it lasts."""
        return self.clean + self.hold + self.after


FULL = Phases(clean=20, hold=120, after=20, interval=5)
SHORT = Phases(clean=2, hold=4, after=2, interval=1)
SMOKE = Phases(clean=1, hold=2, after=1, interval=1)
SMOKE_WORKLOADS = ["dequeue", "pop"]


class Watcher:
    """Opens and closes the snapshot, and notes how big the table is."""

    def __init__(self, server: cluster.Cluster, relation: str,
                 phases: Phases):
        self.server = server
        self.relation = relation
        self.phases = phases
        self.began = time.monotonic()
        self.next = 0
        self.sizes: list[tuple[float, int]] = []
        self.holder = None
        self.was_held = False

    def look(self) -> None:
        """Do what is due, and sleep a little."""
        now = time.monotonic() - self.began
        if now >= self.next:
            size = self.server.ask("SELECT pg_total_relation_size(%s)",
                                   (self.relation,))
            self.sizes.append((round(now, 1), size))
            self.next += self.phases.interval
        if not self.was_held and now >= self.phases.clean:
            self.holder = self.server.connect()
            self.holder.set_session(isolation_level="REPEATABLE READ")
            with self.holder.cursor() as cursor:
                cursor.execute("SELECT 1")
            self.was_held = True
        if (self.holder is not None
                and now >= self.phases.clean + self.phases.hold):
            self.close()
        time.sleep(0.05)

    def close(self) -> None:
        """Let the snapshot go."""
        if self.holder is not None:
            self.holder.close()
            self.holder = None


def mean(progress: list[Any], start: float, end: float) -> float:
    """Return the mean throughput of the intervals that end in a span."""
    rates = [rate for at, rate in progress if start < at <= end + 0.5]
    return sum(rates) / len(rates) if rates else 0.0


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              hold: int | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    phases = dataclasses.replace(
        {"full": FULL, "short": SHORT, "smoke": SMOKE}[extent.mode])
    if hold is not None:
        phases.hold = hold
    end = phases.clean + phases.hold
    found = []
    trouble = []
    for name in SMOKE_WORKLOADS if extent.mode == "smoke" else WORKLOADS:
        workload = ALL[name]
        run = runs.Run(name, CLIENTS, "100 B", 0)
        runs.fresh(workload, server)
        watcher = None
        try:
            runs.verify(workload, server, run, extent.verify_length)
            watcher = Watcher(server, workload.relation, phases)
            runs.measure(workload, server, run, ["-T", str(phases.total)],
                         phases.interval, watcher.look)
        except runs.RunFailed as error:
            run.trouble.append(str(error))
        finally:
            if watcher is not None:
                watcher.close()
        server.wait_for_sessions()
        result = run.as_dict()
        if watcher is not None:
            # What comes first and what comes last tells most: the last
            # quarter of the time for which the snapshot was held.
            result["clean_rate"] = mean(run.progress, 0, phases.clean)
            result["held_rate"] = mean(run.progress,
                                       end - phases.hold / 4, end)
            result["after_rate"] = mean(run.progress, end + phases.after / 2,
                                        phases.total)
            result["sizes"] = watcher.sizes
        found.append(result)
        trouble += run.trouble
        say("%-14s %9.0f msg/s, at the end of the hold %9.0f, after it %9.0f"
            % (name, result.get("clean_rate", 0), result.get("held_rate", 0),
               result.get("after_rate", 0)))
        for text in run.trouble:
            say("        FAILED: " + text)
        server.execute(workload.tear_down)
    return {"phases": dataclasses.asdict(phases), "runs": found,
            "trouble": trouble}

"""The parts of the benchmark that are runs of pgbench, in turn.

Repetitions are interleaved: one run of each workload, then the next round, so
that whatever else the machine does meets all of them alike.
"""

import dataclasses
from typing import Callable

import cluster
import pgq
import runs
from workloads import ALL


@dataclasses.dataclass
class Extent:
    """How long and how often."""

    seconds: int
    repetitions: int
    # "full", "short" to try it, "smoke" for a test of the benchmark itself.
    mode: str

    @property
    def is_short(self) -> bool:
        """Return whether the figures mean nothing."""
        return self.mode != "full"

    @property
    def length(self) -> list[str]:
        """Return pgbench's option for a measured run."""
        if self.mode == "smoke":
            return ["-t", "20"]
        return ["-T", str(self.seconds)]

    @property
    def verify_length(self) -> list[str]:
        """Return pgbench's option for a verification."""
        return ["-t", "10"] if self.mode == "smoke" else ["-T", "1"]


@dataclasses.dataclass
class Grid:
    """A part: these workloads, with so many clients and these payloads."""

    workloads: list[str]
    clients: list[int]
    payloads: list[str]
    short_clients: list[int]


SINGLE = ["pair", "dequeue", "pop", "lease_floor", "lease", "claim"]
BATCHES = ["batch_pair", "dequeue_batch", "pop_batch", "lease_batch",
           "claim_batch"]

GRIDS = {
    "single": Grid(SINGLE + ["pgq"], [1, 8, 32, 64], ["100 B"], [1, 8]),
    "batch": Grid(BATCHES + ["pgq_batch"], [1, 8, 32, 64], ["100 B"], [1, 8]),
    "clients": Grid(SINGLE, [8, 32, 64, 256], ["100 B"], [8, 256]),
    "payload": Grid(SINGLE, [8], ["1 KB", "100 KB"], [8]),
}


def carry_out(grid: Grid, server: cluster.Cluster, extent: Extent,
              names: list[str], say: Callable[[str], None]) -> list[runs.Run]:
    """Go through a grid; names are the workloads that can be had."""
    done = []
    counts = {"full": grid.clients, "short": grid.short_clients,
              "smoke": [2]}[extent.mode]
    for payload in grid.payloads:
        for clients in counts:
            for repetition in range(extent.repetitions):
                for name in grid.workloads:
                    if name not in names:
                        continue
                    run = runs.Run(name, clients, payload, repetition)
                    one_run(server, run, extent)
                    done.append(run)
                    say(describe(run))
    return done


def one_run(server: cluster.Cluster, run: runs.Run, extent: Extent) -> None:
    """Make the tables of a workload, verify, measure."""
    workload = ALL[run.workload]
    try:
        runs.fresh(workload, server)
        if workload.relation == "pgq":
            pgq.carry_out(workload, server, run, extent.length,
                          extent.verify_length)
        else:
            runs.verify(workload, server, run, extent.verify_length)
            runs.measure(workload, server, run, extent.length)
        server.execute(workload.tear_down)
    except runs.RunFailed as error:
        run.trouble.append(str(error))
        server.wait_for_sessions()


def describe(run: runs.Run) -> str:
    """Return a line about a run."""
    line = ("%-14s %3d clients %6s  %9.0f msg/s  %6.1f us CPU  %6.0f B WAL"
            "  left %d" % (run.workload, run.clients, run.payload, run.rate,
                           run.cpu, run.wal, run.left))
    return "\n".join([line] + ["        FAILED: " + text
                               for text in run.trouble])

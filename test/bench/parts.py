"""The parts of the benchmark that are runs of pgbench, in turn.

Repetitions are interleaved: one run of each workload, then the next round, so
that whatever else the machine does meets all of them alike.
"""

import dataclasses
from typing import Callable

import cluster
import runs
from workloads import ALL


@dataclasses.dataclass
class Extent:
    """How long and how often."""

    seconds: int
    repetitions: int
    verify_seconds: int
    # Of parts that have their own measures, the share of a full run.
    short: bool


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
    for payload in grid.payloads:
        for clients in grid.short_clients if extent.short else grid.clients:
            for repetition in range(extent.repetitions):
                for name in grid.workloads:
                    if name not in names:
                        continue
                    run = runs.Run(name, clients, payload, repetition)
                    runs.carry_out(ALL[name], server, run, extent.seconds,
                                   extent.verify_seconds)
                    done.append(run)
                    say(describe(run))
    return done


def describe(run: runs.Run) -> str:
    """Return a line about a run."""
    line = ("%-14s %3d clients %6s  %9.0f msg/s  %6.1f us CPU  %6.0f B WAL"
            "  left %d" % (run.workload, run.clients, run.payload, run.rate,
                           run.cpu, run.wal, run.left))
    return "\n".join([line] + ["        FAILED: " + text
                               for text in run.trouble])

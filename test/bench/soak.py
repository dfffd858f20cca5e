"""Full speed for long: does it stay as fast, and the table as small?

Each workload runs without interruption on fresh tables, one after the other:
side by side whatever becomes slow would leave its time to the others, and by
turns autovacuum would have the pauses to clean up in.  What counts is a run
beside itself: the last stretch of it against the second, the first being the
time in which files grow and everything warms up.
"""

from typing import Any, Callable

import cluster
import parts
import runs
import watch
from workloads import ALL, BATCH

# Of each workload, its payload, and which part of the time it runs.  What the
# others do shows soon, and large payloads wear a disk out.
WORKLOADS = [("dequeue", "100 B", 1.0), ("pop", "100 B", 1 / 12),
             ("dequeue_batch", "100 B", 1.0), ("pop_batch", "100 B", 1 / 12),
             ("dequeue", "100 KB", 1 / 8), ("pop", "100 KB", 1 / 30)]
SMOKE_WORKLOADS = [("dequeue", "100 B", 1.0), ("pop_batch", "100 B", 1.0)]

# None runs for less than this, unless all do.
SHORTEST = 60

# Each client consumes what it sends, so no more than eight or eight hundred
# messages wait.
CLIENTS = 8
MOST_WAITING = CLIENTS * BATCH

SECONDS = 40
SHORT_SECONDS = 8
SMOKE_SECONDS = 4

# What is compared: a minute, or as much of a shorter run.
STRETCH = 60
STRETCHES = 4


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              seconds: int | None,
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results."""
    if seconds is None:
        seconds = {"full": SECONDS, "short": SHORT_SECONDS,
                   "smoke": SMOKE_SECONDS}[extent.mode]
    found = []
    for name, payload, share in (SMOKE_WORKLOADS if extent.mode == "smoke"
                                 else WORKLOADS):
        length = max(round(seconds * share), min(seconds, SHORTEST))
        stretch = max(min(STRETCH, length // STRETCHES), 1)
        interval = max(1, min(5, stretch // 4))
        result = one_run(server, runs.Run(name, CLIENTS, payload, 0), extent,
                         length, interval)
        result["length"] = length
        result["stretch"] = stretch
        result["second_rate"] = watch.mean(result["progress"], stretch,
                                           2 * stretch)
        result["last_rate"] = watch.mean(result["progress"],
                                         length - stretch, length)
        say("%-14s %6s %9.0f msg/s, at the end %9.0f, at most %.1f MB"
            % (name, payload, result["second_rate"], result["last_rate"],
               max(map(watch.everything, result["samples"]),
                   default=0) / 1e6))
        for text in result["trouble"]:
            say("        FAILED: " + text)
        found.append(result)
    return {"runs": found,
            "trouble": [text for result in found
                        for text in result["trouble"]]}


def one_run(server: cluster.Cluster, run: runs.Run, extent: parts.Extent,
            seconds: int, interval: int) -> dict[str, Any]:
    """Verify a workload, then run it for so long; return what came out."""
    workload = ALL[run.workload]
    watcher = None
    runs.fresh(workload, server)
    try:
        runs.verify(workload, server, run, extent.verify_length)
        watcher = watch.Watcher(server, workload.relation, interval)
        runs.measure(workload, server, run, ["-T", str(seconds)], interval,
                     watcher.look)
    except runs.RunFailed as error:
        run.trouble.append(str(error))
        server.wait_for_sessions()
    result = run.as_dict()
    result["samples"] = watcher.samples if watcher is not None else []
    server.execute(workload.tear_down)
    return result

"""A load that pgbench puts on the server: what it did, and what that cost."""

import copy
import dataclasses
from typing import Any

import cluster
import runs
import watch

# Rows that were ever inserted into a table.
INSERTED = "SELECT pg_stat_get_tuples_inserted(%s::regclass)"


@dataclasses.dataclass
class Load:
    """A script, by so many clients; what is sent is as large as all are."""

    script: str
    clients: int
    # pgbench's option for how long.
    length: list[str]
    # Messages a transaction.
    size: int = 1
    payload: str = "100 B"
    # Of the sessions.
    setting: str = ""

    def put(self, server: cluster.Cluster, progress: int = 0,
            watch=None, others: int = 0) -> dict[str, Any]:
        """Put it on the server; return what goes into the file of results.

        There are so many other sessions when it has ended.  watch is called
        again and again while it runs; WAL is not counted then, since a long
        run may be ahead of what the server keeps of it.  A checkpoint, which
        should not fall into it, is left to the caller.
        """
        if self.setting:
            server = copy.copy(server)
            server.environment = dict(server.environment,
                                      PGOPTIONS="-c " + self.setting)
        start = server.wal_position()
        cpu = server.cpu()
        pgbench = runs.Pgbench(server, self.script, self.clients, self.length,
                               runs.PAYLOADS[self.payload], progress)
        try:
            while watch is not None and pgbench.is_running():
                watch()
            done = pgbench.result()
        finally:
            if pgbench.is_running():
                pgbench.kill()
        server.wait_for_sessions(others)
        cpu = server.cpu() - cpu
        wal = 0
        if watch is None:
            wal = server.wal_bytes(start, server.wal_position())
        messages = max(done["runs"] * self.size, 1)
        trouble = []
        if done["failed"]:
            trouble.append("%d transactions failed" % done["failed"])
        return {"runs": done["runs"], "messages": done["runs"] * self.size,
                "rate": done["rate"] * self.size, "latency": done["latency"],
                "seconds": done["runs"] / done["rate"] if done["rate"] else 0,
                "cpu": cpu * 1e6 / messages, "wal": wal / messages,
                "progress": [(at, rate * self.size, latency)
                             for at, rate, latency in done["progress"]],
                "trouble": trouble}


def late_rate(found: dict[str, Any]) -> float:
    """Return messages a second in the second half of a run.

    Of all of it, if it was too short, or ended unevenly.
    """
    progress = found["progress"]
    if len(progress) < 2 or progress[-1][0] < found["seconds"] / 2:
        return found["rate"]
    return watch.mean(progress, progress[-1][0] / 2, progress[-1][0])


def describe(name: str, clients: int, found: dict[str, Any]) -> str:
    """Return a line about it."""
    return "\n".join(
        ["%-26s %3d clients  %9.0f msg/s  %6.1f us CPU  %6.0f B WAL"
         % (name, clients, found["rate"], found["cpu"], found["wal"])]
        + ["        FAILED: " + text for text in found["trouble"]])

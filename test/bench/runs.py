"""One run of a workload: pgbench, what it cost, and whether the books balance.

The books of a run: what pgbench says was sent, what the table's statistics say
was inserted and deleted, and what is in the table at the end.  Sent must equal
inserted, inserted less deleted must be left, and no transaction of pgbench may
have failed.  The books of the verification that precedes it are kept by id:
each id delivered was sent, none was delivered twice, and those that were not
delivered are left.
"""

import base64
import dataclasses
import json
import os
import random
import re
import subprocess
from typing import Any

import cluster
import pgq
import workloads
from workloads import Workload

PAYLOADS = {
    "100 B": 100,
    "1 KB": 1000,
    "100 KB": 100000,
}


def payload(size: int) -> str:
    """Return a JSON document of so many bytes that does not compress."""
    document = {"order": 48213, "customer": "c-90311", "lines": 3, "note": ""}
    room = size - len(json.dumps(document))
    noise = random.Random(size).randbytes(room)
    document["note"] = base64.b64encode(noise).decode("ascii")[:room]
    return json.dumps(document)


class RunFailed(Exception):
    """A run that could not be carried out."""


@dataclasses.dataclass
class Run:
    """What came out of a run."""

    workload: str
    clients: int
    payload: str
    repetition: int
    rate: float = 0.0
    cpu: float = 0.0
    wal: float = 0.0
    latency: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    consumed: int = 0
    left: int = 0
    checkpoints: int = 0
    verified: int = 0
    trouble: list[str] = dataclasses.field(default_factory=list)
    # Of each interval: at what second, messages a second, bytes of the table.
    progress: list[Any] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it goes into the file of results."""
        return dataclasses.asdict(self)


class Pgbench:
    """A pgbench that is running."""

    def __init__(self, server: cluster.Cluster, script: str, clients: int,
                 seconds: int | None, size: int, progress: int = 0,
                 transactions: int | None = None):
        path = os.path.join(server.directory + ".script.sql")
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        text = payload(size)
        arguments = [os.path.join(server.bindir, "pgbench"), "-n", "-M",
                     "prepared", "-c", str(clients), "-j",
                     str(min(clients, 2)), "-f", path]
        if seconds is not None:
            arguments += ["-T", str(seconds)]
        else:
            arguments += ["-t", str(transactions)]
        if progress:
            arguments += ["-P", str(progress)]
        if re.search(r":payload\b", script):
            arguments += ["-D", "payload=" + text]
        if ":payloads" in script:
            many = json.dumps([text] * workloads.BATCH)
            arguments += ["-D", "payloads={" + many[1:-1] + "}"]
        self.output = open(server.directory + ".pgbench", "w+",
                           encoding="utf-8")
        self.process = subprocess.Popen(
            arguments, env=server.environment, stdin=subprocess.DEVNULL,
            stdout=self.output, stderr=subprocess.STDOUT)

    def is_running(self) -> bool:
        """Return whether it has not ended yet."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.output.close()

    def result(self) -> dict[str, Any]:
        """Wait for its end; return what it says."""
        self.process.wait()
        self.output.seek(0)
        text = self.output.read()
        self.output.close()

        def number(pattern: str) -> float:
            found = re.search(pattern, text)
            if found is None:
                raise RunFailed("pgbench: " + text[:2000])
            return float(found.group(1))

        if self.process.returncode != 0:
            raise RunFailed("pgbench: " + text[:2000])
        return {
            "runs": int(number(r"actually processed: (\d+)")),
            "failed": int(number(r"failed transactions: (\d+)")),
            "rate": number(r"tps = ([\d.]+)"),
            "latency": number(r"latency average = ([\d.]+) ms"),
            "progress": [(float(at), float(rate)) for at, rate in re.findall(
                r"progress: ([\d.]+) s, ([\d.]+) tps", text)]}


COUNTS = """
SELECT n_tup_ins, n_tup_del FROM pg_stat_user_tables WHERE relid = %s::regclass
"""

# One row: sent, delivered, delivered twice, delivered but not sent, neither
# delivered nor left, delivered and left.
VERIFY = """
WITH sent AS (SELECT id FROM bench.sent),
     taken AS (SELECT id FROM bench.taken),
     waiting AS (SELECT id FROM {relation})
SELECT (SELECT count(*) FROM sent), (SELECT count(*) FROM taken),
       (SELECT count(*) - count(DISTINCT id) FROM taken),
       (SELECT count(*) FROM (SELECT id FROM taken EXCEPT
                              SELECT id FROM sent) AS unknown),
       (SELECT count(*) FROM (SELECT id FROM sent EXCEPT
                              (SELECT id FROM taken UNION ALL
                               SELECT id FROM waiting)) AS lost),
       (SELECT count(*) FROM (SELECT id FROM taken INTERSECT
                              SELECT id FROM waiting) AS again)
"""


def complain_of_ids(relation: str, server: cluster.Cluster,
                    run: Run, sent: int) -> None:
    """Compare what was sent and what was delivered, id by id."""
    server.execute("SET enable_sort = on; SET enable_seqscan = on")
    found = server.row(VERIFY.format(relation=relation))
    server.execute("RESET enable_sort; RESET enable_seqscan")
    run.verified = found[1]
    if found[0] != sent:
        run.trouble.append("verification: pgbench sent %d, but %d ids were"
                           " noted" % (sent, found[0]))
    for count, what in zip(found[2:], ("delivered twice",
                                       "delivered but never sent", "lost",
                                       "delivered and still there")):
        if count:
            run.trouble.append("verification: %d messages %s" % (count, what))


def fresh(workload: Workload, server: cluster.Cluster) -> None:
    """Make the tables of a workload anew."""
    server.execute(workload.tear_down)
    server.execute(workload.set_up)
    server.execute("TRUNCATE bench.sent, bench.taken")


def verify(workload: Workload, server: cluster.Cluster, clients: int,
           seconds: int, size: int, run: Run) -> None:
    """Run the workload with all ids written down, and compare them."""
    done = Pgbench(server, workload.verify, clients, seconds, size).result()
    server.wait_for_sessions()
    if done["failed"]:
        run.trouble.append("verification: %d transactions failed"
                           % done["failed"])
    complain_of_ids(workload.relation, server, run,
                    done["runs"] * workload.size)


def measure(workload: Workload, server: cluster.Cluster, run: Run,
            seconds: int, progress: int = 0, watch=None) -> None:
    """Run the workload and note what it did and what that cost.

    watch is called again and again while it runs.
    """
    server.checkpoint()
    inserted, deleted = server.row(COUNTS, (workload.relation,))
    was_there = server.ask(workload.left)
    checkpoints = server.checkpoints()
    start = server.wal_position()
    cpu = server.cpu()
    pgbench = Pgbench(server, workload.script, run.clients, seconds,
                      PAYLOADS[run.payload], progress)
    try:
        while watch is not None and pgbench.is_running():
            watch()
        done = pgbench.result()
    finally:
        if pgbench.is_running():
            pgbench.kill()
    server.wait_for_sessions()
    cpu = server.cpu() - cpu
    end = server.wal_position()
    wal = server.wal_bytes(start, end)

    counts = server.row(COUNTS, (workload.relation,))
    inserted, deleted = counts[0] - inserted, counts[1] - deleted
    run.checkpoints = server.checkpoints() - checkpoints
    run.left = server.ask(workload.left)
    run.sent = done["runs"] * workload.size
    run.consumed = deleted
    run.seconds = done["runs"] / done["rate"] if done["rate"] else seconds
    run.rate = deleted / run.seconds
    run.latency = done["latency"]
    run.progress = [(at, rate * workload.size)
                    for at, rate in done["progress"]]
    if deleted:
        run.cpu = cpu * 1e6 / deleted
        run.wal = wal / deleted
    if done["failed"]:
        run.trouble.append("%d transactions failed" % done["failed"])
    if inserted != run.sent:
        run.trouble.append("%d sent, but %d inserted" % (run.sent, inserted))
    if was_there + inserted - deleted != run.left:
        run.trouble.append("%d were there, %d inserted, %d deleted, but %d"
                           " left" % (was_there, inserted, deleted, run.left))


def carry_out(workload: Workload, server: cluster.Cluster, run: Run,
              seconds: int, verify_seconds: int) -> None:
    """Make the tables, verify, measure."""
    try:
        fresh(workload, server)
        if workload.relation == "pgq":
            pgq.carry_out(workload, server, run, seconds, verify_seconds)
        else:
            verify(workload, server, run.clients, verify_seconds,
                   PAYLOADS[run.payload], run)
            measure(workload, server, run, seconds)
        server.execute(workload.tear_down)
    except RunFailed as error:
        run.trouble.append(str(error))
        server.wait_for_sessions()

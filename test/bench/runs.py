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
    # Of each interval: at what second, messages a second, and the latency of
    # a transaction in ms.
    progress: list[Any] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it goes into the file of results."""
        return dataclasses.asdict(self)


class Pgbench:
    """A pgbench that is running.

    length is the option that says for how long: -T seconds, or -t times.
    """

    def __init__(self, server: cluster.Cluster, script: str, clients: int,
                 length: list[str], size: int, progress: int = 0):
        prefix = "%s.%s" % (server.directory, server.database)
        path = prefix + ".script.sql"
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        text = payload(size)
        arguments = [os.path.join(server.bindir, "pgbench"), "-n", "-M",
                     "prepared", "-c", str(clients), "-j",
                     str(min(clients, 2)), "-f", path, *length]
        if progress:
            arguments += ["-P", str(progress)]
        if re.search(r":payload\b", script):
            arguments += ["-D", "payload=" + text]
        if ":payloads" in script:
            many = json.dumps([text] * workloads.BATCH)
            arguments += ["-D", "payloads={" + many[1:-1] + "}"]
        self.output = open(prefix + ".pgbench", "w+", encoding="utf-8")
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
            "progress": [tuple(map(float, found)) for found in re.findall(
                r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+) ms",
                text)]}


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


def complain_of_counts(run: Run, failed: int, was_there: int,
                       inserted: int) -> None:
    """Compare what was sent with what came, went and is left."""
    if failed:
        run.trouble.append("%d transactions failed" % failed)
    if inserted != run.sent:
        run.trouble.append("%d sent, but %d inserted" % (run.sent, inserted))
    if was_there + inserted - run.consumed != run.left:
        run.trouble.append("%d were there, %d inserted, %d deleted, but %d"
                           " left" % (was_there, inserted, run.consumed,
                                      run.left))


# Ids that were sent, were delivered and are left, and what is wrong with them.
WRONG_BOOKS = [
    ([1, 2, 3], [1, 2], [3], []),
    ([1, 2, 3], [1, 2, 2], [3], ["delivered twice"]),
    ([1, 2], [1, 2, 3], [], ["delivered but never sent"]),
    ([1, 2, 3], [1, 2], [], ["lost"]),
    ([1, 2, 3], [1, 2], [2, 3], ["delivered and still there"]),
]


def prove_books(server: cluster.Cluster) -> None:
    """Show that wrong books are noticed, and right ones are not."""
    server.execute("CREATE TABLE bench.waiting (id bigint)")
    for sent, taken, waiting, wrong in WRONG_BOOKS:
        run = Run("", 1, "100 B", 0)
        server.execute("TRUNCATE bench.sent, bench.taken, bench.waiting")
        for name, ids in (("sent", sent), ("taken", taken),
                          ("waiting", waiting)):
            for number in ids:
                server.execute("INSERT INTO bench.%s VALUES (%d)"
                               % (name, number))
        complain_of_ids("bench.waiting", server, run, len(sent))
        if run.trouble != ["verification: 1 messages " + text
                           for text in wrong]:
            raise cluster.ClusterError("the books are not kept: %s found %s"
                                       % (wrong, run.trouble))
    server.execute("DROP TABLE bench.waiting")
    for sent, inserted, left, complaints in ((5, 5, 2, 0), (5, 4, 1, 1),
                                             (5, 5, 1, 1)):
        run = Run("", 1, "100 B", 0, sent=sent, consumed=3, left=left)
        complain_of_counts(run, 0, 0, inserted)
        if len(run.trouble) != complaints:
            raise cluster.ClusterError("the counts are not compared")


def fresh(workload: Workload, server: cluster.Cluster) -> None:
    """Make the tables of a workload anew."""
    server.execute(workload.tear_down)
    server.execute(workload.set_up)
    server.execute("TRUNCATE bench.sent, bench.taken")


def verify(workload: Workload, server: cluster.Cluster, run: Run,
           length: list[str]) -> None:
    """Run the workload with all ids written down, and compare them."""
    done = Pgbench(server, workload.verify, run.clients, length,
                   PAYLOADS[run.payload]).result()
    server.wait_for_sessions()
    if done["failed"]:
        run.trouble.append("verification: %d transactions failed"
                           % done["failed"])
    complain_of_ids(workload.relation, server, run,
                    done["runs"] * workload.size)


def measure(workload: Workload, server: cluster.Cluster, run: Run,
            length: list[str], progress: int = 0, watch=None) -> None:
    """Run the workload and note what it did and what that cost.

    watch is called again and again while it runs.  A run that is watched may
    be so long that the server no longer has all of its WAL, so that is not
    counted then.
    """
    server.checkpoint()
    inserted, deleted = server.row(COUNTS, (workload.relation,))
    was_there = server.ask(workload.left)
    checkpoints = server.checkpoints()
    start = server.wal_position()
    cpu = server.cpu()
    pgbench = Pgbench(server, workload.script, run.clients, length,
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
    wal = 0
    if watch is None:
        wal = server.wal_bytes(start, server.wal_position())

    counts = server.row(COUNTS, (workload.relation,))
    inserted, deleted = counts[0] - inserted, counts[1] - deleted
    run.checkpoints = server.checkpoints() - checkpoints
    run.left = server.ask(workload.left)
    run.sent = done["runs"] * workload.size
    run.consumed = deleted
    run.seconds = done["runs"] / done["rate"]
    run.rate = deleted / run.seconds
    run.latency = done["latency"]
    run.progress = [(at, rate * workload.size, latency)
                    for at, rate, latency in done["progress"]]
    if deleted:
        run.cpu = cpu * 1e6 / deleted
        run.wal = wal / deleted
    complain_of_counts(run, done["failed"], was_there, inserted)

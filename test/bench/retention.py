"""Whether retention keeps up with publishing at full speed, and what it costs.

A topic that has a max_bytes is published to for a while, and in turn one that
has no limit.  The worker deletes from the one meanwhile: what that costs the
publishers is the ratio of the two, and whether it keeps up is how large the
topic becomes.

The books: without a limit all is left, and with one nothing of what the worker
says it has deleted.
"""

import statistics
from typing import Any, Callable

import cluster
import load
import parts
import watch
from tables import marked, ratio, spread, table
from workloads import BATCH

MAX_BYTES = 16000000
CLIENTS = 8

# It must last until something is deleted, and for longer; but what is never
# deleted is not to fill the disk.
LEAST = 10
MOST_KEPT = 30
SHORT_SECONDS = 4

MUST = 0.9

SET_UP = """
SELECT queue.create_topic('bench.kept'),
       queue.create_topic('bench.retained', max_bytes => %d)
""" % MAX_BYTES
TEAR_DOWN = "DROP TABLE bench.kept, bench.retained"

SCRIPT = ("SELECT queue.publish_batch('bench.%s', :payloads::jsonb[]) AS sent"
          " \\gset\n")

KINDS = ("kept", "retained")

# Messages that are there although retention says it has removed them.
BELOW = """
SELECT count(*) FROM bench.retained r JOIN queue.topic_removed d
    ON d.topic = 'bench.retained'::regclass AND d.partition = r.partition
WHERE r.id <= d.removed_id
"""


def measure(server: cluster.Cluster, kind: str,
            length: list[str]) -> dict[str, Any]:
    """Publish to one of them for a while."""
    name = "bench." + kind
    server.execute("TRUNCATE " + name)
    server.checkpoint()
    before = server.ask(load.INSERTED, (name,))
    watcher = watch.Watcher(server, name, 0.5)
    found = load.Load(SCRIPT % kind, CLIENTS, length, BATCH).put(
        server, 1, watcher.look)
    sent = server.ask(load.INSERTED, (name,)) - before
    server.execute("SET enable_seqscan = on")
    left = server.ask("SELECT count(*) FROM " + name)
    if sent != found["messages"]:
        found["trouble"].append("%d published, but %d inserted"
                                % (found["messages"], sent))
    if kind == "kept" and left != sent:
        found["trouble"].append("%d published, but %d left" % (sent, left))
    if kind == "retained":
        below = server.ask(BELOW)
        if below:
            found["trouble"].append("%d were removed, but are there" % below)
    server.execute("RESET enable_seqscan")
    watcher.sample()
    found.update(samples=watcher.samples, left=left, deleted=sent - left)
    return found


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              seconds: int | None,
              say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure; return the rows of the file of results."""
    lengths = {kind: extent.length for kind in KINDS}
    if extent.mode != "smoke":
        seconds = (SHORT_SECONDS if extent.is_short
                   else max(seconds or 0, LEAST))
        lengths = {"kept": ["-T", str(min(seconds, MOST_KEPT))],
                   "retained": ["-T", str(seconds)]}
    server.execute(SET_UP)
    row: dict[str, Any] = {"what": "retention", "rounds": [], "trouble": [],
                           "lengths": {kind: length[1] for kind, length
                                       in lengths.items()}}
    for _ in range(extent.repetitions):
        found = {}
        for kind in KINDS:
            found[kind] = measure(server, kind, lengths[kind])
            say(load.describe(kind, CLIENTS, found[kind])
                + ", %d deleted" % found[kind]["deleted"])
            row["trouble"] += ["%s: %s" % (kind, text)
                               for text in found[kind]["trouble"]]
        row["rounds"].append(found)
    server.execute(TEAR_DOWN)
    return [row]


def section(row: dict[str, Any]) -> str:
    """Return what the page says of it."""
    lines = [["publish by %d, %d clients" % (BATCH, CLIENTS),
              "messages a second", "÷ without limit", "must reach",
              "deleted", "left", "largest, table and index",
              "server CPU, µs a message"]]
    titles = {"kept": "without limit",
              "retained": "**max_bytes of {:,}**".format(MAX_BYTES)}
    for kind, title in titles.items():
        if row["trouble"]:
            lines.append([title, "FAILED"] + [""] * 6)
            continue
        found = [pair[kind] for pair in row["rounds"]]
        ratios = [ratio(pair["retained"]["rate"], pair["kept"]["rate"])
                  for pair in row["rounds"]]
        is_ours = kind == "retained"
        lines.append([
            title, spread([run["rate"] for run in found], "{:,.0f}".format),
            marked(spread(ratios, "{:.2f}".format),
                   statistics.median(ratios) >= MUST) if is_ours else "",
            "≥ %g" % MUST if is_ours else "",
            "{:,.0f}".format(statistics.median(r["deleted"] for r in found)),
            "{:,.0f}".format(statistics.median(r["left"] for r in found)),
            "%.0f MB" % max(watch.size(sample) / 1e6 for run in found
                            for sample in run["samples"]),
            spread([run["cpu"] for run in found], "{:.1f}".format)])
    return ("Runs of %s s without limit, and of %s s with it. The worker"
            " deletes the oldest beside the publishers. *Deleted* and *left* are counted when the publishers"
            " have ended: if retention keeps up, what is left is about what"
            " `max_bytes` allows, and what is published within a second or two,"
            " however long it goes on.\n\n"
            % (row["lengths"]["kept"], row["lengths"]["retained"])
            + table(lines))

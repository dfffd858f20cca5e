"""What an old snapshot costs a subscription.

A position is one row that each commit rewrites, so while a snapshot is held
its old versions stay, and whoever looks for the newest one might have to pass
over all of them.  Each transaction publishes one message, and the next one
takes up to one and writes its id down.  That is done in two databases at the
same time, as in held.py; after a while a snapshot is held in one of them.
"""

import concurrent.futures
from typing import Any, Callable

import cluster
import horizon
import load
import parts
import runs
import watch
import workloads
from tables import marked, ratio, table

# In each database.
CLIENTS = 4
CLEAN, HOLD = 5, 15
SHORT_CLEAN, SHORT_HOLD = 2, 2
SMOKE_CLEAN, SMOKE_HOLD = 1, 1

MUST = 0.95

SET_UP = """
SELECT queue.create_topic('bench.moving');
SELECT queue.subscribe('bench.moving', 'bench.mover');
TRUNCATE bench.sent, bench.taken
"""
TEAR_DOWN = "DROP TABLE bench.moving, bench.mover, bench.mover_dead"

SCRIPT = ("SELECT queue.publish('bench.moving', :payload) AS sent \\gset\n"
          "INSERT INTO bench.taken SELECT id FROM"
          " queue.dequeue('bench.mover', 1);\n")

AHEAD = ("(SELECT l.id FROM bench.moving l JOIN bench.mover s"
         " USING (partition) WHERE l.id > s.position) AS ahead")


class Watcher(watch.Watcher):
    """Notes how large the positions are, and holds a snapshot from a time on."""

    def __init__(self, server: cluster.Cluster, clean: int,
                 holder: horizon.Snapshot):
        super().__init__(server, "bench.mover", 0.5)
        self.clean = clean
        self.holder = holder
        self.is_held = False

    def look(self) -> None:
        """Do what is due, and sleep a little."""
        super().look()
        if not self.is_held and self.elapsed() >= self.clean:
            self.holder.hold()
            self.is_held = True


def one_run(server: cluster.Cluster, holder: horizon.Snapshot, clean: int,
            hold: int) -> dict[str, Any]:
    """Measure in one database; return what goes into the file of results."""
    watcher = Watcher(server, clean, holder)
    try:
        found = load.Load(SCRIPT, CLIENTS, ["-T", str(clean + hold)]).put(
            server, 1, watcher.look,
            others=0 if isinstance(holder, horizon.Nothing) else 1)
    finally:
        holder.let_go()
    server.wait_for_sessions()
    watcher.sample()
    server.execute("SET enable_seqscan = on;"
                   " INSERT INTO bench.sent SELECT id FROM bench.moving")
    run = runs.Run("dequeue", CLIENTS, "100 B", 0)
    runs.complain_of_ids(AHEAD, server, run, found["messages"])
    server.execute("RESET enable_seqscan")
    found["trouble"] += run.trouble
    found.update(samples=watcher.samples, taken=run.verified)
    return found


def carry_out(server: cluster.Cluster, extent: parts.Extent, hold: int | None,
              say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure; return the rows of the file of results."""
    clean, usual = {"full": (CLEAN, HOLD), "short": (SHORT_CLEAN, SHORT_HOLD),
                    "smoke": (SMOKE_CLEAN, SMOKE_HOLD)}[extent.mode]
    hold = usual if hold is None else hold
    other = server.beside()
    try:
        other.execute(workloads.SCHEMA)
        for each in server, other:
            each.execute(SET_UP)
            each.checkpoint()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(one_run, other, horizon.Nothing(other, hold),
                                 clean, hold)
            found = {"held": one_run(server, horizon.Snapshot(server, hold),
                                     clean, hold)}
            found["beside"] = future.result()
        server.execute(TEAR_DOWN)
    finally:
        other.drop_database()
    row = {"what": "positions", "clean": clean, "hold": hold, **found,
           "trouble": ["%s: %s" % (name, text) for name, run in found.items()
                       for text in run["trouble"]]}
    for name, run in found.items():
        say("positions, %-6s %.0f msg/s before, %.0f while a snapshot is held"
            % (name, *rates(row, run)[:2]))
    for text in row["trouble"]:
        say("        FAILED: " + text)
    return [row]


def rates(row: dict[str, Any], run: dict[str, Any]) -> list[float]:
    """Return messages a second before, in the hold, and in its last quarter."""
    end = row["clean"] + row["hold"]
    return [watch.mean(run["progress"], *span) for span in
            ((0, row["clean"] - 0.5), (row["clean"], end),
             (end - row["hold"] / 4, end))]


def section(row: dict[str, Any]) -> str:
    """Return what the page says of it."""
    lines = [["publish, dequeue of a subscription", "before",
              "during the hold", "its last quarter", "must reach",
              "positions, table and index, before", "at the end"]]
    for name, title in (("held", "**beside an old snapshot**"),
                        ("beside", "without one")):
        run = row[name]
        if row["trouble"]:
            lines.append([title, "FAILED"] + [""] * 5)
            continue
        before = [watch.size(sample) for sample in run["samples"]
                  if sample[0] < row["clean"]]
        lines.append([title] + ["{:,.0f}".format(rate)
                                for rate in rates(row, run)]
                     + ["", "%.1f MB" % (max(before or [0]) / 1e6),
                        "%.1f MB" % (watch.size(run["samples"][-1]) / 1e6)])
    if not row["trouble"]:
        ratios = list(map(ratio, rates(row, row["held"]),
                          rates(row, row["beside"])))
        lines.append(["ratio", "%.2f" % ratios[0],
                      marked("%.2f" % ratios[1], ratios[1] >= MUST),
                      "%.2f" % ratios[2], "≥ %g" % MUST, "", ""])
    return ("Messages a second, in two databases of one server at the same"
            " time. In each of them %d clients publish one message and take up"
            " to one, in turn; after %d s a snapshot is held in one of them for"
            " %d s, so that no old version of a position can be removed"
            " there.\n\n" % (CLIENTS, row["clean"], row["hold"])
            + table(lines))

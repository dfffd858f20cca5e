"""Topics: publishing, copies in queues, subscriptions, retention.

Each of these is measured in its own way, beside what it is compared with; what
is found is rows that say what they are of.
"""

import dataclasses
from typing import Any, Callable

import cluster
import fan_out
import lag
import parts
import positions
import retention
import topic_log
from tables import NOT_REACHED


# More seconds are for retention.
MOST_SECONDS = 10


def carry_out(server: cluster.Cluster, extent: parts.Extent,
              settings: dict[str, int | None], names: list[str],
              say: Callable[[str], None]) -> dict[str, Any]:
    """Measure; return what goes into the file of results.

    settings are the seconds of a run, those of a hold, and how many messages
    are in the log, where they were asked for; names are the workloads that
    can be had.
    """
    extent = dataclasses.replace(
        extent, seconds=min(extent.seconds, MOST_SECONDS))
    rows = fan_out.carry_out(server, extent, say)
    rows += topic_log.carry_out(server, extent, names, settings["messages"],
                                say)
    rows += lag.carry_out(server, extent, settings["hold"], say)
    rows += retention.carry_out(server, extent, settings["seconds"], say)
    rows += positions.carry_out(server, extent, settings["hold"], say)
    return {"rows": rows,
            "trouble": ["%s: %s" % (row["what"], text)
                        for row in rows for text in row["trouble"]]}


def section(part: dict[str, Any]) -> str:
    """Return what the page says of it."""
    def of(what: str) -> list[dict[str, Any]]:
        return [row for row in part["rows"] if row["what"] == what]

    found = {
        "Copies in bound queues": fan_out.section(of("fan_out")),
        "Publishing to the log": topic_log.publish_section(of("publish")),
        "Reading the log": topic_log.read_section(of("read"), *of("first")),
        "Subscriptions that wait": lag.section(of("lag")),
        "Retention beside publishing": retention.section(*of("retention")),
        "Positions under an old snapshot":
            positions.section(*of("positions"))}
    missed = ["%s (%d)" % (title.lower(), text.count(NOT_REACHED))
              for title, text in found.items() if NOT_REACHED in text]
    return "\n".join(
        ["What must be reached was %s.\n"
         % ("missed in: " + ", ".join(missed) if missed
            else "reached everywhere")]
        + ["### %s\n\n%s" % item for item in found.items()])

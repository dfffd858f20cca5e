"""The judge: finds in the history of a run what must not have happened.

From test/stress, "python3 -m checker RUN_DIR" judges a run once more.

Each property is a function whose comment says what is promised and what
excuses an exception; each file has those of one theme, and beside it lie its
tests.  A run full of crashes and lost connections must not raise a false
alarm, or nobody will believe a true one; so all of them hold against the
server only what is certain (evidence.py says how that is found), and take for
possible whatever is.  Of the attempts of a message, for example, there is an
upper bound, from the failures that are possible, and a lower one, from those
that are certain.

All of them sort and sweep; none compares everything with everything.  How
many things a property has looked at is part of the result, since to have
found nothing wrong with nothing is no praise.
"""

import gc
import importlib

from checker.property import PROPERTIES, Result
from evidence import Evidence

# In the order of the table that is printed; to import one puts its properties
# into the table.
THEMES = ("content", "visibility", "holds", "leases", "failures", "times",
          "order", "groups", "selection", "dedup", "redrive", "limits",
          "waits", "claims", "globals", "topics", "errors")
for theme in THEMES:
    importlib.import_module("checker." + theme)


def check(run_dir: str) -> list[Result]:
    """Check a run: one result for each property."""
    # Millions of objects that all live to the end: collecting garbage is
    # half of the time, and finds none.
    collecting = gc.isenabled()
    gc.disable()
    try:
        run = Evidence(run_dir)
        results = []
        for function in PROPERTIES:
            meaning = function.__doc__ or ""
            result = Result(function.__name__, meaning.split("\n")[0])
            function(run, result)
            results.append(result)
        return results
    finally:
        if collecting:
            gc.enable()


def table(results: list[Result]) -> str:
    """The results as a table, and the violations below it."""
    lines = []
    for result in results:
        verdict = "ok" if result.checked else "not checked"
        if result.count:
            verdict = "%d VIOLATIONS" % result.count
        lines.append("%-29s %10d checked  %s" % (result.name, result.checked,
                                                 verdict))
    for result in results:
        if result.count:
            lines += ["", "%s: %s" % (result.name, result.meaning)]
            lines += ["  " + text for text in result.violations]
            if result.count > len(result.violations):
                lines.append("  ... and %d more"
                             % (result.count - len(result.violations)))
    return "\n".join(lines)

"""What probes find when they look at the quiet server."""

import history
from checker.property import Result, promise
from evidence import Evidence


@promise
def found_as_promised(run: Evidence, result: Result) -> None:
    """What probes look at is what it should be.

    Bodies byte for byte, the reasons of failures, and dead letters that were
    brought back (keeping_probe.py).
    """
    for client, call, answer in run.claims:
        result.checked += 1
        found = (answer.result or {}).get("found")
        if answer.state != history.OK or found is not None:
            result.add("call %d of %s at %s: %s: %s", call.n, client,
                       run.time(call.time), call.arg["what"],
                       answer.state if found is None else found)

"""Who waits for what: nobody for another, and no message for long."""

import os

import history
from checker.property import Result, promise, some
from evidence import Evidence

WAKE_LIMIT_MS = 100.0


@promise
def never_waits(run: Evidence, result: Result) -> None:
    """No call waits for the transaction of another client.

    The injector looks who waits for whom, some times a second; no business
    table has a constraint that could make anybody wait.
    """
    try:
        with open(os.path.join(run.directory, "waits.jsonl"),
                  encoding="utf-8") as file:
            lines = [history.decode(line) for line in file]
    except FileNotFoundError:
        return
    for line in lines:
        if line[0] == "samples":
            result.checked += line[1]
        else:
            time, pid, client, query, blockers = line[1:6]
            result.add("at %s %s (process %s) waited in \"%s\" for %s",
                       run.time(time), client, pid, query, blockers)


@promise
def waiter_wakes(run: Evidence, result: Result) -> None:
    """Who waits has what he waits for within 100 ms of the commit.

    A consumer has a message, a sender has room.  Measured by probes on the
    quiet server, with the machine watched.
    """
    for client, call, answer in run.wakes:
        late = (answer.result or {}).get("late_ms")
        if answer.state == history.OK and (answer.result or {}).get("void"):
            continue
        result.checked += 1
        if answer.state != history.OK or late is None:
            result.add("call %d of %s at %s: nobody woke (%s)", call.n,
                       client, run.time(call.time), answer.state)
        elif late > WAKE_LIMIT_MS:
            result.add("call %d of %s at %s: %.0f ms late", call.n, client,
                       run.time(call.time), late)


@promise
def drained(run: Evidence, result: Result) -> None:
    """With the faults off everything is consumed in time.

    Within the limit of the run (a lease and some seconds) after the last
    fault was undone the queues are empty, and stay so.
    """
    result.checked = sum(1 for message in run.messages.values()
                         if message.sent)
    off, at = run.info.get("faults_off_at"), run.info.get("drained_at")
    limit = run.info.get("drain_limit", 0)
    if at is None:
        result.add("the queues were not empty %s s after the faults", limit)
    elif off is not None and at - off > limit:
        result.add("the queues were empty %.1f s after the faults, not "
                   "within %s s", at - off, limit)
    for message in run.messages.values():
        for id, attempts in message.left:
            result.add("%s id %d is left, with %d attempts; sent by %s",
                       message, id, attempts, some(message.sent))


@promise
def nothing_hidden(run: Evidence, result: Result) -> None:
    """Consumers know where to look for every message, without the sweep.

    The worker goes over the rows, finds messages that are available while
    shared memory does not say so, and tells the log.
    """
    left = run.json("state", "left.json")
    if "hidden" in left:
        result.checked = 1
        for line in left["hidden"]:
            result.add("%s", line)

"""Nothing fails, and nothing breaks, for which there is no reason."""

import history
from checker.property import Result, promise
from checker.spans import Spans
from evidence import Evidence
from records import SETTLES, SLACK, FailedCall

# Errors are blamed on faults that are no older, in seconds, and those of
# connections on what may have happened long before their next use.
FAULT_SLACK = 10.0
IDLE_SLACK = 60.0
PROMPT_SLACK = 1.0

# Errors that need no fault to explain them, by the calls that may get them.
ALWAYS_EXPECTED = {
    "QU001": SETTLES,
    # Where it is expected at all is the business of full_for_a_reason.
    "QU003": ("enqueue",),
    # ... and of in_progress_for_a_reason.
    "QU005": ("enqueue_once",),
    # Settled by another transaction; operators do not wait long for a lock.
    "55P03": SETTLES + ("lock", "remove", "seek"),
    # The timeout that is being reset hits the statement that does it.
    "57014": ("remove", "settings"),
    "22012": ("error",),
    # There may be too many prepared transactions.
    "53200": ("prepare",),
    "42704": ("commit_prepared", "rollback_prepared", "decide_commit",
              "decide_abort"),
    # Readers may have passed an id that is given by hand, or it is there.
    "55000": ("commit_prepared", "rollback_prepared", "decide_abort",
              "publish_given"),
    "23505": ("publish_given",),
    "40000": ("decide_commit",),
}

# Errors that a fault explains if its name has one of the words; no words
# stand for any fault.
EXPECTED_WITH = {
    "QU002": ("pause_queue",),
    "57014": ("cancel", "timeout"),
    "55P03": ("timeout",),
    "57P01": (), "57P02": (), "57P03": (), history.LOST: (),
    "53100": ("disk",),
    "58030": ("disk",),
    "25006": ("promot",),
}

# Of these errors a fault that has just ended is no explanation.
PROMPT_ERRORS = ("QU002", "53100", "58030")


@promise
def errors_expected(run: Evidence, result: Result) -> None:
    """No call fails in a way that nothing explains.

    Some errors belong to the calls themselves, others to faults that were
    under way or had just been.  Nobody meets a deadlock, and only those who
    ask for SERIALIZABLE meet serialization failures, for what they do in other
    tables.  Internal errors (XX000) and mistakes in calls (42xxx, 22xxx) are
    never right.  What operators found to be wrong counts, too.
    """
    for fault in run.faults:
        if "finding" in fault.detail:
            result.add("%s at %s: %s", fault.name, run.time(fault.start),
                       fault.detail["finding"])
    result.checked = run.calls + run.globals.calls + run.topics.calls
    spans: dict[tuple[str, ...], Spans] = {}
    for failed in run.failed_calls + run.topics.failed + [
            FailedCall(client, call, answer, True, False)
            for client, call, answer in run.globals.failed]:
        call, answer = failed.call, failed.answer
        if not is_expected(run, failed, spans):
            result.add("%s: call %d of %s, %s of %s in %s, at %s..%s",
                       answer.state, call.n, failed.client, call.op,
                       call.queue, call.txn, run.time(call.time),
                       run.time(answer.time))


def is_expected(run: Evidence, failed: FailedCall,
                spans: dict[tuple[str, ...], Spans]) -> bool:
    """Does anything explain this failure?"""
    call, state = failed.call, failed.answer.state
    if call.op in ALWAYS_EXPECTED.get(state, ()):
        return True
    if state == history.ROLLED_BACK or state == "25P02":
        return failed.in_failed
    if state == "40001" and failed.serializable:
        return True
    words = EXPECTED_WITH.get(state)
    if words is None and state.startswith("08"):
        words = ()
    if words is None:
        return False
    if words not in spans:
        slack = FAULT_SLACK if words else IDLE_SLACK
        if state in PROMPT_ERRORS:
            slack = PROMPT_SLACK
        spans[words] = Spans([
            (fault.start - SLACK, fault.end + slack)
            for fault in run.faults
            if not words or any(word in fault.name for word in words)])
    return spans[words].meet(call.time, failed.answer.time)


@promise
def server_log_clean(run: Evidence, result: Result) -> None:
    """The log of the server tells of no crash that no fault explains."""
    left = run.json("state", "left.json")
    if "log_problems" in left:
        result.checked = 1
        for line in left["log_problems"]:
            result.add("%s", line)


@promise
def indexes_clean(run: Evidence, result: Result) -> None:
    """amcheck finds nothing wrong with tables and indexes."""
    left = run.json("state", "left.json")
    if "amcheck" in left:
        result.checked = 1
        for text in left["amcheck"]:
            result.add("%s", text)

"""Due times, expiry, and calls that change what waits."""

import terms
from checker.property import Result, promise, where
from evidence import Evidence
from records import NEVER, SLACK, Change, Delivery

# Reason in the dead letters of messages that were too old.
EXPIRED_REASON = "expired"


@promise
def due_time_kept(run: Evidence, result: Result) -> None:
    """No message is delivered before it is due.

    As its sender said, or who rescheduled it last; if two of these may have
    held when the take looked, the earlier one.
    """
    for delivery in run.deliveries:
        if terms.is_plain(delivery.message):
            continue
        periods = terms.periods(run, delivery.message)
        if not periods:
            continue
        result.checked += 1
        due = min((period.due[0] for period in terms.in_force(
            periods, delivery.before, delivery.after)), default=-NEVER)
        if delivery.after < due - SLACK:
            result.add("%s, but it was not due before %s",
                       run.describe(delivery), run.time(due))


@promise
def expiry_kept(run: Evidence, result: Result) -> None:
    """No message is delivered after it has expired, the worker late or not.

    A take that began before may end after, and so may a lease.
    """
    for delivery in run.deliveries:
        if terms.is_plain(delivery.message):
            continue
        periods = terms.periods(run, delivery.message)
        expiry = max((period.expiry[1] for period in terms.in_force(
            periods, delivery.before, delivery.after)), default=NEVER)
        if expiry == NEVER:
            continue
        result.checked += 1
        if delivery.before > expiry + SLACK:
            result.add("%s, but it had expired at %s",
                       run.describe(delivery), run.time(expiry))


@promise
def expired_for_a_reason(run: Evidence, result: Result) -> None:
    """What expired is a dead letter, or gone, as its queue says.

    And what is in the dead letters for that reason had expired when it came
    there.  That nothing else is gone is no_loss.
    """
    for message in run.messages.values():
        discards = run.queues.get(message.queue, {}).get(
            "on_expiry") == "discard"
        for source_id, reason, attempts, intact, died_at in message.dead:
            if reason != EXPIRED_REASON:
                continue
            result.checked += 1
            died = run.from_server(died_at)[1]
            if discards:
                result.add("%s id %d is a dead letter, but %s discards what "
                           "expires", message, source_id, message.queue)
            elif terms.periods(run, message) and \
                    not terms.may_have_expired(run, message, died + SLACK):
                result.add("%s id %d died at %s of being expired, but it had "
                           "not", message, source_id, run.time(died))
        if discards and message.sent and not where(message):
            result.checked += 1


@promise
def change_spares_held(run: Evidence, result: Result) -> None:
    """What is held by somebody is neither rescheduled nor cancelled.

    And what a transaction has rescheduled or cancelled is delivered to
    nobody else until that ends.
    """
    by_message: dict = {}
    for change in run.changes:
        if change.told:
            result.checked += 1
            by_message.setdefault(change.message, []).append(change)
    for delivery in run.deliveries:
        for change in by_message.get(delivery.message, ()):
            if delivery.txn is change.txn:
                continue
            if delivery.holds(change.before, change.after + SLACK):
                result.add("%s, though it was held until %s at least since "
                           "%s", describe(run, change),
                           run.time(delivery.sure_end),
                           run.describe(delivery))
            elif follows(delivery, change):
                result.add("%s, though it was being changed until %s at "
                           "least: %s", run.describe(delivery),
                           run.time(change.low), describe(run, change))


@promise
def change_does_what_it_can(run: Evidence, result: Result) -> None:
    """What nobody holds can be rescheduled and cancelled, and nothing else.

    Asked by probes on the quiet server, which know who holds what.
    """
    for change in run.changes:
        if change.must is not None:
            result.checked += 1
            if change.told is not change.must:
                result.add("%s said %s, but the message %s",
                           describe(run, change), change.told,
                           "was free" if change.must
                           else "was held, or not there")


@promise
def expiry_moves_along(run: Evidence, result: Result) -> None:
    """Who reschedules a message leaves it as long to live once it is due.

    By what its row says then, of the first change of a message that nobody
    may have taken before: a failure sets another due time.
    """
    taken = {}
    for delivery in run.deliveries:
        taken.setdefault(delivery.message, delivery.before)
    for change in run.changes:
        message = change.message
        if not change.told or change.op != "reschedule" or \
                message.changes[0] is not change or \
                taken.get(message, NEVER) < change.after:
            continue
        first, *_ = terms.periods(run, message) or [None]
        if first is None or run.unseen_takes(
                message.queue, first.since[0], change.after):
            continue
        result.checked += 1
        told = terms.told_expiry(run, change)
        due = terms.changed_due(run, change)
        expected = (due[0] + first.expiry[0] - first.due[1],
                    due[1] + first.expiry[1] - terms.written_due(run, message))
        if first.expiry == terms.NONE:
            expected = terms.NONE
        if told[1] < expected[0] - SLACK or told[0] > expected[1] + SLACK:
            result.add("%s left it expire at %s, not from %s to %s",
                       describe(run, change), run.time(told[0]),
                       run.time(expected[0]), run.time(expected[1]))


def follows(delivery: Delivery, change: Change) -> bool:
    """Does a take as a whole fall into a transaction, after its change?"""
    return delivery.before > change.after and \
        delivery.after + SLACK < change.low


def describe(run: Evidence, change: Change) -> str:
    """A change in words."""
    return "%s of %s by %s in %s (call %d) at %s..%s" % (
        change.op, change.message, change.client, change.txn.name,
        change.call, run.time(change.before), run.time(change.after))

"""When a message may be delivered: due times and expiry, as they were said.

A message has the terms of its sender until somebody reschedules it.  What is
known of a time is a range, at least and at most, for the server reads its clock
at some time during a call, and tells the time of day by a clock of its own.
"""

from typing import TYPE_CHECKING, NamedTuple

from records import MILLISECOND, NEVER, Change, MessageRecord, Put

if TYPE_CHECKING:
    from evidence import Evidence

Range = tuple[float, float]

ALWAYS: Range = (-NEVER, -NEVER)
NONE: Range = (NEVER, NEVER)
ANY: Range = (-NEVER, NEVER)


class Period(NamedTuple):
    """Terms, and when they begin to hold."""

    since: Range
    due: Range
    expiry: Range
    # What made it, if not the sender.
    change: Change | None = None

    def replaces(self, other: "Period") -> bool:
        """Did it surely come after the other one?"""
        if self.change is None:
            return False
        if other.change is None:
            return True
        if other.change.txn is self.change.txn:
            return other.change.call < self.change.call
        return other.since[1] < self.change.before


def periods(run: "Evidence", message: MessageRecord) -> list[Period]:
    """All terms that a message may have had; nothing if that is not known."""
    kept = [put for put in message.puts if put.kept]
    if len(kept) != 1:
        return []
    found = [first_period(run, kept[0])]
    for change in message.changes:
        if change.op == "reschedule" and change.may_be_kept:
            found.append(changed_period(run, change))
    return found


def first_period(run: "Evidence", put: Put) -> Period:
    """What the sender said."""
    since = put.txn.commit_sent, put.txn.commit_done
    terms = put.terms
    if terms is None:
        # It is due, and will never expire.
        return Period(since, ALWAYS, NONE)
    due = terms.before, terms.after
    if terms.delay is not None:
        due = (terms.before + terms.delay - MILLISECOND,
               terms.after + terms.delay + MILLISECOND)
    elif terms.deliver_at is not None:
        due = later(due, run.from_server(terms.deliver_at))
    expiry = NONE
    if terms.expires_at is not None:
        expiry = run.from_server(terms.expires_at)
    elif terms.expires_in is not None:
        expiry = (due[0] + terms.expires_in - MILLISECOND,
                  due[1] + terms.expires_in + MILLISECOND)
    return Period(since, due, expiry)


def written_due(run: "Evidence", message: MessageRecord) -> float:
    """The earliest due time that its row may have had at first.

    A plain INSERT may write one that is past.
    """
    put, = (put for put in message.puts if put.kept)
    due = first_period(run, put).due[0]
    if put.terms is not None and put.terms.deliver_at is not None:
        due = min(due, run.from_server(put.terms.deliver_at)[0])
    return due


def changed_period(run: "Evidence", change: Change) -> Period:
    """What a call of reschedule said, if it was done."""
    due = changed_due(run, change)
    if change.told is None:
        # Nobody knows whether it was, nor what the row says.
        return Period((change.before, NEVER), due, ANY, change)
    return Period((change.before, change.txn.commit_done), due,
                  told_expiry(run, change), change)


def changed_due(run: "Evidence", change: Change) -> Range:
    """When a message was to be due."""
    return later((change.before, change.after), run.from_server(change.at))


def told_expiry(run: "Evidence", change: Change) -> Range:
    """When it expired then, as its row said."""
    if change.expires_at is None:
        return NONE
    return run.from_server(change.expires_at)


def later(one: Range, other: Range) -> Range:
    """The later of two times."""
    return max(one[0], other[0]), max(one[1], other[1])


def in_force(found: list[Period], start: float, end: float) -> list[Period]:
    """Those that a call between these times may have gone by."""
    return [period for period in found
            if period.since[0] <= end and not any(
                other.since[1] < start and other.replaces(period)
                for other in found)]


def may_have_expired(run: "Evidence", message: MessageRecord,
                     by: float) -> bool:
    """Can a message have expired by then?"""
    return any(period.expiry[0] <= by for period in periods(run, message))


def may_be_discarded(run: "Evidence", message: MessageRecord) -> bool:
    """Can it be gone because it has expired?"""
    return (run.queues.get(message.queue, {}).get("on_expiry") == "discard"
            and may_have_expired(run, message, run.end))


def due_at_last(run: "Evidence", message: MessageRecord) -> float:
    """When a message is due, whatever was changed; NEVER if unknown."""
    return max((period.due[1] for period in periods(run, message)),
               default=NEVER)


def is_plain(message: MessageRecord) -> bool:
    """Has nobody said anything about its times?"""
    return not message.changes and all(put.terms is None
                                       for put in message.puts)

"""Of what is sent under one key only the first is sent."""

from operator import attrgetter
from typing import Iterator

import history
from checker.property import Result, promise
from evidence import Evidence
from records import COMMITTED, NEVER, SLACK, MessageRecord, Once, Txn

# The error of a call whose key another one has that is not over.
IN_PROGRESS = "QU005"


@promise
def sent_once(run: Evidence, result: Result) -> None:
    """Of messages with one key only the first is sent.

    As long as it is in the queue, from the answer of its commit until somebody
    asks for the commit that consumes it; and for the window after its enqueue.
    What was sent is in table "sent".
    """
    for queue, calls in by_key(run):
        window = run.queues[queue]["dedup_window"]
        sent = [once for once in calls if once.message is not None and
                once.message.sent and once.after < NEVER]
        result.checked += len(calls)
        for at, once in enumerate(sent):
            for other in sent[at + 1:]:
                in_window = other.after < once.before + window - SLACK
                if in_window or is_there(run, once, other):
                    result.add("%s of key %s in %s, though %s was sent: %s",
                               other.message, other.key, other.txn.name,
                               once.message, "within the window" if in_window
                               else "it was in the queue")
                    break


def by_key(run: Evidence) -> Iterator[tuple[str, list[Once]]]:
    """The calls of each key, in the order of their times, and the queue."""
    keys: dict[tuple[str, str], list[Once]] = {}
    for once in sorted(run.onces, key=attrgetter("before")):
        keys.setdefault((once.queue, once.key), []).append(once)
    for (queue, _), calls in keys.items():
        yield queue, calls


def is_there(run: Evidence, first: Once, other: Once) -> bool:
    """Is the first one in the queue for certain while the other is sent?"""
    message = first.message
    if first.txn.commit_done > other.before or message.dead:
        return False
    if message.left:
        return True
    return bool(message.ledger) and all(
        consumer is not None and consumer.commit_sent > other.after
        for consumer in consumers(run, message))


def consumers(run: Evidence, message: MessageRecord) -> list[Txn | None]:
    """The transactions that consumed a message."""
    return [run.txns.get(name) for name, effect in message.ledger]


@promise
def duplicate_for_a_reason(run: Evidence, result: Result) -> None:
    """A duplicate returns the id of a message that was sent and still counts.

    Of one that was committed, or sent in this very transaction; never of one
    that was rolled back.  It counts no more when it was consumed and the
    window is over.
    """
    for queue, calls in by_key(run):
        window = run.queues[queue]["dedup_window"]
        firsts = {once.id: once for once in calls if once.is_new}
        for once in calls:
            if once.is_new is not False:
                continue
            result.checked += 1
            first = firsts.get(once.id)
            if first is None:
                if not any(other.is_unknown for other in calls
                           if other.before < once.after):
                    result.add("%s: nobody has sent id %d of this key",
                               describe(run, once), once.id)
            elif first.undone and (first.txn is not once.txn or
                                   first.high < once.before):
                result.add("%s: %s was rolled back", describe(run, once),
                           first.message)
            elif is_over(run, first, once, window):
                result.add("%s: %s does not count any more",
                           describe(run, once), first.message)


def is_over(run: Evidence, first: Once, once: Once, window: float) -> bool:
    """Is the first one gone for certain, and the window over?"""
    return (first.kept and bool(first.message.ledger) and
            once.before > first.after + window + SLACK and all(
                consumer is not None and consumer.state == COMMITTED and
                consumer.commit_done + SLACK < once.before
                for consumer in consumers(run, first.message)))


@promise
def in_progress_for_a_reason(run: Evidence, result: Result) -> None:
    """QU005 comes only while another transaction with this key is not over.

    One that has sent a message with it, or may have, or was about to look.
    """
    for _, calls in by_key(run):
        for once in calls:
            if once.state == IN_PROGRESS:
                result.checked += 1
                if not any(other.before < once.after and
                           ends(other) > once.before for other in calls
                           if other.txn is not once.txn):
                    result.add("%s: nobody else has it", describe(run, once))


def ends(once: Once) -> float:
    """Until when others may have to wait for what becomes of a call."""
    if once.state != history.OK and not once.is_unknown or \
            once.is_new is False:
        return once.after
    if once.kept:
        return once.txn.commit_done
    if once.undone:
        return once.high
    return NEVER


def describe(run: Evidence, once: Once) -> str:
    """A call in words."""
    return "call %d of %s, for key %s of %s, at %s..%s" % (
        once.call, once.client, once.key, once.queue, run.time(once.before),
        run.time(once.after))

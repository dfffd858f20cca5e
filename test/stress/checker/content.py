"""What was sent is there, once, and whole; and nothing else is there."""

from typing import Any, Iterable

import history
import terms
from checker.property import Result, promise, some, where
from checker.redrive import is_redriven
from evidence import Evidence
from records import (COMMITTED, NEVER, SLACK, UNKNOWN, Delivery, Item,
                     MessageRecord, Put, Removal, Settle)


@promise
def no_phantom(run: Evidence, result: Result) -> None:
    """Nothing comes out that nobody put in.

    Every message that was delivered, consumed, left over or dead is one that
    a client asked to enqueue, whatever became of that call.
    """
    for message in run.messages.values():
        if message.ledger or message.left or message.dead or message.sent:
            result.checked += 1
            if not message.puts:
                result.add("%s was never enqueued, but is in %s", message,
                           where(message) or "sent")
    for delivery in run.deliveries:
        result.checked += 1
        message = delivery.message
        if not message.puts and not where(message):
            result.add("never enqueued: %s", run.describe(delivery))


@promise
def no_loss(run: Evidence, result: Result) -> None:
    """Every message committed is consumed, dead or still there.

    Whether an enqueue was committed is not guessed: it was if its business
    row is in table "sent".  The only excuse is that it has expired, in a queue
    that discards what does.
    """
    for message in run.messages.values():
        if message.sent:
            result.checked += 1
            if not (message.ledger or message.left or message.dead or
                    terms.may_be_discarded(run, message)):
                result.add("%s, sent by %s (id %s, commit at %s), is gone",
                           message, message.sent[0], known_id(message),
                           run.time(commit_time(run, message)))


def known_id(message: MessageRecord) -> Any:
    """The id of a message as far as one knows."""
    for put in message.puts:
        if put.kept and put.id is not None:
            return put.id
    return "unknown"


def commit_time(run: Evidence, message: MessageRecord) -> float:
    """When the commit of a message was sent, as far as one knows."""
    return min((put.txn.commit_sent for put in message.puts if put.kept),
               default=NEVER)


@promise
def one_effect(run: Evidence, result: Result) -> None:
    """No message has an effect twice, and none that had one is still there.

    The ledger has no constraint that would keep a second row out.
    """
    for message in run.messages.values():
        if message.ledger or message.left:
            result.checked += 1
            if len(message.ledger) + len(message.left) > 1:
                result.add("%s is in %s", message, where(message))


@promise
def consumed_stays_consumed(run: Evidence, result: Result) -> None:
    """Nothing is delivered after the COMMIT that consumed it has returned.

    Consumed is what the ledger says, by whatever means, and what was
    rejected, unless it may have been brought back.
    """
    for delivery in run.deliveries:
        message = delivery.message
        txns = [run.txns.get(txn) for txn, effect in message.ledger]
        txns += [settle.txn for settle in message.effects
                 if isinstance(settle, Settle) and settle.op == "reject"
                 and settle.accepted and settle.kept
                 and not is_redriven(run, message.queue)]
        if not txns:
            continue
        result.checked += 1
        for txn in txns:
            if txn is not None and txn.state == COMMITTED and \
                    delivery.before > txn.commit_done + SLACK:
                result.add("%s, but %s had consumed it by %s",
                           run.describe(delivery), txn.name,
                           run.time(txn.commit_done))
                break


@promise
def all_or_none(run: Evidence, result: Result) -> None:
    """The messages of a transaction have all been sent, or none of them.

    Likewise for those that it consumed, in whatever queues they are.  A
    message sent exists if it was found anywhere; one consumed is gone if it
    is in the ledger and nowhere else.
    """
    delivered = {delivery.message for delivery in run.deliveries}
    for txn in run.txns.values():
        if txn.state not in (COMMITTED, UNKNOWN):
            continue
        done: list[MessageRecord] = []
        undone: list[MessageRecord] = []
        for item in txn.items:
            if isinstance(item, Put):
                message = item.message
                if len(message.puts) > 1 and message.sent and \
                        txn.name not in message.sent:
                    # Sent by another one, who has tried again.
                    undone.append(message)
                elif where(message) or message in delivered:
                    done.append(message)
                elif not terms.may_be_discarded(run, message):
                    undone.append(message)
            elif isinstance(item, Delivery) and not item.leased:
                place = done if is_consumed(item.message) else undone
                place.append(item.message)
            elif isinstance(item, Settle) and item.accepted and \
                    item.op == "ack":
                for target in item.targets:
                    place = done if is_consumed(target.message) else undone
                    place.append(target.message)
        if len(done) + len(undone) < 2:
            continue
        result.checked += 1
        if txn.state == COMMITTED and done and undone:
            result.add("%s, committed at %s: %s done (%s), %s not (%s)",
                       txn.name, run.time(txn.commit_sent), len(done),
                       some(done), len(undone), some(undone))


def is_consumed(message: MessageRecord) -> bool:
    """Is it in the ledger and nowhere else?"""
    return bool(message.ledger) and not message.left


@promise
def ids_unique(run: Evidence, result: Result) -> None:
    """No two messages of a queue that were committed have the same id.

    Unless the ids have started over in between, or it was given by hand.
    """
    restarts: dict[str, list[Removal]] = {}
    for removal in run.removals:
        if removal.restarts and removal.txn.state in (COMMITTED, UNKNOWN):
            restarts.setdefault(removal.queue, []).append(removal)
    known: dict[tuple[str, int], set[int]] = {}
    for message in run.messages.values():
        for put in message.puts:
            if put.kept and put.id is not None and not put.by_hand:
                era = 0
                for removal in restarts.get(message.queue, ()):
                    restart = removal.txn.commit_sent
                    if put.txn.commit_sent > restart:
                        era += 1
                    elif put.txn.commit_done >= restart:
                        break
                else:
                    result.checked += 1
                    ids = known.setdefault((message.queue, era), set())
                    if put.id in ids:
                        result.add("%s, sent by %s, has id %d of another",
                                   message, put.txn.name, put.id)
                    ids.add(put.id)


@promise
def content_intact(run: Evidence, result: Result) -> None:
    """Payloads arrive as they were sent, under the id they were given.

    With the priority, too; and the payload in the dead letters.
    """
    for delivery in run.deliveries:
        result.checked += 1
        if not delivery.flags & 2:
            result.add("payload damaged: %s", run.describe(delivery))
        ids = {put.id for put in delivery.message.puts if put.kept}
        if ids and None not in ids and delivery.id not in ids:
            result.add("enqueued under id %s: %s", some(ids),
                       run.describe(delivery))
        priorities = {put.priority for put in delivery.message.puts
                      if put.kept}
        if priorities and delivery.priority not in priorities:
            result.add("enqueued with priority %s, not %d: %s",
                       some(priorities), delivery.priority,
                       run.describe(delivery))
    for message in run.messages.values():
        for source_id, reason, attempts, intact, died_at in message.dead:
            result.checked += 1
            if not intact:
                result.add("payload damaged in the dead letters: %s id %d",
                           message, source_id)


@promise
def outcome_matches_content(run: Evidence, result: Result) -> None:
    """What clients were told of their transactions is what happened.

    The rows of a transaction that committed are there, for each message it
    sent or consumed and did not roll back to a savepoint; those of one that
    rolled back are not; of one without an answer all or none are.  No row is
    there that nobody wrote.
    """
    for message in run.messages.values():
        result.checked += len(message.sent) + len(message.ledger)
        expected = [put.txn.name for put in message.puts if put.kept]
        if sorted(expected) != sorted(message.sent):
            add_difference(run, result, "sent", message, message.puts,
                           expected, message.sent)
        consumers = {item.txn.name for item in message.effects
                     if item.kept and writes_ledger(item)}
        found = {txn for txn, effect in message.ledger}
        if consumers != found:
            found -= {name for name in found - consumers
                      if name in run.txns and run.txns[name].unseen}
            if consumers != found:
                add_difference(run, result, "ledger", message,
                               message.effects, consumers, found)


def writes_ledger(item: Item) -> bool:
    """Does a row of the ledger belong to this?"""
    if isinstance(item, Settle):
        return item.op == "ack" and (item.accepted or
                                     item.state == history.LOST)
    return True


def add_difference(run: Evidence, result: Result, table: str,
                   message: MessageRecord, items: list,
                   expected: Iterable[str], found: Iterable[str]) -> None:
    """Tell what is not as it should be."""
    told = []
    for item in items:
        txn = item.txn
        state = ("rolled back" if item.undone else
                 "committed" if item.kept else "unknown")
        told.append("%s %s at %s" % (txn.name, state,
                                     run.time(min(txn.commit_sent,
                                                  item.low))))
    result.add("%s: rows in %s by %s, expected by %s; told: %s", message,
               table, some(sorted(found)) or "nobody",
               some(sorted(expected)) or "nobody", some(told) or "nothing")


@promise
def prefix_consistent(run: Evidence, result: Result) -> None:
    """The server as it was at any moment is whole.

    A base backup recovered to a random position of the WAL has each message
    sent in the ledger, the queue or the dead letters, once; and what is in
    the queue can be drained.
    """
    for prefix in run.json("state", "prefixes.json") or []:
        result.checked += 1
        for problem in prefix["problems"]:
            result.add("at %s: %s", prefix["target"], problem)

#!/usr/bin/python3
"""The judge: finds in the history of a run what must not have happened.

Usage: checker.py RUN_DIR

Each property is a function whose comment says what is promised and what
excuses an exception, in the order of the table that is printed.  A run full
of crashes and lost connections must not raise a false alarm, or nobody will
believe a true one; so all of them hold against the server only what is
certain (evidence.py says how that is found), and take for possible whatever
is.  Of the attempts of a message, for example, there is an upper bound, from
the failures that are possible, and a lower one, from those that are certain.

All of them sort and sweep; none compares everything with everything.  How
many things a property has looked at is part of the result, since to have
found nothing wrong with nothing is no praise.
"""

import gc
import itertools
import os
import sys
from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import history
from evidence import (ABORTED, BACK_COUNTED, BACK_UNCOUNTED, COMMITTED, NEVER,
                      READ_COMMITTED, SETTLES, SLACK, UNKNOWN, WITH_TXN,
                      Delivery, Evidence, FailedCall, Fault, Item,
                      MessageRecord, Put, Removal, Settle)
from global_evidence import COMMIT, PLACES

# Errors are blamed on faults that are no older, in seconds, and those of
# connections on what may have happened long before their next use.
FAULT_SLACK = 10.0
IDLE_SLACK = 60.0
PROMPT_SLACK = 1.0

# How long before a failover, in seconds, a commit may have been sent that is
# lost in it.
FAILOVER_SLACK = 10.0

# For how long, in seconds, later messages may be delivered instead of one that
# is there to be taken, and the length of time by which that is counted.
PASSING_LIMIT = 5.0
PASSING_STEP = 0.5

WAKE_LIMIT_MS = 100.0

# How many violations of a property are kept as text.
MAX_TEXTS = 20

# Reason in the dead letters of messages that failed too often.
LIMIT_REASON = "max_attempts reached"


class Result:
    """What was found about one property."""

    def __init__(self, name: str, meaning: str):
        self.name = name
        self.meaning = meaning
        # How many things were looked at.
        self.checked = 0
        self.violations: list[str] = []
        self.count = 0

    def add(self, text: str, *values: Any) -> None:
        """Note a violation."""
        self.count += 1
        if len(self.violations) < MAX_TEXTS:
            self.violations.append(text % values if values else text)


# The properties

Property = Callable[[Evidence, Result], None]

PROPERTIES: list[Property] = []


def promise(function: Property) -> Property:
    """Put a property into the table."""
    PROPERTIES.append(function)
    return function


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


def where(message: MessageRecord) -> str:
    """The places where a message was found in the end."""
    places = ["the ledger (%s by %s)" % (effect, txn)
              for txn, effect in message.ledger]
    places += ["the queue (id %d)" % id for id, attempts in message.left]
    places += ["the dead letters (%s)" % dead[1] for dead in message.dead]
    return ", ".join(places)


@promise
def no_dirty_read(run: Evidence, result: Result) -> None:
    """A message is delivered only after its enqueue has committed.

    There must be an enqueue of it that committed, and whose COMMIT had been
    sent when the take ended.  Messages of prepared transactions are the
    business of prepared_is_invisible.  A commit whose answer was lost may
    have been seen and then be lost in a failover that followed at once.
    """
    check_visibility(run, result, False)


def check_visibility(run: Evidence, result: Result, prepared: bool) -> None:
    """Look at deliveries of messages of transactions, prepared or not."""
    failovers = [fault for fault in run.faults if "promot" in fault.name]
    for delivery in run.deliveries:
        puts = delivery.message.puts
        if not puts or any(put.txn.prepare_sent != NEVER
                           for put in puts) != prepared:
            continue
        result.checked += 1
        committed = [put.txn for put in puts if put.kept]
        if any(txn.commit_sent <= delivery.after + SLACK
               for txn in committed):
            continue
        if committed:
            txn = committed[0]
            result.add("%s, but COMMIT of %s was sent at %s only",
                       run.describe(delivery), txn.name,
                       run.time(txn.commit_sent))
        elif not any(put.fate == WITH_TXN and
                     put.txn.commit_sent - SLACK <= fault.end and
                     fault.start <= put.txn.commit_sent + FAILOVER_SLACK and
                     delivery.before <= fault.end
                     for fault in failovers for put in puts):
            result.add("%s, but %s rolled back", run.describe(delivery),
                       ", ".join(sorted({put.txn.name for put in puts})))


@promise
def no_loss(run: Evidence, result: Result) -> None:
    """Every message committed is consumed, dead or still there.

    Whether an enqueue was committed is not guessed: it was if its business
    row is in table "sent".  There is no excuse.
    """
    for message in run.messages.values():
        if message.sent:
            result.checked += 1
            if not (message.ledger or message.left or message.dead):
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
    rejected.
    """
    for delivery in run.deliveries:
        message = delivery.message
        txns = [run.txns.get(txn) for txn, effect in message.ledger]
        txns += [settle.txn for settle in message.effects
                 if isinstance(settle, Settle) and settle.op == "reject"
                 and settle.accepted and settle.kept]
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
                else:
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


def some(things: Iterable[Any]) -> str:
    """A few of many, as text."""
    things = list(things)
    text = ", ".join(str(thing) for thing in things[:3])
    return text + (", ..." if len(things) > 3 else "")


@promise
def late_committer_delivered(run: Evidence, result: Result) -> None:
    """A message that commits late, under a low id, is delivered like others.

    Late is one whose COMMIT was sent when a higher id of its queue had been
    delivered already.  After the drain it must not be in the queue still.
    """
    seen: dict[str, tuple[list[float], list[int]]] = {}
    for delivery in run.deliveries:
        times, highest = seen.setdefault(delivery.message.queue, ([], []))
        times.append(delivery.after)
        highest.append(max(delivery.id, highest[-1]) if highest
                       else delivery.id)
    for message in run.messages.values():
        if not message.sent or message.queue not in seen:
            continue
        times, highest = seen[message.queue]
        for put in message.puts:
            if not put.kept or put.id is None:
                continue
            at = bisect_left(times, put.txn.commit_sent)
            if at == 0 or highest[at - 1] <= put.id:
                continue
            result.checked += 1
            if message.left:
                result.add("%s id %d, committed by %s at %s when id %d had "
                           "been delivered, is still in the queue", message,
                           put.id, put.txn.name,
                           run.time(put.txn.commit_sent), highest[at - 1])


@promise
def passed_over(run: Evidence, result: Result) -> None:
    """No message waits while later ones of its queue are delivered.

    From its commit, or from the latest time at which a hold of it may have
    ended, a message is there until it is delivered next.  Takes that begin
    in that time and get higher ids do so for a few seconds at the most.  It
    may be hidden at times, by takes whose result nobody saw, or removals; and
    takes that use an old snapshot may not see it.
    """
    highest = highest_ids(run)
    hidden = {queue: Spans(run.hidden(queue)) for queue in highest}
    for deliveries in run.by_id:
        since = there_since(deliveries[0])
        for delivery in deliveries:
            if since < NEVER:
                result.checked += 1
            if delivery.before - since > PASSING_LIMIT:
                queue = delivery.message.queue
                for start, end in hidden[queue].between(since,
                                                        delivery.before):
                    passing = passing_by(highest[queue], delivery.id, start,
                                         end)
                    if passing:
                        result.add("%s was there from %s on, but later ones "
                                   "were delivered from %s to %s",
                                   run.describe(delivery), run.time(start),
                                   run.time(passing[0]),
                                   run.time(passing[1]))
                        break
            since = run.latest_end(delivery)


def there_since(delivery: Delivery) -> float:
    """When the message of a first delivery was there to be taken."""
    kept = [put for put in delivery.message.puts if put.kept]
    if len(kept) != 1 or kept[0].id != delivery.id:
        return NEVER
    return kept[0].txn.commit_done


def highest_ids(run: Evidence) -> dict[str, dict[int, int]]:
    """Of each queue, the highest id that takes got in each length of time.

    Takes count where they begin, if they are short and see what is new.
    """
    highest: dict[str, dict[int, int]] = {}
    for delivery in run.deliveries:
        ids = highest.setdefault(delivery.message.queue, {})
        if delivery.txn.isolation == READ_COMMITTED and \
                delivery.after - delivery.before < PASSING_STEP:
            step = int(delivery.before / PASSING_STEP)
            if delivery.id > ids.get(step, 0):
                ids[step] = delivery.id
    return highest


def passing_by(highest: dict[int, int], id: int, start: float,
               end: float) -> tuple[float, float] | None:
    """From when till when higher ids were taken, if it was for too long."""
    if end - start < PASSING_LIMIT:
        return None
    # What begins in one step may end in the next.
    steps = [step for step in range(int(start / PASSING_STEP) + 1,
                                    int(end / PASSING_STEP) - 1)
             if highest.get(step, 0) > id]
    if not steps or (steps[-1] - steps[0]) * PASSING_STEP < PASSING_LIMIT:
        return None
    return steps[0] * PASSING_STEP, (steps[-1] + 1) * PASSING_STEP


class Overlap(NamedTuple):
    """A delivery during a hold of somebody else."""

    name: str
    holder: Delivery
    other: Delivery


def overlaps(run: Evidence, name: str) -> Iterator[Overlap]:
    """Deliveries of a message during a sure hold of another delivery.

    The take as a whole falls into the hold, or the two holds overlap.  The
    hold that was there first gives the property that is violated.
    """
    for deliveries in run.by_id:
        holder = None
        for other in deliveries:
            if holder is not None and (
                    holder.holds(other.before, other.after + SLACK) or
                    other.sure_end > other.after + SLACK and
                    holder.holds(other.after, other.after + SLACK)):
                found = blame(run, holder, other)
                if found == name:
                    yield Overlap(found, holder, other)
            if holder is None or other.sure_end > holder.sure_end:
                holder = other


def blame(run: Evidence, holder: Delivery, other: Delivery) -> str:
    """Name the property that an overlap violates."""
    for item in [holder] + [settle for settle in holder.settles
                            if settle.accepted]:
        if item.txn.prepared and other.before > item.txn.prepare_done and \
                item.low > other.after and not (item is holder and
                                                holder.leased):
            return "prepared_not_redelivered"
    if not holder.leased:
        return "taken_is_exclusive"
    fault = run.forgot(holder.after, other.after)
    if fault is not None and fault.end <= other.after:
        return "lease_survives_crash"
    return "leases_do_not_overlap"


def add_overlaps(run: Evidence, result: Result) -> None:
    """Note the overlaps that violate this property."""
    for overlap in overlaps(run, result.name):
        result.add("%s, though it was held until %s at least since %s",
                   run.describe(overlap.other),
                   run.time(overlap.holder.sure_end),
                   run.describe(overlap.holder))


@promise
def taken_is_exclusive(run: Evidence, result: Result) -> None:
    """What a transaction has dequeued nobody else gets until it ends.

    The hold is sure from the answer of the dequeue until the call is sent
    that commits it or rolls it back, or that fails; if the connection was
    lost, until the last good answer.
    """
    result.checked = sum(not delivery.leased for delivery in run.deliveries)
    add_overlaps(run, result)


@promise
def leases_do_not_overlap(run: Evidence, result: Result) -> None:
    """What is leased nobody else gets before the lease ends.

    A lease is sure until its deadline, counted from the beginning of the
    call that asked for it or extended it last; or until a nack or release
    was sent that was not surely refused; or until the transaction that
    received may have rolled back; or until a loss of shared memory, if it
    may not have been on disk then.  While an open transaction has acked or
    rejected it the deadline does not matter.
    """
    result.checked = sum(delivery.leased for delivery in run.deliveries)
    add_overlaps(run, result)


@promise
def lease_survives_crash(run: Evidence, result: Result) -> None:
    """A lease that was written to disk is honoured after a crash.

    Until its deadline the message is not delivered to anybody else, and its
    receipt is good.  A lease is on disk if it was seen there, or if it was
    older at the crash than the write delay and some seconds, with no fault
    in between that may have kept the worker from its work.
    """
    for delivery in run.deliveries:
        if delivery.leased:
            fault = run.forgot(delivery.after, delivery.sure_end)
            if fault is not None and fault.end < delivery.sure_end:
                result.checked += 1
    add_overlaps(run, result)
    for settle, delivery, fault in lost_leases(run):
        if fault is not None:
            result.add("%s got QU001 after the crash at %s, but the lease "
                       "was good until %s: %s", run.describe_settle(settle),
                       run.time(fault.start), run.time(delivery.sure_end),
                       run.describe(delivery))


@promise
def lease_honoured(run: Evidence, result: Result) -> None:
    """A receipt is good as long as its lease is.

    QU001 is wrong if each of the leases surely lasted until the answer, and
    nobody had settled it, purged or deleted the message.  What a crash has
    to do with is left to lease_survives_crash.
    """
    result.checked = sum(len(settle.targets) for settle in run.settles)
    for settle, delivery, fault in lost_leases(run):
        if fault is None:
            result.add("%s got QU001, but the lease was good until %s: %s",
                       run.describe_settle(settle),
                       run.time(delivery.sure_end), run.describe(delivery))


def lost_leases(run: Evidence
                ) -> Iterator[tuple[Settle, Delivery, Fault | None]]:
    """Settlements that were refused although every lease was good.

    With the crash between grant and settlement, if there was one.
    """
    for settle in run.settles:
        if settle.state != "QU001":
            continue
        if not settle.targets or \
                len(settle.targets) < len(set(settle.receipts)):
            continue
        if all(is_surely_good(delivery, settle)
               for delivery in settle.targets):
            delivery = settle.targets[0]
            faults = [run.forgot(target.after, settle.after)
                      for target in settle.targets]
            yield (settle, delivery,
                   next((fault for fault in faults if fault), None))


def is_surely_good(delivery: Delivery, settle: Settle) -> bool:
    """Was the lease good when this settlement was answered?"""
    if not delivery.holds(settle.before, settle.after + SLACK):
        return False
    for other in delivery.settles:
        if other is settle or other.before > settle.after or other.refused:
            continue
        if other.op in ("nack", "release"):
            return False
        if other.op in ("ack", "reject") and not (
                other.undone and other.high < settle.before):
            return False
    for item in delivery.message.effects:
        if isinstance(item, Removal):
            return False
    return not any(effect in ("purged", "deleted")
                   for txn, effect in delivery.message.ledger)


@promise
def stale_receipt_refused(run: Evidence, result: Result) -> None:
    """The receipt of a lease that has ended is never accepted again.

    A lease has ended for certain when the message was delivered again, was
    nacked or released, when the transaction that received or that settled
    it has ended so, but not when merely its deadline is over.  Whether the
    settlement was committed does not matter; accepting it was wrong.
    A loss of shared memory may bring a lease back, if its end was not surely
    on disk by then.
    """
    for deliveries in run.by_id:
        for at, delivery in enumerate(deliveries):
            for settle in delivery.settles:
                result.checked += 1
                if settle.accepted:
                    ended = ended_by(run, deliveries, at, settle)
                    if ended and not is_brought_back(run, ended[1], settle):
                        result.add("%s was accepted for %s, which had "
                                   "ended: %s", run.describe_settle(settle),
                                   run.describe(delivery), ended[0])


def is_brought_back(run: Evidence, ended: float | None,
                    settle: Settle) -> bool:
    """May a crash have brought back a lease that had ended?"""
    if ended is None:
        return False
    fault = run.forgot(ended, settle.after)
    return fault is not None and not run.is_on_disk(ended, fault)


def ended_by(run: Evidence, deliveries: list[Delivery], at: int,
             settle: Settle) -> tuple[str, float | None] | None:
    """What had ended a lease before it was settled, if anything surely had.

    And when it had ended at the latest, unless that was for ever.
    """
    delivery = deliveries[at]
    for other in itertools.islice(deliveries, at + 1, None):
        if other.after > settle.before - SLACK:
            break
        if other.before > delivery.after:
            return run.describe(other), other.after
    for other in delivery.settles:
        if other is settle:
            break
        if not other.accepted or other.after > settle.before:
            continue
        if other.op in ("nack", "release"):
            return run.describe_settle(other), other.after
        if other.op in ("ack", "reject") and other.kept and \
                other.txn.commit_done < settle.before:
            return run.describe_settle(other), None
    if delivery.undone and delivery.high < settle.before:
        return "%s rolled back at %s" % (delivery.txn.name,
                                         run.time(delivery.high)), delivery.high
    return None


@promise
def receipts_unique(run: Evidence, result: Result) -> None:
    """No two deliveries have the same receipt, over crashes too."""
    result.checked = len(run.by_receipt)
    for first, second in run.same_receipts:
        result.add("%s has the receipt %s of %s", run.describe(second),
                   second.receipt, run.describe(first))


def failure_bounds(run: Evidence, deliveries: list[Delivery]
                   ) -> Callable[[float], int]:
    """A function that tells how many failures are possible before a time.

    Every delivery may have failed once, unless it was committed or released,
    or was rolled back by a deadlock or a serialization failure.
    After a loss of shared memory a lease that had ended may come back from
    disk and end once more.  Takes whose result nobody saw may have had the
    message, as long as it was there to be taken.
    """
    message = deliveries[0].message
    ordered = sorted(deliveries, key=attrgetter("before"))
    starts = [delivery.before for delivery in ordered]
    counts = list(itertools.accumulate(
        (may_fail(run, delivery) for delivery in ordered), initial=0))
    there_from = min((put.txn.commit_sent for put in message.puts),
                     default=-NEVER)

    def possible(time: float) -> int:
        at = bisect_right(starts, time)
        unseen = run.unseen_takes(message.queue, there_from, time)
        count = counts[at] + unseen
        if run.forgot(there_from, time):
            count += at + unseen
        return count

    return possible


def may_fail(run: Evidence, delivery: Delivery) -> int:
    """Can this delivery have ended in a failure that counts?"""
    if delivery.kept and not delivery.leased:
        return 0
    if delivery.fate == BACK_UNCOUNTED and not delivery.leased:
        return 0
    if delivery.leased:
        lease = run.lease_bounds(delivery.message.queue, delivery.lease)[0]
        # A receipt is good after its lease ran out, which may be counted.
        if any(settle.op == "release" and settle.accepted
               for settle in delivery.settles) and not any(
                   settle.op == "extend" or
                   settle.after > delivery.before + lease
                   for settle in delivery.settles):
            return 0
        if delivery.fate == BACK_UNCOUNTED and not delivery.settles and \
                delivery.high < delivery.before + lease:
            return 0
    return 1


def certain_failures(run: Evidence, deliveries: list[Delivery]
                     ) -> list[tuple[float, float]]:
    """When a message has certainly failed: from, until.

    A take that was rolled back, by request or by an error that counts; a
    nack; a lease that has run out, which shows when the message is delivered
    again although nothing else can have ended the lease.
    """
    failures = []
    for at, delivery in enumerate(deliveries):
        if not delivery.leased:
            if delivery.fate == BACK_COUNTED:
                failures.append((delivery.low, delivery.high))
            continue
        nacks = [settle for settle in delivery.settles
                 if settle.op == "nack" and settle.accepted]
        if nacks:
            failures.append((nacks[0].before, nacks[0].after))
        elif delivery.fate == BACK_COUNTED and not delivery.settles:
            # The rollback counted, or the end of the lease before it.
            failures.append((delivery.after, delivery.high))
        elif at + 1 < len(deliveries) and ran_out(delivery,
                                                  deliveries[at + 1]):
            # Before the next delivery, and not before this one.
            failures.append((delivery.after,
                             max(delivery.after,
                                 deliveries[at + 1].before - SLACK)))
    return failures


def ran_out(delivery: Delivery, following: Delivery) -> bool:
    """Has a lease run out for certain when the message was delivered again?
    """
    if not delivery.kept or following.before < delivery.after or \
            following.after < delivery.sure_end:
        return False
    for settle in delivery.settles:
        if settle.before > following.after or settle.refused:
            continue
        if settle.op == "release":
            return False
        if settle.op in ("ack", "reject") and not (
                settle.undone and settle.high < following.before):
            return False
    return True


@promise
def attempts_add_up(run: Evidence, result: Result) -> None:
    """The attempt of a delivery is the number of failures before it plus 1.

    At most those that are possible, at least those that are certain.  What
    was counted before a loss of shared memory is not certain any more, nor
    is anything that a lost connection or a terminated session did.  Not
    counted are deadlocks, serialization failures and what the server could
    not do.
    """
    for deliveries in run.by_id:
        possible = failure_bounds(run, deliveries)
        failures = certain_failures(run, deliveries)
        froms = sorted(failure[0] for failure in failures)
        untils = sorted(failure[1] for failure in failures)
        for delivery in deliveries:
            result.checked += 1
            most = 1 + possible(delivery.after)
            # It does not follow from its own failure.
            most -= may_fail(run, delivery)
            forgotten = run.last_forgotten(delivery.after)
            least = 1 + max(bisect_left(untils, delivery.before) -
                            bisect_right(froms, forgotten), 0)
            if delivery.attempt < least or delivery.attempt > most:
                bound = ("at least %d" % least if delivery.attempt < least
                         else "at most %d" % most)
                result.add("%s should be %s; it was delivered %d times "
                           "until then", run.describe(delivery), bound,
                           sum(other.after <= delivery.after
                               for other in deliveries))


@promise
def failed_alone(run: Evidence, result: Result) -> None:
    """A message that has failed before comes alone, never in a batch."""
    for delivery in run.deliveries:
        if delivery.of > 1:
            result.checked += 1
            if delivery.attempt > 1:
                result.add("%s came with %d others", run.describe(delivery),
                           delivery.of - 1)


@promise
def batch_within_max(run: Evidence, result: Result) -> None:
    """A take gets no more messages than it asks for."""
    result.checked = run.takes
    for client, call, count in run.overfull:
        result.add("call %d of %s, %s of %s at %s, asked for %d and got %d",
                   call.n, client, call.op, call.queue, run.time(call.time),
                   call.arg["max"], count)


@promise
def batch_in_order(run: Evidence, result: Result) -> None:
    """The messages of one take come in the order of their ids.

    They have one priority, and a failed message comes alone.
    """
    last = None
    for delivery in run.deliveries:
        if delivery.position > 0 and (last.client, last.call) == (
                delivery.client, delivery.call):
            result.checked += 1
            if delivery.id < last.id:
                result.add("%s came after id %d", run.describe(delivery),
                           last.id)
        last = delivery


@promise
def delay_kept(run: Evidence, result: Result) -> None:
    """After a nack with a delay a message does not come before its time.

    A loss of shared memory may bring it back early.
    """
    for deliveries in run.by_id:
        for settle in {settle for delivery in deliveries
                       for settle in delivery.settles}:
            if settle.op != "nack" or not settle.accepted or \
                    not settle.delay:
                continue
            result.checked += 1
            due = settle.before + settle.delay - SLACK
            for delivery in deliveries:
                if settle.after < delivery.after < due and \
                        not run.forgot(settle.before, delivery.after):
                    result.add("%s came before %s, in spite of: %s",
                               run.describe(delivery), run.time(due),
                               run.describe_settle(settle))


@promise
def back_off_kept(run: Evidence, result: Result) -> None:
    """After a failure a message does not come before its back-off is over.

    After a nack that names no delay, and after a take that failed unless
    it was the first failure.  The back-off is the shortest that operators may
    have set.  A loss of shared memory may bring the message back early.
    """
    for deliveries in run.by_id:
        for delivery, following in itertools.pairwise(deliveries):
            failed_at = backs_off_from(run, delivery)
            if failed_at == NEVER or following.before < delivery.after:
                continue
            result.checked += 1
            due = failed_at + run.back_off_least(delivery.message.queue,
                                                 delivery.attempt) - SLACK
            if following.after < due and \
                    not run.forgot(delivery.after, following.after):
                result.add("%s came before %s, in spite of: %s",
                           run.describe(following), run.time(due),
                           run.describe(delivery))


def backs_off_from(run: Evidence, delivery: Delivery) -> float:
    """When a message failed so that it must back off, at the earliest.

    A lease that runs out before its transaction rolls back counts then, and
    there is no back-off.
    """
    if not delivery.leased or (
            delivery.fate == BACK_COUNTED and not delivery.settles and
            delivery.high < delivery.before + run.lease_bounds(
                delivery.message.queue, delivery.lease)[0]):
        is_kept_back = (delivery.fate == BACK_COUNTED and
                        delivery.attempt > 1)
        return delivery.low if is_kept_back else NEVER
    return next((settle.before for settle in delivery.settles
                 if settle.op == "nack" and settle.accepted and
                 settle.delay is None), NEVER)


@promise
def extend_tells_deadline(run: Evidence, result: Result) -> None:
    """What extend returns is the time of the call plus the lease."""
    low, high = run.offsets
    for settle in run.settles:
        if settle.op == "extend" and settle.accepted and settle.told:
            result.checked += 1
            granted = settle.told - settle.lease
            if not (settle.before + low - SLACK <= granted
                    <= settle.after + high + SLACK):
                result.add("%s told a deadline %.3f s after its start",
                           run.describe_settle(settle),
                           settle.told - settle.before - low)


@promise
def limit_kept(run: Evidence, result: Result) -> None:
    """Nothing is delivered more often than max_attempts allows."""
    for delivery in run.deliveries:
        limit = max_attempts(run, delivery.message.queue)
        if limit:
            result.checked += 1
            if delivery.attempt > limit:
                result.add("%s, but max_attempts is %d",
                           run.describe(delivery), limit)


def max_attempts(run: Evidence, queue: str) -> int:
    """The limit of a queue; 0 is none."""
    return run.queues.get(queue, {}).get("max_attempts", 0)


@promise
def dead_or_alive(run: Evidence, result: Result) -> None:
    """A message is in the dead letters once, for a reason, or not at all.

    What is dead is neither left nor consumed.  It was rejected, or as many
    failures as max_attempts allows were possible.  What was rejected by a
    transaction that committed is dead.
    """
    by_id = {}
    for deliveries in run.by_id:
        first = deliveries[0]
        if first.message.dead:
            by_id[first.message, first.id] = deliveries
    for message in run.messages.values():
        rejects = [item for item in message.effects
                   if isinstance(item, Settle) and item.op == "reject"
                   and not item.refused]
        if not message.dead:
            for reject in rejects:
                if reject.accepted and reject.kept:
                    result.checked += 1
                    result.add("%s is not dead, but in %s, though it was "
                               "rejected: %s", message,
                               where(message) or "no place",
                               run.describe_settle(reject))
            continue
        result.checked += 1
        if len(message.dead) > 1 or message.left or message.ledger:
            result.add("%s is in %s", message, where(message))
        source_id, reason, attempts, intact = message.dead[0]
        if reason == LIMIT_REASON:
            limit = max_attempts(run, message.queue)
            deliveries = by_id.get((message, source_id), [])
            if deliveries:
                possible = failure_bounds(run, deliveries)(NEVER)
            else:
                possible = len(run.unseen.get(message.queue, ()))
            if limit == 0 or attempts < limit or possible < limit:
                result.add("%s id %d died of %d attempts; %d failures were "
                           "possible, max_attempts is %d", message,
                           source_id, attempts, possible, limit)
        elif not any(not reject.undone for reject in rejects):
            result.add("%s id %d was rejected by nobody, but is dead (%s)",
                       message, source_id, reason)


@promise
def order_per_producer(run: Evidence, result: Result) -> None:
    """A single consumer gets what a producer sends in the order of commits.

    It is about first deliveries in queues with one consumer, of messages
    whose ids have the order of their commits as well.  A message may come
    late if a take whose result nobody saw, or a removal, may have had it in
    the meantime; one whose first delivery that was seen is not its first
    attempt came late for a reason.
    """
    first: dict[MessageRecord, Delivery] = {}
    for delivery in run.deliveries:
        if run.queues.get(delivery.message.queue, {}).get(
                "single_consumer"):
            first.setdefault(delivery.message, delivery)
    producers: dict[tuple[str, str], list[tuple[Put, Delivery]]] = {}
    for message, delivery in first.items():
        for put in message.puts:
            if put.kept and put.txn.prepare_sent == NEVER and \
                    put.id is not None:
                producer = put.txn.name.rpartition(".")[0]
                producers.setdefault((message.queue, producer), []).append(
                    (put, delivery))
    hidden = {queue: Spans(run.unseen.get(queue, []) +
                           run.removal_spans(queue))
              for queue, producer in producers}
    for (queue, producer), messages in producers.items():
        messages.sort(key=lambda pair: pair[0].id)
        latest = None
        for put, delivery in messages:
            result.checked += 1
            if latest is not None:
                early_put, early = latest
                in_order = (early_put.txn is put.txn or
                            early_put.txn.commit_done <=
                            put.txn.commit_sent)
                if in_order and is_after(early, delivery) and \
                        early.attempt == 1 and \
                        not hidden[queue].meet(early_put.txn.commit_sent,
                                               delivery.after):
                    result.add("%s before %s, which was committed first",
                               run.describe(delivery), run.describe(early))
            if put.txn.commit_done < NEVER and delivery.attempt == 1 and (
                    latest is None or not is_after(latest[1], delivery)):
                latest = (put, delivery)


def is_after(one: Delivery, other: Delivery) -> bool:
    """Did one come after the other for certain?"""
    if one.client == other.client and one.call == other.call:
        return one.position > other.position
    return one.before >= other.after


class Spans:
    """Lengths of time, to be asked whether any of them meets another."""

    def __init__(self, spans: list[tuple[float, float]]):
        spans = sorted(spans)
        self._starts = [span[0] for span in spans]
        self._ends = list(itertools.accumulate(
            (span[1] for span in spans), max))

    def meet(self, start: float, end: float) -> bool:
        """Does any of them overlap these times?"""
        at = bisect_right(self._starts, end)
        return at > 0 and self._ends[at - 1] >= start

    def between(self, start: float, end: float
                ) -> Iterator[tuple[float, float]]:
        """What there is between them, within these times."""
        at = bisect_right(self._starts, start)
        if at > 0:
            start = max(start, self._ends[at - 1])
        while at < len(self._starts) and self._starts[at] < end:
            if self._starts[at] > start:
                yield start, self._starts[at]
            start = max(start, self._ends[at])
            at += 1
        if start < end:
            yield start, end


@promise
def order_in_group(run: Evidence, result: Result) -> None:
    """The messages of a group come one at a time, in the order they came in.

    No message is delivered while the one before it in its group, which had
    been committed already, is neither consumed nor dead.
    """
    groups: dict[tuple[str, str], list[Put]] = {}
    for message in run.messages.values():
        for put in message.puts:
            if put.group is not None and put.kept and put.id is not None:
                groups.setdefault((message.queue, put.group), []).append(put)
    if not groups:
        return
    deliveries: dict[MessageRecord, list[Delivery]] = {}
    for delivery in run.deliveries:
        deliveries.setdefault(delivery.message, []).append(delivery)
    for puts in groups.values():
        puts.sort(key=attrgetter("id"))
        previous = None
        for put in puts:
            for delivery in deliveries.get(put.message, ()):
                result.checked += 1
                if previous is not None and \
                        previous.txn.commit_done < delivery.before and \
                        gone_from(run, previous.message) > \
                        delivery.after + SLACK:
                    result.add("%s, while %s of its group was still there",
                               run.describe(delivery), previous.message)
            previous = put


def gone_from(run: Evidence, message: MessageRecord) -> float:
    """The earliest time at which a message may have left its queue."""
    times = [-NEVER] if message.dead else []
    for txn, effect in message.ledger:
        known = run.txns.get(txn)
        times.append(known.commit_sent if known else -NEVER)
    return min(times, default=NEVER)


@promise
def business_row_visible(run: Evidence, result: Result) -> None:
    """Whoever gets a message sees the business row committed with it.

    In the same statement, in any isolation level.  Only a take that was
    ready to wait may return what is newer than its snapshot.
    """
    for delivery in run.deliveries:
        if not delivery.waited:
            result.checked += 1
            if not delivery.flags & 1:
                result.add("no row of table sent was visible: %s",
                           run.describe(delivery))


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

    In the dead letters too.
    """
    for delivery in run.deliveries:
        result.checked += 1
        if not delivery.flags & 2:
            result.add("payload damaged: %s", run.describe(delivery))
        ids = {put.id for put in delivery.message.puts if put.kept}
        if ids and None not in ids and delivery.id not in ids:
            result.add("enqueued under id %s: %s", some(ids),
                       run.describe(delivery))
    for message in run.messages.values():
        for source_id, reason, attempts, intact in message.dead:
            result.checked += 1
            if not intact:
                result.add("payload damaged in the dead letters: %s id %d",
                           message, source_id)


@promise
def prepared_is_invisible(run: Evidence, result: Result) -> None:
    """What a prepared transaction has sent nobody gets before its COMMIT.

    As no_dirty_read, for messages that somebody tried to send by a prepared
    transaction.
    """
    check_visibility(run, result, True)


@promise
def prepared_not_redelivered(run: Evidence, result: Result) -> None:
    """What a prepared transaction has consumed nobody gets until it ends.

    Dequeued, or acked or rejected, over restarts and past any deadline: from
    the answer of PREPARE until somebody first asks to finish it.
    """
    for txn in run.txns.values():
        if txn.prepared:
            result.checked += sum(
                1 for item in txn.items
                if isinstance(item, (Delivery, Settle)))
    add_overlaps(run, result)


@promise
def rolled_back_prepared_returns(run: Evidence, result: Result) -> None:
    """What a prepared transaction had consumed is back if it is rolled back.

    It is delivered again, or in the ledger by somebody else, or dead.  If it
    is left in the queue after the drain, nobody could get it.
    """
    last = {(deliveries[0].message, deliveries[0].id): deliveries[-1].after
            for deliveries in run.by_id}
    for txn in run.txns.values():
        if not txn.prepared or txn.state != ABORTED:
            continue
        for item in txn.items:
            if isinstance(item, Delivery) and not item.leased:
                targets = [item]
            elif isinstance(item, Settle) and item.op in ("ack", "reject"):
                targets = item.targets
            else:
                continue
            for delivery in targets:
                result.checked += 1
                message = delivery.message
                again = last[message, delivery.id] > txn.finish_sent
                if message.ledger or message.dead or again:
                    continue
                result.add("%s id %d has not come back since %s was rolled "
                           "back at %s; it is %s", message, delivery.id,
                           txn.name, run.time(txn.finish_sent),
                           "left in the queue" if message.left else "gone")


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


@promise
def waiter_wakes(run: Evidence, result: Result) -> None:
    """A waiting consumer has a message within 100 ms of its commit.

    Measured by probes on the quiet server, with the machine watched.
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
def nothing_left_behind(run: Evidence, result: Result) -> None:
    """When all is over no lease, lock, transaction or session is left.

    Neither in memory nor on disk, and no queue has a problem.
    """
    for when, file in (("after the drain", "drained.json"),
                       ("at the end", "left.json")):
        left = run.json("state", file)
        for name in ("in_flight", "leases", "prepared", "locks", "sessions",
                     "queue_problems"):
            if name in left:
                result.checked += 1
                for thing in left[name]:
                    result.add("%s, %s: %s", name, when, thing)


@promise
def indexes_clean(run: Evidence, result: Result) -> None:
    """amcheck finds nothing wrong with tables and indexes."""
    left = run.json("state", "left.json")
    if "amcheck" in left:
        result.checked = 1
        for text in left["amcheck"]:
            result.add("%s", text)


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


# Global transactions.  What is at the beginning is no global transaction.
START = "start"


@promise
def global_has_one_outcome(run: Evidence, result: Result) -> None:
    """A global transaction is committed in both databases, or in none.

    Each branch that is committed has left one row, about the same token: one
    database took it and the other put it into its queue.  And each queue has
    the tokens that by its own rows it must have, so that queue and rows of a
    database are of one mind.  There is no excuse.
    """
    for item in run.globals.globals.values():
        if item.gid == START:
            continue
        result.checked += 1
        rows = sorted(row for place in PLACES for row in item.rows[place])
        if not rows:
            continue
        if any(len(item.rows[place]) != 1 for place in PLACES):
            result.add("committed in %s only, or twice: %s",
                       " and ".join(item.places), item)
        elif len({token for token, way in rows}) != 1 or \
                [way for token, way in rows] != ["put", "took"]:
            result.add("moved %s: %s", rows, item)
    expected = run.globals.balance()
    found: dict[tuple[str, str], int] = {}
    for place in PLACES:
        for token in run.globals.left.get(place, {}).get("tokens", []):
            found[place, token] = found.get((place, token), 0) + 1
    for place, token in sorted(expected.keys() | found.keys()):
        result.checked += 1
        there = found.get((place, token), 0)
        must = expected.get((place, token), 0)
        if there != must:
            result.add("%s is %d times in the queue of %s, by its rows %d",
                       token, there, place, must)


@promise
def global_obeys_the_decision(run: Evidence, result: Result) -> None:
    """What the coordinator of a global transaction was told is what happened.

    Told that it is committed, it is committed everywhere; told that it is
    rolled back, nowhere.  It is not told both.  Who never asked for a commit
    has none.  If answers were lost either may be right.
    """
    for item in run.globals.globals.values():
        if item.gid == START:
            continue
        result.checked += 1
        if len(item.told) > 1:
            result.add("told both: %s", item)
        elif COMMIT in item.told and len(item.places) < len(PLACES):
            result.add("committed, but it is in %s: %s",
                       some(item.places) or "no database", item)
        elif item.places and (item.told and COMMIT not in item.told or
                              not item.asked_to_commit):
            result.add("%s, but it is in %s: %s",
                       "rolled back" if item.told else "never decided",
                       some(item.places), item)
    for outcome in run.globals.left.get("forced", []):
        result.add("a branch was finished against the decision: %s", outcome)


@promise
def global_nothing_in_doubt(run: Evidence, result: Result) -> None:
    """After the drain no global transaction is open anywhere.

    No branch is in doubt and no record waits for anybody, no message of
    either database is held, and nobody thinks that he cannot ask.
    """
    for name in ("branches", "records", "in_flight", "errors"):
        if name in run.globals.left:
            result.checked += 1
            for thing in run.globals.left[name]:
                result.add("%s: %s", name, thing)


@promise
def branch_of_another_left_alone(run: Evidence, result: Result) -> None:
    """What others have prepared under the name of a branch is theirs.

    Each such transaction that was prepared was committed by its owner.
    """
    there = {gid for gid in run.globals.left.get("strange", [])}
    for gid in run.globals.strange:
        result.checked += 1
        if gid not in there:
            result.add("%s was prepared and is gone", gid)


# Errors that need no fault to explain them, by the calls that may get them.
ALWAYS_EXPECTED = {
    "QU001": SETTLES,
    # Settled by another transaction; operators do not wait long for a lock.
    "55P03": SETTLES + ("remove",),
    # The timeout that is being reset hits the statement that does it.
    "57014": ("remove", "settings"),
    "22012": ("error",),
    # There may be too many prepared transactions.
    "53200": ("prepare",),
    "42704": ("commit_prepared", "rollback_prepared", "decide_commit",
              "decide_abort"),
    "55000": ("commit_prepared", "rollback_prepared", "decide_abort"),
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
    result.checked = run.calls + run.globals.calls
    spans: dict[tuple[str, ...], Spans] = {}
    for failed in run.failed_calls + [
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
def server_log_clean(run: Evidence, result: Result) -> None:
    """The log of the server tells of no crash that no fault explains."""
    left = run.json("state", "left.json")
    if "log_problems" in left:
        result.checked = 1
        for line in left["log_problems"]:
            result.add("%s", line)


# The whole


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


def main() -> int:
    """The command line."""
    if len(sys.argv) != 2:
        print("Usage: checker.py RUN_DIR", file=sys.stderr)
        return 2
    results = check(sys.argv[1])
    print(table(results))
    return 1 if any(result.count for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Failures are counted, keep a message back, and end in the dead letters."""

import itertools
from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Callable

from checker.property import Result, promise, where
from checker.redrive import is_redriven
from checker.times import EXPIRED_REASON
from evidence import Evidence
from records import (BACK_COUNTED, BACK_UNCOUNTED, NEVER, SLACK, Delivery,
                     Settle)

# Reason in the dead letters of messages that failed too often.
LIMIT_REASON = "max_attempts reached"


@promise
def attempts_add_up(run: Evidence, result: Result) -> None:
    """The attempt of a delivery is the number of failures before it plus 1.

    At most those that are possible, at least those that are certain.  What
    was counted before a loss of shared memory is not certain any more, nor
    is anything that a lost connection or a terminated session did, or what
    came before a redrive.  Not counted are deadlocks, serialization failures
    and what the server could not do.
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
            if is_redriven(run, delivery.message.queue):
                least = 1
            if delivery.attempt < least or delivery.attempt > most:
                bound = ("at least %d" % least if delivery.attempt < least
                         else "at most %d" % most)
                result.add("%s should be %s; it was delivered %d times "
                           "until then", run.describe(delivery), bound,
                           sum(other.after <= delivery.after
                               for other in deliveries))


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
        elif delivery.ahead:
            # The failure of another one may have ended it, uncounted.
            continue
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
def failed_batch_halved(run: Evidence, result: Result) -> None:
    """A message that has failed comes in half of a batch it was in, or alone.

    In which of them it failed last is not always known, nor are the takes
    whose result nobody saw.  What has not failed comes by itself, but behind
    others of its group.
    """
    for deliveries in run.by_id:
        message = deliveries[0].message
        there_from = min((put.txn.commit_sent for put in message.puts),
                         default=-NEVER)
        for delivery in deliveries:
            # A take that waited may have begun before those that failed.
            largest = max((other.of for other in deliveries
                           if other is not delivery and
                           other.before < delivery.after), default=0)
            if delivery.attempt > 1 and delivery.of > 1 and \
                    not run.unseen_takes(message.queue, there_from,
                                         delivery.after):
                result.checked += 1
                if delivery.of > largest // 2:
                    result.add("%s came with %d others, but had been one of "
                               "%d at most", run.describe(delivery),
                               delivery.of - 1, largest)
    for first, second in itertools.pairwise(run.deliveries):
        may_be_behind = first.message.group is not None and first.attempt == 1
        if second.position > 0 and second.message.group is None and \
                not may_be_behind and (
                    first.client, first.call) == (second.client, second.call):
            result.checked += 1
            if (first.attempt > 1) != (second.attempt > 1):
                result.add("%s came with %s", run.describe(second),
                           run.describe(first))


@promise
def delay_kept(run: Evidence, result: Result) -> None:
    """After a nack or release with a delay nothing comes before its time.

    A loss of shared memory may bring it back early, or who reschedules it.
    """
    for deliveries in run.by_id:
        for settle in {settle for delivery in deliveries
                       for settle in delivery.settles}:
            if settle.op not in ("nack", "release") or \
                    not settle.accepted or not settle.delay:
                continue
            result.checked += 1
            due = settle.before + settle.delay - SLACK
            for delivery in deliveries:
                if settle.after < delivery.after < due and \
                        not is_changed(delivery, settle.before) and \
                        not run.forgot(settle.before, delivery.after):
                    result.add("%s came before %s, in spite of: %s",
                               run.describe(delivery), run.time(due),
                               run.describe_settle(settle))


@promise
def back_off_kept(run: Evidence, result: Result) -> None:
    """After a failure a message does not come before its back-off is over.

    After a nack that names no delay, and after a take that failed unless
    it was the first failure.  The back-off is the shortest that operators may
    have set.  A loss of shared memory may bring the message back early, or who
    reschedules it.
    """
    for deliveries in run.by_id:
        for delivery, following in itertools.pairwise(deliveries):
            failed_at = backs_off_from(run, delivery)
            if failed_at == NEVER or following.before < delivery.after:
                continue
            result.checked += 1
            due = failed_at + run.back_off_least(
                delivery.message.queue, back_off_step(delivery)) - SLACK
            if following.after < due and \
                    not is_changed(following, delivery.before) and \
                    not run.forgot(delivery.after, following.after):
                result.add("%s came before %s, in spite of: %s",
                           run.describe(following), run.time(due),
                           run.describe(delivery))


def back_off_step(delivery: Delivery) -> int:
    """After how many failures it backs off as after this one.

    In company the back-off of takes does not grow.
    """
    nacked = any(settle.op == "nack" and settle.accepted
                 for settle in delivery.settles)
    return 1 if delivery.of > 1 and not nacked else delivery.attempt


def is_changed(delivery: Delivery, since: float) -> bool:
    """May somebody have changed the message since then?

    That ends its back-off, even if the transaction is rolled back.
    """
    return any(change.after > since and change.before < delivery.after
               for change in delivery.message.changes)


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
    failures as max_attempts allows were possible, or it had expired, which is
    the business of expired_for_a_reason.  What was rejected by a
    transaction that committed is dead, unless it may have been brought back.
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
                if reject.accepted and reject.kept and \
                        not is_redriven(run, message.queue):
                    result.checked += 1
                    result.add("%s is not dead, but in %s, though it was "
                               "rejected: %s", message,
                               where(message) or "no place",
                               run.describe_settle(reject))
            continue
        result.checked += 1
        if len(message.dead) > 1 or message.left or message.ledger:
            result.add("%s is in %s", message, where(message))
        source_id, reason, attempts, intact, died_at = message.dead[0]
        if reason == EXPIRED_REASON:
            continue
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

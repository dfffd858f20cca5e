"""A lease is good until it ends, and its receipt is good for no longer."""

import itertools
from typing import Iterator

from checker.holds import add_overlaps
from checker.property import Result, promise
from evidence import Evidence
from records import SLACK, Delivery, Fault, Removal, Settle


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
    for other in delivery.ahead:
        for failed in other.settles:
            if failed.op == "nack" and failed.accepted and \
                    failed.after < settle.before:
                return "%s, which was ahead in its group" \
                    % run.describe_settle(failed), failed.after
    if delivery.undone and delivery.high < settle.before:
        how = "%s rolled back at %s" % (delivery.txn.name,
                                        run.time(delivery.high))
        return how, delivery.high
    return None


@promise
def receipts_unique(run: Evidence, result: Result) -> None:
    """No two deliveries have the same receipt, over crashes too."""
    result.checked = len(run.by_receipt)
    for first, second in run.same_receipts:
        result.add("%s has the receipt %s of %s", run.describe(second),
                   second.receipt, run.describe(first))


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

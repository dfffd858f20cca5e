"""What a transaction has taken, prepared or not, is held until it ends."""

from typing import Iterator, NamedTuple

import terms
from checker.property import Result, promise
from evidence import Evidence
from records import ABORTED, SLACK, Delivery, Settle


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

    It is delivered again, or in the ledger by somebody else, or dead, unless it
    has expired.  If it is left in the queue after the drain, nobody could get
    it.
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
                if message.ledger or message.dead or again or \
                        terms.may_be_discarded(run, message):
                    continue
                result.add("%s id %d has not come back since %s was rolled "
                           "back at %s; it is %s", message, delivery.id,
                           txn.name, run.time(txn.finish_sent),
                           "left in the queue" if message.left else "gone")


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


class Overlap(NamedTuple):
    """A delivery during a hold of somebody else."""

    name: str
    holder: Delivery
    other: Delivery


def add_overlaps(run: Evidence, result: Result) -> None:
    """Note the overlaps that violate this property."""
    for overlap in overlaps(run, result.name):
        result.add("%s, though it was held until %s at least since %s",
                   run.describe(overlap.other),
                   run.time(overlap.holder.sure_end),
                   run.describe(overlap.holder))


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

"""Ordered groups: one holder at a time, and one message after the other."""

from operator import attrgetter
from typing import NamedTuple

import terms
from checker.property import Result, promise
from evidence import Evidence
from records import NEVER, SLACK, Delivery, MessageRecord, Put

Groups = dict[tuple[str, str], list]


class Member(NamedTuple):
    """A message of a group, and the earliest time at which it may be gone."""

    put: Put
    gone: float


@promise
def order_in_group(run: Evidence, result: Result) -> None:
    """The messages of a group come one after the other, retries too.

    No message is delivered while one is there that came before it: that had
    been committed when its enqueue began.  Only what waits for its first due
    time lets others pass, and what has expired; what somebody has rescheduled
    is not judged.  A transaction that has taken or acked the earlier one may
    take the next, and one take may get both.
    """
    members: Groups = {}
    for message in run.messages.values():
        kept = [put for put in message.puts if put.kept]
        if len(kept) == 1 and kept[0].group is not None and \
                not message.changes:
            members.setdefault((message.queue, kept[0].group), []).append(
                Member(kept[0], gone_from(run, message)))
    takes = takes_of(run)
    for key, deliveries in by_group(run).items():
        waiting = sorted(members.get(key, ()),
                         key=lambda member: member.put.txn.commit_done)
        there: list[Member] = []
        at = 0
        for delivery in sorted(deliveries, key=attrgetter("after")):
            while at < len(waiting) and \
                    waiting[at].put.txn.commit_done < delivery.before:
                there.append(waiting[at])
                at += 1
            there = [member for member in there
                     if member.gone > delivery.after + SLACK]
            kept = [put for put in delivery.message.puts if put.kept]
            if len(kept) != 1:
                continue
            result.checked += 1
            for member in there:
                if member.put.message is not delivery.message and \
                        member.put.txn.commit_done < kept[0].before and \
                        must_wait(run, delivery, member.put.message, takes):
                    result.add("%s, while %s of its group was still there, "
                               "committed by %s", run.describe(delivery),
                               member.put.message,
                               run.time(member.put.txn.commit_done))
                    break


def must_wait(run: Evidence, delivery: Delivery, earlier: MessageRecord,
              takes: dict[MessageRecord, list[Delivery]]) -> bool:
    """Does nothing allow this delivery while the earlier one is there?"""
    others = takes.get(earlier, [])
    if any(item.txn is delivery.txn for item in (*others, *earlier.effects)):
        return False
    if terms.is_plain(earlier):
        return True
    if terms.may_have_expired(run, earlier, delivery.after):
        return False
    return (terms.due_at_last(run, earlier) < delivery.before or
            any(other.after < delivery.before for other in others))


def gone_from(run: Evidence, message: MessageRecord) -> float:
    """The earliest time at which a message may have left its queue."""
    times = [run.from_server(dead[4])[0] for dead in message.dead]
    for txn, effect in message.ledger:
        known = run.txns.get(txn)
        times.append(known.commit_sent if known else -NEVER)
    return min(times, default=NEVER)


@promise
def group_held_by_one(run: Evidence, result: Result) -> None:
    """One transaction or lease at a time has messages of a group.

    A transaction that acks or rejects what a lease has may go on in its
    place.  Whoever purges or deletes the message of a lease ends that.
    """
    for deliveries in by_group(run).values():
        holders: list[Delivery] = []
        for delivery in sorted(deliveries, key=attrgetter("after")):
            result.checked += 1
            holders = [holder for holder in holders
                       if min(holder.sure_end,
                              gone_from(run, holder.message)) >
                       delivery.after + SLACK]
            for holder in holders:
                if holder.message is not delivery.message and \
                        holder.holds(delivery.before,
                                     delivery.after + SLACK) and \
                        not is_of_one(holder, delivery):
                    result.add("%s, though another one of its group was held "
                               "until %s at least since %s",
                               run.describe(delivery),
                               run.time(holder.sure_end),
                               run.describe(holder))
                    break
            holders.append(delivery)


def is_of_one(holder: Delivery, other: Delivery) -> bool:
    """Are both of one transaction, or settled by that of the other?"""
    return holder.txn is other.txn or any(
        settle.txn is other.txn for settle in holder.settles)


def by_group(run: Evidence) -> Groups:
    """The deliveries of each group whose queue keeps order."""
    groups: Groups = {}
    for delivery in run.deliveries:
        message = delivery.message
        group = message.group
        if group is not None and run.keeps_order(message.queue):
            groups.setdefault((message.queue, group), []).append(delivery)
    return groups


def takes_of(run: Evidence) -> dict[MessageRecord, list[Delivery]]:
    """The deliveries of each message of a group."""
    takes: dict[MessageRecord, list[Delivery]] = {}
    for deliveries in by_group(run).values():
        for delivery in deliveries:
            takes.setdefault(delivery.message, []).append(delivery)
    return takes

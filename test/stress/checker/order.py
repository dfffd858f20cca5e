"""In what order messages come."""

from bisect import bisect_right
from operator import attrgetter

import terms
from checker.property import Result, promise
from checker.redrive import may_have_died
from checker.spans import Spans
from evidence import Evidence
from records import NEVER, READ_COMMITTED, SLACK, Delivery, MessageRecord, Put

# A place in the order of delivery: highest priority first, then the id.
Rank = tuple[int, int]

# For how long, in seconds, later messages may be delivered instead of one that
# is there to be taken, and the length of time by which that is counted.
PASSING_LIMIT = 5.0
PASSING_STEP = 0.5


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
    """The messages of one take come by priority, then in the order of ids.

    Groups have their own order.
    """
    last = None
    for delivery in run.deliveries:
        if is_grouped(run, delivery.message.queue):
            continue
        if delivery.position > 0 and (last.client, last.call) == (
                delivery.client, delivery.call):
            result.checked += 1
            if rank_of(delivery) < rank_of(last):
                result.add("%s, of priority %d, came after id %d of priority "
                           "%d", run.describe(delivery), delivery.priority,
                           last.id, last.priority)
        last = delivery


def is_grouped(run: Evidence, queue: str) -> bool:
    """Are there groups in this queue?"""
    return run.queues.get(queue, {}).get("grouped", False)


def rank_of(delivery: Delivery) -> Rank:
    """The place of a message in the order of delivery."""
    return -delivery.priority, delivery.id


@promise
def passed_over(run: Evidence, result: Result) -> None:
    """No message waits while later ones of its queue are delivered.

    From its commit, or from the latest time at which a hold of it may have
    ended, but not before it is due, a message is there until it is delivered
    next.  Takes that begin in that time and get higher ids of its priority, or
    lower priorities, do so for a few seconds at the most.  It may be hidden at
    times, by takes whose result nobody saw, or removals; and takes that use an
    old snapshot may not see it.  What may have been dead meanwhile was not
    there, for as long as nobody brought it back.  What has a group waits for
    others, and comes with them; it is not looked at here.
    """
    last = last_ranks(run)
    hidden = {queue: Spans(run.hidden(queue)) for queue in last}
    for deliveries in run.by_id:
        message = deliveries[0].message
        if message.group is not None:
            continue
        due = -NEVER if terms.is_plain(message) else \
            terms.due_at_last(run, message)
        since = there_since(deliveries[0])
        for at, delivery in enumerate(deliveries):
            if at > 0:
                since = free_since(run, deliveries[at - 1], delivery)
            since = max(since, due, changed_until(delivery))
            if since < NEVER:
                result.checked += 1
            if delivery.before - since > PASSING_LIMIT:
                queue = delivery.message.queue
                for start, end in hidden[queue].between(since,
                                                        delivery.before):
                    passing = passing_by(last[queue], rank_of(delivery),
                                         start, end)
                    if passing:
                        result.add("%s was there from %s on, but later ones "
                                   "were delivered from %s to %s",
                                   run.describe(delivery), run.time(start),
                                   run.time(passing[0]),
                                   run.time(passing[1]))
                        break


def there_since(delivery: Delivery) -> float:
    """When the message of a first delivery was there to be taken."""
    kept = [put for put in delivery.message.puts if put.kept]
    if len(kept) != 1 or kept[0].id != delivery.id:
        return NEVER
    return kept[0].txn.commit_done


def free_since(run: Evidence, delivery: Delivery,
               following: Delivery) -> float:
    """When a message was there to be taken again, after a delivery."""
    if may_have_died(run, delivery, following):
        return NEVER
    return run.latest_end(delivery)


def changed_until(delivery: Delivery) -> float:
    """Until when a message may have been hidden by one who changed it."""
    until = -NEVER
    for change in delivery.message.changes:
        if change.before < delivery.after:
            until = max(until, change.txn.commit_done if change.kept
                        else change.high)
    return until


def last_ranks(run: Evidence) -> dict[str, dict[int, Rank]]:
    """Of each queue, the last in order that takes got in each length of time.

    Takes count where they begin, if they are short, ask for any message and
    see what is new, and nothing of a group, which may have come with others.
    """
    last: dict[str, dict[int, Rank]] = {}
    for delivery in run.deliveries:
        ranks = last.setdefault(delivery.message.queue, {})
        if delivery.txn.isolation == READ_COMMITTED and \
                delivery.message.group is None and not delivery.which and \
                delivery.after - delivery.before < PASSING_STEP:
            step = int(delivery.before / PASSING_STEP)
            rank = rank_of(delivery)
            if step not in ranks or rank > ranks[step]:
                ranks[step] = rank
    return last


def passing_by(last: dict[int, Rank], rank: Rank, start: float,
               end: float) -> tuple[float, float] | None:
    """From when till when others were taken, if it was for too long."""
    if end - start < PASSING_LIMIT:
        return None
    # What begins in one step may end in the next.
    steps = [step for step in range(int(start / PASSING_STEP) + 1,
                                    int(end / PASSING_STEP) - 1)
             if step in last and last[step] > rank]
    if not steps or (steps[-1] - steps[0]) * PASSING_STEP < PASSING_LIMIT:
        return None
    return steps[0] * PASSING_STEP, (steps[-1] + 1) * PASSING_STEP


@promise
def priority_kept(run: Evidence, result: Result) -> None:
    """A single consumer gets nothing while something more urgent is there.

    There is, on its first delivery, what was committed and due when the take
    began and had not expired when it ended.  With one consumer there is
    nobody else who may be looking at it; but a take whose result nobody saw
    may have had it, and a removal or somebody who changes it.
    """
    first: dict[MessageRecord, Delivery] = {}
    # By queue and priority, in the order of their times.
    takes: dict[str, dict[int, list[Delivery]]] = {}
    for delivery in run.deliveries:
        message = delivery.message
        if run.queues.get(message.queue, {}).get("single_consumer"):
            first.setdefault(message, delivery)
            takes.setdefault(message.queue, {}).setdefault(
                delivery.priority, []).append(delivery)
    hidden = {queue: Spans(run.unseen.get(queue, []) +
                           run.removal_spans(queue)) for queue in takes}
    for message, urgent in first.items():
        since = ready_since(run, urgent)
        if since == NEVER or hidden[message.queue].meet(
                message.puts[0].txn.commit_sent, urgent.after):
            continue
        result.checked += 1
        for priority, others in takes[message.queue].items():
            if priority >= urgent.priority:
                continue
            at = bisect_right(others, since, key=attrgetter("before"))
            if at < len(others) and others[at].after < urgent.before:
                result.add("%s, of priority %d, while there was %s, of "
                           "priority %d, since %s", run.describe(others[at]),
                           priority, message, urgent.priority,
                           run.time(since))


def ready_since(run: Evidence, delivery: Delivery) -> float:
    """When a message was there to be taken first, and due; NEVER if unknown.
    """
    message = delivery.message
    if delivery.attempt > 1 or message.changes or len(message.puts) != 1:
        return NEVER
    since = there_since(delivery)
    if since < NEVER and not terms.is_plain(message):
        since = max(since, terms.due_at_last(run, message) + SLACK)
    return since


@promise
def order_per_producer(run: Evidence, result: Result) -> None:
    """A single consumer gets what a producer sends in the order of commits.

    It is about first deliveries in queues with one consumer, of messages of
    one priority that are due at once, whose ids have the order of their
    commits as well.  A message may come
    late if a take whose result nobody saw, or a removal, may have had it in
    the meantime; one whose first delivery that was seen is not its first
    attempt came late for a reason.
    """
    first: dict[MessageRecord, Delivery] = {}
    for delivery in run.deliveries:
        if run.queues.get(delivery.message.queue, {}).get(
                "single_consumer"):
            first.setdefault(delivery.message, delivery)
    producers: dict[tuple[str, str, int], list[tuple[Put, Delivery]]] = {}
    for message, delivery in first.items():
        for put in message.puts:
            if put.kept and put.txn.prepare_sent == NEVER and \
                    put.id is not None and put.is_due_at_once and \
                    not message.changes:
                producer = put.txn.name.rpartition(".")[0]
                producers.setdefault((message.queue, producer, put.priority),
                                     []).append((put, delivery))
    hidden = {queue: Spans(run.unseen.get(queue, []) +
                           run.removal_spans(queue))
              for queue, producer, priority in producers}
    for (queue, producer, priority), messages in producers.items():
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

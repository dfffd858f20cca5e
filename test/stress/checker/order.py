"""In what order messages come."""

from operator import attrgetter

from checker.property import Result, promise
from checker.spans import Spans
from evidence import Evidence
from records import NEVER, READ_COMMITTED, SLACK, Delivery, MessageRecord, Put

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

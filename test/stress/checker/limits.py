"""No queue has more than it takes, and nobody is refused what fits."""

from operator import itemgetter

import history
from checker.property import Result, promise
from evidence import Evidence
from records import COMMITTED, NEVER, SLACK, Delivery, Put

# The setting queue.max_wait, for how long a sender waits at most.
MAX_WAIT = 60.0

# Ways to send that wait for room if the queue says so.
WAITING_WAYS = ("enqueue", "batch")


@promise
def room_kept(run: Evidence, result: Result) -> None:
    """No queue has more messages than it takes.

    A clerk counts them, all by one snapshot.  What was prepared before a loss
    of shared memory is not known until it ends, and may be too much.
    """
    unknown = {queue: unknown_sends(run, queue)
               for queue in {count[0] for count in run.counts}}
    for queue, before, after, number in run.counts:
        limit = run.queues.get(queue, {}).get("max_messages")
        if limit is None:
            continue
        result.checked += 1
        if number <= limit:
            continue
        excess = sum(since < after and before < until
                     for since, until in unknown[queue])
        if number > limit + excess:
            result.add("%s has %d messages at %s..%s and takes %d", queue,
                       number, run.time(before), run.time(after), limit)


def unknown_sends(run: Evidence, queue: str) -> list[tuple[float, float]]:
    """When messages were there, perhaps, that were prepared before a crash."""
    spans = []
    for txn in run.txns.values():
        if txn.prepare_sent == NEVER or \
                run.forgot(txn.prepare_sent, txn.commit_done) is None:
            continue
        for item in txn.items:
            if isinstance(item, Put) and item.message.queue == queue:
                gone = [consumer.commit_done for name, effect
                        in item.message.ledger
                        for consumer in [run.txns.get(name)]
                        if consumer is not None and
                        consumer.state == COMMITTED]
                spans.append((txn.finish_sent, max(gone, default=NEVER)))
    return spans


@promise
def full_for_a_reason(run: Evidence, result: Result) -> None:
    """QU003 comes from queues with limits, and not from one that waits.

    A sender waits if its transaction has written nothing yet: in autocommit
    mode, in a call that is not a plain INSERT.
    """
    for failed in run.failed_calls:
        call, answer = failed.call, failed.answer
        if answer.state != "QU003":
            continue
        result.checked += 1
        settings = run.queues.get(call.queue or "", {})
        if settings.get("max_messages") is None:
            result.add("call %d of %s: %s is full at %s, but has no limit",
                       call.n, failed.client, call.queue,
                       run.time(answer.time))
        elif settings.get("on_full") == "wait" and failed.is_alone and \
                call.arg.get("how") in WAITING_WAYS and \
                answer.time - call.time < MAX_WAIT - SLACK:
            result.add("call %d of %s did not wait for room in %s, at %s..%s",
                       call.n, failed.client, call.queue,
                       run.time(call.time), run.time(answer.time))


@promise
def held_within_limit(run: Evidence, result: Result) -> None:
    """No more messages of a queue are held at a time than max_in_flight says.

    What is held for certain, dequeued or leased.  Not counted is what a lease
    holds that had run out, and what had been prepared when memory was lost.
    """
    changes: dict[str, list[tuple[float, int, Delivery]]] = {}
    for delivery in run.deliveries:
        queue = delivery.message.queue
        if run.queues.get(queue, {}).get("max_in_flight") is None:
            continue
        result.checked += 1
        end = known_until(run, delivery)
        if end > delivery.after + SLACK:
            changes.setdefault(queue, []).extend((
                (delivery.after + SLACK, 1, delivery), (end, -1, delivery)))
    for queue, ends in changes.items():
        limit = run.queues[queue]["max_in_flight"]
        held = 0
        for time, change, delivery in sorted(ends, key=itemgetter(0, 1)):
            held += change
            if change > 0 and held > limit:
                result.add("%s, of which %d are held then, not %d",
                           run.describe(delivery), held, limit)


def known_until(run: Evidence, delivery: Delivery) -> float:
    """Until when memory knows for certain that a message is held."""
    end = delivery.sure_end
    if delivery.gap is not None:
        end = min(end, delivery.gap[0])
    if delivery.txn.prepare_sent < NEVER or any(
            settle.txn.prepare_sent < NEVER for settle in delivery.settles):
        fault = run.forgot(delivery.after, end)
        if fault is not None:
            end = min(end, fault.start)
    return end


@promise
def room_is_exact(run: Evidence, result: Result) -> None:
    """When nothing else goes on, a queue takes as many as its limit says.

    Not one less, and not one more; and as many can be held.
    """
    for client, call, answer in run.limits:
        result.checked += 1
        limit = run.queues[call.queue][call.arg["setting"]]
        number = (answer.result or {}).get("number")
        if answer.state != history.OK or number != limit:
            result.add("call %d of %s at %s: %s of %s is %d, but it lets in "
                       "%s", call.n, client, run.time(call.time),
                       call.arg["setting"], call.queue, limit, number)

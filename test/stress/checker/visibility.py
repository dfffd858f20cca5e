"""When a message can be seen, and what can be seen with it."""

from bisect import bisect_left

from checker.property import Result, promise
from evidence import Evidence
from records import NEVER, SLACK, WITH_TXN

# How long before a failover, in seconds, a commit may have been sent that is
# lost in it.
FAILOVER_SLACK = 10.0


@promise
def no_dirty_read(run: Evidence, result: Result) -> None:
    """A message is delivered only after its enqueue has committed.

    There must be an enqueue of it that committed, and whose COMMIT had been
    sent when the take ended.  Messages of prepared transactions are the
    business of prepared_is_invisible.  A commit whose answer was lost may
    have been seen and then be lost in a failover that followed at once.
    """
    check_visibility(run, result, False)


@promise
def prepared_is_invisible(run: Evidence, result: Result) -> None:
    """What a prepared transaction has sent nobody gets before its COMMIT.

    As no_dirty_read, for messages that somebody tried to send by a prepared
    transaction.
    """
    check_visibility(run, result, True)


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

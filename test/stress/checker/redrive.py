"""Dead letters that are brought back are what they were."""

import itertools

from checker.property import Result, promise
from evidence import Evidence
from records import SLACK, Delivery


def is_redriven(run: Evidence, queue: str) -> bool:
    """Are dead letters of this queue brought back?"""
    return run.queues.get(queue, {}).get("redriven", False)


@promise
def redriven_as_it_was(run: Evidence, result: Result) -> None:
    """A dead letter comes back by a redrive, and has its attempts before it.

    It has its id, as content_intact says, and is in one place in the end, as
    no_loss, one_effect and dead_or_alive say.
    """
    for deliveries in run.by_id:
        message = deliveries[0].message
        if not is_redriven(run, message.queue):
            continue
        result.checked += len(deliveries)
        for delivery, following in itertools.pairwise(deliveries):
            if not was_rejected(delivery, following):
                continue
            if not any(delivery.after < end and start < following.after
                       for start, end in run.redrives):
                result.add("%s was dead, and nobody had brought it back",
                           run.describe(following))
            if following.attempt > 1 and not run.unseen_takes(
                    message.queue, delivery.after, following.after):
                result.add("%s was dead before, so this should be its first "
                           "attempt", run.describe(following))


def was_rejected(delivery: Delivery, following: Delivery) -> bool:
    """Was a message dead for certain when it was delivered again?"""
    return any(settle.op == "reject" and settle.accepted and settle.kept and
               settle.txn.commit_done + SLACK < following.before
               for settle in delivery.settles)


def may_have_died(run: Evidence, delivery: Delivery,
                  following: Delivery) -> bool:
    """May it have failed too often between, and have been brought back?

    It takes as many failures as its queue allows, and begins anew then.  One
    may be of the first delivery, and others of takes whose result nobody saw,
    which may have come before it died or after it was back; and a lease that
    comes back from disk after a loss of shared memory may end once more.
    """
    queue = delivery.message.queue
    limit = run.queues.get(queue, {}).get("max_attempts", 0)
    if limit == 0 or not is_redriven(run, queue):
        return False
    failures = (run.unseen_takes(queue, delivery.after, following.before) +
                (run.forgot(delivery.before, following.before) is not None))
    return delivery.attempt + failures >= limit + following.attempt - 1

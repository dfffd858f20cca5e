/*-------------------------------------------------------------------------
 *
 * inflight_settle.c
 *		Leases of the in-flight table are settled.
 *
 * A caller that settles a lease holds the entry, as one that claimed it does, until it has
 * given that back, or its transaction has ended (inflight_end.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"

#include "common/compat.h"
#include "shared/deadline.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"

/*
 * queue_inflight_settle
 *		Begin to settle the lease with this fence.
 *
 * On SETTLE_OK the caller holds the lease in *result: it does not end before
 * the caller, or its transaction, has finished.
 *
 * The fence decides, not the clock: a lease that ran out is good until a
 * consumer takes the message, or another one of its group, whether its end was
 * noticed or not.  If it was, the lease is revived, and its failure is taken
 * back, unless the row counts it already.
 */
SettleResult
queue_inflight_settle(const MessageKey *key, uint64 epoch, uint64 number,
					  InflightEntry **result)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);
	SettleResult res;

	if (entry == NULL)
		res = SETTLE_LOST;
	else if (entry->epoch != epoch || entry->number != number)
		res = entry->state == INFLIGHT_DEQUEUED ||
			entry->state == INFLIGHT_LEASED ? SETTLE_HELD : SETTLE_LOST;
	else if (entry->state == INFLIGHT_LEASED && entry->is_settling)
		res = (!entry->is_prepared && entry->holder == MyProcNumber) ?
			SETTLE_SELF : SETTLE_BUSY;
	else if (entry->state != INFLIGHT_LEASED && !entry->is_lapsed)
		res = entry->state == INFLIGHT_DEQUEUED ? SETTLE_HELD :
			SETTLE_GIVEN_BACK;
	else if (entry->state == INFLIGHT_CLAIMED)
		res = SETTLE_EXAMINED;
	else
		res = entry->state == INFLIGHT_IDLE ? queue_lapse_revive(entry) :
			SETTLE_OK;
	if (res == SETTLE_OK)
	{
		entry->is_settling = true;
		entry->is_prepared = false;
		entry->holder = MyProcNumber;
		entry->holder_pid = MyProcPid;
		*result = entry;
	}
	LWLockRelease(lock);
	return res;
}

/*
 * queue_inflight_settle_any
 *		The same for any lease of this row, because a purge ends it.
 *
 * Returns SETTLE_LOST if there is none.
 */
SettleResult
queue_inflight_settle_any(const MessageKey *key, TimestampTz enqueued_at,
						  InflightEntry **result)
{
	InflightEntry copy;

	if (!queue_inflight_peek(key, enqueued_at, &copy) ||
		(copy.state != INFLIGHT_LEASED && !copy.is_lapsed))
		return SETTLE_LOST;
	return queue_inflight_settle(key, copy.epoch, copy.number, result);
}

/*
 * queue_inflight_nack
 *		End the lease, because its consumer failed.
 *
 * Counts a failure, of so many messages together.  If the row counts already
 * that the lease ran out, it is to tell why.  The message is due again after
 * "delay", or after the back-off of the queue if delay is negative.  "counted"
 * is how many the row has.
 */
void
queue_inflight_nack(InflightEntry *entry, const RetryPolicy *retry,
					int counted, int64 delay, const FailureNote *failure,
					int together)
{
	MessageKey	key = entry->key;
	FailureNote note = *failure;
	LeasesBehind leases = queue_lapse_behind(entry);
	LWLock	   *lock = queue_entry_lock(entry);

	if (entry->batch > 0)
		together = Min(together, entry->batch);
	note.batch = Min(together, FAILURE_MAX_BATCH);
	entry->counted = counted;
	entry->retry = *retry;
	if (!entry->is_lapse_counted)
		queue_entry_count_failure(entry, &note);
	else if (note.kind == FAILURE_NACKED)
	{
		entry->is_retold |= entry->nnotes == 0;
		queue_entry_add_note(entry, &note);
	}
	if (delay < 0)
		delay = queue_failure_delay(&entry->retry, counted + entry->failures);
	queue_entry_set_idle(entry, delay > 0 ? failure->at + delay : 0);
	entry->is_lapse_counted = false;
	if (queue_entry_is_at_limit(entry))
	{
		entry->is_exhausted = true;
		entry->deadline = 0;
	}
	else if (delay > 0)
		entry->is_delayed = true;
	queue_group_move_fence(&entry->member);
	queue_entry_offer(entry, true);
	LWLockRelease(lock);
	queue_lapse_end_behind(&key, &leases);
}

/*
 * queue_inflight_release
 *		End the lease as if it had not been given; the message is due again
 *		after "delay".
 *
 * What the row counts of that lease already stays.  Leases on messages of its
 * group behind it end, too, or those would be settled before it.
 */
void
queue_inflight_release(InflightEntry *entry, int64 delay)
{
	MessageKey	key = entry->key;
	LeasesBehind leases = queue_lapse_behind(entry);
	LWLock	   *lock = queue_entry_lock(entry);

	entry->is_lapse_counted = false;
	queue_entry_set_idle(entry, delay > 0 ? GetCurrentTimestamp() + delay : 0);
	entry->is_delayed = delay > 0;
	queue_group_move_fence(&entry->member);
	queue_entry_offer(entry, true);
	queue_entry_remove_if_nothing_left(entry);
	LWLockRelease(lock);
	queue_lapse_end_behind(&key, &leases);
}

/*
 * queue_inflight_extend
 *		Let the lease end at another time, and stop settling it.
 */
void
queue_inflight_extend(InflightEntry *entry, TimestampTz deadline)
{
	LWLock	   *lock = queue_entry_lock(entry);

	entry->deadline = deadline;
	entry->is_written = false;
	entry->is_settling = false;
	if (entry->is_behind_failed)
	{
		queue_lapse_end_uncounted(entry);
		LWLockRelease(lock);
		return;
	}
	queue_deadline_set(entry->queue, &entry->key, &entry->due,
					   entry->deadline);
	LWLockRelease(lock);
}

/*
 * queue_inflight_extend_settling
 *		The same for a partition of which this transaction has settled a part:
 *		it holds the lease until it ends.
 */
void
queue_inflight_extend_settling(InflightEntry *entry, TimestampTz deadline)
{
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(entry->is_settling && entry->holder == MyProcNumber);
	entry->deadline = deadline;
	queue_deadline_clear(&entry->due);
	entry->is_written = false;
	LWLockRelease(lock);
}

/*
 * queue_inflight_set_batch_ids
 *		The batch of a partition that this process has claimed begins and ends
 *		with these ids.
 */
void
queue_inflight_set_batch_ids(InflightEntry *entry, int64 first_id,
							 int64 last_id)
{
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(queue_entry_is_partition(entry) && entry->holder == MyProcNumber);
	entry->first_id = first_id;
	entry->last_id = last_id;
	LWLockRelease(lock);
}

/* That of one which it holds ends with this id. */
void
queue_inflight_set_last(InflightEntry *entry, int64 last_id)
{
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(queue_entry_is_partition(entry) && entry->holder == MyProcNumber);
	entry->last_id = last_id;
	LWLockRelease(lock);
}

/*
 * queue_inflight_is_consumed
 *		Is what is remembered of a partition about messages that are consumed,
 *		because its position is this one, or are gone up to it?
 *
 * The log of leases is written behind, so after a crash it may tell of a batch
 * whose last message was consumed, and so it does if that was prepared.  Of a
 * message there is no row then.
 */
bool
queue_inflight_is_consumed(const InflightEntry *entry, int64 position)
{
	return queue_entry_is_partition(entry) && entry->last_id != 0 &&
		entry->last_id <= position;
}

/* Forget that, but for the log; this process has a claim on the partition. */
void
queue_inflight_forget_consumed(InflightEntry *entry)
{
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(queue_entry_is_partition(entry) && entry->state == INFLIGHT_CLAIMED &&
		   entry->holder == MyProcNumber);
	entry->failures = 0;
	entry->failed_at = 0;
	entry->first_id = entry->last_id = 0;
	queue_lapse_forget(entry);
	queue_entry_forget_notes(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_forget_lease
 *		Forget a lease like that, unless the partition was taken since.
 *
 * False: somebody holds it.
 */
bool
queue_inflight_forget_lease(const MessageKey *key, uint64 epoch, uint64 number)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);
	bool		is_there = entry != NULL && entry->epoch == epoch &&
		entry->number == number &&
		(entry->state == INFLIGHT_LEASED || entry->is_lapsed);
	bool		is_held = is_there && queue_entry_is_held(entry);

	if (is_there && !is_held)
		queue_entry_forget(entry);
	LWLockRelease(lock);
	return !is_held;
}

/*-------------------------------------------------------------------------
 *
 * inflight_end.c
 *		Transactions that hold entries of the in-flight table end, or are
 *		prepared.
 *
 * Everything that this needs is in the entries already: nothing here allocates
 * or fails.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"
#include "shared/quota.h"

/* What end_received() is told */
typedef struct PreparedEnd
{
	int			slot;
	bool		committed;
	const FailureNote *failure; /* NULL: it does not count */
} PreparedEnd;

static bool drop_entry(InflightEntry *entry, void *arg);
static bool end_received(InflightEntry *entry, void *arg);
static bool is_lease(const InflightEntry *entry, uint64 number);
static FailureNote renew(const FailureNote *failure,
						 const InflightEntry *entry);
static void fail_entry(InflightEntry *entry, const FailureNote *failure);

/*
 * queue_inflight_done
 *		The message is consumed: forget it.
 *
 * Returns true if queue.lease may have a row of it; then the entry stays until
 * the worker has removed that row.
 */
bool
queue_inflight_done(InflightEntry *entry)
{
	LWLock	   *lock = queue_entry_lock(entry);
	bool		is_durable = entry->is_durable;

	queue_entry_forget(entry);
	LWLockRelease(lock);
	return is_durable;
}

/*
 * queue_inflight_go_on
 *		A part of what was received of a partition is consumed: the lease goes
 *		on for the rest.
 *
 * What had failed was the first message, which is consumed.
 */
void
queue_inflight_go_on(InflightEntry *entry, int nconsumed)
{
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(queue_entry_is_partition(entry) && entry->is_settling);
	entry->nleft = Max(entry->nleft - nconsumed, 0);
	entry->failures = 0;
	entry->counted = 0;
	entry->failed_at = 0;
	entry->is_lapse_counted = false;
	entry->is_written = false;
	queue_entry_forget_notes(entry);
	LWLockRelease(lock);
	queue_inflight_undo_settle(entry);
}

/*
 * queue_inflight_fail_next
 *		What was dequeued of a partition is consumed, and what comes next has
 *		failed so often meanwhile, together with those up to an id.
 *
 * If it had been leased, that has ended.
 */
void
queue_inflight_fail_next(InflightEntry *entry, const FailureNote *failure,
						 int nfailed, int64 last_id)
{
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(queue_entry_is_partition(entry) &&
		   (entry->state == INFLIGHT_DEQUEUED || entry->is_settling));
	entry->failures = 0;
	entry->counted = 0;
	entry->failed_at = 0;
	entry->is_exhausted = false;
	entry->is_delayed = false;
	entry->is_lapse_counted = false;
	entry->first_id = 0;
	entry->last_id = last_id;
	queue_entry_forget_notes(entry);
	queue_entry_set_idle(entry, 0);
	for (int i = 1; i < nfailed; i++)
		queue_entry_count_failure(entry, failure);
	fail_entry(entry, failure);
	queue_entry_offer(entry, true);
	LWLockRelease(lock);
}

/*
 * queue_inflight_undo_dequeue
 *		The transaction that dequeued the message is rolled back.
 *
 * "failure" is counted, unless it is NULL, or nothing was taken.
 */
void
queue_inflight_undo_dequeue(InflightEntry *entry, const FailureNote *failure)
{
	LWLock	   *lock = queue_entry_lock(entry);
	bool		counts = failure != NULL && !entry->is_uncounted;

	queue_entry_set_idle(entry, entry->is_uncounted ? entry->deadline : 0);
	if (counts)
		fail_entry(entry, failure);
	else if (entry->failures > 0)
		queue_entry_note_untold(entry, entry->since);
	queue_entry_offer(entry, true);
	queue_entry_remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_undo_prepared
 *		The same for a prepared transaction; the failure was noted at PREPARE.
 */
void
queue_inflight_undo_prepared(InflightEntry *entry, const FailureNote *failure)
{
	FailureNote note;

	if (failure != NULL)
		note = renew(failure, entry);
	queue_inflight_undo_dequeue(entry, failure != NULL ? &note : NULL);
}

/*
 * queue_inflight_undo_settle
 *		The transaction that settled the lease is rolled back: the lease goes
 *		on.
 *
 * If its deadline has passed by now, it ends.
 */
void
queue_inflight_undo_settle(InflightEntry *entry)
{
	LWLock	   *lock = queue_entry_lock(entry);
	MessageKey	key = entry->key;
	LeasesBehind leases = {0};

	if (entry->is_behind_failed)
	{
		queue_lapse_end_uncounted(entry);
		LWLockRelease(lock);
		return;
	}
	entry->is_settling = false;
	entry->is_prepared = false;
	if (entry->deadline > GetCurrentTimestamp())
		queue_entry_watch_deadline(entry);
	else
	{
		leases = queue_lapse_expire(entry);
		queue_entry_offer(entry, true);
	}
	LWLockRelease(lock);
	queue_lapse_end_behind(&key, &leases);
}

/*
 * queue_inflight_keep_lease
 *		The transaction that received the message is committed.
 *
 * Returns true if the worker passed the lease over because it was still open,
 * so that it is to be written now.  "batch" messages were received together.
 */
bool
queue_inflight_keep_lease(const MessageKey *key, uint64 number, int batch)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);
	bool		was_passed_over = false;

	if (queue_entry_has_fence(entry, number))
	{
		entry->is_open = false;
		queue_entry_set_batch(entry, batch);
		was_passed_over = entry->is_passed_over;
	}
	LWLockRelease(lock);
	return was_passed_over;
}

/*
 * queue_inflight_undo_lease
 *		The transaction that received the message is rolled back: the lease
 *		ends at once, as a dequeue would.
 *
 * Returns false if it has ended already, or is being settled; a receipt of a
 * lease that ran out is not good any more then.
 */
bool
queue_inflight_undo_lease(const MessageKey *key, uint64 number,
						  const FailureNote *failure)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);
	bool		ours;

	ours = is_lease(entry, number) && !entry->is_settling;
	if (!ours && queue_entry_has_fence(entry, number) && entry->is_lapsed)
		queue_lapse_end_fence(entry);
	if (ours)
	{
		queue_entry_set_idle(entry, 0);
		if (failure != NULL)
			fail_entry(entry, failure);
		queue_entry_offer(entry, true);
		queue_entry_remove_if_nothing_left(entry);
	}
	LWLockRelease(lock);
	return ours;
}

/*
 * queue_inflight_counted
 *		The worker's step is committed: "counted" failures are in the row now,
 *		and the due time, if there was one.
 *
 * With is_log_ended, the same transaction has removed what the log said of the
 * message.
 */
void
queue_inflight_counted(InflightEntry *entry, int counted, bool is_exhausted,
					   bool is_gone, bool is_log_ended)
{
	LWLock	   *lock = queue_entry_lock(entry);
	TimestampTz due = entry->is_delayed ? entry->deadline : 0;

	Assert(entry->state == INFLIGHT_CLAIMED && entry->is_step);
	entry->failures -= Min(counted, entry->failures);
	if (is_gone)
		entry->is_lapsed = false;
	entry->is_lapse_counted = entry->is_lapsed;
	if (is_log_ended)
		queue_entry_end_log(entry);
	entry->failed_at = 0;
	entry->is_exhausted = is_exhausted;
	entry->is_delayed = false;
	queue_entry_forget_notes(entry);
	if (entry->is_lapsed)
		queue_lapse_set(entry);
	else
		queue_entry_set_idle(entry, 0);
	if (queue_entry_is_partition(entry))
	{
		entry->deadline = due;
		queue_entry_offer(entry, true);
	}
	else if (entry->member.group != NULL && !entry->is_exhausted)
		queue_group_leave(&entry->member, !is_gone, queue_entry_rank(entry),
						  due, true);
	else if (due <= entry->since)
		queue_entry_offer(entry, true);
	else
		queue_cover_add_delayed(entry->queue, &entry->key, entry->priority,
								due);
	queue_entry_remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_drop
 *		Forget the messages of a queue that is dropped or truncated.
 *
 * If relid is InvalidOid, the database or its extension is dropped.  Only the
 * transaction that does so can hold a message of it now, so leases and
 * failures are all there is to forget.
 */
void
queue_inflight_drop(Oid dbid, Oid relid)
{
	/*
	 * Mostly there are none.  The transaction that dropped the queue has its
	 * table locked, so none come.
	 */
	if (!OidIsValid(relid) || !queue_quota_is_unused(dbid, relid))
		queue_inflight_walk(dbid, drop_entry, &relid);
	queue_group_drop(dbid, relid);
}

/* Visitor: forget an entry of a dropped queue, unless it is held. */
static bool
drop_entry(InflightEntry *entry, void *arg)
{
	Oid			relid = *(Oid *) arg;

	if ((OidIsValid(relid) && entry->key.relid != relid) ||
		queue_entry_is_held(entry))
		return true;
	if (!OidIsValid(relid))
		queue_entry_end_log(entry);
	queue_entry_forget(entry);
	return true;
}

/*
 * queue_inflight_set_prepared
 *		PREPARE: the entry is held by a slot of the registry from now on.
 *
 * It is put before *list, which becomes the entry.  "batch" messages were
 * dequeued together; or a lease goes on if it commits.  Of a partition, so many
 * are consumed then.
 */
void
queue_inflight_set_prepared(InflightEntry *entry, int slot, int batch,
							bool goes_on, int nconsumed, InflightEntry **list)
{
	LWLock	   *lock = queue_entry_lock(entry);

	if (entry->state == INFLIGHT_DEQUEUED)
		entry->batch = Min(batch, FAILURE_MAX_BATCH);

	entry->is_prepared = true;
	entry->goes_on = goes_on;
	entry->nconsumed = nconsumed;
	entry->holder = slot;
	entry->holder_pid = 0;
	entry->next_prepared = *list;
	*list = entry;
	queue_group_disown(&entry->member);
	LWLockRelease(lock);
}

/*
 * queue_inflight_receive_prepared
 *		PREPARE of the transaction that received the message.
 *
 * Returns false if its receipt is not good any more.  The lease stays what it
 * is, but if the prepared transaction is rolled back, it ends, and its receipt
 * with it.
 */
bool
queue_inflight_receive_prepared(const MessageKey *key, uint64 number,
								int batch, int slot)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);
	bool		ours;

	ours = queue_entry_has_fence(entry, number);
	if (ours)
	{
		entry->receive_slot = slot + 1;
		queue_entry_set_batch(entry, batch);
	}
	LWLockRelease(lock);
	return ours;
}

/*
 * queue_inflight_receive_ended
 *		The prepared transaction of this slot has ended: so have leases that
 *		it received, if it was rolled back.
 */
void
queue_inflight_receive_ended(int slot, bool committed,
							 const FailureNote *failure)
{
	PreparedEnd end = {slot, committed, failure};

	queue_inflight_walk(InvalidOid, end_received, &end);
}

/* Visitor: what that means for one entry. */
static bool
end_received(InflightEntry *entry, void *arg)
{
	PreparedEnd *end = arg;

	if (entry->receive_slot != end->slot + 1)
		return true;
	queue_entry_note_change(entry);
	entry->receive_slot = 0;
	entry->is_open = false;
	if (!end->committed && entry->is_lapsed)
	{
		queue_lapse_end_fence(entry);
		return true;
	}
	if (end->committed || !queue_entry_is_plain_lease(entry))
		return true;
	queue_entry_set_idle(entry, 0);
	if (end->failure != NULL)
	{
		FailureNote note = renew(end->failure, entry);

		fail_entry(entry, &note);
	}
	queue_entry_offer(entry, true);
	queue_entry_remove_if_nothing_left(entry);
	return true;
}

/*
 * Is it, if not NULL, the lease of that number, given since the start?  The
 * partition is locked.
 */
static bool
is_lease(const InflightEntry *entry, uint64 number)
{
	return queue_entry_has_fence(entry, number) &&
		entry->state == INFLIGHT_LEASED;
}

/* A failure that was noted before has happened now, to this entry. */
static FailureNote
renew(const FailureNote *failure, const InflightEntry *entry)
{
	FailureNote note = *failure;

	note.at = GetCurrentTimestamp();
	note.batch = entry->batch;
	return note;
}

/*
 * fail_entry
 *		A take was rolled back: the first failure has no back-off, later ones
 *		have.
 *
 * While it fails together with others, the back-off does not grow, because
 * most of them are innocent.
 *
 * If the row counts already that the lease ran out, the lease was revived and
 * extended after that, and it has failed once all the same.  The partition is
 * locked.
 */
static void
fail_entry(InflightEntry *entry, const FailureNote *failure)
{
	int			total;

	if (entry->is_lapse_counted)
	{
		entry->is_lapse_counted = false;
		return;
	}
	queue_entry_count_failure(entry, failure);
	total = entry->counted + entry->failures;
	if (queue_entry_is_at_limit(entry))
		entry->is_exhausted = true;
	else if (total > 1)
	{
		entry->deadline = GetCurrentTimestamp() +
			queue_failure_delay(&entry->retry, failure->batch > 1 ? 1 : total);
		entry->is_delayed = true;
	}
}

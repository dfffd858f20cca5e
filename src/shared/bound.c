/*-------------------------------------------------------------------------
 *
 * bound.c
 *		What a queue does not take of what is published.
 *
 * A topic puts copies into the queues that are bound to it, in the publisher's
 * transaction, and does not wait for one that cannot take them.  What is left
 * out so is counted here, for the owner of the queue.  The count is not undone
 * if the publisher rolls back: it tells that something is wrong, not what is
 * missing.
 *
 * A worker that cuts the empty end off a table has it locked for an instant,
 * and may wait for that lock in line for a little longer.  No message is to be
 * left out because of that, so it says when it begins and when it ends; while
 * the number of both is odd, a publisher tries again.
 *
 * Locks: that of the slot for the count.  The other number is an atomic one.
 * If a worker is killed between the two, the next cut of the table seems to
 * begin when it ends; a publisher does not try for long, so that costs a
 * little time, and only if the table is locked by somebody else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared/bound.h"

/* Count messages that were left out. */
void
queue_bound_skip(QueueSlot *hint, Oid relid, int64 n, Refusal refusal)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);

	if (slot == NULL)
		return;
	slot->bound.nskipped += n;
	slot->bound.skipped_at = GetCurrentTimestamp();
	slot->bound.refusal = refusal;
	LWLockRelease(slot->lock);
}

/* Return how many were, since the queue has its slot. */
void
queue_bound_skipped(QueueSlot *hint, Oid relid, SkippedCount *count)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);

	memset(count, 0, sizeof(*count));
	if (slot == NULL)
		return;
	count->n = slot->bound.nskipped;
	count->at = slot->bound.skipped_at;
	count->refusal = slot->bound.refusal;
	LWLockRelease(slot->lock);
}

/* A worker begins to cut the table, or has done so. */
void
queue_bound_cut(Oid relid)
{
	QueueSlot  *slot = queue_slot_find(relid);

	if (slot != NULL)
		pg_atomic_fetch_add_u32(&slot->bound.ncuts, 1);
}

/* Return how often that was.  NULL: a queue without a slot */
uint32
queue_bound_ncuts(const QueueSlot *slot)
{
	return slot == NULL ? 0 :
		pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &slot->bound.ncuts));
}

/*
 * queue_bound_was_cut
 *		Returns true if the table was cut since the number was "before", or
 *		is.
 */
bool
queue_bound_was_cut(const QueueSlot *slot, uint32 before)
{
	uint32		now = queue_bound_ncuts(slot);

	return now != before || now % 2 != 0;
}

/*-------------------------------------------------------------------------
 *
 * deadline.c
 *		When entries of the in-flight table are due: leases and back-offs.
 *
 * An entry is linked with its queue from the time that it has a deadline.
 * What is due needs no announcement: the first consumer that looks after that
 * time, or the worker, takes it out and ends it.
 *
 * The nodes are in the entries.  A process links a node while it holds the lock
 * of the entry's partition; it is unlinked under the lock of the queue's slot
 * alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/deadline.h"
#include "shared/waiter.h"

static void link_due(QueueSlot *slot, DueNode *node);
static void unlink_due(DueNode *node);

/*
 * link_due
 *		Link an entry of the in-flight table by its due time.
 *
 * The first one sets the queue's bit in the map of timed queues.  The slot is
 * locked, here and in unlink_due().
 */
static void
link_due(QueueSlot *slot, DueNode *node)
{
	if (queue_due_first(&slot->due) == NULL)
		queue_slot_set_timed(slot, true);
	node->slot = slot;
	queue_due_link(&slot->due, node);
}

/* Unlink it; the last one clears the bit. */
static void
unlink_due(DueNode *node)
{
	QueueSlot  *slot = node->slot;

	queue_due_unlink(&slot->due, node);
	if (queue_due_first(&slot->due) == NULL)
		queue_slot_set_timed(slot, false);
	node->slot = NULL;
}

/*
 * queue_deadline_set
 *		Link an entry of the in-flight table by this due time, instead of the
 *		one it may have.
 *
 * The guardian of the queue is woken if it would sleep beyond that.  If the
 * queue has no slot, nothing is linked and all sessions that wait for any
 * queue are woken.  The caller holds the lock of the entry's partition.
 */
void
queue_deadline_set(QueueSlot *hint, const MessageKey *key, DueNode *node,
				   TimestampTz due)
{
	QueueSlot  *slot;
	WakeList	wakes;

	if (node->slot != NULL)
		queue_deadline_clear(node);
	slot = queue_cover_lock(hint, key->dbid, key->relid);
	queue_waiter_start_wakes(&wakes, key->dbid);
	if (slot == NULL)
	{
		queue_waiter_wake_anyone(&wakes);
		return;
	}
	node->key = key;
	node->due = due;
	link_due(slot, node);
	if (queue_cover_is_due_first(slot, due))
		queue_waiter_pick_guardian(slot, &wakes);
	queue_cover_unlock(slot, &wakes);
}

/*
 * queue_deadline_clear
 *		Unlink an entry, if it is linked.
 *
 * The caller holds the lock of the entry's partition, so no other process can
 * link the node meanwhile.  One may have unlinked it, so that is checked again
 * under the lock of the slot.
 */
void
queue_deadline_clear(DueNode *node)
{
	QueueSlot  *slot = node->slot;

	if (slot == NULL)
		return;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (node->slot != NULL)
	{
		unlink_due(node);
		if (node->due <= queue_slot_first_due(slot))
			queue_cover_compute_due(slot);
	}
	LWLockRelease(slot->lock);
}

/*
 * queue_deadline_first
 *		Return when the first entry of the in-flight table is due,
 *		TIMESTAMP_INFINITY if there is none.
 */
TimestampTz
queue_deadline_first(QueueSlot *slot)
{
	DueNode    *node;
	TimestampTz due;

	LWLockAcquire(slot->lock, LW_SHARED);
	node = queue_due_first(&slot->due);
	due = node != NULL ? node->due : TIMESTAMP_INFINITY;
	LWLockRelease(slot->lock);
	return due;
}

/*
 * queue_deadline_pop
 *		Unlink up to "max" entries that are due by "now"; return how many, and
 *		their keys.
 *
 * The entries themselves are left to the caller, because their partitions
 * cannot be locked here.
 */
int
queue_deadline_pop(QueueSlot *hint, Oid relid, TimestampTz now,
				   MessageKey *keys, int max)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	int			n = 0;

	if (slot == NULL)
		return 0;
	while (n < max)
	{
		DueNode    *node = queue_due_first(&slot->due);

		if (node == NULL || node->due > now)
			break;
		keys[n++] = *node->key;
		unlink_due(node);
	}
	queue_cover_compute_due(slot);
	LWLockRelease(slot->lock);
	return n;
}

#ifdef USE_ASSERT_CHECKING
/*
 * queue_deadline_forget
 *		For tests: forget the cover and the due times of a queue, and let the
 *		worker repair that.
 */
void
queue_deadline_forget(Oid relid)
{
	QueueSlot  *slot = queue_cover_lock(NULL, MyDatabaseId, relid);
	DueNode    *node;

	if (slot == NULL)
		return;
	queue_cover_clear(slot);
	while ((node = queue_due_first(&slot->due)) != NULL)
		unlink_due(node);
	queue_cover_compute_due(slot);
	LWLockRelease(slot->lock);
	queue_cover_request_repair();
}
#endif

/*-------------------------------------------------------------------------
 *
 * group_due.c
 *		Groups of which nothing is to be tried before some time.
 *
 * They are linked by that time, as leases are (deadline.c).  A process that
 * looks at the queue after it, or the guardian of its waiters, makes them
 * ready.
 *
 * Locks: that of the slot for the list, then those of groups one by one,
 * because a partition cannot be locked under the slot's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/cover.h"
#include "shared/group.h"

/* Groups that are made ready at one go */
#define DUE_BATCH			32

static int	pop_due(QueueSlot *hint, Oid relid, TimestampTz now,
					MessageKey *keys, int max);

/*
 * queue_group_end_due
 *		Make those groups ready whose time has come.
 *
 * For each process that looks at the queue.  Of those that others put back
 * meanwhile no more are looked at than there can be.
 */
void
queue_group_end_due(QueueSlot *slot, Oid relid, TimestampTz now)
{
	MessageKey	keys[DUE_BATCH];
	int			left = queue_max_in_flight;
	int			n;

	do
	{
		int			i;

		n = pop_due(slot, relid, now, keys, DUE_BATCH);
		for (i = 0; i < n; i++)
		{
			LWLock	   *lock;
			GroupEntry *group = queue_group_find(&keys[i], &lock);

			if (group != NULL && group->until <= now)
				group->until = 0;
			if (group != NULL)
				queue_group_rest(group, true /* wakes */ );
			LWLockRelease(lock);
		}
		left -= n;
	} while (n == DUE_BATCH && left > 0);
}

/*
 * queue_group_try
 *		Something has changed: whatever the group waited for, look at it now.
 *
 * No allocation, no error, so this may be called from callbacks.
 */
void
queue_group_try(const MessageKey *key)
{
	LWLock	   *lock;
	GroupEntry *group = queue_group_find(key, &lock);

	if (group != NULL)
	{
		group->until = 0;
		queue_group_rest(group, true /* wakes */ );
	}
	LWLockRelease(lock);
}

/* Unlink up to "max" groups that are due by "now", and return their keys. */
static int
pop_due(QueueSlot *hint, Oid relid, TimestampTz now, MessageKey *keys, int max)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	DueNode    *node;
	int			n = 0;

	if (slot == NULL)
		return 0;
	while (n < max &&
		   (node = queue_due_first(&slot->groups.waiting)) != NULL &&
		   node->due <= now)
	{
		keys[n++] = *node->key;
		queue_due_unlink(&slot->groups.waiting, node);
		node->slot = NULL;
	}
	queue_cover_compute_due(slot);
	LWLockRelease(slot->lock);
	return n;
}

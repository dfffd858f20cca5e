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
 * of the entry's partition; it is unlinked under the lock of the queue's state
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

static void link_due(QueueState *state, DueNode *node);
static void unlink_due(DueNode *node);

/*
 * link_due
 *		Link an entry of the in-flight table by its due time.
 *
 * The first one sets the queue's bit in the map of timed queues.  The state is
 * locked, here and in unlink_due().
 */
static void
link_due(QueueState *state, DueNode *node)
{
	if (queue_due_first(&state->due) == NULL)
		queue_state_set_timed(state, true);
	node->state = state;
	queue_due_link(&state->due, node);
}

/* Unlink it; the last one clears the bit. */
static void
unlink_due(DueNode *node)
{
	QueueState *state = node->state;

	queue_due_unlink(&state->due, node);
	if (queue_due_first(&state->due) == NULL)
		queue_state_set_timed(state, false);
	node->state = NULL;
}

/*
 * queue_deadline_set
 *		Link an entry of the in-flight table by this due time, instead of the
 *		one it may have.
 *
 * The guardian of the queue is woken if it would sleep beyond that.  If the
 * queue has no state, nothing is linked and all sessions that wait for any
 * queue are woken.  The caller holds the lock of the entry's partition.
 */
void
queue_deadline_set(QueueState *hint, const MessageKey *key, DueNode *node,
				   TimestampTz due)
{
	QueueState *state;
	WakeList	wakes;

	if (node->state != NULL)
		queue_deadline_clear(node);
	state = queue_cover_lock(hint, key->dbid, key->relid);
	queue_waiter_start_wakes(&wakes, key->dbid);
	if (state == NULL)
	{
		queue_waiter_wake_anyone(&wakes);
		return;
	}
	node->key = key;
	node->due = due;
	link_due(state, node);
	if (queue_cover_is_due_first(state, due))
		queue_waiter_pick_guardian(state, &wakes);
	queue_cover_unlock(state, &wakes);
}

/*
 * queue_deadline_clear
 *		Unlink an entry, if it is linked.
 *
 * The caller holds the lock of the entry's partition, so no other process can
 * link the node meanwhile.  One may have unlinked it, so that is checked again
 * under the lock of the state.
 */
void
queue_deadline_clear(DueNode *node)
{
	QueueState *state = node->state;

	if (state == NULL)
		return;
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	if (node->state != NULL)
	{
		unlink_due(node);
		if (node->due <= queue_state_first_due(state))
			queue_cover_compute_due(state);
	}
	LWLockRelease(state->lock);
}

/*
 * queue_deadline_first
 *		Return when the first entry of the in-flight table is due,
 *		TIMESTAMP_INFINITY if there is none.
 */
TimestampTz
queue_deadline_first(QueueState *state)
{
	DueNode    *node;
	TimestampTz due;

	LWLockAcquire(state->lock, LW_SHARED);
	node = queue_due_first(&state->due);
	due = node != NULL ? node->due : TIMESTAMP_INFINITY;
	LWLockRelease(state->lock);
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
queue_deadline_pop(QueueState *hint, Oid relid, TimestampTz now,
				   MessageKey *keys, int max)
{
	QueueState *state = queue_state_lock(hint, MyDatabaseId, relid);
	int			n = 0;

	if (state == NULL)
		return 0;
	while (n < max)
	{
		DueNode    *node = queue_due_first(&state->due);

		if (node == NULL || node->due > now)
			break;
		keys[n++] = *node->key;
		unlink_due(node);
	}
	queue_cover_compute_due(state);
	LWLockRelease(state->lock);
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
	QueueState *state = queue_cover_lock(NULL, MyDatabaseId, relid);
	DueNode    *node;

	if (state == NULL)
		return;
	queue_cover_clear(state);
	while ((node = queue_due_first(&state->due)) != NULL)
		unlink_due(node);
	queue_cover_compute_due(state);
	LWLockRelease(state->lock);
	queue_cover_tell_worker();
}
#endif

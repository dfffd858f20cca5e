/*-------------------------------------------------------------------------
 *
 * wake.c
 *		Waking sessions that wait for messages.
 *
 * What waiter.c says of wake-ups, from the side of what makes messages
 * available.  Waiters are picked under the lock of a queue's slot, into a list,
 * and their latches set when it is released.  Nothing here allocates or throws,
 * so it may be called from callbacks.
 *
 * Locks: that of a queue's slot, for its lists and the nodes in them; then, for
 * waiters for any queue, the last in every order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "shared/wait_node.h"
#include "shared/waiter.h"

WaiterShared *queue_waiters = NULL;
LWLock	   *queue_waiters_lock = NULL;

static void pick(WaitNode *node, WakeList *wakes);
static bool pick_selecting(QueueSlot *slot, int n, const WakeKeys *keys,
						   uint64 number, WakeList *wakes);
static void unlock_selecting(QueueSlot *slot, const WakeKeys *keys,
							 uint64 number, WakeList *wakes);
static bool has_key(const WakeKeys *keys, uint32 key);

/*
 * queue_waiter_shmem_size
 *		Shared memory needed for the waiters and the pool of nodes.
 */
Size
queue_waiter_shmem_size(void)
{
	return add_size(add_size(offsetof(WaiterShared, waiters),
							 mul_size(MaxBackends, sizeof(Waiter))),
					mul_size(mul_size(MaxBackends, POOL_NODES),
							 sizeof(WaitNode)));
}

/*
 * queue_waiter_shmem_init
 *		Create or attach to the waiters and the pool of nodes.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_waiter_shmem_init(void)
{
	WaitNode   *pool;
	bool		found;
	int			i;

	queue_waiters = ShmemInitStruct("queue waiters", queue_waiter_shmem_size(), &found);
	if (!found)
	{
		memset(queue_waiters, 0, queue_waiter_shmem_size());
		pg_atomic_init_u32(&queue_waiters->nany, 0);
		dlist_init(&queue_waiters->any);
		dlist_init(&queue_waiters->pool);
		pool = queue_waiter_pool();
		for (i = 0; i < MaxBackends * POOL_NODES; i++)
		{
			pool[i].procno = NO_PROC;
			dlist_push_tail(&queue_waiters->pool, &pool[i].link);
		}
	}
	queue_waiters_lock = &GetNamedLWLockTranche("queue_waiter")->lock;
}

/* Return the nodes of the pool, which follow the waiters. */
WaitNode *
queue_waiter_pool(void)
{
	return (WaitNode *) &queue_waiters->waiters[MaxBackends];
}

/*
 * queue_waiter_start_wakes
 *		Start a list of waiters to wake in this database.
 */
void
queue_waiter_start_wakes(WakeList *wakes, Oid dbid)
{
	wakes->dbid = dbid;
	wakes->wakes_anyone = false;
	wakes->n = 0;
}

/*
 * queue_waiter_pick
 *		Take up to "n" waiters off the list of a queue, to be woken.
 *
 * Only waiters that have looked since the window with this number was taken
 * out, or all (0).  Returns true if the list of wakes is full and there may be
 * more to pick.  The caller holds the lock of the slot, releases it and calls
 * queue_waiter_set_latches().  No allocation, no error.
 */
bool
queue_waiter_pick(QueueSlot *slot, int n, uint64 number, WakeList *wakes)
{
	dlist_mutable_iter iter;

	if (n <= 0)
		return false;
	wakes->wakes_anyone = true;
	dlist_foreach_modify(iter, &slot->wait.list)
	{
		WaitNode   *node = dlist_container(WaitNode, link, iter.cur);

		if (node->number < number)
			continue;
		if (n <= 0)
			return false;
		if (wakes->n == MAX_WAKES)
			return true;
		pick(node, wakes);
		n--;
	}
	return false;
}

/* Take a waiter off its list, to be woken. */
static void
pick(WaitNode *node, WakeList *wakes)
{
	dlist_delete(&node->link);
	node->is_linked = false;
	node->was_woken = true;
	queue_waiters->waiters[node->procno].is_woken = true;
	wakes->procnos[wakes->n++] = node->procno;
}

/*
 * pick_selecting
 *		Take up to "n" waiters off the list of those that want certain
 *		messages: with these keys, or all (NULL).
 *
 * As queue_waiter_pick().
 */
static bool
pick_selecting(QueueSlot *slot, int n, const WakeKeys *keys, uint64 number,
			   WakeList *wakes)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &slot->wait.selecting)
	{
		WaitNode   *node = dlist_container(WaitNode, link, iter.cur);

		if (!has_key(keys, node->key) || node->number < number)
			continue;
		if (n <= 0)
			return false;
		if (wakes->n == MAX_WAKES)
			return true;
		pick(node, wakes);
		n--;
	}
	return false;
}

/* May a message with one of these keys be what a waiter for this one wants? */
static bool
has_key(const WakeKeys *keys, uint32 key)
{
	if (keys == NULL || keys->is_any || key == 0)
		return true;
	for (int i = 0; i < keys->n; i++)
		if (keys->hashes[i] == key)
			return true;
	return false;
}

/* Pick one waiter, whatever it wants.  The slot is locked. */
void
queue_waiter_pick_any(QueueSlot *slot, WakeList *wakes)
{
	if (!dlist_is_empty(&slot->wait.list))
		(void) queue_waiter_pick(slot, 1, 0, wakes);
	else
		(void) pick_selecting(slot, 1, NULL, 0, wakes);
}

/*
 * queue_waiter_unlock_added
 *		Release the slot of a queue, to which messages with these keys were
 *		added (NULL: any).
 *
 * Wakes the waiters picked and all that may want one of those.  A few at a
 * time, because the list is on the stack and latches take a while.  No
 * allocation, no error.
 */
void
queue_waiter_unlock_added(QueueSlot *slot, const WakeKeys *keys,
						  WakeList *wakes)
{
	unlock_selecting(slot, keys, 0, wakes);
}

/*
 * queue_waiter_unlock_sought
 *		The same for ids that a look by a selector gives back.
 *
 * Wakes those that have looked since there were so many windows, as
 * queue_waiter_pick() does; not those that wait for a key, and find it by
 * that.
 */
void
queue_waiter_unlock_sought(QueueSlot *slot, uint64 number, WakeList *wakes)
{
	static const WakeKeys no_key = {0};

	wakes->wakes_anyone = true;
	unlock_selecting(slot, &no_key, number, wakes);
}

/* The same for waiters with these keys that have looked since then. */
static void
unlock_selecting(QueueSlot *slot, const WakeKeys *keys, uint64 number,
				 WakeList *wakes)
{
	Oid			relid = slot->relid;

	while (pick_selecting(slot, INT_MAX, keys, number, wakes))
	{
		LWLockRelease(slot->lock);
		queue_waiter_set_latches(wakes);
		queue_waiter_start_wakes(wakes, wakes->dbid);
		slot = queue_slot_lock(slot, wakes->dbid, relid);
		if (slot == NULL)
			return;
	}
	LWLockRelease(slot->lock);
	queue_waiter_set_latches(wakes);
}

/*
 * queue_waiter_wake_taker
 *		Wake a waiter that takes any message.
 *
 * For a look that has left one which it had out of reach of others.
 */
void
queue_waiter_wake_taker(QueueSlot *hint, Oid relid)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	WakeList	wakes;

	if (slot == NULL)
		return;
	queue_waiter_start_wakes(&wakes, MyDatabaseId);
	(void) queue_waiter_pick(slot, 1, 0, &wakes);
	LWLockRelease(slot->lock);
	queue_waiter_set_latches(&wakes);
}

/*
 * queue_waiter_wake_all
 *		Wake all sessions that wait for a table.
 *
 * A topic has a place for those that wait for what is published to it.  If it
 * has none, nobody does, or they wait for anything.  No allocation, no error.
 */
void
queue_waiter_wake_all(Oid dbid, Oid relid)
{
	QueueSlot  *slot = queue_slot_lock(NULL, dbid, relid);
	WakeList	wakes;

	queue_waiter_start_wakes(&wakes, dbid);
	while (slot != NULL && queue_waiter_pick(slot, INT_MAX, 0, &wakes))
	{
		LWLockRelease(slot->lock);
		queue_waiter_set_latches(&wakes);
		queue_waiter_start_wakes(&wakes, dbid);
		slot = queue_slot_lock(slot, dbid, relid);
	}
	wakes.wakes_anyone = true;
	if (slot != NULL)
		LWLockRelease(slot->lock);
	queue_waiter_set_latches(&wakes);
}

/*
 * queue_waiter_pick_guardian
 *		Something may be due earlier: wake the guardian if it would sleep too
 *		long.
 *
 * If there is none, wake any waiter of the queue, which then becomes it.  The
 * slot is locked.
 */
void
queue_waiter_pick_guardian(QueueSlot *slot, WakeList *wakes)
{
	if (queue_slot_first_due(slot) >= slot->wait.guarded_until ||
		wakes->n == MAX_WAKES)
		return;
	if (slot->wait.guardian == NO_PROC)
		queue_waiter_pick_any(slot, wakes);
	else
	{
		queue_waiters->waiters[slot->wait.guardian].is_woken = true;
		wakes->procnos[wakes->n++] = slot->wait.guardian;
	}
	wakes->wakes_anyone = true;
}

/* Wake all sessions of the database that wait for any queue. */
void
queue_waiter_wake_anyone(WakeList *wakes)
{
	wakes->wakes_anyone = true;
	queue_waiter_set_latches(wakes);
}

/*
 * queue_waiter_set_latches
 *		Wake the waiters picked, and all that wait for any queue if one was to
 *		be woken.
 *
 * The slot's lock has been released.  No allocation, no error.
 */
void
queue_waiter_set_latches(WakeList *wakes)
{
	dlist_iter	iter;
	int			i;

	for (i = 0; i < wakes->n; i++)
		SetLatch(&GetPGProcByNumber(wakes->procnos[i])->procLatch);

	/* pairs with the fetch_add in enter_any() */
	pg_memory_barrier();
	if (!wakes->wakes_anyone || pg_atomic_read_u32(&queue_waiters->nany) == 0)
		return;
	LWLockAcquire(queue_waiters_lock, LW_SHARED);
	dlist_foreach(iter, &queue_waiters->any)
	{
		Waiter	   *waiter = dlist_container(Waiter, any_link, iter.cur);

		if (waiter->dbid != wakes->dbid)
			continue;
		waiter->is_woken = true;
		SetLatch(&GetPGProcByNumber(waiter - queue_waiters->waiters)->procLatch);
	}
	LWLockRelease(queue_waiters_lock);
}

/*
 * queue_waiter_count
 *		Return the number of sessions in the list of a queue, for its view.
 */
int
queue_waiter_count(QueueSlot *slot)
{
	dlist_iter	iter;
	int			n = 0;

	LWLockAcquire(slot->lock, LW_SHARED);
	dlist_foreach(iter, &slot->wait.list)
		n++;
	dlist_foreach(iter, &slot->wait.selecting)
		n++;
	LWLockRelease(slot->lock);
	return n;
}

/*
 * queue_waiter_count_each
 *		Count them by what they want: any message, or certain ones only.
 *
 * Those are counted, too, that were woken, and have not looked yet; but none
 * that waits for many queues.  Such nodes are read unlocked: what they say is a
 * hint.
 */
void
queue_waiter_count_each(QueueSlot *slot, int *any, int *selecting)
{
	dlist_iter	iter;

	*any = *selecting = 0;
	LWLockAcquire(slot->lock, LW_SHARED);
	dlist_foreach(iter, &slot->wait.list)
		(*any)++;
	dlist_foreach(iter, &slot->wait.selecting)
		(*selecting)++;
	LWLockRelease(slot->lock);
	for (int i = 0; i < MaxBackends; i++)
		for (int j = 0; j < OWN_NODES; j++)
		{
			const WaitNode *node = &queue_waiters->waiters[i].nodes[j];

			if (node->slot == slot && node->was_woken && !node->is_linked)
				(*(node->selects ? selecting : any))++;
		}
}

/* Return how many wait for whatever happens, in all databases. */
int
queue_waiter_count_anyone(void)
{
	return (int) pg_atomic_read_u32(&queue_waiters->nany);
}

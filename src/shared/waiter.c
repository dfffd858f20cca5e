/*-------------------------------------------------------------------------
 *
 * waiter.c
 *		Sessions that sleep until a queue may have a message for them.
 *
 * Each backend has one place in shared memory, found by its proc number, with
 * nodes for a few queues that it waits for.  A backend that waits for more
 * takes the other nodes from a pool that all share.  The nodes are linked into
 * lists, one a queue (queue_slot.c).  A process that makes messages available takes
 * as many waiters off the list, from its head, and sets their latches: one a
 * message, so that a thousand waiters do not run for one.  If the pool is used
 * up, or a queue has no state, the waiter is in a list of its own, and is
 * woken by whatever happens in its database.
 *
 * No wake-up is lost:
 *
 * - A waiter first enters the list, then takes a snapshot and looks, then
 *	 sleeps.  A transaction first leaves the process array and adds to the
 *	 cover, sends its invalidations and releases its locks, then takes waiters
 *	 off the list.  Either the look sees the message, or the transaction sees
 *	 the waiter.
 *
 * - A waiter that was woken and leaves without a look (cancelled, timed out,
 *	 gone) wakes the next one in its place.  So does one that leaves while
 *	 there is more in the cover than it has taken, and one that has looked but
 *	 takes nothing (wait()).
 *
 * - The latch alone would not do: a look may wait for a lock or for I/O, which
 *	 resets the latch.  So a flag in the place remembers the wake-up.
 *
 * What becomes available by the passing of time (the end of a lease, a delay)
 * needs a session that wakes at that time.  One waiter a queue, its guardian,
 * sleeps no longer than until then; the others rely on it.  When something is
 * due earlier than the guardian knows of, it is woken to compute its time
 * anew.  When it leaves, another waiter is woken and takes its place.
 *
 * If a waiting process dies, its exit takes it off the lists; if it is killed,
 * shared memory starts anew with everything else.
 *
 * Locks: that of a queue's slot, for its list and the nodes in it.  The list
 * of waiters for any queue and the pool have an LWLock, the last in every
 * order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/clock.h"
#include "common/compat.h"
#include "shared/waiter.h"

/* Nodes that each backend has, and nodes in the pool for each backend */
#define OWN_NODES			8
#define POOL_NODES			32

/* Longest sleep at one go, so that the timeout fits an int */
#define MAX_SLEEP_MS		(3600L * 1000L)

/* ... if it ends when something is due, because the clock may be set forward */
#define MAX_GUARD_MS		(10L * 1000L)

/* One process in the list of one queue */
typedef struct WaitNode
{
	dlist_node	link;			/* in the list of a queue, or a free one */
	int			procno;
	Oid			relid;
	QueueSlot  *slot;			/* whose list it is, or was, in */
	bool		is_linked;
	bool		was_woken;		/* taken off the list, and has not looked
								 * since */
	bool		is_paused;		/* the queue was, when last looked at: to be
								 * woken by its settings only */
	uint64		number;			/* windows taken out before it fell asleep;
								 * during a look: any number */
} WaitNode;

typedef struct Waiter
{
	dlist_node	any_link;
	Oid			dbid;
	bool		waits_for_any;
	volatile bool is_woken;		/* since the last sleep */
	WaitNode	nodes[OWN_NODES];
} Waiter;

typedef struct WaiterShared
{
	pg_atomic_uint32 nany;
	dlist_head	any;			/* waiters for any queue */
	dlist_head	pool;			/* free nodes */
	Waiter		waiters[FLEXIBLE_ARRAY_MEMBER]; /* by proc number */
} WaiterShared;

static WaiterShared *shared = NULL;
static LWLock *any_lock = NULL;
static Waiter *me = NULL;		/* NULL: not waiting */

/* Nodes of this process: first its own, then those of the pool */
static WaitNode **my_nodes = NULL;
static int	max_nodes = 0;
static int	nnodes = 0;
static bool exit_registered = false;
static uint32 wait_event = 0;

static void take_nodes(const Oid *relids, int nrelids);
static void return_nodes(void);
static void enter_any(void);
static bool link_node(WaitNode *node);
static void leave_node(WaitNode *node);
static TimestampTz watch(WaitNode *node);
static void leave_at_exit(int code, Datum arg);

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

	shared = ShmemInitStruct("queue waiters", queue_waiter_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, queue_waiter_shmem_size());
		pg_atomic_init_u32(&shared->nany, 0);
		dlist_init(&shared->any);
		dlist_init(&shared->pool);
		pool = (WaitNode *) &shared->waiters[MaxBackends];
		for (i = 0; i < MaxBackends * POOL_NODES; i++)
			dlist_push_tail(&shared->pool, &pool[i].link);
	}
	any_lock = &GetNamedLWLockTranche("queue_waiter")->lock;
}

/* ----------------------------------------------------------------
 *		The sleeper
 * ----------------------------------------------------------------
 */

/*
 * queue_waiter_check_isolation
 *		Raise 0A000 in a transaction whose snapshot would not see new
 *		messages.
 */
void
queue_waiter_check_isolation(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot wait for messages in a transaction with isolation level REPEATABLE READ or SERIALIZABLE"),
				 errdetail("Its snapshot would never see a message that commits later."),
				 errhint("Use CALL queue.wait() before the transaction.")));
}

/*
 * queue_waiter_enter
 *		Enter the lists of these queues.
 *
 * The caller then takes a snapshot and looks, and then sleeps.  Whatever
 * becomes available behind its look finds it in the list.  Called again after
 * a sleep, this only enters those lists again that a wake-up has taken it off;
 * the queues are those of the first call.
 */
void
queue_waiter_enter(const Oid *relids, int nrelids)
{
	int			i;

	if (!exit_registered)
	{
		before_shmem_exit(leave_at_exit, (Datum) 0);
		exit_registered = true;
	}
	if (me == NULL)
	{
		if (max_nodes < nrelids)
		{
			/* kept, because a session that waits for so many does so again */
			if (my_nodes != NULL)
				pfree(my_nodes);
			my_nodes = NULL;
			max_nodes = 0;
			my_nodes = MemoryContextAlloc(TopMemoryContext, nrelids *
										  sizeof(WaitNode *));
			max_nodes = nrelids;
		}
		take_nodes(relids, nrelids);
	}
	for (i = 0; i < nnodes; i++)
		if (!link_node(my_nodes[i]) && !me->waits_for_any)
			enter_any();
	INJECTION_POINT("queue-waiter-listed", NULL);
}

/*
 * take_nodes
 *		Take a node for each queue, or none if the pool has too few.
 *
 * Without nodes the process waits for any queue.
 */
static void
take_nodes(const Oid *relids, int nrelids)
{
	int			i;

	me = &shared->waiters[MyProcNumber];
	me->dbid = MyDatabaseId;
	me->is_woken = false;
	me->waits_for_any = false;
	for (nnodes = 0; nnodes < Min(nrelids, OWN_NODES); nnodes++)
		my_nodes[nnodes] = &me->nodes[nnodes];
	if (nnodes < nrelids)
	{
		LWLockAcquire(any_lock, LW_EXCLUSIVE);
		while (nnodes < nrelids && !dlist_is_empty(&shared->pool))
			my_nodes[nnodes++] =
				dlist_container(WaitNode, link,
								dlist_pop_head_node(&shared->pool));
		LWLockRelease(any_lock);
	}
	if (nnodes < nrelids)
		return_nodes();
	for (i = 0; i < nnodes; i++)
	{
		WaitNode   *node = my_nodes[i];

		node->procno = MyProcNumber;
		node->relid = relids[i];
		node->slot = queue_slot_find(relids[i]);
		node->is_linked = false;
		node->was_woken = false;
		node->is_paused = false;
	}
	if (nnodes == 0)
		enter_any();
}

/* Return nodes to the pool.  None of them is linked. */
static void
return_nodes(void)
{
	if (nnodes > OWN_NODES)
	{
		LWLockAcquire(any_lock, LW_EXCLUSIVE);
		while (nnodes > OWN_NODES)
			dlist_push_head(&shared->pool, &my_nodes[--nnodes]->link);
		LWLockRelease(any_lock);
	}
	nnodes = 0;
}

/* Enter the list of waiters that are woken by whatever happens. */
static void
enter_any(void)
{
	LWLockAcquire(any_lock, LW_EXCLUSIVE);
	dlist_push_tail(&shared->any, &me->any_link);
	me->waits_for_any = true;
	pg_atomic_fetch_add_u32(&shared->nany, 1);
	LWLockRelease(any_lock);
}

/*
 * link_node
 *		Enter the list of a queue.
 *
 * Returns false if the queue has no state, or if its place was given to
 * another queue, whose wake-ups are of no use.
 */
static bool
link_node(WaitNode *node)
{
	QueueSlot  *slot = node->slot;
	bool		is_same;

	if (slot == NULL)
		return false;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (!node->is_linked)
		dlist_push_tail(&slot->wait.list, &node->link);
	node->is_linked = true;
	node->was_woken = false;
	node->number = PG_UINT64_MAX;

	/* the place may be another queue's by now */
	is_same = slot->relid == node->relid && slot->dbid == MyDatabaseId;
	LWLockRelease(slot->lock);
	return is_same;
}

/*
 * queue_waiter_leave
 *		Leave all lists.  Also called from callbacks; no error.
 */
void
queue_waiter_leave(void)
{
	int			i;

	if (me == NULL)
		return;
	for (i = 0; i < nnodes; i++)
		if (my_nodes[i]->slot != NULL)
			leave_node(my_nodes[i]);
	return_nodes();
	if (me->waits_for_any)
	{
		LWLockAcquire(any_lock, LW_EXCLUSIVE);
		dlist_delete(&me->any_link);
		me->waits_for_any = false;
		pg_atomic_fetch_sub_u32(&shared->nany, 1);
		LWLockRelease(any_lock);
	}
	me = NULL;
}

/*
 * leave_node
 *		Leave the list of a queue.
 *
 * Another waiter is woken if it may rely on this one: if this one was woken
 * and has not looked, if the cover has more, or if it was the guardian.
 */
static void
leave_node(WaitNode *node)
{
	QueueSlot  *slot = node->slot;
	WakeList	wakes;
	bool		passes_on = false;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	queue_waiter_start_wakes(&wakes, slot->dbid);
	if (node->is_linked)
		dlist_delete(&node->link);
	passes_on = node->was_woken || queue_slot_has_cover(slot);
	node->is_linked = false;
	if (slot->wait.guardian == MyProcNumber)
	{
		slot->wait.guardian = NO_PROC;
		slot->wait.guarded_until = TIMESTAMP_INFINITY;
	}
	passes_on |= queue_slot_first_due(slot) < slot->wait.guarded_until;
	if (passes_on)
		(void) queue_waiter_pick(slot, 1, 0, &wakes);
	LWLockRelease(slot->lock);
	queue_waiter_set_latches(&wakes);
}

/*
 * queue_waiter_set_paused
 *		Note whether the i-th queue is paused.
 *
 * If it is, this session does not guard its due times, because no message can
 * be taken there.  When the queue is resumed, all of its waiters are woken.
 */
void
queue_waiter_set_paused(int i, bool is_paused)
{
	if (i < nnodes)
		my_nodes[i]->is_paused = is_paused;
}

/*
 * queue_waiter_pass_on
 *		Pretend to have been woken, so that queue_waiter_leave() wakes another
 *		waiter.
 *
 * For a session that has seen that there is something but takes nothing.
 */
void
queue_waiter_pass_on(void)
{
	int			i;

	for (i = 0; i < nnodes; i++)
	{
		WaitNode   *node = my_nodes[i];

		if (node->slot == NULL)
			continue;
		LWLockAcquire(node->slot->lock, LW_EXCLUSIVE);
		if (node->is_linked)
			dlist_delete(&node->link);
		node->is_linked = false;
		node->was_woken = true;
		LWLockRelease(node->slot->lock);
	}
}

/* A process that exits leaves the lists. */
static void
leave_at_exit(int code, Datum arg)
{
	queue_waiter_leave();
}

/*
 * queue_waiter_sleep
 *		Sleep until woken, but not beyond "until", a time of clock.h.
 *
 * Wakes earlier if this session is a guardian and something is due.  "due", a
 * time of day, is when the look has found that the first message is due.  It
 * counts only for a session that waits for any queue.  FATAL if the client has
 * gone.
 */
void
queue_waiter_sleep(TimestampTz until, TimestampTz due)
{
	TimestampTz first = TIMESTAMP_INFINITY;
	long		ms;
	int			i;

	INJECTION_POINT("queue-waiter-looked", NULL);
	for (i = 0; i < nnodes; i++)
	{
		if (my_nodes[i]->slot != NULL)
		{
			TimestampTz watched = watch(my_nodes[i]);

			first = Min(first, watched);
		}
	}
	if (me->waits_for_any)
		first = Min(first, due);
	ms = TimestampDifferenceMilliseconds(queue_clock(),
										 Min(until, queue_clock_at(first)));
	if (first != TIMESTAMP_INFINITY)
		ms = Min(ms, MAX_GUARD_MS);

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueWait");

	/* a catalog snapshot would hold the horizon back as any other does */
	InvalidateCatalogSnapshot();
	if (ms > 0 && !me->is_woken)
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(ms, MAX_SLEEP_MS), wait_event);
	ResetLatch(MyLatch);
	me->is_woken = false;
	pg_memory_barrier();
	CHECK_FOR_INTERRUPTS();

	/* If the client is gone, do not take a message for it. */
	if (MyProcPort != NULL && !pq_check_connection())
		ereport(FATAL,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection to client lost")));
}

/*
 * watch
 *		Become the guardian of a queue if something is due before its guardian
 *		wakes.
 *
 * Returns when this process has to wake for the queue, TIMESTAMP_INFINITY if
 * another one does.  A look has found nothing, and the process is about to
 * sleep.
 */
static TimestampTz
watch(WaitNode *node)
{
	QueueSlot  *slot = node->slot;
	TimestampTz due;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	node->number = queue_slot_nwindows_taken(slot);
	due = node->is_paused ? TIMESTAMP_INFINITY : queue_slot_first_due(slot);
	if (slot->wait.guardian == MyProcNumber || due < slot->wait.guarded_until)
	{
		slot->wait.guardian = due < TIMESTAMP_INFINITY ? MyProcNumber : NO_PROC;
		slot->wait.guarded_until = due;
	}
	else
		due = TIMESTAMP_INFINITY;
	LWLockRelease(slot->lock);
	return due;
}

/* ----------------------------------------------------------------
 *		The waker
 * ----------------------------------------------------------------
 */

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
 * more to pick.  The caller holds the lock of the state, releases it and calls
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
		dlist_delete(&node->link);
		node->is_linked = false;
		node->was_woken = true;
		shared->waiters[node->procno].is_woken = true;
		wakes->procnos[wakes->n++] = node->procno;
		n--;
	}
	return false;
}

/*
 * queue_waiter_pick_guardian
 *		Something may be due earlier: wake the guardian if it would sleep too
 *		long.
 *
 * If there is none, wake any waiter of the queue, which then becomes it.  The
 * state is locked.
 */
void
queue_waiter_pick_guardian(QueueSlot *slot, WakeList *wakes)
{
	if (queue_slot_first_due(slot) >= slot->wait.guarded_until ||
		wakes->n == MAX_WAKES)
		return;
	if (slot->wait.guardian == NO_PROC)
		(void) queue_waiter_pick(slot, 1, 0, wakes);
	else
	{
		shared->waiters[slot->wait.guardian].is_woken = true;
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
 * The state's lock has been released.  No allocation, no error.
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
	if (!wakes->wakes_anyone || pg_atomic_read_u32(&shared->nany) == 0)
		return;
	LWLockAcquire(any_lock, LW_SHARED);
	dlist_foreach(iter, &shared->any)
	{
		Waiter	   *waiter = dlist_container(Waiter, any_link, iter.cur);

		if (waiter->dbid != wakes->dbid)
			continue;
		waiter->is_woken = true;
		SetLatch(&GetPGProcByNumber(waiter - shared->waiters)->procLatch);
	}
	LWLockRelease(any_lock);
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
	LWLockRelease(slot->lock);
	return n;
}

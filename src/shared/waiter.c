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
 * up, or a queue has no slot, the waiter is in a list of its own, and is
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
 * A waiter that wants certain messages only, by a selector, say, is in a list
 * of its own.  All of these are woken whenever something is added, beside the
 * others, and look for themselves; so a message is never lost on one that does
 * not want it.  One that waits for a key, such as a correlation_id, is woken
 * only for messages of which the hash of the key is the same, or is not known.
 *
 * What becomes available by the passing of time (the end of a lease, a delay)
 * needs a session that wakes at that time.  One waiter a queue, its guardian,
 * sleeps no longer than until then; the others rely on it.  When something is
 * due earlier than the guardian knows of, it is woken to compute its time
 * anew.  When it leaves, another waiter is woken and takes its place.  Any
 * waiter may be it; one that wants certain messages wakes another one for those
 * that it has found to be due, and does not want.
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
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/clock.h"
#include "common/compat.h"
#include "shared/sleeper.h"
#include "shared/wait_node.h"
#include "shared/waiter.h"

/* Longest sleep at one go, so that the timeout fits an int */
#define MAX_SLEEP_MS		(3600L * 1000L)

/* ... if it ends when something is due, because the clock may be set forward */
#define MAX_GUARD_MS		(10L * 1000L)

static Waiter *me = NULL;		/* NULL: not waiting */

/* Nodes of this process: first its own, then those of the pool */
static WaitNode **my_nodes = NULL;
static int	max_nodes = 0;
static int	nnodes = 0;
static bool exit_registered = false;
static uint32 wait_event = 0;

static void enter(const Oid *relids, int nrelids, bool selects, uint32 key,
				  const WaitTerms *terms);
static void take_nodes(const Oid *relids, int nrelids, bool selects,
					   uint32 key);
static void return_nodes(void);
static void enter_any(void);
static bool link_node(WaitNode *node);
static void leave_node(WaitNode *node);
static TimestampTz watch(WaitNode *node);
static void leave_at_exit(int code, Datum arg);

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
queue_waiter_enter(const Oid *relids, int nrelids, const WaitTerms *terms)
{
	enter(relids, nrelids, false, 0, terms);
}

/*
 * queue_waiter_enter_selecting
 *		The same for a session that wants certain messages of one queue.
 *
 * If "key" is not 0, those of which the hash of the key is this.
 */
void
queue_waiter_enter_selecting(Oid relid, uint32 key, const WaitTerms *terms)
{
	enter(&relid, 1, true, key, terms);
}

static void
enter(const Oid *relids, int nrelids, bool selects, uint32 key,
	  const WaitTerms *terms)
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
		take_nodes(relids, nrelids, selects, key);
		queue_sleeper_begin(me, nnodes, terms);
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
take_nodes(const Oid *relids, int nrelids, bool selects, uint32 key)
{
	int			i;

	me = &queue_waiters->waiters[MyProcNumber];
	me->dbid = MyDatabaseId;
	me->is_woken = false;
	me->waits_for_any = false;
	for (nnodes = 0; nnodes < Min(nrelids, OWN_NODES); nnodes++)
		my_nodes[nnodes] = &me->nodes[nnodes];
	if (nnodes < nrelids)
	{
		LWLockAcquire(queue_waiters_lock, LW_EXCLUSIVE);
		while (nnodes < nrelids && !dlist_is_empty(&queue_waiters->pool))
			my_nodes[nnodes++] =
				dlist_container(WaitNode, link,
								dlist_pop_head_node(&queue_waiters->pool));
		LWLockRelease(queue_waiters_lock);
	}
	if (nnodes < nrelids)
		return_nodes();
	for (i = 0; i < nnodes; i++)
	{
		WaitNode   *node = my_nodes[i];

		node->procno = MyProcNumber;
		node->place = i;
		node->relid = relids[i];
		node->slot = queue_slot_find(relids[i]);
		node->is_linked = false;
		node->selects = selects;
		node->key = key;
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
		LWLockAcquire(queue_waiters_lock, LW_EXCLUSIVE);
		while (nnodes > OWN_NODES)
		{
			WaitNode   *node = my_nodes[--nnodes];

			node->procno = NO_PROC;
			dlist_push_head(&queue_waiters->pool, &node->link);
		}
		LWLockRelease(queue_waiters_lock);
	}
	nnodes = 0;
}

/* Enter the list of waiters that are woken by whatever happens. */
static void
enter_any(void)
{
	LWLockAcquire(queue_waiters_lock, LW_EXCLUSIVE);
	dlist_push_tail(&queue_waiters->any, &me->any_link);
	me->waits_for_any = true;
	pg_atomic_fetch_add_u32(&queue_waiters->nany, 1);
	LWLockRelease(queue_waiters_lock);
}

/*
 * link_node
 *		Enter the list of a queue.
 *
 * Returns false if the queue has no slot, or if its slot was given to
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
		dlist_push_tail(node->selects ? &slot->wait.selecting :
						&slot->wait.list, &node->link);
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
	queue_sleeper_end(me);
	for (i = 0; i < nnodes; i++)
		if (my_nodes[i]->slot != NULL)
			leave_node(my_nodes[i]);
	return_nodes();
	if (me->waits_for_any)
	{
		LWLockAcquire(queue_waiters_lock, LW_EXCLUSIVE);
		dlist_delete(&me->any_link);
		me->waits_for_any = false;
		pg_atomic_fetch_sub_u32(&queue_waiters->nany, 1);
		LWLockRelease(queue_waiters_lock);
	}
	me = NULL;
}

/*
 * leave_node
 *		Leave the list of a queue.
 *
 * Another waiter is woken if it may rely on this one: if this one was woken
 * and has not looked, if the cover has more, or if it was the guardian.  On one
 * that wants certain messages nobody relies but for the last.
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
	passes_on = !node->selects && node->was_woken;
	node->was_woken = false;
	passes_on |= queue_slot_has_cover(slot) &&
		(!node->selects || slot->wait.guardian == MyProcNumber);
	node->is_linked = false;
	if (slot->wait.guardian == MyProcNumber)
	{
		slot->wait.guardian = NO_PROC;
		slot->wait.guarded_until = TIMESTAMP_INFINITY;
	}
	if (queue_slot_first_due(slot) < slot->wait.guarded_until)
		queue_waiter_pick_any(slot, &wakes);
	else if (passes_on)
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
 * sleep.  What was due, and it does not want, is another one's.
 */
static TimestampTz
watch(WaitNode *node)
{
	QueueSlot  *slot = node->slot;
	TimestampTz due;
	WakeList	wakes;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	queue_waiter_start_wakes(&wakes, slot->dbid);
	if (node->selects && slot->wait.guardian == MyProcNumber &&
		queue_slot_has_cover(slot))
		(void) queue_waiter_pick(slot, 1, 0, &wakes);
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
	queue_waiter_set_latches(&wakes);
	return due;
}

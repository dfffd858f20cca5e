/*-------------------------------------------------------------------------
 *
 * waiter.c
 *		Sessions that sleep until a queue may have a message for them.
 *
 * Each backend has one place in shared memory, found by its proc number; a
 * compact list says which places are in use.  A committing transaction walks
 * that list and sets the latches of those who wait for a queue it touched.
 * Waking is a hint: whoever wakes looks at the table again, and one wake-up
 * too many costs a look.
 *
 * None is lost, because a waiter first enters the list, then takes a snapshot
 * and looks, then sleeps; and a transaction first leaves the process array,
 * sends its invalidations and releases its locks, then walks the list.  Either
 * the look sees what it did, or it sees the waiter.
 *
 * The latch alone would not do: a look may wait for a lock or for I/O, which
 * resets the latch.  So a flag in the place remembers the wake-up.
 *
 * What needs no transaction to become available (the end of a lease, a delay)
 * is told by the look itself: it returns when the next message is due, and
 * nobody sleeps longer than that.
 *
 * If a waiting process dies, its exit takes it off the list; if it is killed,
 * shared memory starts anew with everything else.
 *
 * Lock: one LWLock, held while the list is walked or changed, nothing below
 * it but setting latches.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "waiter.h"

/* who waits for more queues than this is woken for any in the database */
#define MAX_WAITED_QUEUES	8

/* longest sleep at one go, so that the timeout fits an int */
#define MAX_SLEEP_MS		(3600L * 1000L)

typedef struct Waiter
{
	Oid			dbid;
	int			place;			/* in the list */
	bool		is_woken;		/* since the last sleep */
	int			nrelids;		/* 0: any */
	Oid			relids[MAX_WAITED_QUEUES];
} Waiter;

typedef struct WaiterShared
{
	pg_atomic_uint32 nwaiters;
	int		   *list;			/* proc numbers of those who wait */
	Waiter	   *waiters;		/* by proc number */
} WaiterShared;

static WaiterShared *shared = NULL;
static LWLock *lock = NULL;
static bool is_waiting = false;
static bool exit_registered = false;
static uint32 wait_event = 0;

static void leave_at_exit(int code, Datum arg);

Size
queue_waiter_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(WaiterShared));

	size = add_size(size, MAXALIGN(mul_size(MaxBackends, sizeof(int))));
	return add_size(size, mul_size(MaxBackends, sizeof(Waiter)));
}

/* Called with AddinShmemInitLock held. */
void
queue_waiter_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue waiters", queue_waiter_shmem_size(), &found);
	if (!found)
	{
		char	   *p = (char *) shared;

		memset(shared, 0, queue_waiter_shmem_size());
		pg_atomic_init_u32(&shared->nwaiters, 0);
		p += MAXALIGN(sizeof(WaiterShared));
		shared->list = (int *) p;
		p += MAXALIGN(MaxBackends * sizeof(int));
		shared->waiters = (Waiter *) p;
	}
	lock = &GetNamedLWLockTranche("queue_waiter")->lock;
}

void
queue_waiter_enter(const Oid *relids, int nrelids)
{
	Waiter	   *me = &shared->waiters[MyProcNumber];

	if (!exit_registered)
	{
		before_shmem_exit(leave_at_exit, (Datum) 0);
		exit_registered = true;
	}
	queue_waiter_leave();

	LWLockAcquire(lock, LW_EXCLUSIVE);
	me->dbid = MyDatabaseId;
	me->is_woken = false;
	me->nrelids = nrelids <= MAX_WAITED_QUEUES ? nrelids : 0;
	memcpy(me->relids, relids, me->nrelids * sizeof(Oid));
	me->place = pg_atomic_read_u32(&shared->nwaiters);
	shared->list[me->place] = MyProcNumber;
	pg_atomic_fetch_add_u32(&shared->nwaiters, 1);
	is_waiting = true;
	LWLockRelease(lock);
}

void
queue_waiter_leave(void)
{
	Waiter	   *me;
	int			last;

	if (!is_waiting)
		return;
	me = &shared->waiters[MyProcNumber];
	LWLockAcquire(lock, LW_EXCLUSIVE);
	last = shared->list[pg_atomic_read_u32(&shared->nwaiters) - 1];
	shared->list[me->place] = last;
	shared->waiters[last].place = me->place;
	pg_atomic_fetch_sub_u32(&shared->nwaiters, 1);
	is_waiting = false;
	LWLockRelease(lock);
}

/* A process that ends takes itself off the list. */
static void
leave_at_exit(int code, Datum arg)
{
	queue_waiter_leave();
}

void
queue_waiter_sleep(TimestampTz until)
{
	volatile bool *is_woken = &shared->waiters[MyProcNumber].is_woken;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													 until);

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueWait");

	/* a catalog snapshot would hold the horizon back as any other does */
	InvalidateCatalogSnapshot();
	if (ms > 0 && !*is_woken)
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(ms, MAX_SLEEP_MS), wait_event);
	ResetLatch(MyLatch);
	*is_woken = false;
	pg_memory_barrier();
	CHECK_FOR_INTERRUPTS();

	/* whoever sends the answer into the void must not take a message */
	if (MyProcPort != NULL && !pq_check_connection())
		ereport(FATAL,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection to client lost")));
}

void
queue_waiter_wake(const Oid *relids, int nrelids)
{
	uint32		n;
	uint32		i;

	/* pairs with the fetch_add in enter: see the banner */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&shared->nwaiters) == 0)
		return;

	LWLockAcquire(lock, LW_SHARED);
	n = pg_atomic_read_u32(&shared->nwaiters);
	for (i = 0; i < n; i++)
	{
		Waiter	   *waiter = &shared->waiters[shared->list[i]];
		bool		wakes = waiter->nrelids == 0 || relids == NULL;
		int			j;
		int			k;

		if (waiter->dbid != MyDatabaseId)
			continue;
		for (j = 0; !wakes && j < waiter->nrelids; j++)
			for (k = 0; !wakes && k < nrelids; k++)
				wakes = waiter->relids[j] == relids[k];
		if (!wakes)
			continue;
		waiter->is_woken = true;
		SetLatch(&GetPGProcByNumber(shared->list[i])->procLatch);
	}
	LWLockRelease(lock);
}

void
queue_waiter_wake_all(void)
{
	queue_waiter_wake(NULL, 0);
}

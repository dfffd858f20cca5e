/*-------------------------------------------------------------------------
 *
 * database.c
 *		What shared memory knows of each database.
 *
 * A fixed array of slots, one for each database that has the extension or
 * whose worker has still to look.  It is small and seldom written, so one
 * LWLock guards all of it, and slots are found by going through the array.
 * The lock is held over loads and stores (and kill() in a few places); latches
 * are set after its release.  The only locks that are taken inside are those
 * of the in-flight table, by whoever loads leases (lease.c) or forgets the
 * entries of a dropped database (leader.c), so nothing here is called with one
 * of them held.
 *
 * When all slots are in use, that of a database known to lack the extension
 * is given away: nothing about such a database is worth remembering here, and
 * the leader has a list of its own of those that it need not probe again.
 *
 * All times kept here are those of clock.h.
 *
 * How a worker sleeps: before a round it sets worker_due_at to infinity, and
 * afterwards to the time when it has to wake, or leaves what somebody poked
 * meanwhile if that is earlier.  A poke stores its time if that is earlier
 * than what it finds, and only then sets the latch.  Whoever pokes has made
 * his change before, so either the round saw it or the poke is found after the
 * round.  A latch that is set says no more than "read worker_due_at again".
 *
 * How a worker leaves: detach_worker() is an on_shmem_exit callback which is
 * registered before the process connects to its database.  These callbacks run
 * in reverse order, so it comes after the one that takes the process out of
 * the process array: worker_pid = 0 means that no statement which needs the
 * database alone will find the worker in its way.  (A before_shmem_exit
 * callback would be too early for that.)
 *
 * How a worker is held away: a backend counts itself into "holds", signals the
 * worker if one is attached, and waits until it has detached.  A worker that
 * attaches looks at "holds" under the same lock and before it connects, so
 * that one of both sees the other.
 *
 * Helpers (helper.c) attach and detach in the same way, but only where a worker
 * is attached; that one signals them when it leaves.  A hold waits for all.
 *
 * Nothing here outlives a crash of any process, since the server then makes
 * its shared memory anew.  A process that ends in any other way runs its exit
 * callbacks, so neither a hold nor an attached worker is left behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/syscache.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "shared/database.h"

/* a worker that ended in an error is started again after 1, 2, 4 ... 30 s */
#define RETRY_DELAY			(1 * USECS_PER_SEC)
#define RETRY_MAX_DELAY		(30 * USECS_PER_SEC)

/* ... and after 1 s again if it had been well for this long */
#define HEALTHY_TIME		(60 * USECS_PER_SEC)

/*
 * How long a hold waits for the worker to go.  A worker that gets the signal
 * goes at once, or after the step that it is at; one that does not react (it
 * is stopped, or waits for its disk) should not keep the statement from saying
 * what is in its way.
 */
#define HOLD_TIMEOUT		5000	/* ms */

/* How long a session waits for a slot that is about to become free */
#define SLOT_TIMEOUT		5000	/* ms */

#define NO_PROC				(-1)

typedef struct DatabaseArray
{
	int			leader_procno;	/* NO_PROC: no leader */
	ConditionVariable detached; /* some worker has detached, or slots have
								 * become free */
	DatabaseSlot slots[FLEXIBLE_ARRAY_MEMBER];
} DatabaseArray;

static DatabaseArray *databases = NULL;
static LWLock *databases_lock = NULL;

/* the slot that this worker or helper is attached to */
static DatabaseSlot *attached_slot = NULL;

/* the slot that this backend holds the worker away from */
static DatabaseSlot *held_slot = NULL;

static DatabaseSlot *find_slot(Oid dbid);
static DatabaseSlot *make_slot(Oid dbid);
static bool is_expendable(const DatabaseSlot *slot);
static bool is_room_coming(void);
static void set_latch_of(int procno);
static void wake_leader(void);
static void detach_worker(int code, Datum arg);
static void signal_helpers(const DatabaseSlot *slot);
static void detach_helper(int code, Datum arg);
static bool is_deserted(DatabaseSlot *slot);
static void release_at_exit(int code, Datum arg);

Size
queue_database_shmem_size(void)
{
	return add_size(offsetof(DatabaseArray, slots),
					mul_size(queue_max_databases, sizeof(DatabaseSlot)));
}

/*
 * Called in the postmaster, and in every process where memory is not
 * inherited, under AddinShmemInitLock.
 */
void
queue_database_shmem_init(void)
{
	bool		found;

	databases = ShmemInitStruct("queue databases", queue_database_shmem_size(),
								&found);
	databases_lock = &GetNamedLWLockTranche("queue_database")->lock;

	if (!found)
	{
		memset(databases, 0, queue_database_shmem_size());
		databases->leader_procno = NO_PROC;
		ConditionVariableInit(&databases->detached);
	}
}

DatabaseSlot *
queue_database_slots(int *nslots)
{
	*nslots = databases != NULL ? queue_max_databases : 0;
	return databases != NULL ? databases->slots : NULL;
}

LWLock *
queue_database_lock(void)
{
	return databases_lock;
}

DatabaseSlot *
queue_database_slot(Oid dbid, bool create)
{
	DatabaseSlot *slot;

	if (databases == NULL || !OidIsValid(dbid))
		return NULL;

	LWLockAcquire(databases_lock, LW_SHARED);
	slot = find_slot(dbid);
	create = create && (slot == NULL || slot->is_for_hold);
	LWLockRelease(databases_lock);

	if (create)
	{
		LWLockAcquire(databases_lock, LW_EXCLUSIVE);
		slot = make_slot(dbid);
		LWLockRelease(databases_lock);
	}
	return slot;
}

DatabaseSlot *
queue_database_wait_for_slot(Oid dbid)
{
	static uint32 wait_event = 0;
	DatabaseSlot *slot = queue_database_slot(dbid, true);
	TimestampTz deadline;

	if (slot != NULL || databases == NULL)
		return slot;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueDatabaseSlot");
	deadline = TimestampTzPlusMilliseconds(queue_clock(),
										   SLOT_TIMEOUT);
	for (;;)
	{
		long		left;

		/* before looking, so that what happens behind our back wakes us */
		ConditionVariablePrepareToSleep(&databases->detached);
		slot = queue_database_slot(dbid, true);
		left = TimestampDifferenceMilliseconds(queue_clock(),
											   deadline);
		if (slot != NULL || left <= 0 || !is_room_coming())
			break;
		wake_leader();
		(void) ConditionVariableTimedSleep(&databases->detached, left,
										   wait_event);
	}
	ConditionVariableCancelSleep();
	return slot;
}

void
queue_database_announce_room(void)
{
	ConditionVariableBroadcast(&databases->detached);
}

/* Is there a slot which is not that of a database with the extension? */
static bool
is_room_coming(void)
{
	Oid		   *dbids = palloc(queue_max_databases * sizeof(Oid));
	int			n = 0;
	bool		is_coming = false;

	LWLockAcquire(databases_lock, LW_SHARED);
	for (int i = 0; i < queue_max_databases; i++)
	{
		if (databases->slots[i].has_extension)
			dbids[n++] = databases->slots[i].dbid;
		else
			is_coming = true;
	}
	LWLockRelease(databases_lock);

	while (!is_coming && n > 0)
		is_coming = !SearchSysCacheExists1(DATABASEOID,
										   ObjectIdGetDatum(dbids[--n]));
	pfree(dbids);
	return is_coming;
}

/* The lock is held. */
static DatabaseSlot *
find_slot(Oid dbid)
{
	static DatabaseSlot *last = NULL;

	if (last != NULL && last->dbid == dbid)
		return last;
	for (int i = 0; i < queue_max_databases; i++)
	{
		if (databases->slots[i].dbid == dbid)
		{
			last = &databases->slots[i];
			return last;
		}
	}
	return NULL;
}

/*
 * Find the slot, or make one, to keep; NULL if there is no room.  The lock is
 * held exclusively.
 */
static DatabaseSlot *
make_slot(Oid dbid)
{
	DatabaseSlot *slot = find_slot(dbid);

	if (slot != NULL)
	{
		slot->is_for_hold = false;
		return slot;
	}

	slot = find_slot(InvalidOid);
	for (int i = 0; slot == NULL && i < queue_max_databases; i++)
	{
		if (is_expendable(&databases->slots[i]))
			slot = &databases->slots[i];
	}
	if (slot != NULL)
	{
		memset(slot, 0, sizeof(DatabaseSlot));
		slot->dbid = dbid;
		slot->worker_procno = NO_PROC;
		slot->worker_due_at = TIMESTAMP_INFINITY;
	}
	return slot;
}

/* Does this slot say only that a database has no extension? */
static bool
is_expendable(const DatabaseSlot *slot)
{
	return slot->is_probed && !slot->has_extension && !slot->probe_wanted &&
		queue_database_is_deserted(slot) && slot->holds == 0;
}

/*
 * The process may have gone and another may have its PGPROC by now; that one
 * wakes for nothing, which everybody must be prepared for.
 */
static void
set_latch_of(int procno)
{
	if (procno != NO_PROC)
		SetLatch(&GetPGProcByNumber(procno)->procLatch);
}

void
queue_database_set_leader(int procno)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	databases->leader_procno = procno;
	LWLockRelease(databases_lock);
}

static void
wake_leader(void)
{
	int			procno;

	LWLockAcquire(databases_lock, LW_SHARED);
	procno = databases->leader_procno;
	LWLockRelease(databases_lock);
	set_latch_of(procno);
}

/*
 * Called often, so it takes the lock in shared mode first: mostly the worker
 * means to wake soon enough.
 */
void
queue_database_poke(Oid dbid, TimestampTz due)
{
	DatabaseSlot *slot;
	int			procno = NO_PROC;

	if (databases == NULL)
		return;
	due = queue_clock_at(due);

	LWLockAcquire(databases_lock, LW_SHARED);
	slot = find_slot(dbid);
	if (slot != NULL && slot->worker_due_at <= due &&
		(slot->has_extension || slot->probe_wanted))
	{
		LWLockRelease(databases_lock);
		return;
	}
	LWLockRelease(databases_lock);

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot = make_slot(dbid);
	if (slot != NULL)
	{
		if (due < slot->worker_due_at)
		{
			slot->worker_due_at = due;
			if (slot->worker_pid != 0)
				procno = slot->worker_procno;
		}

		/*
		 * Somebody uses the extension here, whatever a worker saw earlier.
		 * The leader is told once; a worker that is under way clears the flag
		 * before it looks, and so it is with announcements.
		 */
		if (!slot->has_extension && !slot->probe_wanted)
		{
			slot->probe_wanted = true;
			slot->worker_retry_at = 0;
			if (slot->worker_pid == 0)
				procno = databases->leader_procno;
		}
	}
	LWLockRelease(databases_lock);
	set_latch_of(procno);
}

void
queue_database_announce(Oid dbid)
{
	DatabaseSlot *slot;
	int			procno;

	if (databases == NULL)
		return;

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	procno = databases->leader_procno;
	slot = make_slot(dbid);
	if (slot != NULL)
	{
		slot->probe_wanted = true;
		slot->worker_due_at = 0;
		slot->worker_retry_at = 0;
		if (slot->worker_pid != 0)
			procno = slot->worker_procno;
	}
	LWLockRelease(databases_lock);
	set_latch_of(procno);
}

DatabaseSlot *
queue_database_attach(Oid dbid)
{
	DatabaseSlot *slot;

	Assert(attached_slot == NULL);

	/* registered before anything is published, and before we connect */
	on_shmem_exit(detach_worker, ObjectIdGetDatum(dbid));

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot = find_slot(dbid);
	if (slot != NULL && slot->worker_pid == 0 && slot->holds == 0)
	{
		slot->is_for_hold = false;
		slot->worker_pid = MyProcPid;
		slot->worker_procno = MyProcNumber;
		slot->worker_started_at = queue_clock();
		attached_slot = slot;
	}
	LWLockRelease(databases_lock);
	return attached_slot;
}

/*
 * The worker ends, and is in the process array no more.  How it ended decides
 * when the next may start; that is kept here and not by the leader, who may
 * be another one by then.
 */
static void
detach_worker(int code, Datum arg)
{
	DatabaseSlot *slot = attached_slot;
	TimestampTz now = queue_clock();
	TimestampTz delay = RETRY_DELAY;

	if (slot == NULL)
		return;
	attached_slot = NULL;

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	Assert(slot->dbid == DatumGetObjectId(arg));
	Assert(slot->worker_pid == MyProcPid);
	slot->worker_pid = 0;
	slot->worker_procno = NO_PROC;
	slot->worker_left_at = now;
	slot->worker_due_at = TIMESTAMP_INFINITY;
	signal_helpers(slot);

	if (code == 0 || slot->holds > 0 ||
		now - slot->worker_started_at >= HEALTHY_TIME)
		slot->worker_failures = 0;
	if (code != 0 && slot->holds == 0)
	{
		slot->worker_failures++;
		delay <<= Min(slot->worker_failures - 1, 5);
		/* it may have failed between clearing the flag and looking */
		if (!slot->has_extension)
			slot->is_probed = false;
	}

	/*
	 * A second passes before any restart, so that whatever makes workers
	 * leave again and again costs little; unless the extension was announced
	 * while this one was busy seeing that there is none.
	 */
	if (code == 0 && slot->probe_wanted)
		delay = 0;
	slot->worker_retry_at = now + Min(delay, RETRY_MAX_DELAY);
	LWLockRelease(databases_lock);

	ConditionVariableBroadcast(&databases->detached);
	wake_leader();
}

/* The lock is held. */
static void
signal_helpers(const DatabaseSlot *slot)
{
	for (int i = 0; i < NUM_HELPERS; i++)
	{
		if (slot->helper_pid[i] != 0)
			kill(slot->helper_pid[i], SIGTERM);
	}
}

bool
queue_database_is_deserted(const DatabaseSlot *slot)
{
	for (int i = 0; i < NUM_HELPERS; i++)
	{
		if (slot->helper_pid[i] != 0)
			return false;
	}
	return slot->worker_pid == 0;
}

bool
queue_database_attach_helper(Oid dbid, DatabaseHelper helper)
{
	DatabaseSlot *slot;
	bool		is_attached = false;

	/* registered before anything is published, and before we connect */
	on_shmem_exit(detach_helper, Int32GetDatum(helper));

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot = find_slot(dbid);
	if (slot != NULL && slot->worker_pid != 0 &&
		slot->helper_pid[helper] == 0 && slot->holds == 0)
	{
		slot->helper_pid[helper] = MyProcPid;
		slot->helper_procno[helper] = MyProcNumber;
		attached_slot = slot;
		is_attached = true;
	}
	LWLockRelease(databases_lock);
	return is_attached;
}

/*
 * The helper ends, and is in the process array no more.  If the resolver says
 * by its status that it has left something in doubt, or if it was called since
 * it looked the last time, there has to be another.
 */
static void
detach_helper(int code, Datum arg)
{
	DatabaseHelper helper = (DatabaseHelper) DatumGetInt32(arg);
	DatabaseSlot *slot = attached_slot;
	Oid			dbid;
	bool		is_wanted;

	if (slot == NULL)
		return;
	attached_slot = NULL;
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	Assert(slot->helper_pid[helper] == MyProcPid);
	slot->helper_pid[helper] = 0;
	slot->resolver_wanted |= code != 0 && helper == HELPER_RESOLVER;
	is_wanted = slot->resolver_wanted;
	dbid = slot->dbid;
	LWLockRelease(databases_lock);
	ConditionVariableBroadcast(&databases->detached);
	if (is_wanted)
		queue_database_poke(dbid, GetCurrentTimestamp() + RETRY_DELAY);
}

/* Called by the worker. */
bool
queue_database_wake_helper(DatabaseHelper helper)
{
	int			procno = NO_PROC;

	LWLockAcquire(databases_lock, LW_SHARED);
	if (attached_slot->helper_pid[helper] != 0)
		procno = attached_slot->helper_procno[helper];
	LWLockRelease(databases_lock);
	set_latch_of(procno);
	return procno != NO_PROC;
}

void
queue_database_want_resolver(Oid dbid)
{
	DatabaseSlot *slot = queue_database_slot(dbid, false);

	if (slot == NULL)
		return;
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	if (slot->dbid == dbid)
		slot->resolver_wanted = true;
	LWLockRelease(databases_lock);
	queue_database_poke(dbid, GetCurrentTimestamp());
}

/* Called by the worker and the resolver. */
bool
queue_database_is_resolver_wanted(bool take)
{
	bool		is_wanted;

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	is_wanted = attached_slot->resolver_wanted;
	if (take)
		attached_slot->resolver_wanted = false;
	LWLockRelease(databases_lock);
	return is_wanted;
}

/*
 * A look at the extension and a round follow: what is asked for from now on
 * may be too late for them.
 */
void
queue_database_begin_round(DatabaseSlot *slot)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot->worker_due_at = TIMESTAMP_INFINITY;
	slot->probe_wanted = false;
	LWLockRelease(databases_lock);
}

void
queue_database_set_extension(DatabaseSlot *slot, bool exists)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot->has_extension = exists;
	slot->is_probed = true;
	LWLockRelease(databases_lock);
}

/*
 * The worker wants to wake at "due".  Returns when it has to, which is earlier
 * if somebody poked.  TIMESTAMP_INFINITY changes nothing, so that is how to
 * read the time.
 */
TimestampTz
queue_database_publish_due(DatabaseSlot *slot, TimestampTz due)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	if (due < slot->worker_due_at)
		slot->worker_due_at = due;
	due = slot->worker_due_at;
	LWLockRelease(databases_lock);
	return due;
}

bool
queue_database_is_held(DatabaseSlot *slot)
{
	bool		is_held;

	LWLockAcquire(databases_lock, LW_SHARED);
	is_held = slot->holds > 0;
	LWLockRelease(databases_lock);
	return is_held;
}

/*
 * Under the lock an attached worker cannot finish its exit, so its process id
 * cannot belong to somebody else yet.
 */
void
queue_database_dismiss(DatabaseSlot *slot, pid_t worker_pid)
{
	LWLockAcquire(databases_lock, LW_SHARED);
	if (worker_pid != 0 && slot->worker_pid == worker_pid)
		kill(worker_pid, SIGTERM);
	LWLockRelease(databases_lock);
}

/* What a backend waits for in queue_database_hold() */
static bool
is_deserted(DatabaseSlot *slot)
{
	bool		is_gone;

	LWLockAcquire(databases_lock, LW_SHARED);
	is_gone = queue_database_is_deserted(slot);
	LWLockRelease(databases_lock);
	return is_gone;
}

bool
queue_database_hold(Oid dbid)
{
	static bool is_callback_registered = false;
	static uint32 wait_event = 0;
	TimestampTz deadline;
	DatabaseSlot *slot;

	if (databases == NULL || held_slot != NULL)
		return false;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueWorkerLeave");

	/* a FATAL error in the statement comes to no PG_FINALLY block */
	if (!is_callback_registered)
	{
		before_shmem_exit(release_at_exit, (Datum) 0);
		is_callback_registered = true;
	}

	/*
	 * There may be no slot yet although the database is there: it is new, or
	 * a template.  Make one, so that the leader does not start a worker
	 * behind our back.
	 */
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot = find_slot(dbid);
	if (slot == NULL)
	{
		slot = make_slot(dbid);
		if (slot != NULL)
			slot->is_for_hold = true;
	}
	if (slot != NULL)
	{
		slot->holds++;
		held_slot = slot;
		if (slot->worker_pid != 0)
			kill(slot->worker_pid, SIGTERM);
		signal_helpers(slot);
	}
	LWLockRelease(databases_lock);
	if (slot == NULL)
		return false;
	if (is_deserted(slot))
		return true;

	deadline = TimestampTzPlusMilliseconds(queue_clock(),
										   HOLD_TIMEOUT);
	PG_TRY();
	{
		ConditionVariablePrepareToSleep(&databases->detached);
		while (!is_deserted(slot))
		{
			long		left;

			left = TimestampDifferenceMilliseconds(queue_clock(),
												   deadline);
			if (left <= 0)
				break;
			(void) ConditionVariableTimedSleep(&databases->detached, left,
											   wait_event);
		}
		ConditionVariableCancelSleep();
	}
	PG_CATCH();
	{
		queue_database_release();
		PG_RE_THROW();
	}
	PG_END_TRY();
	return true;
}

/*
 * A slot that a hold has made goes with the last one, whether there is a leader
 * to clear up or not.
 */
void
queue_database_release(void)
{
	DatabaseSlot *slot = held_slot;
	bool		is_free;

	if (slot == NULL)
		return;
	held_slot = NULL;

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	Assert(slot->holds > 0);
	slot->holds--;
	/* it did not leave of its own accord, so need not wait to come back */
	slot->worker_retry_at = 0;
	is_free = slot->is_for_hold && slot->holds == 0;
	if (is_free)
		memset(slot, 0, sizeof(DatabaseSlot));
	LWLockRelease(databases_lock);
	if (is_free)
		queue_database_announce_room();
	wake_leader();
}

static void
release_at_exit(int code, Datum arg)
{
	queue_database_release();
}

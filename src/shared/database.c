/*-------------------------------------------------------------------------
 *
 * database.c
 *		What shared memory knows of each database.
 *
 * A fixed array of slots, one for each database that has the extension or
 * whose worker has still to look.  It is small and seldom written, so one
 * LWLock guards all of it, and slots are found by going through the array.
 * The lock is held over loads and stores (and kill() in a few places); latches
 * are set after its release.  The only locks taken inside are those of the
 * in-flight table, when leases are loaded (lease.c) or the entries of a
 * dropped database are forgotten (leader.c).  So nothing here is called with
 * one of them held.
 *
 * When all slots are in use, that of a database known to lack the extension is
 * given away: nothing about such a database is worth remembering here, and the
 * leader has a list of its own of those that it need not probe again.
 *
 * All times kept here are those of clock.h.
 *
 * How a worker sleeps: before a round it sets worker_due_at to infinity.
 * After the round it sets it to the time when it has to wake, or leaves an
 * earlier time that was set meanwhile.  A poke stores its time if that is
 * earlier than the one it finds, and only then sets the latch.  The process
 * that pokes has made its change before, so either the round saw the change or
 * the poke is found after the round.  A latch that is set says no more than
 * "read worker_due_at again".
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
 * that at least one of the two sees the other.
 *
 * Helpers (helper.c) attach and detach in the same way, but only where a
 * worker is attached; that worker signals them when it leaves.  A hold waits
 * for all.
 *
 * Nothing here outlives a crash of any process, because the server then makes
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

/* A worker that ended in an error is started again after 1, 2, 4 ... 30 s */
#define RETRY_DELAY			(1 * USECS_PER_SEC)
#define RETRY_MAX_DELAY		(30 * USECS_PER_SEC)

/* ... and after 1 s again if it had been well for this long */
#define HEALTHY_TIME		(60 * USECS_PER_SEC)

/*
 * How long a hold waits for the worker to go.  A worker that gets the signal
 * goes at once, or after its present step.  One that does not react (it is
 * stopped, or waits for its disk) must not keep the statement from reporting
 * what is in its way.
 */
#define HOLD_TIMEOUT		5000	/* ms */

/* How long a session waits for a slot that is about to become free */
#define SLOT_TIMEOUT		5000	/* ms */

#define NO_PROC				(-1)

typedef struct DatabaseArray
{
	int			leader_procno;	/* NO_PROC: no leader */
	ConditionVariable detached; /* a worker has detached, or slots have become
								 * free */
	DatabaseSlot slots[FLEXIBLE_ARRAY_MEMBER];
} DatabaseArray;

static DatabaseArray *databases = NULL;
static LWLock *databases_lock = NULL;

/* The slot that this worker or helper is attached to */
static DatabaseSlot *attached_slot = NULL;

/* The slot that this backend holds the worker away from */
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

/*
 * queue_database_shmem_size
 *		Shared memory needed for the slots.
 */
Size
queue_database_shmem_size(void)
{
	return add_size(offsetof(DatabaseArray, slots),
					mul_size(queue_max_databases, sizeof(DatabaseSlot)));
}

/*
 * queue_database_shmem_init
 *		Create or attach to the slots.
 *
 * Called in the postmaster, and in every process that does not inherit its
 * memory.  The caller holds AddinShmemInitLock.
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

/*
 * queue_database_slots
 *		Return the array of all slots, and their number.
 *
 * Their fields are guarded by queue_database_lock().
 */
DatabaseSlot *
queue_database_slots(int *nslots)
{
	*nslots = databases != NULL ? queue_max_databases : 0;
	return databases != NULL ? databases->slots : NULL;
}

/* Return the lock that guards the fields of all slots. */
LWLock *
queue_database_lock(void)
{
	return databases_lock;
}

/*
 * queue_database_slot
 *		Return the slot of a database, made if need be ("create").
 *
 * Returns NULL if there is none, or if all are in use.
 */
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

/*
 * queue_database_wait_for_slot
 *		The same for a session that cannot do without a slot.
 *
 * If all slots are in use but one is about to become free, waits for that, for
 * a few seconds at most.  One is about to become free if a worker looks for
 * the extension in its database, or if the database is gone and the leader has
 * still to notice.
 */
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

		/*
		 * before the look, so that a slot that becomes free after it wakes
		 * this one
		 */
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

/*
 * queue_database_announce_room
 *		Wake the sessions that wait for a slot, because some have become free.
 */
void
queue_database_announce_room(void)
{
	ConditionVariableBroadcast(&databases->detached);
}

/*
 * Is there a slot that is not that of an existing database with the extension?
 */
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

/* Return the slot of a database, or NULL.  The lock is held. */
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
 * make_slot
 *		Return the slot of a database, made if need be, and meant to stay.
 *
 * Returns NULL if there is no room.  The lock is held exclusively.
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

/* Does this slot say no more than that a database has no extension? */
static bool
is_expendable(const DatabaseSlot *slot)
{
	return slot->is_probed && !slot->has_extension && !slot->probe_wanted &&
		queue_database_is_deserted(slot) && slot->holds == 0;
}

/*
 * set_latch_of
 *		Set the latch of a process; the lock is not held.
 *
 * The process may have gone and another may have its PGPROC by now.  That one
 * wakes for nothing, which every process must be prepared for.
 */
static void
set_latch_of(int procno)
{
	if (procno != NO_PROC)
		SetLatch(&GetPGProcByNumber(procno)->procLatch);
}

/*
 * queue_database_set_leader
 *		Note the leader's latch, by its proc number; NO_PROC if it goes.
 */
void
queue_database_set_leader(int procno)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	databases->leader_procno = procno;
	LWLockRelease(databases_lock);
}

/* Set the leader's latch, if there is a leader. */
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
 * queue_database_poke
 *		Ask the worker of a database to wake not later than "due", a time of
 *		day.
 *
 * If the database is not known to have the extension, the leader is told to
 * look.  No allocation, no error, so this may be called from callbacks.
 *
 * It is called often, so it takes the lock in shared mode first: mostly the
 * worker means to wake soon enough.
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
		 * A session uses the extension here, whatever a worker saw earlier.
		 * The leader is told once.  A worker that is under way clears the
		 * flag before it looks, and so it is with announcements.
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

/*
 * queue_database_announce
 *		The extension was created or dropped in this database: let its worker,
 *		or the leader, look.
 *
 * No allocation, no error.
 */
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

/*
 * queue_database_attach
 *		Attach this process to the database as its worker.
 *
 * Returns NULL if the database has a worker, or is to have none now.
 * Otherwise the process is detached when it exits, after it has left the
 * process array.
 */
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
 * detach_worker
 *		The worker ends, and has left the process array.
 *
 * How it ended decides when the next one may start.  That is kept here and not
 * by the leader, because another leader may have taken over by then.
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
	 * A second passes before any restart, so that a worker that leaves again
	 * and again costs little.  The exception is an extension that was
	 * announced while this worker was busy seeing that there is none.
	 */
	if (code == 0 && slot->probe_wanted)
		delay = 0;
	slot->worker_retry_at = now + Min(delay, RETRY_MAX_DELAY);
	LWLockRelease(databases_lock);

	ConditionVariableBroadcast(&databases->detached);
	wake_leader();
}

/* Signal the helpers of a database to leave.  The lock is held. */
static void
signal_helpers(const DatabaseSlot *slot)
{
	for (int i = 0; i < NUM_HELPERS; i++)
	{
		if (slot->helper_pid[i] != 0)
			kill(slot->helper_pid[i], SIGTERM);
	}
}

/*
 * queue_database_is_deserted
 *		Returns true if neither a worker nor a helper of this database is
 *		attached.
 *
 * The lock is held.
 */
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

/*
 * queue_database_attach_helper
 *		Attach this process to the database as this helper.
 *
 * Returns false if the database has no worker, has this helper already, or is
 * to have none now.  Otherwise the process is detached when it exits, after it
 * has left the process array.
 */
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
 * detach_helper
 *		The helper ends, and has left the process array.
 *
 * Another resolver is needed if this one says by its status that it has left
 * something in doubt, or if it was called since it last looked.
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

/*
 * queue_database_wake_helper
 *		Wake a helper of the worker that calls this.
 *
 * Returns false if it is not there.
 */
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

/*
 * queue_database_want_resolver
 *		Call the resolver of a database, because a branch was prepared or
 *		finished.
 *
 * The worker starts or wakes it.  The request stands until the resolver takes
 * it, before it looks.
 */
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

/*
 * queue_database_is_resolver_wanted
 *		Returns true if the resolver was called; if "take", takes the request.
 *
 * Called by the worker and the resolver.
 */
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
 * queue_database_begin_round
 *		A look at the extension and a round follow.
 *
 * Whatever is asked for from now on may be too late for them, so it is noted
 * anew.
 */
void
queue_database_begin_round(DatabaseSlot *slot)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot->worker_due_at = TIMESTAMP_INFINITY;
	slot->probe_wanted = false;
	LWLockRelease(databases_lock);
}

/* Note whether the worker has found the extension. */
void
queue_database_set_extension(DatabaseSlot *slot, bool exists)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot->has_extension = exists;
	slot->is_probed = true;
	LWLockRelease(databases_lock);
}

/*
 * queue_database_publish_due
 *		Note that the worker means to wake at "due", by clock.h.
 *
 * Returns when it has to wake, which is earlier if it was poked.
 * TIMESTAMP_INFINITY changes nothing, so that is how to read the time.
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

/*
 * queue_database_is_held
 *		Returns true if a backend keeps the worker away.
 */
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
 * queue_database_dismiss
 *		Signal a worker to leave, if it is still this one.
 *
 * While the lock is held an attached worker cannot finish its exit, so its
 * process id cannot belong to another process yet.
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

/*
 * queue_database_hold
 *		Keep the worker of a database and its helpers away, and wait until
 *		they are gone.
 *
 * Waits for a bounded time, and may be interrupted.  Returns false if there is
 * no slot, and thus no worker, or if this backend holds a database already.
 * The hold ends with queue_database_release(), at the latest when the backend
 * exits.
 */
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
	 * meanwhile.
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
 * queue_database_release
 *		End the hold of this backend, if it has one.
 *
 * A slot made for holds goes with the last of them, because there may be no
 * leader to clear up.
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

/* A backend that exits ends its hold. */
static void
release_at_exit(int code, Datum arg)
{
	queue_database_release();
}

/*-------------------------------------------------------------------------
 *
 * attach.c
 *		Which processes a database has, and how they are kept away.
 *
 * How a worker leaves: detach_worker() is an on_shmem_exit callback which is
 * registered before the process connects to its database.  These callbacks run
 * in reverse order, so it comes after the one that takes the process out of
 * the process array: worker_pid = 0 means that no statement which needs the
 * database alone will find the worker in its way.  (A before_shmem_exit
 * callback would be too early for that.)
 *
 * How a worker is kept away: a backend counts itself into "exclusions", signals
 * the worker if one is attached, and waits until it has detached.  A worker
 * that attaches looks at "exclusions" under the same lock and before it
 * connects, so that at least one of the two sees the other.
 *
 * Helpers (helper.c) attach and detach in the same way, but only where a
 * worker is attached; that worker signals them when it leaves.  An
 * exclusion waits for all.
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

#include "common/clock.h"
#include "common/compat.h"
#include "shared/attach.h"
#include "shared/database.h"

/* A worker that ended in an error is started again after 1, 2, 4 ... 30 s */
#define RETRY_DELAY			(1 * USECS_PER_SEC)
#define RETRY_MAX_DELAY		(30 * USECS_PER_SEC)

/* ... and after 1 s again if it had been well for this long */
#define HEALTHY_TIME		(60 * USECS_PER_SEC)

/*
 * How long an exclusion waits for the worker to go.  A worker that gets the signal
 * goes at once, or after its present step.  One that does not react (it is
 * stopped, or waits for its disk) must not keep the statement from reporting
 * what is in its way.
 */
#define EXCLUDE_TIMEOUT		5000	/* ms */

/* The slot that this worker or helper is attached to */
static DatabaseSlot *attached_slot = NULL;

/* The slot that this backend keeps the worker away from */
static DatabaseSlot *excluded_slot = NULL;

static void detach_worker(int code, Datum arg);
static void signal_helpers(const DatabaseSlot *slot);
static void detach_helper(int code, Datum arg);
static bool is_deserted(DatabaseSlot *slot);
static void release_at_exit(int code, Datum arg);

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

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	slot = queue_database_find(dbid);
	if (slot != NULL && slot->worker_pid == 0 && slot->exclusions == 0)
	{
		slot->is_for_exclusion = false;
		slot->worker_pid = MyProcPid;
		slot->worker_procno = MyProcNumber;
		slot->worker_started_at = slot->worker_round_at = queue_clock();
		attached_slot = slot;
	}
	LWLockRelease(queue_database_lock());
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

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	Assert(slot->dbid == DatumGetObjectId(arg));
	Assert(slot->worker_pid == MyProcPid);
	slot->worker_pid = 0;
	slot->worker_procno = NO_PROC;
	slot->worker_left_at = now;
	slot->worker_due_at = TIMESTAMP_INFINITY;
	slot->worker_round_at = now;
	signal_helpers(slot);

	if (code == 0 || slot->exclusions > 0 ||
		now - slot->worker_started_at >= HEALTHY_TIME)
		slot->worker_failures = 0;
	if (code != 0 && slot->exclusions == 0)
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
	LWLockRelease(queue_database_lock());

	ConditionVariableBroadcast(queue_database_detached());
	queue_database_wake_leader();
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

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	slot = queue_database_find(dbid);
	if (slot != NULL && slot->worker_pid != 0 &&
		slot->helper_pid[helper] == 0 && slot->exclusions == 0)
	{
		slot->helper_pid[helper] = MyProcPid;
		slot->helper_procno[helper] = MyProcNumber;
		attached_slot = slot;
		is_attached = true;
	}
	LWLockRelease(queue_database_lock());
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
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	Assert(slot->helper_pid[helper] == MyProcPid);
	slot->helper_pid[helper] = 0;
	slot->resolver_wanted |= code != 0 && helper == HELPER_RESOLVER;
	is_wanted = slot->resolver_wanted;
	dbid = slot->dbid;
	LWLockRelease(queue_database_lock());
	ConditionVariableBroadcast(queue_database_detached());
	if (is_wanted)
		queue_database_wake_by(dbid, GetCurrentTimestamp() + RETRY_DELAY);
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

	LWLockAcquire(queue_database_lock(), LW_SHARED);
	if (attached_slot->helper_pid[helper] != 0)
		procno = attached_slot->helper_procno[helper];
	LWLockRelease(queue_database_lock());
	queue_database_set_latch(procno);
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
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (slot->dbid == dbid)
		slot->resolver_wanted = true;
	LWLockRelease(queue_database_lock());
	queue_database_wake_by(dbid, GetCurrentTimestamp());
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

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	is_wanted = attached_slot->resolver_wanted;
	if (take)
		attached_slot->resolver_wanted = false;
	LWLockRelease(queue_database_lock());
	return is_wanted;
}

/*
 * queue_database_want_walk
 *		A queue of which memory knows nothing has changed: its messages may
 *		have expired.
 *
 * Without a worker nothing is noted, because a worker that begins goes over
 * all queues.  No allocation, no error.
 */
void
queue_database_want_walk(Oid dbid)
{
	DatabaseSlot *slot = queue_database_slot(dbid, false);

	if (slot == NULL)
		return;
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (slot->dbid == dbid)
		slot->walk_wanted = true;
	LWLockRelease(queue_database_lock());
	queue_database_wake_by(dbid, GetCurrentTimestamp());
}

/*
 * queue_database_is_walk_wanted
 *		Returns true if there was one; if "take", takes the request.
 *
 * Called by the worker.
 */
bool
queue_database_is_walk_wanted(bool take)
{
	bool		is_wanted;

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	is_wanted = attached_slot->walk_wanted;
	if (take)
		attached_slot->walk_wanted = false;
	LWLockRelease(queue_database_lock());
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
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	slot->worker_due_at = TIMESTAMP_INFINITY;
	slot->worker_round_at = queue_clock();
	slot->probe_wanted = false;
	LWLockRelease(queue_database_lock());
}

/* Note whether the worker has found the extension. */
void
queue_database_set_extension(DatabaseSlot *slot, bool exists)
{
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	slot->has_extension = exists;
	slot->is_probed = true;
	LWLockRelease(queue_database_lock());
}

/*
 * queue_database_publish_due
 *		Note that the worker means to wake at "due", by clock.h.
 *
 * Returns when it has to wake, which is earlier if somebody asked for that.
 * TIMESTAMP_INFINITY changes nothing, so that is how to read the time.
 */
TimestampTz
queue_database_publish_due(DatabaseSlot *slot, TimestampTz due)
{
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (due < slot->worker_due_at)
		slot->worker_due_at = due;
	due = slot->worker_due_at;
	LWLockRelease(queue_database_lock());
	return due;
}

/*
 * queue_database_is_excluded
 *		Returns true if a backend keeps the worker away.
 */
bool
queue_database_is_excluded(DatabaseSlot *slot)
{
	bool		is_excluded;

	LWLockAcquire(queue_database_lock(), LW_SHARED);
	is_excluded = slot->exclusions > 0;
	LWLockRelease(queue_database_lock());
	return is_excluded;
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
	LWLockAcquire(queue_database_lock(), LW_SHARED);
	if (worker_pid != 0 && slot->worker_pid == worker_pid)
		kill(worker_pid, SIGTERM);
	LWLockRelease(queue_database_lock());
}

/* What a backend waits for in queue_database_exclude_workers() */
static bool
is_deserted(DatabaseSlot *slot)
{
	bool		is_gone;

	LWLockAcquire(queue_database_lock(), LW_SHARED);
	is_gone = queue_database_is_deserted(slot);
	LWLockRelease(queue_database_lock());
	return is_gone;
}

/*
 * queue_database_exclude_workers
 *		Keep the worker of a database and its helpers away, and wait until
 *		they are gone.
 *
 * Waits for a bounded time, and may be interrupted.  Returns false if there is
 * no slot, and thus no worker, or if this backend excludes workers already.
 * The exclusion ends with queue_database_readmit_workers(), at the latest when the backend
 * exits.
 */
bool
queue_database_exclude_workers(Oid dbid)
{
	static bool is_callback_registered = false;
	static uint32 wait_event = 0;
	TimestampTz deadline;
	DatabaseSlot *slot;

	if (queue_database_lock() == NULL || excluded_slot != NULL)
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
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	slot = queue_database_find(dbid);
	if (slot == NULL)
	{
		slot = queue_database_make(dbid);
		if (slot != NULL)
			slot->is_for_exclusion = true;
	}
	if (slot != NULL)
	{
		slot->exclusions++;
		excluded_slot = slot;
		if (slot->worker_pid != 0)
			kill(slot->worker_pid, SIGTERM);
		signal_helpers(slot);
	}
	LWLockRelease(queue_database_lock());
	if (slot == NULL)
		return false;
	if (is_deserted(slot))
		return true;

	deadline = TimestampTzPlusMilliseconds(queue_clock(),
										   EXCLUDE_TIMEOUT);
	PG_TRY();
	{
		ConditionVariablePrepareToSleep(queue_database_detached());
		while (!is_deserted(slot))
		{
			long		left;

			left = TimestampDifferenceMilliseconds(queue_clock(),
												   deadline);
			if (left <= 0)
				break;
			(void) ConditionVariableTimedSleep(queue_database_detached(), left,
											   wait_event);
		}
		ConditionVariableCancelSleep();
	}
	PG_CATCH();
	{
		queue_database_readmit_workers();
		PG_RE_THROW();
	}
	PG_END_TRY();
	return true;
}

/*
 * queue_database_readmit_workers
 *		End the exclusion of this backend, if it has one.
 *
 * A slot made for exclusions goes with the last of them, because there may be no
 * leader to clear up.
 */
void
queue_database_readmit_workers(void)
{
	DatabaseSlot *slot = excluded_slot;
	bool		is_free;

	if (slot == NULL)
		return;
	excluded_slot = NULL;

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	Assert(slot->exclusions > 0);
	slot->exclusions--;
	/* it did not leave of its own accord, so need not wait to come back */
	slot->worker_retry_at = 0;
	is_free = slot->is_for_exclusion && slot->exclusions == 0;
	if (is_free)
		memset(slot, 0, sizeof(DatabaseSlot));
	LWLockRelease(queue_database_lock());
	if (is_free)
		queue_database_announce_room();
	queue_database_wake_leader();
}

/* A backend that exits ends its exclusion. */
static void
release_at_exit(int code, Datum arg)
{
	queue_database_readmit_workers();
}

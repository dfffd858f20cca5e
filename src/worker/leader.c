/*-------------------------------------------------------------------------
 *
 * leader.c
 *		The process that keeps a worker in each database that needs one.
 *
 * It is connected to no database.  It reads pg_database, lets a worker look
 * into every database once, and keeps a worker in each that has the extension.
 * So leases end and failures are counted after a restart even with no session
 * connected.  A database without the extension is looked into again when it is
 * announced (database.c) and not otherwise.
 *
 * It works in passes: each compares what there is with what there should be,
 * and acts on the difference.  A pass depends on nothing from earlier ones but
 * the handles of workers they started, so a leader can take over at any time
 * from one that ended.  A pass happens when a worker starts or ends, of which
 * the postmaster and the worker's exit callback tell.  It also happens when a
 * database is announced or an exclusion ends, and every ten seconds for databases
 * that were created or dropped.
 *
 * Only promptness depends on it, as with the workers.  So when worker
 * processes are few, databases take turns.  A worker that had some seconds is
 * asked to leave, and the database whose last worker left the longest time ago
 * is next.
 *
 * All times are those of clock.h.  worker.c lists what may happen at the same
 * time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "common/activity.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/process.h"
#include "shared/attach.h"
#include "shared/database.h"
#include "worker/leader_pass.h"
#include "worker/worker.h"

/* Seconds before the postmaster restarts the leader */
#define LEADER_RESTART_TIME		1

/* How long a new database may go unnoticed (milliseconds, as all below) */
#define LEADER_NAP				10000

/* Until the next pass when a database is locked, or no process is free */
#define LEADER_RETRY_NAP		500

/* Passes keep this distance */
#define LEADER_MIN_NAP			10

/* A worker that was registered has this long to attach, or be given up */
#define WORKER_START_TIME		1000

/* How long a worker stays at least when others wait for a process */
#define WORKER_TURN				5000

/*
 * Workers that look into unknown databases at one time: after a start there
 * may be hundreds, and processes are wanted for queries too
 */
#define MAX_PROBES				4

static LeaderSlot *leader_slots;
static bool has_warned_processes = false;

static void leader_at_exit(int code, Datum arg);
static TimestampTz leader_pass(void);
static void reap_workers(LeaderPass *pass);
static void lock_databases(LeaderPass *pass);
static bool try_lock_database(Oid dbid);
static void start_workers(LeaderPass *pass);
static int	next_to_start(LeaderPass *pass, int nprobes);
static void visit_others(LeaderPass *pass);
static bool wants_worker(const DatabaseSlot *slot);
static bool may_start(LeaderPass *pass, int i);
static bool start_worker(LeaderPass *pass, int i);
static void take_turns(LeaderPass *pass, int nwaiting);
static bool is_leaving(LeaderPass *pass, int i);
static void dismiss_worker(LeaderPass *pass, int i);

/* Register the leader; from _PG_init(), while preloading. */
void
queue_leader_register(void)
{
	BackgroundWorker worker;

	queue_process_describe(&worker, "queue leader", "queue_leader_main");
	worker.bgw_restart_time = LEADER_RESTART_TIME;
	RegisterBackgroundWorker(&worker);
}

/* Entry point of the leader */
void
queue_leader_main(Datum arg)
{
	uint32		wait_event;
	int			nslots;
	MemoryContext pass_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	queue_activity_start("leader", InvalidOid);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	queue_process_report_name("queue leader");
	wait_event = WaitEventExtensionNew("QueueLeaderMain");

	(void) queue_database_slots(&nslots);
	leader_slots = MemoryContextAllocZero(TopMemoryContext,
										  nslots * sizeof(LeaderSlot));
	pass_context = AllocSetContextCreate(TopMemoryContext, "queue leader",
										 ALLOCSET_DEFAULT_SIZES);

	before_shmem_exit(leader_at_exit, (Datum) 0);
	queue_database_set_leader(MyProcNumber);

	for (;;)
	{
		TimestampTz next_at;
		TimestampTz not_before;

		/*
		 * Status 1, because 0 would keep the postmaster from starting a
		 * leader again after this one was terminated.
		 */
		if (ShutdownRequestPending)
			proc_exit(1);
		queue_process_reload();

		MemoryContextSwitchTo(pass_context);
		MemoryContextReset(pass_context);
		next_at = leader_pass();

		not_before = TimestampTzPlusMilliseconds(queue_clock(),
												 LEADER_MIN_NAP);
		queue_process_nap(Max(next_at, not_before), wait_event);
		while (!ShutdownRequestPending && queue_clock() < not_before)
			queue_process_nap(not_before, wait_event);
	}
}

/* Withdraw the latch, because another process may get it. */
static void
leader_at_exit(int code, Datum arg)
{
	queue_database_set_leader(-1);
}

/*
 * leader_pass
 *		Compare what there is with what there should be, and act on it.
 *
 * Returns when to do so again.
 */
static TimestampTz
leader_pass(void)
{
	LeaderPass	pass = {0};
	DatabaseSlot *slots = queue_database_slots(&pass.nslots);

	pass.context = CurrentMemoryContext;
	pass.now = queue_clock();
	pass.next_at = TimestampTzPlusMilliseconds(pass.now, LEADER_NAP);
	pass.slots = palloc(pass.nslots * sizeof(DatabaseSlot));
	pass.infos = palloc0(pass.nslots * sizeof(DatabaseInfo *));
	pass.is_locked = palloc0(pass.nslots * sizeof(bool));
	pass.workers = leader_slots;

	/*
	 * Handles first: a worker that is known here to have ended has detached
	 * before, so the copy below tells how.
	 */
	reap_workers(&pass);
	LWLockAcquire(queue_database_lock(), LW_SHARED);
	memcpy(pass.slots, slots, pass.nslots * sizeof(DatabaseSlot));
	LWLockRelease(queue_database_lock());

	queue_process_begin("looking for databases");
	lock_databases(&pass);
	queue_leader_read_databases(&pass);
	queue_process_commit();
	queue_leader_match_slots(&pass);
	start_workers(&pass);
	visit_others(&pass);
	queue_database_note_shortage(pass.nwaiting, pass.lacks_room);
	return pass.next_at;
}

/* Forget the workers that have ended. */
static void
reap_workers(LeaderPass *pass)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		pid_t		pid;

		if (leader_slots[i].handle == NULL)
			continue;
		switch (GetBackgroundWorkerPid(leader_slots[i].handle, &pid))
		{
			case BGWH_STARTED:
			case BGWH_NOT_YET_STARTED:
				break;
			case BGWH_STOPPED:
				pfree(leader_slots[i].handle);
				leader_slots[i].handle = NULL;
				break;
			case BGWH_POSTMASTER_DIED:
				proc_exit(1);
		}
	}
}

/*
 * lock_databases
 *		Lock the databases where a worker is to be started.
 *
 * What is read of them then is the latest, and no transaction is about to
 * change it.  A database that is locked is not waited for.
 */
static void
lock_databases(LeaderPass *pass)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		if (may_start(pass, i))
			pass->is_locked[i] = try_lock_database(pass->slots[i].dbid);
	}
}

/*
 * Take the lock that the worker takes when it connects; false if it is taken.
 */
static bool
try_lock_database(Oid dbid)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, dbid, 0);
	return LockAcquire(&tag, RowExclusiveLock, false, true) !=
		LOCKACQUIRE_NOT_AVAIL;
}

/*
 * start_workers
 *		Start the workers that are needed.
 *
 * When processes are few, the database whose last worker left the longest time
 * ago comes first.
 */
static void
start_workers(LeaderPass *pass)
{
	int			nprobes = 0;
	bool		is_full = false;
	int			best;

	for (int i = 0; i < pass->nslots; i++)
	{
		if (leader_slots[i].handle != NULL && !pass->slots[i].is_probed)
			nprobes++;
	}

	while ((best = next_to_start(pass, nprobes)) >= 0)
	{
		pass->is_locked[best] = false;
		if (is_full)
			pass->nwaiting++;
		else if (start_worker(pass, best))
			nprobes += pass->slots[best].is_probed ? 0 : 1;
		else
		{
			is_full = true;
			pass->nwaiting++;
			if (!has_warned_processes)
				ereport(WARNING,
						(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						 errmsg("could not start queue worker for database \"%s\"",
								NameStr(pass->infos[best]->name)),
						 errdetail("All worker processes are in use. Databases take turns."),
						 errhint("Increase max_worker_processes.")));
		}
	}

	/*
	 * While processes are too few, do not repeat the warning at each turn.
	 * After there were enough for a while, it is news again.
	 */
	if (is_full)
	{
		has_warned_processes = true;
		take_turns(pass, pass->nwaiting);
		queue_leader_pass_by(pass, TimestampTzPlusMilliseconds(pass->now,
															   LEADER_RETRY_NAP));
	}
}

/*
 * next_to_start
 *		Of databases that need a worker, return the slot of the one whose last
 *		worker left the longest time ago, or -1.
 */
static int
next_to_start(LeaderPass *pass, int nprobes)
{
	int			best = -1;

	for (int i = 0; i < pass->nslots; i++)
	{
		DatabaseSlot *slot = &pass->slots[i];

		if (!pass->is_locked[i] || pass->infos[i] == NULL ||
			!pass->infos[i]->is_open)
			continue;
		if (!slot->is_probed && nprobes >= MAX_PROBES)
			continue;
		if (best < 0 ||
			slot->worker_left_at < pass->slots[best].worker_left_at)
			best = i;
	}
	return best;
}

/*
 * visit_others
 *		The other databases: workers of those closed to connections are asked
 *		to leave, and those that could not be locked are looked at again soon.
 *
 * A database that is being dropped is both.
 */
static void
visit_others(LeaderPass *pass)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		DatabaseSlot *slot = &pass->slots[i];
		TimestampTz at;

		if (pass->infos[i] == NULL)
			continue;
		if (!pass->infos[i]->is_open)
		{
			dismiss_worker(pass, i);
			if (pass->is_locked[i] || !may_start(pass, i))
				continue;
		}
		if (wants_worker(slot) && slot->worker_pid == 0 &&
			slot->exclusions == 0 && leader_slots[i].handle == NULL)
		{
			at = TimestampTzPlusMilliseconds(pass->now, LEADER_RETRY_NAP);
			queue_leader_pass_by(pass, Max(slot->worker_retry_at, at));
		}
	}
}

/* Should there be a worker, now or later? */
static bool
wants_worker(const DatabaseSlot *slot)
{
	return OidIsValid(slot->dbid) &&
		(slot->has_extension || slot->probe_wanted || !slot->is_probed);
}

/* May a worker be started in this slot now, as far as the slot knows? */
static bool
may_start(LeaderPass *pass, int i)
{
	DatabaseSlot *slot = &pass->slots[i];

	return wants_worker(slot) && slot->worker_pid == 0 &&
		slot->exclusions == 0 && slot->worker_retry_at <= pass->now &&
		leader_slots[i].handle == NULL;
}

/*
 * start_worker
 *		Start a worker in this slot.
 *
 * Returns false if no process is to be had.
 */
static bool
start_worker(LeaderPass *pass, int i)
{
	int			nslots;
	DatabaseSlot *slot = &queue_database_slots(&nslots)[i];
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	MemoryContext old_context;
	bool		is_registered;

	queue_process_describe(&worker, "queue worker", "queue_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "queue worker for database %s",
			 NameStr(pass->infos[i]->name));
	worker.bgw_main_arg = ObjectIdGetDatum(pass->slots[i].dbid);
	worker.bgw_notify_pid = MyProcPid;

	old_context = MemoryContextSwitchTo(TopMemoryContext);
	is_registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(old_context);
	if (!is_registered)
		return false;
	leader_slots[i].handle = handle;
	leader_slots[i].dismissed_pid = 0;

	/*
	 * If it ends before it attaches, this is how long to wait; afterwards
	 * what it says itself counts.  It may have attached and left already, so
	 * do not bring the time forward.
	 */
	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (slot->dbid == pass->slots[i].dbid && slot->worker_pid == 0)
		slot->worker_retry_at =
			Max(slot->worker_retry_at,
				TimestampTzPlusMilliseconds(pass->now, WORKER_START_TIME));
	LWLockRelease(queue_database_lock());
	return true;
}

/*
 * take_turns
 *		This many databases wait for a process: ask as many workers to leave.
 *
 * These are the workers that are there for the longest time, if they had their
 * turn.
 */
static void
take_turns(LeaderPass *pass, int nwaiting)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		if (is_leaving(pass, i))
			nwaiting--;
	}

	while (nwaiting-- > 0)
	{
		int			oldest = -1;
		TimestampTz turn_ends;

		for (int i = 0; i < pass->nslots; i++)
		{
			DatabaseSlot *slot = &pass->slots[i];

			if (slot->worker_pid != 0 &&
				slot->worker_pid != leader_slots[i].dismissed_pid &&
				(oldest < 0 || slot->worker_started_at <
				 pass->slots[oldest].worker_started_at))
				oldest = i;
		}
		if (oldest < 0)
			break;

		turn_ends =
			TimestampTzPlusMilliseconds(pass->slots[oldest].worker_started_at,
										WORKER_TURN);
		if (turn_ends > pass->now)
			break;
		dismiss_worker(pass, oldest);
	}
}

/*
 * is_leaving
 *		Returns true if this worker was asked to leave, and its process is not
 *		free yet.
 *
 * A worker that does not react counts for a while only, because the others
 * would wait for it.
 */
static bool
is_leaving(LeaderPass *pass, int i)
{
	LeaderSlot *leader_slot = &leader_slots[i];

	return leader_slot->dismissed_pid != 0 &&
		(leader_slot->handle != NULL ||
		 leader_slot->dismissed_pid == pass->slots[i].worker_pid) &&
		TimestampTzPlusMilliseconds(leader_slot->dismissed_at, WORKER_TURN) >
		pass->now;
}

/* Ask a worker to leave, once. */
static void
dismiss_worker(LeaderPass *pass, int i)
{
	int			nslots;
	DatabaseSlot *slots = queue_database_slots(&nslots);
	pid_t		pid = pass->slots[i].worker_pid;

	if (pid == 0 || pid == leader_slots[i].dismissed_pid)
		return;
	queue_database_dismiss(&slots[i], pid);
	leader_slots[i].dismissed_pid = pid;
	leader_slots[i].dismissed_at = pass->now;
}

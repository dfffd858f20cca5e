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

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
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
#include "shared/clear.h"
#include "shared/database.h"
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

/* What the leader remembers of a slot of database.c, same index */
typedef struct LeaderSlot
{
	BackgroundWorkerHandle *handle; /* registered, not known to have ended */
	pid_t		dismissed_pid;	/* worker that was asked to leave, or 0 */
	TimestampTz dismissed_at;
} LeaderSlot;

/* A row of pg_database */
typedef struct DatabaseInfo
{
	Oid			dbid;
	NameData	name;
	bool		is_open;		/* a worker may connect */
} DatabaseInfo;

/* One pass of the leader over everything */
typedef struct LeaderPass
{
	TimestampTz now;
	TimestampTz next_at;		/* the next pass, at the latest */
	int			nslots;
	DatabaseSlot *slots;		/* copies, as of the start of the pass */
	DatabaseInfo **infos;		/* of each slot: its database, or NULL */
	bool	   *is_locked;		/* of each slot: lock on the database got */
	List	   *databases;		/* of DatabaseInfo */
	int			nwaiting;		/* of these, for a process */
	bool		lacks_room;		/* one of them has no slot */
} LeaderPass;

static LeaderSlot *leader_slots;
static List *databases_without = NIL;	/* seen without the extension */
static bool has_warned_processes = false;
static bool has_warned_databases = false;

static void leader_at_exit(int code, Datum arg);
static TimestampTz leader_pass(void);
static void reap_workers(LeaderPass *pass);
static void read_databases(LeaderPass *pass);
static bool try_lock_database(Oid dbid);
static void match_slots(LeaderPass *pass);
static DatabaseSlot *match_slot(LeaderPass *pass, DatabaseInfo *info);
static bool free_slots(LeaderPass *pass);
static void start_workers(LeaderPass *pass);
static int	next_to_start(LeaderPass *pass, int nprobes);
static void visit_others(LeaderPass *pass);
static bool wants_worker(const DatabaseSlot *slot);
static bool may_start(LeaderPass *pass, int i);
static bool start_worker(LeaderPass *pass, int i);
static void take_turns(LeaderPass *pass, int nwaiting);
static bool is_leaving(LeaderPass *pass, int i);
static void dismiss_worker(LeaderPass *pass, int i);
static void next_pass_by(LeaderPass *pass, TimestampTz at);

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

	pass.now = queue_clock();
	pass.next_at = TimestampTzPlusMilliseconds(pass.now, LEADER_NAP);
	pass.slots = palloc(pass.nslots * sizeof(DatabaseSlot));
	pass.infos = palloc0(pass.nslots * sizeof(DatabaseInfo *));
	pass.is_locked = palloc0(pass.nslots * sizeof(bool));

	/*
	 * Handles first: a worker that is known here to have ended has detached
	 * before, so the copy below tells how.
	 */
	reap_workers(&pass);
	LWLockAcquire(queue_database_lock(), LW_SHARED);
	memcpy(pass.slots, slots, pass.nslots * sizeof(DatabaseSlot));
	LWLockRelease(queue_database_lock());

	read_databases(&pass);
	match_slots(&pass);
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
 * read_databases
 *		Read pg_database, after locking the databases where a worker is to be
 *		started.
 *
 * These rows are then the latest, and no transaction is about to change them.
 * A database that is locked is not waited for.
 */
static void
read_databases(LeaderPass *pass)
{
	MemoryContext pass_context = CurrentMemoryContext;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	queue_process_begin("looking for databases");
	for (int i = 0; i < pass->nslots; i++)
	{
		if (may_start(pass, i))
			pass->is_locked[i] = try_lock_database(pass->slots[i].dbid);
	}

	/* without a database there is no index to be used */
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old_context = MemoryContextSwitchTo(pass_context);
		DatabaseInfo *info = palloc(sizeof(DatabaseInfo));

		/* a negative limit other than -1: DROP DATABASE was interrupted */
		info->dbid = form->oid;
		info->name = form->datname;
		info->is_open = form->datallowconn && !form->datistemplate &&
			form->datconnlimit >= -1;
		pass->databases = lappend(pass->databases, info);
		MemoryContextSwitchTo(old_context);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	queue_process_commit();
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
 * match_slots
 *		Bring slots and databases together: free the slots of databases that
 *		are gone, make slots for new ones.
 */
static void
match_slots(LeaderPass *pass)
{
	List	   *without = NIL;
	DatabaseInfo *left_out = NULL;
	int			nhaving = 0;
	MemoryContext old_context;
	ListCell   *lc;

	foreach(lc, pass->databases)
	{
		DatabaseInfo *info = lfirst(lc);
		bool		is_without = list_member_oid(databases_without, info->dbid);
		DatabaseSlot *slot = match_slot(pass, info);

		if (slot != NULL)
		{
			if (slot->is_probed)
				is_without = !slot->has_extension;
			if (slot->has_extension)
				nhaving++;
		}
		else if (info->is_open && !is_without)
		{
			/* it is looked at in the next pass, which is at once */
			if (queue_database_slot(info->dbid, true) != NULL)
				next_pass_by(pass, pass->now);
			else
				left_out = info;
		}

		/*
		 * Remember it even if there is a slot that says so: the slot may be
		 * given to another database.
		 */
		if (is_without)
			without = lappend_oid(without, info->dbid);
	}

	/* room for a database that had none, in the next pass */
	if (free_slots(pass) && left_out != NULL)
		next_pass_by(pass, pass->now);

	old_context = MemoryContextSwitchTo(TopMemoryContext);
	list_free(databases_without);
	databases_without = list_copy(without);
	MemoryContextSwitchTo(old_context);

	/* otherwise there will be room when some were looked into */
	if (nhaving < pass->nslots)
		left_out = NULL;
	if (left_out != NULL && !has_warned_databases)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not look for queues in database \"%s\"",
						NameStr(left_out->name)),
				 errdetail("%d databases with queues take all the room.",
						   pass->nslots),
				 errhint("Increase queue.max_databases.")));
	has_warned_databases = pass->lacks_room = left_out != NULL;
}

/* Note which slot a database has; our copy of it, or NULL if it has none. */
static DatabaseSlot *
match_slot(LeaderPass *pass, DatabaseInfo *info)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		if (pass->slots[i].dbid == info->dbid)
		{
			pass->infos[i] = info;
			return &pass->slots[i];
		}
	}
	return NULL;
}

/*
 * free_slots
 *		Free slots of databases that are gone, and forget what memory has of
 *		these; returns true if there were any.
 *
 * For a database that takes no connections a slot is kept only if it has
 * something to tell.
 */
static bool
free_slots(LeaderPass *pass)
{
	DatabaseSlot *slots = queue_database_slots(&pass->nslots);
	bool		has_freed = false;

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < pass->nslots; i++)
	{
		DatabaseInfo *info = pass->infos[i];
		DatabaseSlot *slot = &slots[i];

		if (OidIsValid(slot->dbid) && slot->dbid == pass->slots[i].dbid &&
			queue_database_is_deserted(slot) && slot->exclusions == 0 &&
			leader_slots[i].handle == NULL &&
			(info == NULL || (!info->is_open && !slot->has_extension)))
		{
			if (info == NULL)
				queue_clear_database(slot->dbid);
			memset(slot, 0, sizeof(DatabaseSlot));
			pass->slots[i] = *slot;
			pass->infos[i] = NULL;
			has_freed = true;
		}
	}
	LWLockRelease(queue_database_lock());
	if (has_freed)
		queue_database_announce_room();
	return has_freed;
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
		next_pass_by(pass, TimestampTzPlusMilliseconds(pass->now,
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
			next_pass_by(pass, Max(slot->worker_retry_at, at));
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

/* See to it that the next pass is not later than that. */
static void
next_pass_by(LeaderPass *pass, TimestampTz at)
{
	pass->next_at = Min(pass->next_at, at);
}

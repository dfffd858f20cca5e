/*-------------------------------------------------------------------------
 *
 * worker.c
 *		Life of a worker: one process in each database with the extension.
 *
 * A worker runs rounds (round.c) and sleeps until the next is due.  Between
 * two rounds it looks whether the extension is still there, and leaves if not.
 * The leader (leader.c) starts workers, and restarts those that failed.
 *
 * Both only make things prompt; consumers find out by themselves what has
 * become available.  So any of this may be late or absent, as long as it comes
 * back.
 *
 * Statements that need a database for themselves (DROP DATABASE and others)
 * would wait five seconds for the worker and then fail.  A ProcessUtility hook
 * calls queue_worker_exclude() and queue_worker_readmit() around them.
 *
 * What may happen at the same time, and what then happens:
 *
 * - The exclusion comes before the worker attaches: it attaches before it
 *	 connects, sees the exclusion and leaves.  The exclusion comes later: the
 *	 backend signals the worker and waits until it is out of the process array.
 *	 The signal is blocked until the handler stands, so it cannot be missed.
 * - That backend ends, by an error, a cancel or a terminate: a PG_FINALLY block
 *	 (queue.c) or its exit callback ends the exclusion.  Killed by -9: the
 *	 server restarts, with new shared memory.
 * - The worker does not react to the signal: the backend goes on after five
 *	 seconds and the server says what is in the way.  The worker leaves when it
 *	 wakes, because the signal waits for it, and the leader starts another.
 * - The exclusion ends with the statement, but the lock on the database lasts until
 *	 commit.  The leader asks for that lock, without waiting, and reads
 *	 pg_database after it got it, so it starts no worker that would wait for a
 *	 DDL transaction or find its database renamed or dropped.  Another
 *	 transaction may get the lock between that and the worker's own; then the
 *	 worker waits for it, where it can be ended, or fails, and is started
 *	 again.
 * - The leader ends, by an error or a terminate: its workers go on.  The next
 *	 leader finds them attached.  It may start a second worker in a database
 *	 where one had been registered but was not attached yet; whichever attaches
 *	 last leaves again.
 * - A worker ends by an error: its exit callback says in the slot when the
 *	 next may start.  If it ends before it attached, or could not be forked,
 *	 what the leader had said before holds.
 * - A database is dropped: the leader frees its slot when pg_database does not
 *	 have it any more.  Until then nothing is started, because the lock is not
 *	 to be had.
 * - The extension is created while a worker looks and finds nothing: the flag
 *	 that the announcement sets is cleared before the look, so it is still
 *	 there after it, and the next worker looks again.  CREATE EXTENSION
 *	 announces after its commit.  If the announcement was lost, the first use
 *	 of a queue repeats it (queue_database_wake_by).
 * - The extension is dropped and created again: what is left of the first in
 *	 memory is cleared away under a lock that excludes CREATE EXTENSION, which
 *	 holds its own to the end of its transaction.  So it is cleared before the
 *	 second can have anything there, or the worker waits, looks again, and
 *	 finds the second in its place; leases of the first run out then.
 * - DROP EXTENSION in progress holds a lock on the extension; the worker skips
 *	 its round instead of running into it.  After the commit the announcement
 *	 makes it look; without that it looks within a minute, and until then its
 *	 rounds find no queues.
 * - The extension is of another version than the library, or its tables were
 *	 altered: no round, and a warning, until that is over.  ALTER EXTENSION
 *	 makes the worker look, after its commit; without it it looks within a
 *	 minute.
 * - Any process is killed by -9, the worker or the leader included: the server
 *	 restarts all, the leader is started again and finds everything anew.
 * - On a standby nothing of this runs; the leader starts after the promotion.
 *
 * How a worker ends on SIGTERM.  While it starts, which includes waiting for a
 * lock on the database, the signal acts as in any backend.  Later it has to
 * write leases and failures before it goes, because that makes them survive a
 * restart.  So the signal only asks: an idle worker acts at once, a round
 * returns before its next transaction (queue_process_must_leave).  These
 * transactions are short and wait for no other, but disks, synchronous
 * standbys and large messages may be slow.  So a timer that runs with each
 * round ends the process like any backend when the signal is one to two
 * seconds old.  What is not written by then is lost, as in a crash.  The log
 * of leases is written first, which takes a moment for a hundred thousand
 * messages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "common/activity.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/extension.h"
#include "common/process.h"
#include "shared/attach.h"
#include "shared/clear.h"
#include "shared/database.h"
#include "table/member.h"
#include "worker/round.h"
#include "worker/worker.h"

/* Rounds keep this distance (milliseconds, as all below) */
#define WORKER_MIN_NAP			5

/* A worker looks for its extension this often, asked or not */
#define WORKER_MAX_NAP			60000

/* A round is skipped when the extension is locked */
#define WORKER_BUSY_NAP			1000

/* Of the timer that ends a round which does not end, see above */
#define WORKER_GRACE			1000

typedef enum ExtensionState
{
	EXTENSION_ABSENT,
	EXTENSION_PRESENT,
	EXTENSION_BUSY,				/* locked, or just changed */
	EXTENSION_UNKNOWN			/* not as this library knows it */
} ExtensionState;

/* For the handlers of signal and timer: see the top of the file */
static volatile sig_atomic_t finishes_round = false;
static volatile sig_atomic_t grace_ticks = 0;

static void worker_terminate(SIGNAL_ARGS);
static void start_grace(TimeoutId grace);
static void grace_tick(void);
static ExtensionState look_for_extension(DatabaseSlot *slot);
static ExtensionState clear_memory(DatabaseSlot *slot);
static bool is_known(void);
static void worker_sleep(DatabaseSlot *slot, TimestampTz due);
static void worker_leave(DatabaseSlot *slot, TimeoutId grace);
static Oid	database_needed_alone(Node *stmt);
static Oid	template_of(CreatedbStmt *stmt);

/* Entry point of a worker, the process of one database */
void
queue_worker_main(Datum arg)
{
	Oid			dbid = DatumGetObjectId(arg);
	DatabaseSlot *slot;
	TimeoutId	grace;
	MemoryContext round_context;
	ErrorContextCallback error_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, worker_terminate);
	BackgroundWorkerUnblockSignals();

	queue_process_name_errors(&error_context);

	slot = queue_database_attach(dbid);
	if (slot == NULL)
		proc_exit(0);
	queue_activity_start("worker", dbid);

	BackgroundWorkerInitializeConnectionByOid(dbid, InvalidOid, 0);
	queue_process_pin_settings();
	queue_process_report_name(MyBgworkerEntry->bgw_name);

	grace = RegisterTimeout(USER_TIMEOUT, grace_tick);
	round_context = AllocSetContextCreate(TopMemoryContext, "queue worker",
										  ALLOCSET_DEFAULT_SIZES);
	finishes_round = true;

	for (;;)
	{
		TimestampTz due = TIMESTAMP_INFINITY;

		if (ShutdownRequestPending)
			worker_leave(slot, grace);
		queue_process_reload();

		start_grace(grace);
		queue_database_begin_round(slot);
		MemoryContextSwitchTo(round_context);
		MemoryContextReset(round_context);
		switch (look_for_extension(slot))
		{
			case EXTENSION_ABSENT:
				proc_exit(0);
			case EXTENSION_PRESENT:
				queue_database_set_extension(slot, true);
				queue_process_show("queue round");
				due = queue_round();
				break;
			case EXTENSION_UNKNOWN:
				/* the next look, also for the log */
				queue_database_set_extension(slot, true);
				break;
			case EXTENSION_BUSY:
				due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  WORKER_BUSY_NAP);
				break;
		}
		queue_process_show(NULL);
		disable_timeout(grace, false);

		worker_sleep(slot, queue_clock_at(due));
	}
}

/* Handle SIGTERM: see the top of the file. */
static void
worker_terminate(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (finishes_round)
		SetLatch(MyLatch);
	else
		die(PASS_SIGNAL_ARGS);
	errno = save_errno;
}

/* Let grace_tick() run each second from now on. */
static void
start_grace(TimeoutId grace)
{
	enable_timeout_every(grace,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 WORKER_GRACE),
						 WORKER_GRACE);
}

/*
 * grace_tick
 *		Runs each second of a round, in a signal handler.
 *
 * The first time after the request to leave, that may be only a moment old.
 */
static void
grace_tick(void)
{
	if (ShutdownRequestPending && grace_ticks++ > 0)
	{
		ProcDiePending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
}

/*
 * look_for_extension
 *		Look whether the extension is here.
 *
 * Its lock tells a DROP EXTENSION in progress, where a round would only run
 * into the locks on its tables.  The lock is released again at once, because
 * every step of a round has to be prepared for missing tables anyway.
 */
static ExtensionState
look_for_extension(DatabaseSlot *slot)
{
	ExtensionState state = EXTENSION_ABSENT;
	Oid			extension;

	queue_process_begin("looking for extension queue");

	extension = get_extension_oid(QUEUE_EXTENSION, true);
	if (OidIsValid(extension))
	{
		if (ConditionalLockDatabaseObject(ExtensionRelationId, extension, 0,
										  AccessShareLock) &&
			get_extension_oid(QUEUE_EXTENSION, true) == extension)
			state = is_known() ? EXTENSION_PRESENT : EXTENSION_UNKNOWN;
		else
			state = EXTENSION_BUSY;
	}
	else
	{
		INJECTION_POINT("queue-extension-absent", NULL);
		state = clear_memory(slot);
	}

	queue_process_commit();
	return state;
}

/*
 * clear_memory
 *		The extension is not here: clear away what memory has of its queues.
 *
 * It is of no use any more, unless the extension is being created at this
 * moment.  That transaction holds a lock until after its commit; if it does,
 * returns EXTENSION_BUSY.  While this process has the lock, no CREATE
 * EXTENSION gets that far, so what is cleared away is of the past.  The lock
 * is held for the moment of the clearing.
 */
static ExtensionState
clear_memory(DatabaseSlot *slot)
{
	if (!queue_member_lock_absence() ||
		OidIsValid(get_extension_oid(QUEUE_EXTENSION, true)))
		return EXTENSION_BUSY;
	INJECTION_POINT("queue-clear-memory", NULL);
	queue_clear_database(MyDatabaseId);
	queue_database_set_extension(slot, false);
	return EXTENSION_ABSENT;
}

/*
 * is_known
 *		Returns true if version and tables are such that a round can use them.
 *
 * If not, nothing is done, and the log says why, the same thing once a minute,
 * until they are; consumers get errors meanwhile.
 */
static bool
is_known(void)
{
	static uint32 said = 0;		/* hash of the problem */
	static TimestampTz say_again_at = 0;
	char	   *problem = queue_member_problem();
	uint32		hash = problem == NULL ? 0 :
		hash_bytes((unsigned char *) problem, strlen(problem));

	if (problem != NULL && (hash != said || queue_clock() >= say_again_at))
	{
		said = hash;
		say_again_at = TimestampTzPlusMilliseconds(queue_clock(),
												   WORKER_MAX_NAP);
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" is not as its library knows it",
						QUEUE_EXTENSION),
				 errdetail_internal("%s", problem),
				 errhint("Undo the change; or if a new release was installed, restart the server and run ALTER EXTENSION %s UPDATE.",
						 QUEUE_EXTENSION)));
	}
	return problem == NULL;
}

/*
 * worker_sleep
 *		Sleep until the next round, whose time is one of clock.h.
 *
 * The latch is set for other reasons too, so that alone does not make a round.
 */
static void
worker_sleep(DatabaseSlot *slot, TimestampTz due)
{
	static uint32 wait_event = 0;
	TimestampTz now = queue_clock();
	TimestampTz not_before = TimestampTzPlusMilliseconds(now, WORKER_MIN_NAP);
	TimestampTz not_after = TimestampTzPlusMilliseconds(now, WORKER_MAX_NAP);

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueWorkerMain");

	while (!ShutdownRequestPending && !ConfigReloadPending)
	{
		TimestampTz wake_at = queue_database_publish_due(slot, due);

		wake_at = Max(Min(wake_at, not_after), not_before);
		if (queue_clock() >= wake_at)
			break;
		queue_process_nap(wake_at, wait_event);
	}
}

/*
 * worker_leave
 *		Leave on request, after a last round if leases and failures are to be
 *		saved.
 *
 * Nothing has to be written for a statement that only needs the database alone
 * for a moment, because memory stays.
 */
static void
worker_leave(DatabaseSlot *slot, TimeoutId grace)
{
	if (slot->has_extension && !queue_database_is_excluded(slot))
	{
		start_grace(grace);
		queue_process_show("writing leases");
		queue_round_last();
		disable_timeout(grace, false);
	}
	proc_exit(0);
}

/* ----------------------------------------------------------------
 *		Statements that need a database without its worker
 * ----------------------------------------------------------------
 */

/*
 * queue_worker_exclude
 *		Keep the worker of a database away if this statement needs the
 *		database alone.
 *
 * For the ProcessUtility hook, before the statement; queue_worker_readmit()
 * comes after it.  Returns the database whose worker is kept away, InvalidOid if
 * the statement needs none.
 */
Oid
queue_worker_exclude(Node *stmt)
{
	Oid			dbid;

	dbid = database_needed_alone(stmt);
	if (!OidIsValid(dbid) || !queue_database_exclude_workers(dbid))
		return InvalidOid;
	return dbid;
}

/* End the exclusion, if there is one. */
void
queue_worker_readmit(Oid dbid)
{
	if (OidIsValid(dbid))
		queue_database_readmit_workers();
}

/*
 * database_needed_alone
 *		Return the database that the statement needs for itself, or
 *		InvalidOid.
 *
 * InvalidOid as well if the user may not do what it asks for: the server is
 * going to say so, and no role should be able to disturb the workers of
 * others.
 */
static Oid
database_needed_alone(Node *stmt)
{
	const char *name = NULL;
	Oid			dbid;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			name = ((DropdbStmt *) stmt)->dbname;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				name = ((RenameStmt *) stmt)->subname;
			break;
		case T_AlterDatabaseStmt:
			{
				ListCell   *lc;

				foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
				{
					if (strcmp(((DefElem *) lfirst(lc))->defname,
							   "tablespace") == 0)
						name = ((AlterDatabaseStmt *) stmt)->dbname;
				}
				break;
			}
		case T_CreatedbStmt:
			return template_of((CreatedbStmt *) stmt);
		default:
			break;
	}
	if (name == NULL)
		return InvalidOid;

	dbid = get_database_oid(name, true);
	if (!OidIsValid(dbid) || dbid == MyDatabaseId ||
		!object_ownercheck(DatabaseRelationId, dbid, GetUserId()))
		return InvalidOid;
	return dbid;
}

/* Return the database that CREATE DATABASE copies, if the user may copy it. */
static Oid
template_of(CreatedbStmt *stmt)
{
	const char *name = "template1";
	Oid			dbid;
	HeapTuple	tuple;
	bool		is_template;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst(lc);

		/* no argument: DEFAULT */
		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			name = defGetString(option);
	}

	dbid = get_database_oid(name, true);
	if (!OidIsValid(dbid) || !have_createdb_privilege())
		return InvalidOid;

	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dbid));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);

	if (!is_template &&
		!object_ownercheck(DatabaseRelationId, dbid, GetUserId()))
		return InvalidOid;
	return dbid;
}

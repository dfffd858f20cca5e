/*-------------------------------------------------------------------------
 *
 * helper.c
 *		Processes that a database's worker starts for what takes long.
 *
 * A worker has to end leases in time, so it leaves to helpers what may take
 * seconds.  They are started on demand, at most one of each kind in a
 * database, and leave when there was nothing to do for a while; attach.c
 * knows which are there.  Whatever is asked of a helper is a hint that the
 * worker repeats.  A helper that ends early, by an error or because a
 * statement needs the database alone, is started again when it is called the
 * next time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "common/activity.h"
#include "common/compat.h"
#include "common/process.h"
#include "shared/attach.h"
#include "worker/helper.h"

typedef struct HelperKind
{
	const char *name;			/* of the type of process */
	const char *kind;			/* in queue.workers */
	const char *function;
	const char *without;		/* what happens if there is no process */
} HelperKind;

static const HelperKind kinds[NUM_HELPERS] = {
	[HELPER_VACUUM] = {
		"queue vacuum worker", "vacuum worker", "queue_vacuum_main",
		"Autovacuum has to do its work."
	},
	[HELPER_RESOLVER] = {
		"queue resolver", "resolver", "queue_resolver_main",
		"Branches of global transactions stay in doubt."
	},
	[HELPER_TALLY] = {
		"queue counter", "counter", "queue_tally_main",
		"Large queues are not counted."
	}
};

/* Of the worker: the processes that it started */
static BackgroundWorkerHandle *handles[NUM_HELPERS];
static bool has_warned[NUM_HELPERS];

/* Of a helper, for its signal handler */
static volatile sig_atomic_t is_started = false;

static void helper_terminate(SIGNAL_ARGS);

/*
 * queue_helper_call
 *		Wake this helper, or start it.
 *
 * Returns false if it is just starting or ending, or if there is no process to
 * be had, which is logged once.  Called by the worker, in a transaction.
 */
bool
queue_helper_call(DatabaseHelper helper)
{
	const HelperKind *kind = &kinds[helper];
	BackgroundWorker worker;
	MemoryContext old_context;
	pid_t		pid;
	const char *name;
	bool		is_registered;

	if (queue_database_wake_helper(helper))
		return true;
	if (handles[helper] != NULL)
	{
		if (GetBackgroundWorkerPid(handles[helper], &pid) != BGWH_STOPPED)
			return false;
		pfree(handles[helper]);
		handles[helper] = NULL;
	}

	name = get_database_name(MyDatabaseId);
	if (name == NULL)
		return false;
	queue_process_describe(&worker, kind->name, kind->function);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %s", kind->name,
			 name);
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);

	old_context = MemoryContextSwitchTo(TopMemoryContext);
	is_registered = RegisterDynamicBackgroundWorker(&worker, &handles[helper]);
	MemoryContextSwitchTo(old_context);
	if (!is_registered)
	{
		handles[helper] = NULL;
		if (!has_warned[helper])
			ereport(LOG,
					(errmsg("could not start %s for database \"%s\"",
							kind->name, name),
					 errdetail("All worker processes are in use. %s",
							   kind->without),
					 errhint("Increase max_worker_processes.")));
	}
	has_warned[helper] = !is_registered;
	return is_registered;
}

/*
 * queue_helper_begin
 *		Begin the life of a helper: connect to its database.
 *
 * Ends the process if it is not wanted.  Afterwards SIGTERM sets
 * ShutdownRequestPending and cancels the statement under way.
 */
void
queue_helper_begin(DatabaseHelper helper, Oid dbid)
{
	static ErrorContextCallback error_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, helper_terminate);
	BackgroundWorkerUnblockSignals();

	queue_process_name_errors(&error_context);

	if (!queue_database_attach_helper(dbid, helper))
		proc_exit(0);
	queue_activity_start(kinds[helper].kind, dbid);

	BackgroundWorkerInitializeConnectionByOid(dbid, InvalidOid, 0);
	queue_process_pin_settings();
	queue_process_report_name(MyBgworkerEntry->bgw_name);
	is_started = true;
}

/*
 * helper_terminate
 *		Handle SIGTERM.
 *
 * While the process starts, the signal acts as in any backend.  Later it
 * cancels what is under way, which gives back what it holds as after any
 * error.
 */
static void
helper_terminate(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (is_started)
	{
		QueryCancelPending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
	else
		die(PASS_SIGNAL_ARGS);
	errno = save_errno;
}

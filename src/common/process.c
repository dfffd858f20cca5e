/*-------------------------------------------------------------------------
 *
 * process.c
 *		What all background processes of the extension have in common.
 *
 * How they are registered, their pinned settings, the name that they are shown
 * by, their transactions, how they survive errors, how they sleep and how they
 * leave.  Each has its own handler of SIGTERM, because that depends on what
 * the process has to finish; all of them set ShutdownRequestPending.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "common/activity.h"
#include "common/clock.h"
#include "common/process.h"

/* What queue_process_run() does */
typedef struct Run
{
	const char *activity;
	bool		has_snapshot;
	ProcessBody body;
	ErrorJudge	judge;
	void	   *arg;
} Run;

/* Where the transaction in progress comes back to */
static MemoryContext outer_context = NULL;

static void process_error_context(void *arg);
static void run_body(void *arg);
static ErrorVerdict run_judge(const ErrorData *error, void *arg);

/*
 * queue_process_describe
 *		Fill in what is the same for all processes of the extension.
 *
 * "type" is what they are called in pg_stat_activity, and unless the caller
 * says otherwise also the name of this one.  None of them is restarted by the
 * server, unless the caller says otherwise.
 */
void
queue_process_describe(BackgroundWorker *worker, const char *type,
					   const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "queue",
			sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function,
			sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
}

/* Read the configuration again if SIGHUP has asked for that. */
void
queue_process_reload(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* ----------------------------------------------------------------
 *		Transactions, and what may fail
 * ----------------------------------------------------------------
 */

/*
 * queue_process_begin
 *		Begin a transaction of this process.
 *
 * queue_process_commit() comes back to the memory context that is current
 * here.
 */
void
queue_process_begin(const char *activity)
{
	outer_context = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	queue_process_show(activity);
}

/*
 * queue_process_commit
 *		Commit the transaction, and report what it has counted.
 */
void
queue_process_commit(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(outer_context);

	/*
	 * a background process has to report its own counts, which autovacuum
	 * goes by
	 */
	pgstat_report_stat(true);
	queue_process_show(NULL);
}

/*
 * queue_process_show
 *		Show what this process does now, in pg_stat_activity and in
 *		queue.workers; NULL: nothing.
 */
void
queue_process_show(const char *activity)
{
	pgstat_report_activity(activity != NULL ? STATE_RUNNING : STATE_IDLE,
						   activity);
	queue_activity_show(activity, InvalidOid);
}

/*
 * queue_process_try
 *		Call something that may fail, and survive that.
 *
 * Returns true if it came to its end.  After an error whatever transaction is
 * open is aborted, and the memory context is the caller's again.  "judge" says
 * what becomes of the error, and may keep what it tells.
 */
bool
queue_process_try(ProcessBody body, ErrorJudge judge, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		body(arg);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		ErrorVerdict verdict;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		verdict = judge(error, arg);
		if (verdict == ERROR_RAISE)
		{
			FreeErrorData(error);
			RESUME_INTERRUPTS();
			PG_RE_THROW();
		}
		if (verdict == ERROR_REPORT)
			EmitErrorReport();
		FreeErrorData(error);
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(context);
		FlushErrorState();

		/* a cancel was meant for what has just been aborted */
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		queue_process_show(NULL);
	}
	PG_END_TRY();
	return done;
}

/*
 * queue_process_run
 *		The same in a transaction of its own.
 */
bool
queue_process_run(const char *activity, bool has_snapshot, ProcessBody body,
				  ErrorJudge judge, void *arg)
{
	Run			run = {activity, has_snapshot, body, judge, arg};

	return queue_process_try(run_body, run_judge, &run);
}

/* Body of queue_process_run(): begin, do it, commit. */
static void
run_body(void *arg)
{
	Run		   *run = arg;

	queue_process_begin(run->activity);
	if (run->has_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	run->body(run->arg);
	if (run->has_snapshot)
		PopActiveSnapshot();
	queue_process_commit();
}

/* Judge of queue_process_run(): the caller's, with its own argument. */
static ErrorVerdict
run_judge(const ErrorData *error, void *arg)
{
	Run		   *run = arg;

	return run->judge(error, run->arg);
}

/*
 * queue_process_is_locked
 *		Returns true if the error says only that a lock was in the way, or
 *		that what this was about is gone.
 */
bool
queue_process_is_locked(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT;
}

/*
 * queue_process_judge
 *		Give the usual verdict on an error.
 *
 * A request to leave and a cancel are raised, locks are ignored, and the rest
 * is reported.
 */
ErrorVerdict
queue_process_judge(const ErrorData *error, void *arg)
{
	if (error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return ERROR_RAISE;
	return queue_process_is_locked(error) ? ERROR_IGNORE : ERROR_REPORT;
}

/* ----------------------------------------------------------------
 *		Settings, names
 * ----------------------------------------------------------------
 */

/*
 * queue_process_pin_settings
 *		Set what ALTER DATABASE SET and ALTER ROLE SET may have changed and
 *		what matters to these processes, in a way that neither they nor a
 *		reload override.
 */
void
queue_process_pin_settings(void)
{
	static const char *const settings[][2] = {
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"row_security", "off"},
		{"session_replication_role", "origin"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"synchronous_commit", "on"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},	/* from 17 on */
		{"lock_timeout", "100ms"},
		{"track_counts", "on"},
		{"jit", "off"}
	};

	/* even this one can be set by ALTER DATABASE SET */
	if (GetSessionUserId() != GetAuthenticatedUserId())
	{
		StartTransactionCommand();
		SetConfigOption("session_authorization",
						GetUserNameFromId(GetAuthenticatedUserId(), false),
						PGC_SUSET, PGC_S_OVERRIDE);
		CommitTransactionCommand();
	}

	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1],
							PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* Show the process in pg_stat_activity under this name, cut as usual. */
void
queue_process_report_name(const char *name)
{
	char		buf[NAMEDATALEN];

	strlcpy(buf, name, sizeof(buf));
	SetConfigOption("application_name", buf, PGC_USERSET, PGC_S_OVERRIDE);
}

/*
 * queue_process_name_errors
 *		Say in the log which process an error is of.
 *
 * "context" is the caller's, and must last as long as the process, as bgw_name
 * does.
 */
void
queue_process_name_errors(ErrorContextCallback *context)
{
	context->callback = process_error_context;
	context->arg = MyBgworkerEntry->bgw_name;
	context->previous = error_context_stack;
	error_context_stack = context;
}

/* Callback of that: add the name of the process. */
static void
process_error_context(void *arg)
{
	errcontext("%s", (char *) arg);
}

/* ----------------------------------------------------------------
 *		Sleeping, leaving
 * ----------------------------------------------------------------
 */

/*
 * queue_process_nap
 *		Wait for the latch until that time, of clock.h.
 *
 * There is no statement here that a cancel could be meant for, so it is
 * ignored, because it would end the process.
 */
void
queue_process_nap(TimestampTz wake_at, uint32 wait_event)
{
	long		timeout;

	timeout = TimestampDifferenceMilliseconds(queue_clock(), wake_at);
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, wait_event);
	ResetLatch(MyLatch);
	QueryCancelPending = false;

	/*
	 * react to signals of other backends (DROP DATABASE waits for all to
	 * react)
	 */
	CHECK_FOR_INTERRUPTS();
}

/*
 * queue_process_must_leave
 *		Returns true if this process is to leave.
 *
 * Called between two transactions.  A round of the worker then returns early,
 * because it is ended by force a little later.
 */
bool
queue_process_must_leave(void)
{
	return ShutdownRequestPending;
}

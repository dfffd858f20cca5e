/*-------------------------------------------------------------------------
 *
 * query.c
 *		Statements of the resolver, here and in other databases, that end in
 *		time.
 *
 * A deciding database may be on another server, which may take long or never
 * answer.  So each wait has a timer, which cancels what is under way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "common/activity.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/process.h"
#include "common/sql.h"
#include "common/standby.h"
#include "global/query.h"

/* What a deciding database may take for one answer */
#define ANSWER_TIMEOUT		10000	/* ms */

/* How often to look whether the standbys have confirmed */
#define CONFIRM_INTERVAL	20	/* ms */

/* For the timeout handler */
static volatile sig_atomic_t is_timed_out = false;
static TimeoutId answer_timer;

static uint32 wait_event;

/* Where rows go to; the caller's */
static MemoryContext result_context = NULL;

static void answer_timeout(void);

/* Register the timer, and note where rows go to. */
void
queue_query_init(MemoryContext context, uint32 event)
{
	answer_timer = RegisterTimeout(USER_TIMEOUT, answer_timeout);
	result_context = context;
	wait_event = event;
}

/* In a signal handler: the deciding database takes too long. */
static void
answer_timeout(void)
{
	is_timed_out = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/* From now on, what takes too long is cancelled. */
void
queue_query_begin_wait(const char *activity)
{
	pgstat_report_activity(STATE_RUNNING, activity);
	queue_activity_show("waiting for a deciding database", InvalidOid);
	is_timed_out = false;
	enable_timeout_after(answer_timer, ANSWER_TIMEOUT);
}

/* The answer is there; the timeout may have come just then. */
void
queue_query_end_wait(void)
{
	disable_timeout(answer_timer, false);
	if (is_timed_out && !ShutdownRequestPending)
		QueryCancelPending = false;
	is_timed_out = false;
}

/* After an error of a wait: returns true if it took too long. */
bool
queue_query_is_timed_out(void)
{
	disable_timeout(answer_timer, false);
	return is_timed_out;
}

/* Another deciding database: forget how the last one took too long. */
void
queue_query_begin(void)
{
	is_timed_out = false;
}

/*
 * queue_query_there
 *		Run a statement in a deciding database; it may take a while, but not
 *		for ever.
 *
 * Returns its rows, as queue_remote_query() does.
 */
List *
queue_query_there(RemoteConnection *conn, const char *sql, int nparams,
				  const char *const *params)
{
	List	   *rows;

	queue_query_begin_wait(sql);
	rows = queue_remote_query(conn, sql, nparams, params);
	queue_query_end_wait();
	return rows;
}

/*
 * queue_query_here
 *		Run a statement in this database, in a transaction of its own.
 *
 * It has up to four parameters.  Returns its rows, as queue_remote_query()
 * does.
 */
List *
queue_query_here(const char *sql, int nparams, const char *const *params)
{
	Oid			types[4];
	Datum		values[4];
	char		nulls[4];
	List	   *rows = NIL;
	uint64		nrows;

	for (int i = 0; i < nparams; i++)
	{
		types[i] = TEXTOID;
		nulls[i] = params[i] == NULL ? 'n' : ' ';
		values[i] = params[i] == NULL ? (Datum) 0 :
			CStringGetTextDatum(params[i]);
	}
	queue_process_begin("looking after global transactions");
	pgstat_report_activity(STATE_RUNNING, sql);
	PushActiveSnapshot(GetTransactionSnapshot());
	queue_sql_begin();
	nrows = queue_sql_run(sql, nparams, types, values, nulls);
	for (uint64 i = 0; i < nrows; i++)
	{
		MemoryContext sql_context;
		int			n = queue_sql_width();
		char	  **row = MemoryContextAlloc(result_context, n * sizeof(char *));

		for (int j = 0; j < n; j++)
			row[j] = queue_sql_text(i, j + 1, result_context);
		sql_context = MemoryContextSwitchTo(result_context);
		rows = lappend(rows, row);
		MemoryContextSwitchTo(sql_context);
	}
	queue_sql_end();
	PopActiveSnapshot();
	queue_process_commit();
	return rows;
}

/* Return an array of these texts as a literal; NULL for a NULL. */
char *
queue_query_text_array(List *texts)
{
	int			n = list_length(texts);
	Datum	   *values = palloc(Max(n, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(n, 1) * sizeof(bool));
	int			dims[] = {n};
	int			lbs[] = {1};
	ListCell   *lc;
	int			i = 0;
	Oid			out;
	bool		is_varlena;
	char	   *result;

	foreach(lc, texts)
	{
		char	   *text = lfirst(lc);

		nulls[i] = text == NULL;
		values[i++] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
	}
	queue_process_begin("preparing a report");
	getTypeOutputInfo(TEXTARRAYOID, &out, &is_varlena);
	MemoryContextSwitchTo(result_context);
	result = OidOutputFunctionCall(out,
								   PointerGetDatum(construct_md_array(values, nulls, 1,
																	  dims, lbs, TEXTOID, -1,
																	  false, TYPALIGN_INT)));
	queue_process_commit();
	return result;
}

/*
 * queue_query_require_durable
 *		Wait until the synchronous standbys have WAL up to here, but not for
 *		ever.
 *
 * Raises 08007 if they take too long.  The server's own wait would warn each
 * time that it is cancelled.
 */
void
queue_query_require_durable(XLogRecPtr lsn)
{
	TimestampTz give_up_at = TimestampTzPlusMilliseconds(queue_clock(),
														 ANSWER_TIMEOUT);

	queue_process_show("waiting for synchronous standbys");
	while (!queue_standby_is_durable(lsn) && !ShutdownRequestPending &&
		   queue_clock() < give_up_at)
		queue_process_nap(TimestampTzPlusMilliseconds(queue_clock(),
													  CONFIRM_INTERVAL),
						  wait_event);
	queue_standby_require_durable(lsn);
}

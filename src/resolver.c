/*-------------------------------------------------------------------------
 *
 * resolver.c
 *		Finishing branches of global transactions whose coordinator is gone.
 *
 * A branch (branch.c) is finished as its deciding database says (decision.c),
 * and never otherwise.  What it says may be a long way off; so this is a
 * process of its own, which the database's worker starts when a branch was
 * prepared or finished, and once a minute.  There is at most one in a database;
 * it leaves when nothing was in doubt for some seconds.
 *
 * A pass, for each row of queue.deciding_database:
 *
 *	1. Ask for the records that are waiting for us.
 *	2. Look at our branches: prepared in this database, with the name that the
 *	   row says, and owned by the role that it says.  Anybody else's are left
 *	   alone.
 *	3. Of those that have been prepared, and decided if they are, for longer
 *	   than queue.resolve_interval, ask, and finish them.  Others are in the
 *	   hands of their coordinator.  Past the deadline, or without a record, to
 *	   ask makes the decision "abort".
 *	4. Report those that are decided and of which we have no branch.  A branch
 *	   prepared before the decision would be seen, since we look after we have
 *	   asked.  One that is prepared later is rolled back, for the lack of a
 *	   record.
 *
 * If the deciding database does not answer, everything stays as it is; so it
 * does if it answers by another identity than at the first contact (it has been
 * restored from a dump), or if this database has another identity than when it
 * was registered (it is a copy, and has never had the branches that its
 * original has).
 *
 * A branch is finished with the privileges of its owner, so that one which has
 * been finished and prepared anew by somebody else meanwhile is left alone.
 *
 * Locks: none over a wait for the deciding database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "branch.h"
#include "compat.h"
#include "cover.h"
#include "database.h"
#include "decision.h"
#include "helper.h"
#include "queue.h"
#include "remote.h"
#include "resolver.h"
#include "worker.h"
#include "xact.h"

/* what a deciding database may take for its answers in one pass */
#define ANSWER_TIMEOUT		10000	/* ms */

/* the process stays for this long, rather than be started each second */
#define RESOLVER_STAY		5000	/* ms */

/* A row of queue.deciding_database */
typedef struct Decider
{
	char	   *name;
	char	   *participant;
	char	   *coordinator;
	Oid			owner;
	char	   *connection;		/* NULL: this database */
	bool		password_required;
	bool		is_registered_here;
	char	   *identity;
	char	   *last_error;
	char	   *prefix;			/* names of its branches begin with this */
} Decider;

/* A record that waits for us */
typedef struct Record
{
	char	   *gid;
	char	   *decision;		/* NULL: none */
	bool		is_over;		/* its deadline has passed */
	bool		is_fresh;		/* decided just now */
} Record;

/* A branch of ours */
typedef struct Branch
{
	char	   *gid;			/* of the global transaction */
	bool		is_old;
} Branch;

/* for the timeout handler */
static volatile sig_atomic_t is_timed_out = false;
static TimeoutId answer_timer;

/* one pass */
static MemoryContext pass_context = NULL;

static bool takes_part(void);
static void answer_timeout(void);
static bool pass(void);
static bool obey(Decider *decider);
static bool settle(Decider *decider, RemoteConnection *conn);
static List *read_deciders(void);
static List *read_records(Decider *decider, RemoteConnection *conn);
static List *read_branches(Decider *decider);
static char *ask(Decider *decider, RemoteConnection *conn, const char *gid);
static void report(Decider *decider, RemoteConnection *conn, List *gids);
static bool finish(Decider *decider, const char *gid, bool is_commit);
static void compare_outcomes(Decider *decider, List *records,
							 TimestampTz asked_at);
static void check_identity(Decider *decider, RemoteConnection *conn);
static void note_error(Decider *decider, const char *error);
static Record *find_record(List *records, const char *gid);
static char *text_array(List *texts);
static List *local_query(const char *sql, int nparams,
						 const char *const *params);
static void begin_transaction(const char *activity);
static void commit_transaction(void);

/* ----------------------------------------------------------------
 *		The worker's side
 * ----------------------------------------------------------------
 */

void
queue_resolver_look(void)
{
	/* it may be about to leave without having seen why it is called */
	if (takes_part() && !queue_helper_call(HELPER_RESOLVER))
		queue_database_want_resolver(MyDatabaseId);
}

/* Is any deciding database registered here? */
static bool
takes_part(void)
{
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	result = SPI_execute("SELECT FROM queue.deciding_database", true, 1) ==
		SPI_OK_SELECT && SPI_processed > 0;
	SPI_finish();
	PopActiveSnapshot();
	return result;
}

/* ----------------------------------------------------------------
 *		The process
 * ----------------------------------------------------------------
 */

/* Its entry point. */
void
queue_resolver_main(Datum arg)
{
	uint32		wait_event;
	TimestampTz leave_at;

	queue_helper_begin(HELPER_RESOLVER, DatumGetObjectId(arg));
	wait_event = WaitEventExtensionNew("QueueResolverMain");
	answer_timer = RegisterTimeout(USER_TIMEOUT, answer_timeout);
	pass_context = AllocSetContextCreate(TopMemoryContext, "queue resolver",
										 ALLOCSET_DEFAULT_SIZES);

	leave_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										   RESOLVER_STAY);
	while (!ShutdownRequestPending)
	{
		TimestampTz next;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(pass_context);
		MemoryContextReset(pass_context);
		next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										   queue_resolve_interval);
		if (pass())
			leave_at = TimestampTzPlusMilliseconds(next, RESOLVER_STAY);
		else if (GetCurrentTimestamp() >= leave_at)
			break;
		if (!ShutdownRequestPending)
			queue_worker_nap(next, wait_event);
	}
	proc_exit(0);
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

/* Once over all of them; is anything left in doubt? */
static bool
pass(void)
{
	List	   *deciders = read_deciders();
	ListCell   *lc;
	bool		is_more = false;

	foreach(lc, deciders)
	{
		if (!ShutdownRequestPending)
			is_more |= obey(lfirst(lc));
	}
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return is_more;
}

/* One of them.  An error is noted and does not come out. */
static bool
obey(Decider *decider)
{
	RemoteConnection *volatile conn = NULL;
	volatile bool is_more = true;
	char	   *volatile error = NULL;

	if (!decider->is_registered_here)
	{
		note_error(decider, "this database is a copy of that which was registered");
		return false;
	}

	PG_TRY();
	{
		is_timed_out = false;
		if (decider->connection != NULL)
		{
			pgstat_report_activity(STATE_RUNNING,
								   "asking the deciding database");
			enable_timeout_after(answer_timer, ANSWER_TIMEOUT);
			conn = queue_remote_connect(decider->connection,
										decider->participant,
										decider->password_required);
			check_identity(decider, conn);
		}
		is_more = settle(decider, conn);
	}
	PG_CATCH();
	{
		ErrorData  *data;

		HOLD_INTERRUPTS();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(pass_context);
		data = CopyErrorData();
		FlushErrorState();
		QueryCancelPending = false;
		error = is_timed_out ? pstrdup("it does not answer") : data->message;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	disable_timeout(answer_timer, false);
	queue_remote_disconnect(conn);
	if (!ShutdownRequestPending)
		note_error(decider, error);
	return is_more;
}

/* See the top of the file.  Is anything left in doubt? */
static bool
settle(Decider *decider, RemoteConnection *conn)
{
	TimestampTz asked_at = GetCurrentTimestamp();
	List	   *records = read_records(decider, conn);
	List	   *branches = read_branches(decider);
	List	   *finished = NIL;
	ListCell   *lc;
	bool		is_more = false;

	foreach(lc, branches)
	{
		Branch	   *branch = lfirst(lc);
		Record	   *record = find_record(records, branch->gid);
		char	   *decision = NULL;

		if (ShutdownRequestPending)
			return true;
		if (branch->is_old && (record == NULL || !record->is_fresh))
			decision = ask(decider, conn, branch->gid);
		if (decision == NULL)
			is_more = true;
		else
		{
			(void) finish(decider, branch->gid,
						  strcmp(decision, "commit") == 0);
			if (record == NULL)
			{
				record = palloc(sizeof(Record));
				record->gid = branch->gid;
				record->is_over = record->is_fresh = false;
				records = lappend(records, record);
			}
			record->decision = decision;
		}
	}

	/* what of that is still there, or has come since */
	branches = read_branches(decider);
	foreach(lc, records)
	{
		Record	   *record = lfirst(lc);
		ListCell   *lc2;
		bool		is_here = false;

		foreach(lc2, branches)
			is_here |= strcmp(((Branch *) lfirst(lc2))->gid, record->gid) == 0;
		if (record->decision == NULL && record->is_over && !is_here)
			record->decision = ask(decider, conn, record->gid);
		if (record->decision != NULL && !is_here)
			finished = lappend(finished, record->gid);
		else
			is_more = true;
	}
	is_more |= branches != NIL;
	compare_outcomes(decider, records, asked_at);
	if (finished != NIL)
		report(decider, conn, finished);
	return is_more;
}

/* ----------------------------------------------------------------
 *		The deciding database
 * ----------------------------------------------------------------
 */

/* Records that name us and wait for us */
static List *
read_records(Decider *decider, RemoteConnection *conn)
{
	const char *params[] = {decider->coordinator, decider->participant,
	psprintf("%d", queue_resolve_interval)};
	List	   *rows;
	List	   *records = NIL;
	ListCell   *lc;

	if (conn != NULL)
		rows = queue_remote_query(conn,
								  "SELECT gid, decision, is_over, decided_at OPERATOR(pg_catalog.>)"
								  " (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)"
								  " pg_catalog.make_interval(secs => $3::pg_catalog.int4 OPERATOR(pg_catalog./) 1000.0))"
								  " FROM queue.global_transactions"
								  " WHERE coordinator OPERATOR(pg_catalog.=) $1::pg_catalog.name"
								  " AND $2::pg_catalog.name OPERATOR(pg_catalog.=) ANY (unfinished)",
								  3, params);
	else
		rows = local_query("SELECT gid, decision, is_over, decided_at >"
						   " clock_timestamp() - $3::int * interval '1 ms'"
						   " FROM queue.global_transactions"
						   " WHERE coordinator = $1::name AND $2::name = ANY (unfinished)",
						   3, params);
	foreach(lc, rows)
	{
		char	  **row = lfirst(lc);
		Record	   *record = palloc(sizeof(Record));

		record->gid = row[0];
		record->decision = row[1];
		record->is_over = row[2][0] == 't';
		record->is_fresh = row[3] != NULL && row[3][0] == 't';
		records = lappend(records, record);
	}
	return records;
}

/*
 * What is decided, now and for ever, or NULL.  The answer counts only when the
 * transaction that gives it is committed, which is so when this returns.
 */
static char *
ask(Decider *decider, RemoteConnection *conn, const char *gid)
{
	const char *params[] = {decider->coordinator, gid, decider->participant};
	List	   *rows;

	if (conn != NULL)
		rows = queue_remote_query(conn,
								  "CALL queue.ask_decision($1, $2, NULL)",
								  2, params);
	else
		rows = local_query("SELECT queue.write_answer(p.oid, c.oid, $2)"
						   " FROM pg_roles p, pg_roles c"
						   " WHERE p.rolname = $3::name AND c.rolname = $1::name",
						   3, params);
	if (conn == NULL)
		queue_decision_require_durable();
	if (rows == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("coordinator \"%s\" or participant \"%s\" does not exist",
						decider->coordinator, decider->participant)));
	return ((char **) linitial(rows))[0];
}

/* Nothing is left to do here for these. */
static void
report(Decider *decider, RemoteConnection *conn, List *gids)
{
	const char *params[] = {decider->coordinator, text_array(gids),
	decider->participant};

	if (conn != NULL)
		(void) queue_remote_query(conn, "CALL queue.report_finished($1, $2)",
								  2, params);
	else
		(void) local_query("SELECT queue.write_finished(p.oid, c.oid, $2::text[])"
						   " FROM pg_roles p, pg_roles c"
						   " WHERE p.rolname = $3::name AND c.rolname = $1::name",
						   3, params);
}

/* Is it the database that it was? */
static void
check_identity(Decider *decider, RemoteConnection *conn)
{
	const char *params[] = {decider->name, decider->participant, NULL};
	List	   *rows = queue_remote_query(conn, "SELECT queue.identity()", 0,
										  NULL);
	char	   *identity = ((char **) linitial(rows))[0];

	if (decider->identity == NULL)
	{
		params[2] = identity;
		(void) local_query("UPDATE queue.deciding_database SET identity = $3"
						   " WHERE name = $1 AND participant = $2::name",
						   3, params);
		decider->identity = identity;
	}
	if (strcmp(identity, decider->identity) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("it is another database than at the first contact")));
}

/* ----------------------------------------------------------------
 *		This database
 * ----------------------------------------------------------------
 */

static List *
read_deciders(void)
{
	List	   *rows;
	List	   *deciders = NIL;
	ListCell   *lc;

	rows = local_query("SELECT name, participant, coordinator, owner::oid,"
					   " connection, password_required, registered_in, identity,"
					   " last_error FROM queue.deciding_database", 0, NULL);
	foreach(lc, rows)
	{
		char	  **row = lfirst(lc);
		Decider    *decider = palloc(sizeof(Decider));

		decider->name = row[0];
		decider->participant = row[1];
		decider->coordinator = row[2];
		decider->owner = atooid(row[3]);
		decider->connection = row[4];
		decider->password_required = row[5][0] == 't';
		decider->identity = row[7];
		decider->last_error = row[8];
		decider->prefix = psprintf(QUEUE_BRANCH_PREFIX "%s:%s:", row[0],
								   row[1]);
		begin_transaction("looking at the identity of this database");
		decider->is_registered_here =
			strcmp(row[6], queue_branch_identity()) == 0;
		commit_transaction();
		deciders = lappend(deciders, decider);
	}
	return deciders;
}

/* Our branches, and no others */
static List *
read_branches(Decider *decider)
{
	const char *params[] = {decider->prefix,
		psprintf("%u", decider->owner),
	psprintf("%d", queue_resolve_interval)};
	List	   *rows;
	List	   *branches = NIL;
	ListCell   *lc;

	rows = local_query("SELECT substr(p.gid, length($1) + 1),"
					   " p.prepared + $3::int * interval '1 ms' <= clock_timestamp()"
					   " FROM pg_prepared_xact() p"
					   " WHERE p.ownerid = $2::oid AND starts_with(p.gid, $1)"
					   " AND p.dbid = (SELECT oid FROM pg_database"
					   "               WHERE datname = current_database())",
					   3, params);
	foreach(lc, rows)
	{
		char	  **row = lfirst(lc);
		Branch	   *branch = palloc(sizeof(Branch));

		branch->gid = row[0];
		branch->is_old = row[1][0] == 't';
		branches = lappend(branches, branch);
	}
	return branches;
}

/*
 * COMMIT PREPARED or ROLLBACK PREPARED, by its owner; false if it is gone, or
 * another's, or another session is at it.
 */
static bool
finish(Decider *decider, const char *gid, bool is_commit)
{
	char	   *branch = psprintf("%s%s", decider->prefix, gid);
	volatile bool is_done = false;

	PG_TRY();
	{
		Oid			save_userid;
		int			save_sec_context;

		begin_transaction("finishing a branch of a global transaction");
		GetUserIdAndSecContext(&save_userid, &save_sec_context);
		SetUserIdAndSecContext(decider->owner, save_sec_context |
							   SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
		FinishPreparedTransaction(branch, is_commit);
		SetUserIdAndSecContext(save_userid, save_sec_context);
		(void) queue_xact_resolve_prepared(NULL);
		queue_cover_hurry(MyDatabaseId);
		commit_transaction();
		is_done = true;
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		if (code != ERRCODE_UNDEFINED_OBJECT &&
			code != ERRCODE_INSUFFICIENT_PRIVILEGE &&
			code != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
			PG_RE_THROW();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(pass_context);
		FlushErrorState();
	}
	PG_END_TRY();
	if (is_done)
		ereport(LOG,
				(errmsg("branch \"%s\" was in doubt and is %s now", branch,
						is_commit ? "committed" : "rolled back"),
				 errdetail("That is what deciding database \"%s\" says.",
						   decider->name)));
	pfree(branch);
	return is_done;
}

/* Did sessions finish branches as was decided? */
static void
compare_outcomes(Decider *decider, List *records, TimestampTz asked_at)
{
	List	   *gids = NIL;
	List	   *decisions = NIL;
	const char *params[4];
	ListCell   *lc;

	foreach(lc, records)
	{
		Record	   *record = lfirst(lc);

		gids = lappend(gids, record->gid);
		decisions = lappend(decisions, record->decision);
	}
	params[0] = decider->prefix;
	params[1] = text_array(gids);
	params[2] = text_array(decisions);
	params[3] = pstrdup(timestamptz_to_str(asked_at));
	foreach(lc, local_query("SELECT queue.write_outcomes($1, $2::text[],"
							" $3::text[], $4::timestamptz)", 4, params))
		ereport(WARNING,
				(errmsg("%s", ((char **) lfirst(lc))[0])));
}

/*
 * Remember why this one cannot be obeyed; NULL: it can.  The log gets one
 * warning until it can again, however often the reason changes.
 */
static void
note_error(Decider *decider, const char *error)
{
	const char *params[] = {decider->name, decider->participant, error};

	if (error == NULL ? decider->last_error == NULL :
		decider->last_error != NULL && strcmp(error, decider->last_error) == 0)
		return;
	if (error == NULL)
		ereport(LOG,
				(errmsg("deciding database \"%s\" answers again",
						decider->name)));
	else if (decider->last_error == NULL)
		ereport(WARNING,
				(errmsg("cannot ask deciding database \"%s\": %s",
						decider->name, error),
				 errdetail("Branches of its global transactions stay in doubt until it answers.")));
	(void) local_query("UPDATE queue.deciding_database SET last_error = $3"
					   " WHERE name = $1 AND participant = $2::name",
					   3, params);
}

static Record *
find_record(List *records, const char *gid)
{
	ListCell   *lc;

	foreach(lc, records)
	{
		Record	   *record = lfirst(lc);

		if (strcmp(record->gid, gid) == 0)
			return record;
	}
	return NULL;
}

/* The array as a literal; NULL for a NULL */
static char *
text_array(List *texts)
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
	begin_transaction("preparing a report");
	getTypeOutputInfo(TEXTARRAYOID, &out, &is_varlena);
	MemoryContextSwitchTo(pass_context);
	result = OidOutputFunctionCall(out,
								   PointerGetDatum(construct_md_array(values, nulls, 1,
																	  dims, lbs, TEXTOID, -1,
																	  false, TYPALIGN_INT)));
	commit_transaction();
	return result;
}

/*
 * Run a statement of our own in a transaction of its own; its rows, as
 * queue_remote_query() returns them.
 */
static List *
local_query(const char *sql, int nparams, const char *const *params)
{
	Oid			types[4];
	Datum		values[4];
	char		nulls[4];
	List	   *rows = NIL;

	for (int i = 0; i < nparams; i++)
	{
		types[i] = TEXTOID;
		nulls[i] = params[i] == NULL ? 'n' : ' ';
		values[i] = params[i] == NULL ? (Datum) 0 :
			CStringGetTextDatum(params[i]);
	}
	begin_transaction(sql);
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (SPI_execute_with_args(sql, nparams, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	for (uint64 i = 0; SPI_tuptable != NULL && i < SPI_processed; i++)
	{
		MemoryContext spi_context = MemoryContextSwitchTo(pass_context);
		int			n = SPI_tuptable->tupdesc->natts;
		char	  **row = palloc(n * sizeof(char *));

		for (int j = 0; j < n; j++)
			row[j] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
								  j + 1);
		rows = lappend(rows, row);
		MemoryContextSwitchTo(spi_context);
	}
	SPI_finish();
	PopActiveSnapshot();
	commit_transaction();
	return rows;
}

static void
begin_transaction(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
commit_transaction(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(pass_context);
}

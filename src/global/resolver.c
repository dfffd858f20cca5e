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
 *	1. Read the records that wait for this participant.
 *	2. Look at its branches: prepared in this database, with the name that the
 *	   row says, and owned by the role that it says.  Others are left alone.
 *	3. Those that have been prepared for queue.resolve_interval and have been
 *	   decided for so long, whose deadline has passed or that have no record,
 *	   are asked for, and finished as the answer says.  What was read before
 *	   does not count: only the answer is known to be durable, and asking past
 *	   the deadline, or without a record, makes the decision "abort".
 *	4. Report those that are decided and of which there is no branch here, not
 *	   even one of another owner or under another name of the deciding
 *	   database: it would belong to this one after a registration is
 *	   corrected.  A branch prepared before the decision would be seen, because
 *	   the look comes after reading or asking.  One that is prepared later
 *	   finds the record, or is rolled back because there is none.  If it was to
 *	   be committed and never was (branch.c says how that is known), the
 *	   coordinator has taken something else for a PREPARE TRANSACTION: that is
 *	   an outcome that was forced.
 *
 * What is reported is forgotten over there, and lack of a record means abort.
 * So before the report, everything that has ended branches here must be as
 * durable as the decision is: on synchronous standbys, whatever the sessions
 * said that ended them.  And this server must still be in charge, because
 * otherwise the branches are on another server.  So it writes something, and
 * waits until the standbys have that.
 *
 * If the deciding database does not answer, everything stays as it is.  So it
 * does if it has another identity than at the first contact, because it has
 * been restored from a dump.  And so it does if this database has another
 * identity than when it was registered, because it is a copy, and has never
 * had the branches of its original.  The deciding database checks this
 * identity in turn: another database may be registered as the same
 * participant.  If it refuses to answer about one branch, the others go on.
 *
 * A branch is finished with the privileges of its owner, so that one which has
 * been finished and prepared anew by another role meanwhile is left alone.
 *
 * Locks: none over a wait for the deciding database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "common/process.h"
#include "common/remote.h"
#include "common/sql.h"
#include "common/standby.h"
#include "global/branch.h"
#include "global/decider.h"
#include "global/query.h"
#include "global/resolver.h"
#include "shared/attach.h"
#include "transaction/prepared.h"
#include "transaction/recovered.h"
#include "worker/helper.h"

/* When the worker tries again to start the process */
#define START_RETRY_DELAY	(10 * USECS_PER_SEC)

/* The process stays for this long, instead of being started each second */
#define RESOLVER_STAY		5000	/* ms */

/* A branch of this participant */
typedef struct Branch
{
	char	   *gid;			/* of the global transaction */
	bool		is_old;
} Branch;

/* A deciding database that is asked */
typedef struct Visit
{
	Decider    *decider;
	RemoteConnection *conn;		/* NULL: this database */
	bool		is_more;		/* something is left in doubt */
	bool		is_skipped;		/* something was locked */
} Visit;

/* ... about one branch */
typedef struct Question
{
	Decider    *decider;
	RemoteConnection *conn;
	const char *gid;
	char	   *decision;
} Question;

/* A branch that is finished */
typedef struct Ending
{
	Oid			owner;
	char	   *branch;
	bool		is_commit;
} Ending;

/* What the process is shown to do meanwhile */
#define FINISHING	"finishing a branch of a global transaction"

static uint32 wait_event;

/* one pass */
static MemoryContext resolver_context = NULL;

static bool takes_part(void);
static bool try_resolve_all(void);
static void resolve_all(void *arg);
static ErrorVerdict judge_all(const ErrorData *error, void *arg);
static bool resolve_with(Decider *decider);
static void ask_and_settle(void *arg);
static ErrorVerdict judge_visit(const ErrorData *error, void *arg);
static bool resolve_branches(Decider *decider, RemoteConnection *conn);
static char *try_ask(Decider *decider, RemoteConnection *conn,
					 const char *gid);
static void ask_question(void *arg);
static ErrorVerdict judge_question(const ErrorData *error, void *arg);
static void require_ends_durable(void);
static List *read_branches(Decider *decider);
static List *read_names(void);
static bool is_here(Decider *decider, List *names, const char *gid);
static void finish_branch(Decider *decider, const char *gid, bool is_commit);
static void finish_prepared(void *arg);
static ErrorVerdict judge_ending(const ErrorData *error, void *arg);
static void compare_outcomes(Decider *decider, List *records,
							 TimestampTz asked_at);
static void note_committed(Decider *decider, const char *branch);
static void note_missing(Decider *decider, List *gids);
static Record *find_record(List *records, const char *gid);

/* ----------------------------------------------------------------
 *		The worker's side
 * ----------------------------------------------------------------
 */

/*
 * A duty of the worker: wake the resolver or start it, if it is needed here.
 */
TimestampTz
queue_resolver_start_if_needed(void)
{
	if (takes_part())
		return queue_helper_call(HELPER_RESOLVER) ? TIMESTAMP_INFINITY :
			GetCurrentTimestamp() + START_RETRY_DELAY;
	(void) queue_database_is_resolver_wanted(true /* take */ );
	return TIMESTAMP_INFINITY;
}

/* Has a session called for the resolver? */
bool
queue_resolver_is_urgent(void)
{
	return queue_database_is_resolver_wanted(false);
}

/* Is any deciding database registered here? */
static bool
takes_part(void)
{
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	result = queue_sql_ask("SELECT FROM queue.deciding_database LIMIT 1",
						   0, NULL, NULL) > 0;
	queue_sql_end();
	PopActiveSnapshot();
	return result;
}

/* ----------------------------------------------------------------
 *		The process
 * ----------------------------------------------------------------
 */

/* Entry point of the resolver */
void
queue_resolver_main(Datum arg)
{
	TimestampTz leave_at = 0;
	bool		is_more = false;

	queue_helper_begin(HELPER_RESOLVER, DatumGetObjectId(arg));
	wait_event = WaitEventExtensionNew("QueueResolverMain");

	/*
	 * Its own bookkeeping need not wait for standbys; finish_branch() asks
	 * for it where others rely on the result.
	 */
	SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
	resolver_context = AllocSetContextCreate(TopMemoryContext, "queue resolver",
											 ALLOCSET_DEFAULT_SIZES);
	queue_query_init(resolver_context, wait_event);

	while (!ShutdownRequestPending)
	{
		TimestampTz next;

		queue_process_reload();
		MemoryContextSwitchTo(resolver_context);
		MemoryContextReset(resolver_context);
		next = TimestampTzPlusMilliseconds(queue_clock(),
										   queue_resolve_interval);

		/*
		 * a branch that is being prepared can be seen only a moment after the
		 * request
		 */
		if (queue_database_is_resolver_wanted(true /* take */ ) || is_more ||
			leave_at == 0)
			leave_at = TimestampTzPlusMilliseconds(next, RESOLVER_STAY);
		is_more = try_resolve_all();
		if (!is_more && queue_clock() >= leave_at)
			break;
		if (!ShutdownRequestPending)
			queue_process_nap(next, wait_event);
	}

	/* 1: another one has to go on */
	proc_exit(is_more ? 1 : 0);
}

/*
 * Make a pass.  Whatever goes wrong in this database is reported, and tried
 * again.
 */
static bool
try_resolve_all(void)
{
	bool		is_more = true;

	(void) queue_process_try(resolve_all, judge_all, &is_more);
	pgstat_report_stat(true);
	queue_process_show(NULL);
	return is_more;
}

static ErrorVerdict
judge_all(const ErrorData *error, void *arg)
{
	return ShutdownRequestPending ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ?
		ERROR_IGNORE : ERROR_REPORT;
}

/*
 * Obey all deciding databases once; *arg tells if anything is left in doubt.
 */
static void
resolve_all(void *arg)
{
	bool	   *is_more = arg;
	List	   *deciders = queue_decider_read_all(resolver_context);
	ListCell   *lc;
	bool		is_any_more = false;

	foreach(lc, deciders)
	{
		if (!ShutdownRequestPending)
			is_any_more |= resolve_with(lfirst(lc));
	}
	*is_more = is_any_more;
}

/*
 * Obey one of them; if it cannot be asked, that is noted.  Returns true if
 * anything is left in doubt.
 */
static bool
resolve_with(Decider *decider)
{
	Visit		visit = {.decider = decider};

	queue_query_begin();
	if (!decider->is_registered_here)
	{
		decider->error = "this database is a copy of that which was registered";
		queue_decider_note_error(decider);
		return false;
	}

	visit.is_more = read_branches(decider) != NIL;
	(void) queue_process_try(ask_and_settle, judge_visit, &visit);
	queue_remote_disconnect(visit.conn);
	if (!visit.is_skipped && !ShutdownRequestPending)
		queue_decider_note_error(decider);
	return visit.is_more;
}

static void
ask_and_settle(void *arg)
{
	Visit	   *visit = arg;
	Decider    *decider = visit->decider;

	if (decider->connection != NULL)
		queue_decider_connect(decider, &visit->conn);
	visit->is_more = resolve_branches(decider, visit->conn);
}

/* Note what went wrong with the deciding database. */
static ErrorVerdict
judge_visit(const ErrorData *error, void *arg)
{
	Visit	   *visit = arg;

	visit->decider->error = queue_query_is_timed_out() ?
		"it does not answer" :
		pstrdup(error->message);
	visit->is_skipped = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	return ERROR_IGNORE;
}

/* See the top of the file.  Returns true if anything is left in doubt. */
static bool
resolve_branches(Decider *decider, RemoteConnection *conn)
{
	TimestampTz asked_at = GetCurrentTimestamp();
	List	   *records = queue_decider_read_records(decider, conn);
	List	   *branches = read_branches(decider);
	List	   *names;
	List	   *finished = NIL;
	List	   *committed = NIL;
	ListCell   *lc;
	bool		is_more = false;

	foreach(lc, branches)
	{
		Branch	   *branch = lfirst(lc);
		Record	   *record = find_record(records, branch->gid);
		char	   *decision = NULL;

		if (ShutdownRequestPending)
			return true;
		if (branch->is_old && (record == NULL || record->is_due))
			decision = try_ask(decider, conn, branch->gid);
		if (decision == NULL)
			continue;
		finish_branch(decider, branch->gid, strcmp(decision, "commit") == 0);
		if (record == NULL)
		{
			record = palloc0(sizeof(Record));
			record->gid = branch->gid;
			records = lappend(records, record);
		}
		record->decision = decision;
	}

	/*
	 * What of that still exists, or has come since.  A session that ends a
	 * branch of another owner wakes this process.
	 */
	branches = read_branches(decider);
	names = read_names();
	foreach(lc, records)
	{
		Record	   *record = lfirst(lc);
		bool		is_finished = !is_here(decider, names, record->gid);

		if (record->decision == NULL && record->is_over && is_finished)
			record->decision = try_ask(decider, conn, record->gid);
		if (record->decision == NULL)
			is_more = true;
		else if (is_finished)
		{
			finished = lappend(finished, record->gid);
			if (strcmp(record->decision, "commit") == 0)
				committed = lappend(committed, record->gid);
		}
	}
	is_more |= branches != NIL;
	note_missing(decider, committed);
	compare_outcomes(decider, records, asked_at);
	if (finished != NIL)
	{
		require_ends_durable();
		queue_decider_report(decider, conn, finished);
	}
	return is_more;
}

/*
 * Ask about one branch.  An error about that one is noted, and the others are
 * asked about all the same.  An error of the connection, or a timeout, ends
 * the visit.
 */
static char *
try_ask(Decider *decider, RemoteConnection *conn, const char *gid)
{
	Question	question = {decider, conn, gid, NULL};

	(void) queue_process_try(ask_question, judge_question, &question);
	return question.decision;
}

static void
ask_question(void *arg)
{
	Question   *question = arg;

	question->decision = queue_decider_ask(question->decider, question->conn,
										   question->gid);
}

static ErrorVerdict
judge_question(const ErrorData *error, void *arg)
{
	Question   *question = arg;

	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		(question->conn != NULL &&
		 !queue_remote_is_connected(question->conn)))
		return ERROR_RAISE;
	queue_query_end_wait();
	if (question->decider->error == NULL)
		question->decider->error = pstrdup(error->message);
	return ERROR_IGNORE;
}

/* ----------------------------------------------------------------
 *		This database
 * ----------------------------------------------------------------
 */

/* Return the branches of this participant, and no others. */
static List *
read_branches(Decider *decider)
{
	const char *params[] = {decider->prefix,
		psprintf("%u", decider->owner),
		psprintf("%d", queue_resolve_interval)};
	List	   *rows;
	List	   *branches = NIL;
	ListCell   *lc;

	rows = queue_query_here("SELECT substr(p.gid, length($1) + 1),"
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

/* Return the names of all branches in this database, of any owner. */
static List *
read_names(void)
{
	List	   *rows;
	List	   *names = NIL;
	ListCell   *lc;

	rows = queue_query_here("SELECT p.gid FROM pg_prepared_xact() p"
							" WHERE starts_with(p.gid, '" QUEUE_BRANCH_PREFIX "')"
							" AND p.dbid = (SELECT oid FROM pg_database"
							"               WHERE datname = current_database())",
							0, NULL);
	foreach(lc, rows)
		names = lappend(names, ((char **) lfirst(lc))[0]);
	return names;
}

/*
 * Is any of them a branch of this global transaction?  It may belong to
 * another role than the registered one, or call the deciding database
 * something else.
 */
static bool
is_here(Decider *decider, List *names, const char *gid)
{
	char	   *end = psprintf(":%s:%s", decider->participant, gid);
	size_t		len = strlen(end);
	bool		result = false;
	ListCell   *lc;

	foreach(lc, names)
	{
		char	   *name = lfirst(lc);

		result |= strlen(name) > len &&
			strcmp(name + strlen(name) - len, end) == 0;
	}
	pfree(end);
	return result;
}

/*
 * COMMIT PREPARED or ROLLBACK PREPARED, as its owner.  Nothing happens if it
 * is gone, belongs to another role, or is being finished by another session.
 * This waits for standbys, because sessions that see its rows may rely on
 * them.  If they take too long, the others have to be finished as well.
 */
static void
finish_branch(Decider *decider, const char *gid, bool is_commit)
{
	Ending		ending = {
		.owner = decider->owner,
		.branch = psprintf("%s%s", decider->prefix, gid),
		.is_commit = is_commit
	};

	if (queue_process_run(FINISHING, false, finish_prepared, judge_ending,
						  &ending))
	{
		if (is_commit)
			note_committed(decider, ending.branch);
		ereport(LOG,
				(errmsg(is_commit ?
						"branch \"%s\" was in doubt and is committed now" :
						"branch \"%s\" was in doubt and is rolled back now",
						ending.branch),
				 errdetail("That is what deciding database \"%s\" says.",
						   decider->name)));
	}
	pfree(ending.branch);
}

static void
finish_prepared(void *arg)
{
	Ending	   *ending = arg;
	bool		had_recovered;
	Oid			save_userid;
	int			save_sec_context;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(ending->owner,
						   save_sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	queue_standby_wait();
	had_recovered = queue_recovered_are_there();
	queue_query_begin_wait(FINISHING);
	FinishPreparedTransaction(ending->branch, ending->is_commit);
	queue_query_end_wait();
	SetUserIdAndSecContext(save_userid, save_sec_context);
	(void) queue_xact_resolve_prepared(NULL);
	queue_recovered_note_end(had_recovered);
}

static ErrorVerdict
judge_ending(const ErrorData *error, void *arg)
{
	if (error->sqlerrcode != ERRCODE_UNDEFINED_OBJECT &&
		error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE &&
		error->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		return ERROR_RAISE;
	queue_query_end_wait();
	return ERROR_IGNORE;
}

/*
 * Whatever has ended branches here is on disk, or they would still be seen,
 * but a session that did it may not have waited for the standbys.  And only a
 * server that is still in charge can say that there are none left.  One that
 * was replaced may have got all that it has written confirmed in time, but not
 * what it writes now.
 */
static void
require_ends_durable(void)
{
	XLogRecPtr	lsn = LogLogicalMessage("queue", "", 0, false, false);

	XLogFlush(lsn);
	queue_query_require_durable(lsn);
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
	params[1] = queue_query_text_array(gids);
	params[2] = queue_query_text_array(decisions);
	params[3] = pstrdup(timestamptz_to_str(asked_at));
	foreach(lc, queue_query_here("SELECT queue_internal.write_outcomes($1, $2::text[],"
								 " $3::text[], $4::timestamptz)", 4, params))
		ereport(WARNING,
				(errmsg("%s", ((char **) lfirst(lc))[0])));
}

/*
 * Write the row that it has left itself, unless it was prepared before this
 * database was registered.
 */
static void
note_committed(Decider *decider, const char *branch)
{
	const char *params[] = {branch, psprintf("%u", decider->owner)};

	(void) queue_query_here("INSERT INTO queue.committed_branch"
							" SELECT $1, $2::oid, clock_timestamp()"
							" WHERE NOT EXISTS (SELECT FROM queue.committed_branch"
							"                   WHERE branch = $1 AND owner = $2::oid)",
							2, params);
}

/*
 * These are to be committed, and there is no branch of them here any more.
 * Those that were not committed are over all the same.  An administrator has
 * to know that before it is reported, and forgotten over there.
 */
static void
note_missing(Decider *decider, List *gids)
{
	const char *params[3];
	ListCell   *lc;

	if (gids == NIL)
		return;
	params[0] = decider->prefix;
	params[1] = queue_query_text_array(gids);
	params[2] = psprintf("%u", decider->owner);
	foreach(lc, queue_query_here("SELECT queue_internal.write_missing($1, $2::text[], $3::oid)",
								 3, params))
		ereport(WARNING,
				(errmsg("branch \"%s\" was never committed here, but the decision is commit",
						((char **) lfirst(lc))[0]),
				 errdetail("It was not prepared, or somebody has rolled it back."),
				 errhint("What the other participants have done stands; see queue.forced_outcomes.")));
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

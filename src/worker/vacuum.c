/*-------------------------------------------------------------------------
 *
 * vacuum.c
 *		Vacuum of queue tables, by a process of its own.
 *
 * A message lives for milliseconds, so a queue table is made of dead rows
 * unless somebody removes them within seconds.  That is too much to ask of
 * autovacuum, which comes once in a minute and does not know whether anything
 * can be removed.
 *
 * The database's worker looks (queue_vacuum_look) and the vacuum worker
 * vacuums, so that no duty of the former waits for a vacuum.  There is at most
 * one of the latter in a database, started on demand; it takes the queues that
 * are wanted, one after the other, with the server's own vacuum(), and leaves
 * when there was nothing to do for some seconds.
 *
 * When is a queue worth it?  The server counts dead rows; its statistics come
 * late by a second or, from a session that has gone idle, by ten, but include
 * all that happened: plain DML, rolled-back inserts, COMMIT PREPARED.  If
 * there are enough, the next transaction id is noted as a mark.  All that was
 * dead then has been deleted by transactions before the mark; so once no snapshot
 * is older than that, all of it can be removed, and a vacuum is not in vain.
 * Until then nothing is done, however many more die.
 *
 * A queue that fills faster than the worker looks is watched by the vacuum
 * worker itself for as long as that lasts, so that one vacuum follows the other
 * as soon as there are that many dead rows again.
 *
 * A vacuum leaves something undone: the pages that it takes out of an index
 * can be used again only when nobody can come across them any more, and what
 * has died meanwhile stays.  If there was no other vacuum after some seconds,
 * one more follows, so that a queue whose traffic has stopped gets small.
 *
 * The empty end of a table is returned to the system afterwards (truncate.c),
 * under traffic only now and then, since it may be needed again; what is left
 * when the traffic has stopped goes with the vacuum after the last one, which is
 * repeated until nothing is left.  The end becomes empty since a vacuum makes
 * all sessions look for free space from the front of the table again: that goes
 * by the map that vacuum() has just written, and the invalidation of the table's
 * statistics takes the place that they kept to.
 *
 * All of this is hints: after a crash the counters begin with zero, and what
 * was dead before goes with the next vacuum.  Queues without a place in shared
 * memory, and tables that are not in order, are left to autovacuum, and so is
 * the prevention of wraparound.
 *
 * The process says in the process array that it is a kind of autovacuum.  So
 * whoever waits for the table for longer than deadlock_timeout cancels it, as
 * he would cancel autovacuum; and statements that need the database alone end
 * it.  A table that is locked is skipped.
 *
 * Locks: the fields of a queue that only the database's worker uses need none;
 * the others are guarded by the lock of the queue's state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "common/process.h"
#include "shared/database.h"
#include "table/definition.h"
#include "table/member.h"
#include "worker/helper.h"
#include "worker/truncate.h"
#include "worker/vacuum.h"

/* a queue is looked at for this long after somebody has used it: that is how
 * late the statistics may be */
#define LOOK_TIME			(15 * USECS_PER_SEC)

/* ... and else this often */
#define LOOK_INTERVAL		(60 * USECS_PER_SEC)

/* after a look that found something to do, and after one that set a mark: the
 * transactions that were under way then are mostly short */
#define LOOK_AGAIN			(1 * USECS_PER_SEC)
#define MARK_PASSES			(USECS_PER_SEC / 10)

/* with so many times the dead rows that make a queue worth a vacuum, there is
 * no time for delays; and such a queue is watched afterwards, this often and
 * for as long as it takes all sessions to report what has died */
#define BEHIND				3
#define WATCH_NAP			(20 * INT64CONST(1000))
#define WATCH_TIME			(1 * USECS_PER_SEC)

/* the vacuum after the last one */
#define FOLLOW_UP_DELAY		(10 * USECS_PER_SEC)

/* under traffic, a table may return space this often */
#define TRUNCATE_INTERVAL	(30 * USECS_PER_SEC)

/* after an error, and if somebody had the table locked */
#define RETRY_DELAY			(60 * USECS_PER_SEC)
#define LOCKED_RETRY_DELAY	(1 * USECS_PER_SEC)

/* the process stays for this long, rather than be started each second */
#define VACUUM_STAY			5000	/* ms */

#define Natts_vacuums		4

/* A queue that is vacuumed */
typedef struct Visit
{
	QueueState *state;
	Oid			relid;
	Oid			toast_relid;
	MemoryContext context;		/* for what outlives transactions */
	int64		count;			/* vacuums before; -1: not looked */
	int64		toast_count;
	bool		is_due;
	bool		is_behind;
	int64		retry_delay;	/* if it was in vain */
} Visit;

/* A table that is cut */
typedef struct Cut
{
	Oid			relid;
	bool		is_last;
	TruncateResult result;
} Cut;

/* the worker's: the queue that it looks at */
static int	looked_at = -1;
static TimestampTz all_looked_at = 0;

/* the horizon of the queues looked at so far: no table has a later one, but
 * one that logical decoding uses as a catalog has an earlier one */
static TransactionId pass_horizon;

PG_FUNCTION_INFO_V1(queue_vacuums);

static TimestampTz look_at_state(QueueState *state, TimestampTz now);
static bool has_dead_rows(Oid relid, int factor);
static Oid	toast_of(Oid relid);
static bool has_dead_in(Oid relid, int factor);
static bool is_removable(Oid relid, FullTransactionId mark);
static Relation open_unless_locked(Oid relid);
static void show_as_autovacuum(void);
static bool set_cost_delay(Oid relid);
static QueueState *next_wanted(TimestampTz *next);
static bool vacuum_queue(QueueState *state, MemoryContext context);
static void visit_queue(void *arg);
static ErrorVerdict judge_visit(const ErrorData *error, void *arg);
static bool is_in_the_way(const ErrorData *error);
static bool is_behind_again(QueueState *state, Oid relid);
static void run_vacuum(Oid relid, MemoryContext context);
static TruncateResult return_space(VacuumPart *vacuum, Oid relid,
								   Oid toast_relid, bool is_behind);
static TruncateResult cut_table(Oid relid, bool is_last);
static void do_cut(void *arg);
static ErrorVerdict judge_cut(const ErrorData *error, void *arg);
static int64 vacuum_count(Oid relid);
static void end_watch(QueueState *state, Oid relid);
static void end_vacuum(QueueState *state, Oid relid, bool done,
					   bool toast_done, bool is_behind,
					   TruncateResult truncated, int64 retry_delay);

/* ----------------------------------------------------------------
 *		The worker's side: is there something to do?
 * ----------------------------------------------------------------
 */

TimestampTz
queue_vacuum_look(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TIMESTAMP_INFINITY;
	bool		is_wanted = false;
	bool		is_for_all;
	int			n = queue_state_count();
	int			i;

	/* plain DML makes no queue active; the clock may have been set back */
	is_for_all = all_looked_at > now || all_looked_at + LOOK_INTERVAL <= now;
	if (is_for_all)
		all_looked_at = now;
	pass_horizon = InvalidTransactionId;
	for (i = is_for_all ? 0 : queue_state_next_active(0); i < n;
		 i = is_for_all ? i + 1 : queue_state_next_active(i + 1))
	{
		QueueState *state = queue_state_at(i);
		TimestampTz look_again;

		if (state == NULL || state->dbid != MyDatabaseId)
			continue;
		looked_at = i;
		look_again = queue_vacuum_threshold < 0 ?
			TIMESTAMP_INFINITY : look_at_state(state, now);
		queue_state_review_active(state, look_again != TIMESTAMP_INFINITY);
		next = Min(next, look_again);
		is_wanted |= state->vacuum.is_wanted;
	}
	looked_at = -1;
	if (is_wanted)
		(void) queue_helper_call(HELPER_VACUUM);
	return next;
}

void
queue_vacuum_skip(void)
{
	QueueState *state = looked_at < 0 ? NULL : queue_state_at(looked_at);

	if (state != NULL)
		state->vacuum.retry_at = GetCurrentTimestamp() + RETRY_DELAY;
}

/*
 * When has this queue to be looked at again?  Nobody but this process and the
 * one that it has started changes these fields, and the latter only while the
 * queue is wanted; so what is read here stays true.
 */
static TimestampTz
look_at_state(QueueState *state, TimestampTz now)
{
	VacuumPart *vacuum = &state->vacuum;
	Oid			relid = state->relid;
	TimestampTz next = TIMESTAMP_INFINITY;

	if (vacuum->is_wanted)
		return now + LOOK_AGAIN;
	if (vacuum->nremoved != queue_state_nwindows_taken(state) ||
		queue_state_is_purged(state))
	{
		vacuum->nremoved = queue_state_nwindows_taken(state);
		queue_state_clear_purge(state);
		vacuum->look_until = now + LOOK_TIME;
	}
	else if (vacuum->look_until <= now &&
			 !FullTransactionIdIsValid(vacuum->mark) &&
			 vacuum->looked_at <= now &&
			 vacuum->looked_at + LOOK_INTERVAL > now)
		return TIMESTAMP_INFINITY;
	vacuum->looked_at = now;
	if (vacuum->retry_at > now && vacuum->retry_at <= now + RETRY_DELAY)
		return now + LOOK_AGAIN;

	if (FullTransactionIdIsValid(vacuum->mark) || vacuum->look_until > now)
		next = now + LOOK_AGAIN;
	if ((!FullTransactionIdIsValid(vacuum->mark) || vacuum->follow_up_at > 0) &&
		has_dead_rows(relid, 1))
	{
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		vacuum->mark = ReadNextFullTransactionId();
		vacuum->follow_up_at = 0;
		LWLockRelease(state->lock);
		next = now + MARK_PASSES;
	}
	if (FullTransactionIdIsValid(vacuum->mark) &&
		vacuum->follow_up_at <= now && is_removable(relid, vacuum->mark))
	{
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		vacuum->is_wanted = state->dbid == MyDatabaseId &&
			state->relid == relid;
		LWLockRelease(state->lock);
		next = now + LOOK_AGAIN;
	}
	return next;
}

/* Are there so many times enough of them, in the table or in its TOAST table? */
static bool
has_dead_rows(Oid relid, int factor)
{
	Oid			toast_relid;

	if (has_dead_in(relid, factor))
		return true;
	toast_relid = toast_of(relid);
	return OidIsValid(toast_relid) && has_dead_in(toast_relid, factor);
}

/* Its TOAST table; InvalidOid if it has none, or is gone */
static Oid
toast_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			toast_relid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	toast_relid = ((Form_pg_class) GETSTRUCT(tuple))->reltoastrelid;
	ReleaseSysCache(tuple);
	return toast_relid;
}

static bool
has_dead_in(Oid relid, int factor)
{
	PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(relid);

	return entry != NULL && entry->dead_tuples > 0 &&
		entry->dead_tuples >= factor *
		(queue_vacuum_threshold +
		 queue_vacuum_scale_factor * entry->live_tuples);
}

/*
 * Can all be removed that was dead when the mark was set?  Not if the table is
 * locked, or is not in order.
 */
static bool
is_removable(Oid relid, FullTransactionId mark)
{
	TransactionId mark_xid = XidFromFullTransactionId(mark);
	TransactionId horizon = InvalidTransactionId;
	Relation	rel;

	if (TransactionIdIsValid(pass_horizon) &&
		TransactionIdPrecedes(pass_horizon, mark_xid))
		return false;
	rel = open_unless_locked(relid);
	if (rel == NULL)
		return false;
	if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		QueueDef   *def = queue_def(rel);

		if (def->is_queue && def->problem == NULL)
		{
			/* looking at catalogs has taken a snapshot, which would count */
			InvalidateCatalogSnapshot();
			horizon = GetOldestNonRemovableTransactionId(rel);
			if (!RelationIsAccessibleInLogicalDecoding(rel) &&
				(!TransactionIdIsValid(pass_horizon) ||
				 TransactionIdPrecedes(pass_horizon, horizon)))
				pass_horizon = horizon;
		}
	}
	table_close(rel, AccessShareLock);
	return TransactionIdIsValid(horizon) &&
		TransactionIdPrecedesOrEquals(mark_xid, horizon);
}

/* The table, to look at; NULL if somebody has it locked, or it is gone */
static Relation
open_unless_locked(Oid relid)
{
	Relation	rel;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

/* ----------------------------------------------------------------
 *		The vacuum worker
 * ----------------------------------------------------------------
 */

/* Its entry point. */
void
queue_vacuum_main(Datum arg)
{
	uint32		wait_event;
	MemoryContext context;
	TimestampTz leave_at;

	queue_helper_begin(HELPER_VACUUM, DatumGetObjectId(arg));
	show_as_autovacuum();
	wait_event = WaitEventExtensionNew("QueueVacuumMain");

	/* nothing that it commits is worth waiting for a disk or a standby */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	context = AllocSetContextCreate(TopMemoryContext, "queue vacuum worker",
									ALLOCSET_DEFAULT_SIZES);
	/* where vacuum() has what outlives its transactions */
	PortalContext = context;

	leave_at = TimestampTzPlusMilliseconds(queue_clock(), VACUUM_STAY);
	while (!ShutdownRequestPending)
	{
		QueueState *state;
		TimestampTz next;

		queue_process_reload();
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		state = next_wanted(&next);
		if (state != NULL)
		{
			if (vacuum_queue(state, context))
				leave_at = TimestampTzPlusMilliseconds(queue_clock(),
													   VACUUM_STAY);
		}
		else if (queue_clock() >= leave_at)
			break;
		else
			queue_process_nap(Min(leave_at, queue_clock_at(next)), wait_event);
	}
	proc_exit(0);
}

/* See the top of the file.  The flag stays for the life of the process. */
static void
show_as_autovacuum(void)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	MyProc->statusFlags |= PROC_IS_AUTOVACUUM;
	ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
	LWLockRelease(ProcArrayLock);
}

/*
 * vacuum() goes by the server's setting, as in any session.  Who is gentle with
 * a queue that fills faster than that lets its table grow.  Is it such a one?
 */
static bool
set_cost_delay(Oid relid)
{
	bool		is_behind = has_dead_rows(relid, BEHIND);
	double		delay = is_behind ? 0 : queue_vacuum_cost_delay;
	char		value[32];

	snprintf(value, sizeof(value), "%g", delay);
	SetConfigOption("vacuum_cost_delay", value, PGC_USERSET, PGC_S_OVERRIDE);
	return is_behind;
}

/* A queue that is wanted, each in its turn; or when is the next to be watched? */
static QueueState *
next_wanted(TimestampTz *next)
{
	static int	place = -1;
	TimestampTz now = GetCurrentTimestamp();
	int			n = queue_state_count();
	bool		is_second = false;

	*next = TIMESTAMP_INFINITY;
	for (;;)
	{
		QueueState *state;

		place = queue_state_next_active(place + 1);
		if (place >= n)
		{
			/* from the beginning, once */
			place = -1;
			if (is_second)
				return NULL;
			is_second = true;
			continue;
		}
		state = queue_state_at(place);
		if (state == NULL || state->dbid != MyDatabaseId ||
			!state->vacuum.is_wanted)
			continue;
		if (state->vacuum.watch_until == 0 || state->vacuum.watch_at <= now ||
			state->vacuum.watch_at > now + WATCH_NAP)
			return state;
		*next = Min(*next, state->vacuum.watch_at);
	}
}

/*
 * Vacuum this one, unless it is one to be watched that is not worth it yet.
 * An error is reported and does not come out.
 */
static bool
vacuum_queue(QueueState *state, MemoryContext context)
{
	Visit		visit = {
		.state = state,
		.relid = state->relid,
		.context = context,
		.count = -1,
		.toast_count = -1,
		.is_due = true,
		.retry_delay = LOCKED_RETRY_DELAY
	};
	TruncateResult truncated;
	bool		done;
	bool		toast_done;

	(void) queue_process_run("vacuuming a queue", false, visit_queue,
							 judge_visit, &visit);
	if (!visit.is_due)
	{
		end_watch(state, visit.relid);
		return false;
	}

	/* either may have been skipped; or only what follows them has failed */
	StartTransactionCommand();
	done = visit.count >= 0 && vacuum_count(visit.relid) != visit.count;
	toast_done = !OidIsValid(visit.toast_relid) ||
		vacuum_count(visit.toast_relid) != visit.toast_count;
	CommitTransactionCommand();
	truncated = !done ? TRUNCATE_NEEDLESS :
		return_space(&state->vacuum, visit.relid, visit.toast_relid,
					 visit.is_behind);
	end_vacuum(state, visit.relid, done, toast_done, visit.is_behind,
			   truncated, visit.retry_delay);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return true;
}

/* What it does inside of a transaction, which vacuum() ends to begin others */
static void
visit_queue(void *arg)
{
	Visit	   *visit = arg;

	visit->toast_relid = toast_of(visit->relid);
	visit->toast_count = vacuum_count(visit->toast_relid);
	visit->count = vacuum_count(visit->relid);
	visit->is_due = visit->state->vacuum.watch_until == 0 ||
		is_behind_again(visit->state, visit->relid);
	if (visit->is_due)
	{
		visit->is_behind = set_cost_delay(visit->relid);
		run_vacuum(visit->relid, visit->context);
	}
}

static ErrorVerdict
judge_visit(const ErrorData *error, void *arg)
{
	Visit	   *visit = arg;

	visit->is_due = true;
	if (is_in_the_way(error))
		return ERROR_IGNORE;
	visit->retry_delay = RETRY_DELAY;
	return ERROR_REPORT;
}

/* No error, but that we are asked to leave, or are in the way of somebody? */
static bool
is_in_the_way(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* This queue is watched.  Is it worth a vacuum already?  In a transaction. */
static bool
is_behind_again(QueueState *state, Oid relid)
{
	VacuumPart *vacuum = &state->vacuum;

	if (!FullTransactionIdIsValid(vacuum->mark))
	{
		if (!has_dead_rows(relid, BEHIND))
			return false;
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		vacuum->mark = ReadNextFullTransactionId();
		LWLockRelease(state->lock);
	}
	pass_horizon = InvalidTransactionId;
	return is_removable(relid, vacuum->mark);
}

/*
 * The server's vacuum, with its TOAST table.  It ends the transaction and
 * begins others.  Indexes are done even for few rows: otherwise their entries
 * stay, and after the last vacuum nobody would come back for them.
 */
static void
run_vacuum(Oid relid, MemoryContext context)
{
	VacuumParams params;
	BufferAccessStrategy strategy;
	char	   *name = get_rel_name(relid);
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	List	   *relations;
	MemoryContext vacuum_context;

	if (name == NULL || schema == NULL)
		return;
	pgstat_report_activity(STATE_RUNNING,
						   psprintf("vacuuming queue %s",
									quote_qualified_identifier(schema, name)));

	MemoryContextSwitchTo(context);
	vacuum_context = AllocSetContextCreate(context, "queue vacuum",
										   ALLOCSET_DEFAULT_SIZES);
	memset(&params, 0, sizeof(params));
	params.options = VACOPT_VACUUM | VACOPT_PROCESS_MAIN |
		VACOPT_PROCESS_TOAST | VACOPT_SKIP_LOCKED |
		VACOPT_SKIP_DATABASE_STATS;
	params.freeze_min_age = -1;
	params.freeze_table_age = -1;
	params.multixact_freeze_min_age = -1;
	params.multixact_freeze_table_age = -1;
	params.log_min_duration = -1;
	params.index_cleanup = VACOPTVALUE_ENABLED;
	params.truncate = VACOPTVALUE_DISABLED;
	params.nworkers = -1;
	queue_vacuum_set_eagerness(&params);
	relations = list_make1(makeVacuumRelation(NULL, relid, NIL));
	strategy = GetAccessStrategy(BAS_VACUUM);
	vacuum(relations, &params, strategy, vacuum_context, true /* top level */ );
}

/*
 * Make table and TOAST table shorter if this is the last vacuum for a while, or
 * if it was not done lately.
 */
static TruncateResult
return_space(VacuumPart *vacuum, Oid relid, Oid toast_relid, bool is_behind)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		is_last = vacuum->follow_up_at > 0 && !is_behind;
	TruncateResult result;

	if (!is_last && vacuum->truncated_at <= now &&
		vacuum->truncated_at + TRUNCATE_INTERVAL > now)
		return TRUNCATE_NEEDLESS;
	result = cut_table(relid, is_last);
	if (OidIsValid(toast_relid))
	{
		TruncateResult toast_result = cut_table(toast_relid, is_last);

		result = Max(result, toast_result);
	}
	return result;
}

/* An error does not come out; what is broken is not tried again and again. */
static TruncateResult
cut_table(Oid relid, bool is_last)
{
	Cut			cut = {relid, is_last, TRUNCATE_DONE};

	(void) queue_process_try(do_cut, judge_cut, &cut);
	return cut.result;
}

static void
do_cut(void *arg)
{
	Cut		   *cut = arg;

	cut->result = queue_truncate(cut->relid, cut->is_last);
}

static ErrorVerdict
judge_cut(const ErrorData *error, void *arg)
{
	Cut		   *cut = arg;

	if (!is_in_the_way(error))
		return ERROR_REPORT;
	cut->result = TRUNCATE_UNFINISHED;
	return ERROR_IGNORE;
}

/* How often was it vacuumed by hand or by us?  0 if it is none. */
static int64
vacuum_count(Oid relid)
{
	PgStat_StatTabEntry *entry;

	pgstat_clear_snapshot();
	entry = pgstat_fetch_stat_tabentry(relid);
	return entry != NULL ? entry->vacuum_count : 0;
}

/*
 * It is not worth it.  Look again in a moment; in the end leave it to the
 * worker, which sees to the vacuum after the last one.
 */
static void
end_watch(QueueState *state, Oid relid)
{
	VacuumPart *vacuum;
	TimestampTz now = GetCurrentTimestamp();

	state = queue_state_lock(state, MyDatabaseId, relid);
	if (state == NULL)
		return;
	vacuum = &state->vacuum;
	vacuum->watch_at = now + WATCH_NAP;
	if (vacuum->watch_until <= now || vacuum->watch_until > now + WATCH_TIME)
	{
		vacuum->watch_until = 0;
		vacuum->is_wanted = false;
		if (!FullTransactionIdIsValid(vacuum->mark))
		{
			vacuum->mark = ReadNextFullTransactionId();
			vacuum->follow_up_at = now + FOLLOW_UP_DELAY;
		}
	}
	LWLockRelease(state->lock);
}

/*
 * Note what has become of it.  If it was not done, the mark stays.  If it was,
 * the queue is watched if it was behind; and else one more follows, unless this
 * was that and has left nothing to do.  A TOAST table that was left out is no
 * reason to come back at once, again and again.
 */
static void
end_vacuum(QueueState *state, Oid relid, bool done, bool toast_done,
		   bool is_behind, TruncateResult truncated, int64 retry_delay)
{
	VacuumPart *vacuum;
	TimestampTz now = GetCurrentTimestamp();

	/* NULL: it was dropped */
	state = queue_state_lock(state, MyDatabaseId, relid);
	if (state == NULL)
		return;
	vacuum = &state->vacuum;
	vacuum->watch_until = 0;
	if (!done || !toast_done)
		vacuum->retry_at = now + retry_delay;
	if (done)
	{
		if (is_behind && toast_done)
		{
			vacuum->mark = InvalidFullTransactionId;
			vacuum->follow_up_at = 0;
			vacuum->watch_at = now + WATCH_NAP;
			vacuum->watch_until = now + WATCH_TIME;
		}
		else if (vacuum->follow_up_at > 0 && toast_done &&
				 truncated != TRUNCATE_UNFINISHED)
		{
			vacuum->mark = InvalidFullTransactionId;
			vacuum->follow_up_at = 0;
		}
		else
		{
			vacuum->mark = ReadNextFullTransactionId();
			vacuum->follow_up_at = now + FOLLOW_UP_DELAY;
		}
		vacuum->nvacuums++;
		vacuum->vacuumed_at = now;
		if (truncated != TRUNCATE_NEEDLESS)
			vacuum->truncated_at = now;
	}
	vacuum->is_wanted = vacuum->watch_until > 0;
	LWLockRelease(state->lock);
}

/* ----------------------------------------------------------------
 *		What people look at
 * ----------------------------------------------------------------
 */

/* vacuums(): what view queue.storage shows of this */
Datum
queue_vacuums(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;

	queue_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < queue_state_count(); i++)
	{
		QueueState *state = queue_state_at(i);
		Datum		values[Natts_vacuums] = {0};
		bool		nulls[Natts_vacuums] = {0};
		VacuumPart	vacuum;
		Oid			relid;

		if (state == NULL)
			continue;
		LWLockAcquire(state->lock, LW_SHARED);
		relid = state->dbid == MyDatabaseId ? state->relid : InvalidOid;
		vacuum = state->vacuum;
		LWLockRelease(state->lock);

		if (!OidIsValid(relid) || !queue_may_watch(relid))
			continue;
		values[0] = ObjectIdGetDatum(relid);
		values[1] = Int64GetDatum(vacuum.nvacuums);
		values[2] = TimestampTzGetDatum(vacuum.vacuumed_at);
		nulls[2] = vacuum.vacuumed_at == 0;
		values[3] = BoolGetDatum(FullTransactionIdIsValid(vacuum.mark) &&
								 vacuum.follow_up_at == 0 &&
								 vacuum.retry_at <= GetCurrentTimestamp() &&
								 queue_vacuum_threshold >= 0 &&
								 !vacuum.is_wanted);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

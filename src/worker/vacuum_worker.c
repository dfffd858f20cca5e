/*-------------------------------------------------------------------------
 *
 * vacuum_worker.c
 *		The process that vacuums queue tables, one after the other.
 *
 * vacuum.c says when a queue is worth it, and wants it; this process does it,
 * with the server's own vacuum(), and leaves when there was nothing to do for
 * some seconds.
 *
 * A queue that fills faster than the worker looks is watched by the vacuum
 * worker itself for as long as that lasts.  One vacuum then follows the other
 * as soon as there are that many dead rows again.
 *
 * A vacuum leaves something undone.  The pages that it takes out of an index
 * can be used again only when no scan can come across them any more, and what
 * has died meanwhile stays.  If there was no other vacuum after some seconds,
 * one more follows, so that a queue whose traffic has stopped gets small.
 *
 * The empty end of a table is returned to the system afterwards (truncate.c).
 * Under traffic that is done only now and then, because the space may be
 * needed again.  What is left when the traffic has stopped goes with the
 * vacuum after the last one, which is repeated until nothing is left.  The end
 * becomes empty because a vacuum makes all sessions look for free space from
 * the front of the table again: they go by the map that vacuum() has just
 * written, and the invalidation of the table's statistics makes them forget
 * the page that they kept to.
 *
 * The process says in the process array that it is a kind of autovacuum.  So a
 * session that waits for the table for longer than deadlock_timeout cancels
 * it, as it would cancel autovacuum; and statements that need the database
 * alone end it.  A table that is locked is skipped.
 *
 * Locks: the part of a queue is guarded by the lock of its slot; and what
 * vacuum() and truncate.c take.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "common/activity.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "common/process.h"
#include "worker/helper.h"
#include "worker/truncate.h"
#include "worker/vacuum.h"

/*
 * A queue with BEHIND times the dead rows of the threshold is behind: vacuum
 * it without cost delay.  It is watched afterwards, this often, and for as
 * long as it takes all sessions to report what has died
 */
#define BEHIND				3
#define WATCH_NAP			(20 * INT64CONST(1000))
#define WATCH_TIME			(1 * USECS_PER_SEC)

/* The vacuum after the last one */
#define FOLLOW_UP_DELAY		(10 * USECS_PER_SEC)

/* Under traffic, a table may return space this often */
#define TRUNCATE_INTERVAL	(30 * USECS_PER_SEC)

/* If the table was locked */
#define LOCKED_RETRY_DELAY	(1 * USECS_PER_SEC)

/* The process stays for this long, instead of being started each second */
#define VACUUM_STAY			5000	/* ms */

/* A queue that is vacuumed */
typedef struct Visit
{
	QueueSlot  *slot;
	Oid			relid;
	Oid			toast_relid;
	Oid			keys_relid;		/* InvalidOid: none, or not worth it */
	MemoryContext context;		/* for what outlives transactions */
	int64		count;			/* vacuums before; -1: not looked */
	int64		toast_count;
	int64		keys_count;
	bool		is_due;
	bool		is_behind;
	int64		retry_delay;	/* if it was in vain: until the next try */
} Visit;

/* A table that is cut */
typedef struct Cut
{
	Oid			relid;
	bool		is_last;
	TruncateResult result;
} Cut;

static void show_as_autovacuum(void);
static bool set_cost_delay(Oid relid);
static QueueSlot *next_wanted(TimestampTz *next);
static bool vacuum_queue(QueueSlot *slot, MemoryContext context);
static void visit_queue(void *arg);
static ErrorVerdict judge_visit(const ErrorData *error, void *arg);
static bool is_in_the_way(const ErrorData *error);
static bool is_behind_again(QueueSlot *slot, Oid relid);
static void run_vacuum(Oid relid, MemoryContext context);
static TruncateResult return_space(VacuumPart *vacuum, const Visit *visit);
static TruncateResult cut_table(Oid relid, bool is_last);
static void do_cut(void *arg);
static ErrorVerdict judge_cut(const ErrorData *error, void *arg);
static int64 vacuum_count(Oid relid);
static void end_watch(QueueSlot *slot, Oid relid);
static void end_vacuum(QueueSlot *slot, Oid relid, bool done,
					   bool others_done, bool is_behind,
					   TruncateResult truncated, int64 retry_delay);

/* Entry point of the vacuum worker */
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
		QueueSlot  *slot;
		TimestampTz next;

		queue_process_reload();
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		slot = next_wanted(&next);
		if (slot != NULL)
		{
			if (vacuum_queue(slot, context))
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

/*
 * show_as_autovacuum
 *		Show this process as a kind of autovacuum; see the top of the file.
 *
 * The flag stays for the life of the process.
 */
static void
show_as_autovacuum(void)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	MyProc->statusFlags |= PROC_IS_AUTOVACUUM;
	ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
	LWLockRelease(ProcArrayLock);
}

/*
 * set_cost_delay
 *		Set the cost delay for the next vacuum, because vacuum() goes by that
 *		setting.
 *
 * Returns true if the queue is behind.  It is then vacuumed without delay,
 * because a queue that fills faster than it is vacuumed lets its table grow.
 */
static bool
set_cost_delay(Oid relid)
{
	bool		is_behind = queue_vacuum_has_dead_rows(relid, BEHIND);
	double		delay = is_behind ? 0 : queue_vacuum_cost_delay;
	char		value[32];

	snprintf(value, sizeof(value), "%g", delay);
	SetConfigOption("vacuum_cost_delay", value, PGC_USERSET, PGC_S_OVERRIDE);
	return is_behind;
}

/*
 * next_wanted
 *		Return a queue that is wanted, each in its turn.
 *
 * If there is none, returns NULL, and *next is when to watch one.
 */
static QueueSlot *
next_wanted(TimestampTz *next)
{
	static int	slot_index = -1;
	TimestampTz now = GetCurrentTimestamp();
	int			n = queue_slot_count();
	bool		is_second = false;

	*next = TIMESTAMP_INFINITY;
	for (;;)
	{
		QueueSlot  *slot;

		slot_index = queue_slot_next_active(slot_index + 1);
		if (slot_index >= n)
		{
			/* from the beginning, once */
			slot_index = -1;
			if (is_second)
				return NULL;
			is_second = true;
			continue;
		}
		slot = queue_slot_at(slot_index);
		if (slot == NULL || slot->dbid != MyDatabaseId ||
			!slot->vacuum.is_wanted)
			continue;
		if (slot->vacuum.watch_until == 0 || slot->vacuum.watch_at <= now ||
			slot->vacuum.watch_at > now + WATCH_NAP)
			return slot;
		*next = Min(*next, slot->vacuum.watch_at);
	}
}

/*
 * vacuum_queue
 *		Vacuum this queue, unless it is watched and not worth it yet.
 *
 * Returns whether it was due.  An error is reported and does not come out.
 */
static bool
vacuum_queue(QueueSlot *slot, MemoryContext context)
{
	Visit		visit = {
		.slot = slot,
		.relid = slot->relid,
		.context = context,
		.count = -1,
		.toast_count = -1,
		.keys_count = -1,
		.is_due = true,
		.retry_delay = LOCKED_RETRY_DELAY
	};
	TruncateResult truncated;
	bool		done;
	bool		others_done;

	(void) queue_process_run("vacuuming a queue", false, visit_queue,
							 judge_visit, &visit);
	if (!visit.is_due)
	{
		end_watch(slot, visit.relid);
		return false;
	}

	/* either may have been skipped; or only what follows them has failed */
	StartTransactionCommand();
	done = visit.count >= 0 && vacuum_count(visit.relid) != visit.count;
	others_done = !OidIsValid(visit.toast_relid) ||
		vacuum_count(visit.toast_relid) != visit.toast_count;
	others_done = others_done &&
		(!OidIsValid(visit.keys_relid) ||
		 vacuum_count(visit.keys_relid) != visit.keys_count);
	CommitTransactionCommand();
	truncated = !done ? TRUNCATE_NEEDLESS :
		return_space(&slot->vacuum, &visit);
	end_vacuum(slot, visit.relid, done, others_done, visit.is_behind,
			   truncated, visit.retry_delay);
	pgstat_report_stat(true);
	queue_process_show(NULL);
	return true;
}

/*
 * visit_queue
 *		Body of queue_process_run(): vacuum a queue if it is due.
 *
 * vacuum() ends the transaction and begins others.
 */
static void
visit_queue(void *arg)
{
	Visit	   *visit = arg;

	visit->toast_relid = queue_vacuum_toast_of(visit->relid);
	visit->toast_count = vacuum_count(visit->toast_relid);
	visit->count = vacuum_count(visit->relid);
	visit->is_due = visit->slot->vacuum.watch_until == 0 ||
		is_behind_again(visit->slot, visit->relid);
	if (visit->is_due)
	{
		visit->is_behind = set_cost_delay(visit->relid);
		INJECTION_POINT("queue-vacuum", NULL);
		visit->keys_relid = queue_vacuum_keys_due(visit->relid);
		visit->keys_count = vacuum_count(visit->keys_relid);
		run_vacuum(visit->relid, visit->context);
		if (OidIsValid(visit->keys_relid))
			run_vacuum(visit->keys_relid, visit->context);
	}
}

/* Judge an error of that; the queue is tried again later. */
static ErrorVerdict
judge_visit(const ErrorData *error, void *arg)
{
	Visit	   *visit = arg;

	visit->is_due = true;
	if (is_in_the_way(error))
		return ERROR_IGNORE;
	visit->retry_delay = VACUUM_RETRY_DELAY;
	return ERROR_REPORT;
}

/* Is this no real error: was it asked to leave, or in the way of a session? */
static bool
is_in_the_way(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * is_behind_again
 *		Returns true if a queue that is watched is worth a vacuum already.
 *
 * Sets its mark if it has enough dead rows.  In a transaction.
 */
static bool
is_behind_again(QueueSlot *slot, Oid relid)
{
	VacuumPart *vacuum = &slot->vacuum;
	TransactionId latest = InvalidTransactionId;
	bool		is_held;

	if (!FullTransactionIdIsValid(vacuum->mark))
	{
		if (!queue_vacuum_has_dead_rows(relid, BEHIND))
			return false;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		vacuum->mark = ReadNextFullTransactionId();
		LWLockRelease(slot->lock);
	}
	return queue_vacuum_is_removable(relid, vacuum->mark, &latest, &is_held);
}

/*
 * run_vacuum
 *		Run the server's vacuum on a queue and its TOAST table.
 *
 * It ends the transaction and begins others.  Indexes are done even for few
 * rows, because otherwise their entries stay, and after the last vacuum none
 * would come back for them.
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
	queue_activity_show("vacuuming", relid);

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
	params.log_vacuum_min_duration = -1;
	params.index_cleanup = VACOPTVALUE_ENABLED;
	params.truncate = VACOPTVALUE_DISABLED;
	params.nworkers = -1;
	queue_vacuum_set_eagerness(&params);
	relations = list_make1(makeVacuumRelation(NULL, relid, NIL));
	strategy = GetAccessStrategy(BAS_VACUUM);
	vacuum(relations, &params, strategy, vacuum_context, true /* top level */ );
}

/*
 * return_space
 *		Make the table and those beside it shorter if this is the last vacuum for a
 *		while, or if it was not done lately.
 */
static TruncateResult
return_space(VacuumPart *vacuum, const Visit *visit)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		is_last = vacuum->follow_up_at > 0 && !visit->is_behind;
	Oid			others[] = {visit->toast_relid, visit->keys_relid};
	TruncateResult result;

	if (!is_last && vacuum->truncated_at <= now &&
		vacuum->truncated_at + TRUNCATE_INTERVAL > now)
		return TRUNCATE_NEEDLESS;
	result = cut_table(visit->relid, is_last);
	for (int i = 0; i < lengthof(others); i++)
	{
		if (OidIsValid(others[i]))
		{
			TruncateResult other = cut_table(others[i], is_last);

			result = Max(result, other);
		}
	}
	return result;
}

/*
 * cut_table
 *		Make one table shorter.
 *
 * An error does not come out; what is broken is not tried again and again.
 */
static TruncateResult
cut_table(Oid relid, bool is_last)
{
	Cut			cut = {relid, is_last, TRUNCATE_DONE};

	(void) queue_process_try(do_cut, judge_cut, &cut);
	return cut.result;
}

/* Body of queue_process_try() */
static void
do_cut(void *arg)
{
	Cut		   *cut = arg;

	cut->result = queue_truncate(cut->relid, cut->is_last);
}

/* Judge an error of that. */
static ErrorVerdict
judge_cut(const ErrorData *error, void *arg)
{
	Cut		   *cut = arg;

	if (!is_in_the_way(error))
		return ERROR_REPORT;
	cut->result = TRUNCATE_UNFINISHED;
	return ERROR_IGNORE;
}

/*
 * vacuum_count
 *		Return how often a table was vacuumed, by command or by this process.
 *
 * Returns 0 if it is none.
 */
static int64
vacuum_count(Oid relid)
{
	PgStat_StatTabEntry *entry;

	pgstat_clear_snapshot();
	entry = pgstat_fetch_stat_tabentry(relid);
	return entry != NULL ? entry->vacuum_count : 0;
}

/*
 * end_watch
 *		A queue that is watched is not worth a vacuum.
 *
 * Look again in a moment; in the end leave it to the worker, which sees to the
 * vacuum after the last one.
 */
static void
end_watch(QueueSlot *slot, Oid relid)
{
	VacuumPart *vacuum;
	TimestampTz now = GetCurrentTimestamp();

	slot = queue_slot_lock(slot, MyDatabaseId, relid);
	if (slot == NULL)
		return;
	vacuum = &slot->vacuum;
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
	LWLockRelease(slot->lock);
}

/*
 * end_vacuum
 *		Note what has become of a vacuum.
 *
 * If it was not done, the mark stays.  If it was, the queue is watched if it
 * was behind.  Otherwise one more vacuum follows, unless this was that one and
 * has left nothing to do.  Another table that was left out is no reason to
 * come back at once, again and again.
 */
static void
end_vacuum(QueueSlot *slot, Oid relid, bool done, bool others_done,
		   bool is_behind, TruncateResult truncated, int64 retry_delay)
{
	VacuumPart *vacuum;
	TimestampTz now = GetCurrentTimestamp();

	/* NULL: it was dropped */
	slot = queue_slot_lock(slot, MyDatabaseId, relid);
	if (slot == NULL)
		return;
	vacuum = &slot->vacuum;
	vacuum->watch_until = 0;
	if (!done || !others_done)
		vacuum->retry_at = now + retry_delay;
	if (done)
	{
		if (is_behind && others_done)
		{
			vacuum->mark = InvalidFullTransactionId;
			vacuum->follow_up_at = 0;
			vacuum->watch_at = now + WATCH_NAP;
			vacuum->watch_until = now + WATCH_TIME;
		}
		else if (vacuum->follow_up_at > 0 && others_done &&
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
	LWLockRelease(slot->lock);
}

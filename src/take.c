/*-------------------------------------------------------------------------
 *
 * take.c
 *		Getting messages: dequeue(), receive(), wait(), browse().
 *
 * A take goes over the rows of the queue in order, and for each: claims the
 * message, reads its row again, judges it, and only then deletes it (dequeue)
 * or leases it (receive).  See inflight.c for why in this order.
 *
 * A message is returned only if the statement's snapshot sees it, so that a
 * join in the same statement finds what was committed with it.  Only a call
 * that waits, and found nothing else, looks again with newer snapshots.
 *
 * A look that finds nothing has seen every live row, and so knows when the
 * first of them falls due: the end of a lease, of a back-off or of a delay.
 * Nobody sleeps longer than that, whether the worker runs or not.  Rows that a
 * transaction in progress has deleted have no due time.  If the in-flight
 * table knows who did it, his end wakes the sleepers.  Else it may be a plain
 * DELETE that nobody announces, or was prepared before a restart; then they
 * look again after 10 ms, doubling to 1 s, for as long as there is such a row.
 * So they do for a message that another consumer is just judging: he may give
 * it back, and if that woke the others, they would wake each other for ever.
 *
 * While a call sleeps it holds neither a lock on the queue nor, in wait(), a
 * snapshot, so a queue can be dropped or paused meanwhile; that ends the wait
 * with an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "database.h"
#include "lease.h"
#include "message.h"
#include "mutant.h"
#include "queue.h"
#include "receipt.h"
#include "waiter.h"
#include "xact.h"

#define FIRST_BUSY_DELAY	(10 * INT64CONST(1000))
#define MAX_BUSY_DELAY		USECS_PER_SEC

/* One call of dequeue() or receive() */
typedef struct Take
{
	Oid			relid;
	bool		is_lease;
	int64		lease;			/* usec; -1: the queue's */
	int			max;
	ReturnSetInfo *rsinfo;
	int			ntaken;
	MemoryContext row_context;	/* reset for each message */
} Take;

/* What a look that found nothing tells */
typedef struct NextLook
{
	TimestampTz due;			/* of the first message that is not due */
	bool		is_busy;		/* some row may become free unannounced */
	bool		saw_exhausted;	/* some message is the worker's to move */
} NextLook;

/* What to do after a candidate */
typedef enum Verdict
{
	VERDICT_NEXT,
	VERDICT_STOP
} Verdict;

PG_FUNCTION_INFO_V1(queue_dequeue);
PG_FUNCTION_INFO_V1(queue_receive);
PG_FUNCTION_INFO_V1(queue_browse);
PG_FUNCTION_INFO_V1(queue_wait);
PG_FUNCTION_INFO_V1(queue_wait_many);
PG_FUNCTION_INFO_V1(queue_wait_by_name);

static Datum take_messages(FunctionCallInfo fcinfo, Take *take, int64 wait);
static int64 wait_argument(FunctionCallInfo fcinfo, int argno);
static int	max_argument(FunctionCallInfo fcinfo, int argno);
static void look(Take *take, Relation rel, QueueDef *def, Snapshot snapshot,
				 NextLook *next);
static Verdict judge(Take *take, Relation rel, QueueDef *def,
					 Snapshot snapshot, MessageRow *row, Hold *hold,
					 int failures, TimestampTz now, NextLook *next);
static void give_back(Hold *hold);
static void wait_and_take(Take *take, TimestampTz end);
static bool may_have_message(Relation rel, QueueDef *def, NextLook *next);
static void wait_for_queues(Oid *relids, int nrelids, int64 timeout);
static TimestampTz next_look_at(const NextLook *next, int64 *busy_delay,
								TimestampTz end);
static void drop_portal_snapshot(void);

/* dequeue(queue, max, wait, selector) */
Datum
queue_dequeue(PG_FUNCTION_ARGS)
{
	Take		take = {0};

	queue_require_preload();
	PreventCommandIfReadOnly("queue.dequeue()");
	PreventCommandIfParallelMode("queue.dequeue()");
	queue_require_arg(fcinfo, 0, "queue");
	take.relid = PG_GETARG_OID(0);
	take.max = max_argument(fcinfo, 1);
	if (!PG_ARGISNULL(3))
		queue_not_supported("selector");
	return take_messages(fcinfo, &take, wait_argument(fcinfo, 2));
}

/* receive(queue, max, wait, lease, selector) */
Datum
queue_receive(PG_FUNCTION_ARGS)
{
	Take		take = {0};

	queue_require_preload();
	PreventCommandIfReadOnly("queue.receive()");
	PreventCommandIfParallelMode("queue.receive()");
	queue_require_arg(fcinfo, 0, "queue");
	take.relid = PG_GETARG_OID(0);
	take.max = max_argument(fcinfo, 1);
	take.is_lease = true;
	take.lease = PG_ARGISNULL(3) ? -1 :
		queue_lease_usec(PG_GETARG_INTERVAL_P(3));
	if (!PG_ARGISNULL(4))
		queue_not_supported("selector");
	return take_messages(fcinfo, &take, wait_argument(fcinfo, 2));
}

/* Argument "max": how many messages at most */
static int
max_argument(FunctionCallInfo fcinfo, int argno)
{
	int			max;

	queue_require_arg(fcinfo, argno, "max");
	max = PG_GETARG_INT32(argno);
	if (max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max must be at least 1"),
				 errdetail("The value given is %d.", max)));
	return max;
}

/* Argument "wait", in microseconds, cut to what is allowed */
static int64
wait_argument(FunctionCallInfo fcinfo, int argno)
{
	int64		wait;

	queue_require_arg(fcinfo, argno, "wait");
	wait = queue_interval_usec(PG_GETARG_INTERVAL_P(argno), "wait");
	if (wait > 0 && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot wait for messages in a transaction with isolation level REPEATABLE READ or SERIALIZABLE"),
				 errdetail("Its snapshot would never see a message that commits later."),
				 errhint("Use CALL queue.wait() before the transaction.")));
	return Min(wait, (int64) queue_max_wait * 1000);
}

/* What dequeue() and receive() do once their arguments are read. */
static Datum
take_messages(FunctionCallInfo fcinfo, Take *take, int64 wait)
{
	TimestampTz end = GetCurrentTimestamp() + wait;
	Relation	rel;
	QueueDef   *def;
	NextLook	next;

	InitMaterializedSRF(fcinfo, 0);
	take->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	take->row_context = AllocSetContextCreate(CurrentMemoryContext,
											  "queue message",
											  ALLOCSET_DEFAULT_SIZES);

	rel = queue_open(take->relid, QUEUE_TAKE, &def);
	queue_lease_load();
	look(take, rel, def, GetActiveSnapshot(), &next);
	if (take->ntaken == 0 && wait > 0)
	{
		table_close(rel, queue_lockmode(QUEUE_TAKE));
		wait_and_take(take, end);
	}
	else
		table_close(rel, NoLock);

	MemoryContextDelete(take->row_context);
	return (Datum) 0;
}

/* Go over the queue once, and take up to take->max messages. */
static void
look(Take *take, Relation rel, QueueDef *def, Snapshot snapshot,
	 NextLook *next)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueScan  *scan = queue_scan_begin(rel, def);
	MessageRow *row;
	Verdict		verdict = VERDICT_NEXT;

	next->due = TIMESTAMP_INFINITY;
	next->is_busy = false;
	next->saw_exhausted = false;
	while (verdict == VERDICT_NEXT && (row = queue_scan_next(scan)) != NULL)
	{
		MessageKey	key;
		InflightEntry *entry;
		int			failures;
		Hold	   *hold;

		if (MUTANT_SOMETIMES(ORDER_REVERSED, 300))
			continue;
		if (MUTANT_SOMETIMES(SPURIOUS_ERROR, 5000))
			elog(ERROR, "could not find message " INT64_FORMAT, row->id);
		queue_message_key(&key, take->relid, row->id);
		queue_xact_reserve();
		switch (queue_inflight_claim(&key, now, false, &entry, &failures,
									 &next->due))
		{
			case CLAIM_OK:
				hold = queue_xact_push(HOLD_CLAIM, &key, entry);
				verdict = judge(take, rel, def, snapshot, row, hold, failures,
								now, next);
				MemoryContextReset(take->row_context);
				break;
			case CLAIM_HELD:
			case CLAIM_NOT_DUE:
				break;
			case CLAIM_JUDGED:
				next->is_busy = true;
				break;
			case CLAIM_EXHAUSTED:
				next->saw_exhausted = true;
				queue_database_poke(MyDatabaseId, now);
				break;
			case CLAIM_FULL:
				/* there is room again when the worker has moved some */
				next->is_busy = next->saw_exhausted;
				if (take->ntaken == 0 && !next->saw_exhausted)
					ereport(ERROR,
							(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
							 errmsg("too many messages in flight"),
							 errdetail("Shared memory has room for %d messages that are leased or being dequeued, and the queue or the database has its share of it.",
									   queue_max_in_flight),
							 errhint("You might need to increase queue.max_in_flight.")));
				verdict = VERDICT_STOP;
				break;
		}
	}
	next->is_busy |= scan->saw_unannounced;
	queue_scan_end(scan);
}

/*
 * Judge a message that we have claimed, and take it if it is available.
 * Whatever is thrown from here, the hold gives the claim back.
 */
static Verdict
judge(Take *take, Relation rel, QueueDef *def, Snapshot snapshot,
	  MessageRow *row, Hold *hold, int failures, TimestampTz now,
	  NextLook *next)
{
	InflightEntry *entry = hold->entry;
	int			failed;
	MemoryContext old;
	HeapTuple	tuple;
	char	   *receipt = NULL;
	TimestampTz write_at = now + (int64) queue_lease_write_delay * 1000;
	RowState	state = queue_row_fetch(rel, row);

	failed = row->attempts + failures;
	if (state == ROW_BUSY)
		next->is_busy = true;
	if ((state != ROW_LIVE || !queue_row_is_visible(rel, row, snapshot)) &&
		!(MUTANT(SNAPSHOT_IGNORED) && state == ROW_LIVE) &&
		!((MUTANT(DIRTY_READ) || MUTANT(PREPARED_VISIBLE)) &&
		  state == ROW_OWN && take->is_lease))
	{
		give_back(hold);
		return VERDICT_NEXT;
	}
	if (def->max_attempts > 0 && failed >= def->max_attempts)
	{
		/*
		 * The worker moves it.  With nowhere to move it to, it stays as it
		 * is, and there is nothing to tell the worker but an uncounted
		 * failure.
		 */
		if (OidIsValid(def->dead_letter) || failures > 0)
		{
			next->saw_exhausted = true;
			queue_inflight_exhaust(entry, row->attempts);
			queue_database_poke(MyDatabaseId, now);
			queue_xact_pop(hold);
		}
		else
			give_back(hold);
		return VERDICT_NEXT;
	}
	if (row->visible_at > now)
	{
		next->due = Min(next->due, row->visible_at);
		give_back(hold);
		return VERDICT_NEXT;
	}
	if (MUTANT(LATE_SKIPPED) && failed == 0 &&
		queue_mutant_is_behind(take->relid, row->id))
	{
		give_back(hold);
		return VERDICT_NEXT;
	}
	if (failed > 0 && take->ntaken > 0 && !MUTANT(FAILED_IN_BATCH))
	{
		/* one that has failed is delivered alone */
		give_back(hold);
		return VERDICT_STOP;
	}

	old = MemoryContextSwitchTo(take->row_context);
	if (take->is_lease)
	{
		Receipt		values;
		TimestampTz deadline = now +
			(take->lease < 0 ? def->lease : take->lease);

		values.key = hold->key;
		values.epoch = queue_inflight_epoch();
		values.number = queue_inflight_lease(entry, def, row->attempts,
											 row->priority, &row->tid,
											 deadline);
		hold->kind = HOLD_LEASE;
		hold->number = values.number;
		receipt = queue_receipt_format(&values);
		tuple = queue_message_result(take->rsinfo->setDesc, row, failed + 1,
									 receipt);
		queue_database_poke(MyDatabaseId, Min(deadline, write_at));
	}
	else
	{
		/* first the values: the row's pages may be pruned after it is gone */
		tuple = queue_message_result(take->rsinfo->setDesc, row, failed + 1,
									 NULL);
		if (!queue_row_delete(rel, row))
		{
			MemoryContextSwitchTo(old);
			next->is_busy = true;
			give_back(hold);
			return VERDICT_NEXT;
		}
		queue_inflight_take(entry, def, row->attempts, row->priority,
							&row->tid);
		hold->kind = HOLD_TAKE;
		queue_database_poke(MyDatabaseId, write_at);
		if (MUTANT_SOMETIMES(TWO_TAKERS, 50))
		{
			queue_inflight_release(entry);
			queue_xact_pop(hold);
		}
	}
	tuplestore_puttuple(take->rsinfo->setResult, tuple);
	MemoryContextSwitchTo(old);
	take->ntaken++;
	return (failed > 0 || take->ntaken >= take->max +
			(MUTANT_SOMETIMES(BATCH_OVERRUN, 50) ? 1 : 0)) ?
		VERDICT_STOP : VERDICT_NEXT;
}

/* Give the claim back that was pushed last. */
static void
give_back(Hold *hold)
{
	queue_inflight_unclaim(hold->entry);
	queue_xact_pop(hold);
}

/* Nothing was there: wait for it. */
static void
wait_and_take(Take *take, TimestampTz end)
{
	int64		busy_delay = FIRST_BUSY_DELAY;

	queue_waiter_enter(&take->relid, 1);
	for (;;)
	{
		QueueDef   *def;
		Relation	rel = queue_open(take->relid, QUEUE_TAKE, &def);
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		NextLook	next;

		look(take, rel, def, snapshot, &next);
		UnregisterSnapshot(snapshot);
		if (take->ntaken > 0)
		{
			table_close(rel, NoLock);
			break;
		}
		table_close(rel, queue_lockmode(QUEUE_TAKE));
		if (GetCurrentTimestamp() >= end)
			break;
		queue_waiter_sleep(next_look_at(&next, &busy_delay, end));
	}
	queue_waiter_leave();
}

/* When to look again, unless woken */
static TimestampTz
next_look_at(const NextLook *next, int64 *busy_delay, TimestampTz end)
{
	TimestampTz at = Min(end, next->due);

	if (next->is_busy)
	{
		at = Min(at, GetCurrentTimestamp() + *busy_delay);
		*busy_delay = Min(*busy_delay * 2, MAX_BUSY_DELAY);
	}
	return at;
}

/* ----------------------------------------------------------------
 *		wait()
 * ----------------------------------------------------------------
 */

/* CALL wait(queue, timeout) */
Datum
queue_wait(PG_FUNCTION_ARGS)
{
	Oid			relid;

	queue_require_preload();
	PreventCommandIfReadOnly("queue.wait()");
	PreventCommandIfParallelMode("queue.wait()");
	queue_require_arg(fcinfo, 0, "queue");
	queue_require_arg(fcinfo, 1, "timeout");
	relid = PG_GETARG_OID(0);
	wait_for_queues(&relid, 1,
					queue_interval_usec(PG_GETARG_INTERVAL_P(1), "timeout"));
	PG_RETURN_VOID();
}

/* CALL wait(queues, timeout) */
Datum
queue_wait_many(PG_FUNCTION_ARGS)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	Oid		   *relids;
	int			n;
	int			i;

	queue_require_preload();
	PreventCommandIfReadOnly("queue.wait()");
	PreventCommandIfParallelMode("queue.wait()");
	queue_require_arg(fcinfo, 0, "queues");
	queue_require_arg(fcinfo, 1, "timeout");
	array = PG_GETARG_ARRAYTYPE_P(0);
	deconstruct_array(array, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT,
					  &values, &nulls, &n);
	if (n == 0 || ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queues must be a one-dimensional array with at least one element")));
	relids = palloc(n * sizeof(Oid));
	for (i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("queue must not be null"),
					 errdetail("Element %d of queues is null.", i + 1)));
		relids[i] = DatumGetObjectId(values[i]);
	}
	wait_for_queues(relids, n,
					queue_interval_usec(PG_GETARG_INTERVAL_P(1), "timeout"));
	PG_RETURN_VOID();
}

/* CALL wait(queue text, timeout): by its name, as a literal gives it */
Datum
queue_wait_by_name(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
	{
		char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

		fcinfo->args[0].value = DirectFunctionCall1(regclassin,
													CStringGetDatum(name));
	}
	return queue_wait(fcinfo);
}

/* Sleep until one of them may have a message, or time is over. */
static void
wait_for_queues(Oid *relids, int nrelids, int64 timeout)
{
	TimestampTz end = GetCurrentTimestamp() + timeout;
	int64		busy_delay = FIRST_BUSY_DELAY;
	bool		found = false;

	queue_waiter_enter(relids, nrelids);
	for (;;)
	{
		NextLook	next = {TIMESTAMP_INFINITY, false, false};
		int			i;

		/* no snapshot is needed to judge rows, but to keep pages in place */
		PushActiveSnapshot(GetTransactionSnapshot());
		for (i = 0; i < nrelids && !found; i++)
		{
			QueueDef   *def;
			Relation	rel;

			rel = queue_open(relids[i], QUEUE_TAKE, &def);
			queue_lease_load();
			found = may_have_message(rel, def, &next);
			table_close(rel, queue_lockmode(QUEUE_TAKE));
		}
		PopActiveSnapshot();
		if (found || GetCurrentTimestamp() >= end)
			break;
		drop_portal_snapshot();
		queue_waiter_sleep(next_look_at(&next, &busy_delay, end));
	}
	queue_waiter_leave();
}

/* Is there a message that a consumer could take now?  Claims nothing. */
static bool
may_have_message(Relation rel, QueueDef *def, NextLook *next)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueScan  *scan = queue_scan_begin(rel, def);
	MessageRow *row;
	bool		found = false;

	while (!found && (row = queue_scan_next(scan)) != NULL)
	{
		MessageKey	key;
		InflightEntry entry;
		TimestampTz due = row->visible_at;
		int			failures = 0;

		queue_message_key(&key, RelationGetRelid(rel), row->id);
		if (queue_inflight_peek(&key, &entry))
		{
			if (entry.state == INFLIGHT_CLAIMED && !entry.is_step)
				next->is_busy = true;
			if (entry.state == INFLIGHT_CLAIMED ||
				entry.state == INFLIGHT_TAKEN || entry.is_settling)
				continue;
			failures = entry.failures + (entry.state == INFLIGHT_LEASED);
			due = Max(due, entry.deadline);
		}
		if (def->max_attempts > 0 &&
			row->attempts + failures >= def->max_attempts)
			continue;
		if (due > now)
			next->due = Min(next->due, due);
		else
			found = true;
	}
	next->is_busy |= scan->saw_unannounced;
	queue_scan_end(scan);
	return found;
}

/*
 * The portal that runs CALL holds a snapshot for us.  A READ COMMITTED
 * transaction takes a new one for its next statement anyway, so give this one
 * back, as a procedure that commits does, or the sleeper would hold back
 * vacuum.  Below another query there are snapshots that are not ours to drop.
 */
static void
drop_portal_snapshot(void)
{
	if (ActivePortal && ActivePortal->portalSnapshot &&
		ActiveSnapshotSet() &&
		ActivePortal->portalSnapshot == GetActiveSnapshot())
	{
		ActivePortal->portalSnapshot = NULL;
		PopActiveSnapshot();
	}
}

/* ----------------------------------------------------------------
 *		browse()
 * ----------------------------------------------------------------
 */

/* browse(queue, max, selector): what the statement's snapshot sees */
Datum
queue_browse(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel;
	QueueDef   *def;
	QueueScan  *scan;
	MessageRow *row;
	MemoryContext context;
	MemoryContext old;
	int			max;
	int			n = 0;

	queue_require_preload();
	PreventCommandIfParallelMode("queue.browse()");
	queue_require_arg(fcinfo, 0, "queue");
	max = max_argument(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		queue_not_supported("selector");

	InitMaterializedSRF(fcinfo, 0);
	context = AllocSetContextCreate(CurrentMemoryContext, "queue message",
									ALLOCSET_DEFAULT_SIZES);
	rel = queue_open(PG_GETARG_OID(0), QUEUE_BROWSE, &def);
	scan = queue_scan_begin(rel, def);
	scan->wants_own = true;
	scan->wants_busy = true;
	while (n < max && (row = queue_scan_next(scan)) != NULL)
	{
		MessageKey	key;
		InflightEntry entry;
		int			failures = 0;

		if (!queue_row_is_visible(rel, row, GetActiveSnapshot()))
			continue;
		queue_message_key(&key, RelationGetRelid(rel), row->id);
		if (queue_inflight_peek(&key, &entry))
			failures = entry.failures;
		old = MemoryContextSwitchTo(context);
		tuplestore_puttuple(rsinfo->setResult,
							queue_message_result(rsinfo->setDesc, row,
												 row->attempts + failures + 1,
												 NULL));
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		n++;
	}
	queue_scan_end(scan);
	table_close(rel, NoLock);
	MemoryContextDelete(context);
	return (Datum) 0;
}

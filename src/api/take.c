/*-------------------------------------------------------------------------
 *
 * take.c
 *		Getting messages: dequeue(), receive().
 *
 * A take goes over the cover of the queue, window by window, and over the rows
 * of each, in order (look.c).  For each row it claims the message, reads the
 * row again, examines it, and only then deletes it (dequeue) or leases it
 * (receive).  inflight.c says why in this order.  What it leaves it gives back
 * to the cover, unless another process will do so: the rules are in cover.c.
 *
 * A message is returned only if the statement's snapshot sees it, so that a
 * join in the same statement finds what was committed with it.  Only a call
 * that waits, and found nothing else, looks again with newer snapshots.
 *
 * A message of a group that keeps an order is taken only in its turn (turn.c).
 * A call that has come to a group takes as many of it as it may, one after the
 * other.
 *
 * A call may ask for certain messages only (selection.c).  Its look goes over
 * rows in the same way, but takes nothing out of the cover.
 *
 * A queue whose cover is empty, with nothing due, is empty.  If the caller's
 * rights and the settings are known too, the table is not even opened.
 *
 * A consumer that finds nothing sleeps until it is woken, or something is due
 * (waiter.c).  A message that another consumer is just examining has no due
 * time, and its release is not announced, because consumers would then wake
 * each other for ever.  The waiter therefore looks again after 10 ms, doubling
 * to 1 s, for as long as there is such a message.
 *
 * While a call sleeps it holds no lock on the queue, so the queue can be
 * dropped or paused meanwhile, which ends the wait with an error.
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
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "api/taking.h"
#include "api/wait_subscription.h"
#include "common/args.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "dispatch/fair.h"
#include "dispatch/lease.h"
#include "dispatch/look.h"
#include "dispatch/selection.h"
#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/counters.h"
#include "shared/database.h"
#include "shared/held.h"
#include "shared/waiter.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/subscription.h"
#include "transaction/announce.h"
#include "transaction/holds.h"

PG_FUNCTION_INFO_V1(queue_dequeue);
PG_FUNCTION_INFO_V1(queue_receive);

static Datum take_messages(FunctionCallInfo fcinfo, Take *take, int64 wait);
static void take_of_queue(Take *take, bool waits, TimestampTz end);
static void read_selection(FunctionCallInfo fcinfo, int argno, Take *take,
						   Selection *selection);
static int64 wait_argument(FunctionCallInfo fcinfo, int argno);
static bool is_lease_too_long(const Take *take);
static bool is_top_level(const ReturnSetInfo *rsinfo);
static void look_and_take(Take *take, Relation rel, QueueDef *def,
						  Snapshot snapshot, RetryHint *next);
static bool keep_limit(Take *take, CandidateScan *look);
static bool take_next(Take *take, CandidateScan *look, Snapshot snapshot,
					  Verdict *verdict);
static Verdict take_from_window(Take *take, CandidateScan *look,
								Snapshot snapshot);
static Verdict examine(Take *take, CandidateScan *look, Snapshot snapshot,
					   MessageRow *row, Hold *hold);
static bool is_wanted(CandidateScan *look, MessageRow *row);
static bool is_still_there(Take *take, CandidateScan *look, Snapshot snapshot,
						   MessageRow *row);
static void wait_and_take(Take *take, TimestampTz end);
static WaitWants wanted(const Selection *selection);

/* dequeue(queue, max, wait, selector, id, correlation_id) */
Datum
queue_dequeue(PG_FUNCTION_ARGS)
{
	Take		take = {0};
	Selection	selection;

	queue_call_begin(fcinfo, "queue.dequeue()", CALL_WRITES, "queue");
	take.relid = PG_GETARG_OID(0);
	take.max = queue_max_argument(fcinfo, 1);
	read_selection(fcinfo, 3, &take, &selection);
	return take_messages(fcinfo, &take, wait_argument(fcinfo, 2));
}

/* receive(queue, max, wait, lease, selector, id, correlation_id) */
Datum
queue_receive(PG_FUNCTION_ARGS)
{
	Take		take = {0};
	Selection	selection;

	queue_call_begin(fcinfo, "queue.receive()", CALL_WRITES, "queue");
	take.relid = PG_GETARG_OID(0);
	take.max = queue_max_argument(fcinfo, 1);
	take.is_lease = true;
	take.lease = PG_ARGISNULL(3) ? -1 :
		queue_lease_usec(PG_GETARG_INTERVAL_P(3), "lease");
	read_selection(fcinfo, 4, &take, &selection);
	return take_messages(fcinfo, &take, wait_argument(fcinfo, 2));
}

/*
 * Read the arguments that say which messages are wanted, of which the first is
 * given
 */
static void
read_selection(FunctionCallInfo fcinfo, int argno, Take *take,
			   Selection *selection)
{
	memset(selection, 0, sizeof(Selection));
	if (!PG_ARGISNULL(argno))
	{
		selection->path = PG_GETARG_DATUM(argno);
		selection->selector = queue_selector_make(selection->path,
												  false /* raises */ );
	}
	if (!PG_ARGISNULL(argno + 1))
	{
		selection->has_id = true;
		selection->id = PG_GETARG_INT64(argno + 1);
	}
	if (!PG_ARGISNULL(argno + 2))
	{
		selection->correlation_id = PG_GETARG_TEXT_PP(argno + 2);
		selection->key = queue_announce_hash(PG_GETARG_DATUM(argno + 2));
	}
	if (!queue_selection_is_any(selection))
		take->selection = selection;
}

/* Read argument "wait", in microseconds, cut to what is allowed */
static int64
wait_argument(FunctionCallInfo fcinfo, int argno)
{
	int64		wait;

	queue_require_arg(fcinfo, argno, "wait");
	wait = queue_interval_usec(PG_GETARG_INTERVAL_P(argno), "wait");
	if (wait > 0)
		queue_waiter_check_isolation();
	return Min(wait, (int64) queue_max_wait * 1000);
}

/* What dequeue() and receive() do after their arguments are read */
static Datum
take_messages(FunctionCallInfo fcinfo, Take *take, int64 wait)
{
	TimestampTz end = queue_clock() + wait;

	InitMaterializedSRF(fcinfo, 0);
	take->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	take->row_context = AllocSetContextCreate(CurrentMemoryContext,
											  "queue message",
											  ALLOCSET_DEFAULT_SIZES);

	queue_xact_begin_take(is_top_level(take->rsinfo));
	if (queue_is_subscription(take->relid))
		queue_take_subscription(take, wait > 0, end);
	else
		take_of_queue(take, wait > 0, end);
	queue_xact_end_take();
	queue_counters_flush();

	MemoryContextDelete(take->row_context);
	return (Datum) 0;
}

/* Take messages of a queue. */
static void
take_of_queue(Take *take, bool waits, TimestampTz end)
{
	Relation	rel;
	QueueDef   *def;
	RetryHint	next;

	if (is_lease_too_long(take) ||
		!queue_is_known_empty(take->relid, take->selection != NULL, &next))
	{
		rel = queue_open(take->relid, QUEUE_TAKE, &def);
		queue_lease_load();
		look_and_take(take, rel, def, GetActiveSnapshot(), &next);
		table_close(rel, take->ntaken == 0 && waits ?
					queue_lockmode(QUEUE_TAKE) : NoLock);
	}
	if (take->ntaken == 0 && waits)
		wait_and_take(take, end);
}

/*
 * is_lease_too_long
 *		Returns true if the lease asked for is longer than the queue allows.
 *
 * That is an error even if there is no message.  The queue is opened to raise
 * it, because opening it first refuses callers that may not take messages.
 */
static bool
is_lease_too_long(const Take *take)
{
	QueueDef   *def = take->lease < 0 ? NULL : queue_def_known(take->relid);

	return def != NULL && take->lease > def->max_lease;
}

/*
 * is_top_level
 *		Returns true if the call is in the very statement that the client has
 *		sent, and not in one of a function's.
 */
static bool
is_top_level(const ReturnSetInfo *rsinfo)
{
	const char *source = rsinfo->econtext->ecxt_estate != NULL ?
		rsinfo->econtext->ecxt_estate->es_sourceText : NULL;

	return source != NULL && debug_query_string != NULL &&
		(source == debug_query_string ||
		 strcmp(source, debug_query_string) == 0);
}

/*
 * look_and_take
 *		Go over the cover once, window by window, and take up to take->max
 *		messages.
 */
static void
look_and_take(Take *take, Relation rel, QueueDef *def, Snapshot snapshot,
			  RetryHint *next)
{
	CandidateScan look;
	Verdict		verdict = VERDICT_NEXT;
	int			max = take->max;

	queue_check_lease(def, take->lease);
	queue_turn_look_at_own();
	queue_look_begin(&look, rel, def, take->max, next);
	if (def->max_in_flight > 0 && look.slot != NULL && !keep_limit(take, &look))
		verdict = VERDICT_STOP;
	if (look.is_ordered)
	{
		if (take->is_lease && take->group_call == 0)
			take->group_call = queue_group_new_call();
		look.turn.call = take->group_call;
		queue_turn_prepare(&look);
	}
	if (take->selection != NULL)
		queue_selection_begin(&look, take->selection);
	while (verdict == VERDICT_NEXT)
	{
		if (!take_next(take, &look, snapshot, &verdict))
			break;
	}
	queue_look_end(&look);
	queue_held_unreserve();
	take->max = max;
}

/*
 * keep_limit
 *		Want no more messages than max_in_flight has room for.
 *
 * Returns false if there is none.  A look for certain messages is then made
 * again soon, because letting go of one wakes only those that take any.
 */
static bool
keep_limit(Take *take, CandidateScan *look)
{
	if (!queue_held_is_complete(look->slot))
		queue_inflight_count_held(look->slot, take->relid);
	take->max = queue_held_reserve(look->slot, take->max,
								   look->def->max_in_flight);
	queue_look_want(look, take->max);
	if (take->max == 0)
		look->next->is_busy = take->selection != NULL;
	return take->max > 0;
}

/*
 * take_next
 *		Take from the next window, or from the group that comes before it.
 *
 * Returns false if there is neither.
 */
static bool
take_next(Take *take, CandidateScan *look, Snapshot snapshot,
		  Verdict *verdict)
{
	int			before = take->ntaken;

	if (look->selection != NULL)
	{
		if (!queue_selection_window(look))
			return false;
		*verdict = take_from_window(take, look, snapshot);
		queue_selection_give_back(look, take->ntaken > before ?
								  queue_take_wanted(take) : 0);
	}
	else if (look->is_fair)
	{
		if (!queue_fair_window(look, snapshot, queue_take_wanted(take)))
			return false;
		*verdict = take_from_window(take, look, snapshot);
		queue_fair_give_back(look, take->ntaken - before,
							 queue_take_wanted(take));
	}
	else if (queue_turn_begin(look))
	{
		*verdict = queue_take_from_group(take, look, snapshot);
		queue_look_want(look, queue_take_wanted(take));
	}
	else
	{
		if (!queue_look_window(look))
			return false;
		*verdict = take_from_window(take, look, snapshot);
		queue_look_give_back(look, take->ntaken > before ?
							 queue_take_wanted(take) : 0);
	}
	return true;
}

/*
 * Claim and examine the rows of a window; see cover.c for what is kept of it.
 */
static Verdict
take_from_window(Take *take, CandidateScan *look, Snapshot snapshot)
{
	MessageRow *row;
	Verdict		verdict = VERDICT_NEXT;

	while (verdict == VERDICT_NEXT && (row = queue_look_row(look)) != NULL)
	{
		MessageKey	key;
		InflightEntry *entry;
		Hold	   *hold;

		if (look->selection != NULL && !is_wanted(look, row))
			continue;
		if (queue_turn_is_grouped(look, row))
		{
			verdict = queue_take_grouped(take, look, snapshot, row);
			continue;
		}
		queue_message_key(&key, take->relid, row->id);
		queue_xact_reserve();
		switch (queue_row_claim(look->rel, row, &key, look->slot, look->now,
								&entry, &look->next->due))
		{
			case CLAIM_OK:
				hold = queue_xact_push(HOLD_CLAIM, &key, entry);
				INJECTION_POINT("queue-claimed", NULL);
				queue_look_narrow(look, row->id, queue_take_wanted(take));
				verdict = examine(take, look, snapshot, row, hold);
				MemoryContextReset(take->row_context);
				break;
			case CLAIM_HELD:
			case CLAIM_NOT_DUE:
				break;
			case CLAIM_EXAMINED:
				queue_look_keep_examined(look, row->id);
				break;
			case CLAIM_OTHER:
				if (row->state == ROW_BUSY)
					queue_look_keep_busy(look, row->id);
				break;
			case CLAIM_EXHAUSTED:
				look->next->saw_exhausted = true;
				queue_database_wake_by(MyDatabaseId, look->now);
				break;
			case CLAIM_FULL:
				queue_take_note_full(take, look);
				queue_look_keep_from(look, row->id);
				verdict = VERDICT_STOP;
				break;
		}
	}
	return verdict;
}

/*
 * is_wanted
 *		Returns true if a look for certain messages is to claim this one.
 *
 * What is not, need not be looked at again.  Others stay as they are, if they
 * cannot be had.
 */
static bool
is_wanted(CandidateScan *look, MessageRow *row)
{
	if (row->state == ROW_OWN)
		return false;			/* its commit announces it */
	if (queue_turn_is_grouped(look, row) &&
		queue_selection_is_blocked(look, row))
		queue_look_keep_quietly(look, row->id);
	else if (row->state == ROW_BUSY)
		queue_look_keep_busy(look, row->id);
	else
		return queue_selection_wants(look, row);
	return false;
}

/*
 * examine
 *		Examine a message that has been claimed, and take it if it is
 *		available.
 *
 * Whatever is thrown from here, the hold gives the claim back.
 */
static Verdict
examine(Take *take, CandidateScan *look, Snapshot snapshot, MessageRow *row,
		Hold *hold)
{
	QueueDef   *def = look->def;
	InflightEntry *entry = hold->entry;
	MessageStatus status;
	int			limit;

	if (!is_still_there(take, look, snapshot, row))
	{
		queue_give_back(hold);
		return VERDICT_NEXT;
	}
	Assert(entry->enqueued_at == row->enqueued_at);
	queue_row_status(def, row, entry, look->now, &status);
	switch (status.availability)
	{
		case MESSAGE_AVAILABLE:
			break;
		case MESSAGE_EXHAUSTED:
			queue_leave_exhausted(look, row, hold, status.failures);
			return VERDICT_NEXT;
		case MESSAGE_EXPIRED:
		case MESSAGE_NOT_DUE:
		case MESSAGE_HELD:
			Assert(false);		/* the look and the claim have seen to that */
			queue_look_keep_quietly(look, row->id);
			queue_give_back(hold);
			return VERDICT_NEXT;
	}
	if (!queue_selection_wants_attempt(look, row, status.failures + 1))
	{
		queue_give_back(hold);
		return VERDICT_NEXT;
	}
	limit = queue_row_batch_limit(def, row, entry, status.failures);
	if (!queue_take_fits(take, limit, false))
	{
		queue_look_keep_from(look, row->id);
		queue_give_back(hold);
		return VERDICT_STOP;
	}

	if (!queue_take_message(take, look, row, hold, status.failures + 1, limit))
	{
		queue_look_keep_busy(look, row->id);
		queue_give_back(hold);
		return VERDICT_NEXT;
	}
	if (queue_take_wanted(take) > 0)
	{
		if (limit > 0)
			queue_look_narrow(look, row->id, queue_take_wanted(take) + 1);
		return VERDICT_NEXT;
	}
	queue_look_keep_from(look, row->id + 1);
	return VERDICT_STOP;
}

/*
 * is_still_there
 *		Returns true if the row is still what the scan has seen, now that it
 *		is claimed, and the snapshot sees it.
 *
 * If not, what may become available stays in the cover.
 */
static bool
is_still_there(Take *take, CandidateScan *look, Snapshot snapshot,
			   MessageRow *row)
{
	RowState	state = queue_row_recheck(look->rel, row);

	if (state == ROW_BUSY)
		queue_look_keep_busy(look, row->id);
	if (state != ROW_LIVE)
		return false;
	if (queue_row_is_visible(look->rel, row, snapshot))
		return true;
	queue_look_keep(look, row->id);
	return false;
}

/* Nothing was there: wait until there is, or until "end". */
static void
wait_and_take(Take *take, TimestampTz end)
{
	WaitTerms	terms = {wanted(take->selection), 1, end};
	int64		busy_delay = 0;

	for (;;)
	{
		RetryHint	next;

		if (take->selection != NULL)
			queue_waiter_enter_selecting(take->relid, take->selection->key,
										 &terms);
		else
			queue_waiter_enter(&take->relid, 1, &terms);
		if (!queue_is_known_empty(take->relid, take->selection != NULL,
								  &next))
		{
			QueueDef   *def;
			Relation	rel = queue_open(take->relid, QUEUE_TAKE, &def);
			Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

			look_and_take(take, rel, def, snapshot, &next);
			UnregisterSnapshot(snapshot);
			if (take->ntaken > 0)
			{
				table_close(rel, NoLock);
				break;
			}
			table_close(rel, queue_lockmode(QUEUE_TAKE));
		}
		if (queue_clock() >= end)
			break;
		queue_waiter_sleep(queue_look_again_at(&next, &busy_delay, end),
						   next.due);
	}
	queue_waiter_leave();
}

/* What views tell of it: not the very message, but how it is named. */
static WaitWants
wanted(const Selection *selection)
{
	if (selection == NULL)
		return WANTS_ANY;
	if (selection->has_id)
		return WANTS_ID;
	return selection->correlation_id != NULL ? WANTS_CORRELATION_ID :
		WANTS_SELECTED;
}

/*-------------------------------------------------------------------------
 *
 * wait.c
 *		Waiting without taking: CALL wait().
 *
 * Looks as a consumer does (look.c), but claims and takes nothing, and sleeps
 * until there is something.  While it sleeps it holds neither a lock on a
 * queue nor a snapshot, so a queue can be dropped meanwhile, which ends the
 * wait with an error, or paused.
 *
 * It sleeps through a pause, because a program that waits in a loop has
 * nothing better to do either.  While a queue is paused nothing in it is
 * looked at, nor is there a time to wake at.  The next change of its settings
 * wakes all waiters.
 *
 * What it finds is for the first consumer that comes, so the wake-up that
 * brought it here is passed on (waiter.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "api/wait.h"
#include "api/wait_subscription.h"
#include "common/args.h"
#include "common/clock.h"
#include "common/compat.h"
#include "dispatch/lease.h"
#include "dispatch/look.h"
#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/waiter.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/subscription.h"

PG_FUNCTION_INFO_V1(queue_wait);
PG_FUNCTION_INFO_V1(queue_wait_many);
PG_FUNCTION_INFO_V1(queue_wait_by_name);

static void wait_for_queues(Oid *relids, int nrelids, int64 timeout);
static Oid	check_queue(Oid relid);
static bool may_have_message(Oid relid, RetryHint *next, bool *is_paused);
static bool may_be_taken(CandidateScan *look, MessageRow *row);

/* CALL wait(queue, timeout) */
Datum
queue_wait(PG_FUNCTION_ARGS)
{
	Oid			relid;

	queue_call_begin(fcinfo, "queue.wait()", CALL_WRITES, "queue", "timeout");
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

	queue_call_begin(fcinfo, "queue.wait()", CALL_WRITES, "queues", "timeout");
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

/*
 * CALL wait(queue text, timeout): by its name as a literal, or by the literal
 * of an array of names
 *
 * No name begins as an array does, unless it is quoted.
 */
Datum
queue_wait_by_name(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
	{
		char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

		if (name[0] == '{')
		{
			fcinfo->args[0].value = OidInputFunctionCall(F_ARRAY_IN, name,
														 REGCLASSOID, -1);
			return queue_wait_many(fcinfo);
		}
		fcinfo->args[0].value = DirectFunctionCall1(regclassin,
													CStringGetDatum(name));
	}
	return queue_wait(fcinfo);
}

/* Sleep until one of these queues may have a message, or time is over. */
static void
wait_for_queues(Oid *relids, int nrelids, int64 timeout)
{
	TimestampTz end = queue_clock() + timeout;
	int64		busy_delay = 0;
	WaitTerms	terms = {WANTS_ANY, nrelids, end};
	bool		found = false;
	Oid		   *lists;
	int			nlists = nrelids;
	int			i;

	queue_waiter_check_isolation();

	/* before this session can be seen to wait */
	lists = palloc(2 * nrelids * sizeof(Oid));
	memcpy(lists, relids, nrelids * sizeof(Oid));
	for (i = 0; i < nrelids; i++)
	{
		Oid			topic = check_queue(relids[i]);

		if (OidIsValid(topic))
			lists[nlists++] = topic;
	}

	for (;;)
	{
		RetryHint	next = {.due = TIMESTAMP_INFINITY};

		queue_waiter_enter(lists, nlists, &terms);

		/* no snapshot is needed to examine rows, but to keep pages in place */
		PushActiveSnapshot(GetTransactionSnapshot());
		for (i = 0; i < nrelids && !found; i++)
		{
			RetryHint	one = {.due = TIMESTAMP_INFINITY};
			bool		is_paused = false;

			if (queue_is_subscription(relids[i]))
				found = queue_subscription_has_message(relids[i], &one,
													   &is_paused);
			else if (!queue_is_known_empty(relids[i], false, &one))
				found = may_have_message(relids[i], &one, &is_paused);
			queue_waiter_set_paused(i, is_paused);
			next.due = Min(next.due, one.due);
			next.is_busy |= one.is_busy;
			next.goes_on |= one.goes_on;
		}
		PopActiveSnapshot();
		if (found || queue_clock() >= end)
			break;
		queue_drop_portal_snapshot();
		queue_waiter_sleep(queue_look_again_at(&next, &busy_delay, end),
						   next.due);
	}

	/* it is not taken yet, and others may be quicker than the caller */
	if (found)
		queue_waiter_pass_on();
	queue_waiter_leave();
}

/*
 * check_queue
 *		Raise an error unless it is a queue or a subscription, and the caller may
 *		take messages.
 *
 * It has a place in shared memory then, if there is room.  Returns the topic of
 * a subscription, of which the list is to be entered, too.
 */
static Oid
check_queue(Oid relid)
{
	QueueDef   *def = queue_def_known(relid);

	if (queue_is_subscription(relid))
		return queue_subscription_check_waiter(relid);
	if (def != NULL && queue_may_take(relid))
		(void) queue_def_slot(def);
	else
	{
		Relation	rel = queue_open(relid, QUEUE_SETTLE, &def);

		(void) queue_def_slot(def);
		table_close(rel, queue_lockmode(QUEUE_SETTLE));
	}
	return InvalidOid;
}

/*
 * may_have_message
 *		Returns true if there is a message that a consumer could take now.
 *
 * Claims nothing.  Otherwise *next, which begins as never, tells when to look
 * again.
 */
static bool
may_have_message(Oid relid, RetryHint *next, bool *is_paused)
{
	QueueDef   *def;
	Relation	rel = queue_open(relid, QUEUE_SETTLE, &def);
	CandidateScan look;
	MessageRow *row;
	bool		is_at_limit;
	bool		found = false;

	*is_paused = def->dequeue_paused;
	if (*is_paused)
	{
		table_close(rel, queue_lockmode(QUEUE_SETTLE));
		return false;
	}
	queue_lease_load();
	queue_look_begin(&look, rel, def, 1, next);
	is_at_limit = def->max_in_flight > 0 && look.slot != NULL &&
		queue_held_is_at_limit(look.slot, def->max_in_flight);
	while (!found && !is_at_limit && queue_look_window(&look))
	{
		while (!found && (row = queue_look_row(&look)) != NULL)
			found = may_be_taken(&look, row);
		queue_look_give_back(&look, 0);
	}
	queue_look_end(&look);

	/* of a group that is ready, a message mostly is */
	if (look.slot != NULL && !is_at_limit &&
		(queue_slot_has_ready_group(look.slot) ||
		 queue_slot_is_sorting(look.slot)))
		found = true;
	table_close(rel, queue_lockmode(QUEUE_SETTLE));
	return found;
}

/*
 * may_be_taken
 *		Returns true if this message could be taken.
 *
 * If so, all ids from there on stay in the cover.
 */
static bool
may_be_taken(CandidateScan *look, MessageRow *row)
{
	QueueDef   *def = look->def;
	MessageKey	key;
	InflightEntry entry;
	MessageStatus status;
	bool		has_entry;

	if (queue_turn_is_grouped(look, row) && look->slot != NULL)
	{
		if (!queue_turn_note(look, row))
			queue_look_keep_busy(look, row->id);
		return false;
	}
	queue_message_key(&key, def->relid, row->id);
	has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
	queue_row_status(def, row, has_entry ? &entry : NULL, look->now, &status);
	if (status.is_claimed)
	{
		if (!entry.is_step)
			queue_look_keep_examined(look, row->id);
		return false;
	}
	switch (status.availability)
	{
		case MESSAGE_AVAILABLE:
			queue_look_keep_from(look, row->id);
			return true;
		case MESSAGE_EXHAUSTED:

			/* that may not have been noted yet: let a consumer do it */
			if (has_entry && !entry.is_exhausted &&
				status.failures > row->failures)
				queue_look_keep_quietly(look, row->id);
			break;
		case MESSAGE_EXPIRED:
			break;				/* the look has noted it */
		case MESSAGE_HELD:
		case MESSAGE_NOT_DUE:
			if (status.due == 0)
				break;			/* its holder announces the end of that */
			look->next->due = Min(look->next->due, status.due);
			if (entry.due.slot == NULL)
				queue_look_keep_quietly(look, row->id);
			break;
	}
	return false;
}

/*
 * queue_drop_portal_snapshot
 *		Give back the snapshot that the portal which runs CALL holds, because
 *		it would hold back vacuum while this session sleeps.
 *
 * A READ COMMITTED transaction takes a new one for its next statement anyway,
 * so this does what a procedure that commits does.  Below another query there
 * are snapshots that are not this call's to drop.
 */
void
queue_drop_portal_snapshot(void)
{
	if (ActivePortal && ActivePortal->portalSnapshot &&
		ActiveSnapshotSet() &&
		ActivePortal->portalSnapshot == GetActiveSnapshot())
	{
		ActivePortal->portalSnapshot = NULL;
		PopActiveSnapshot();
	}
}

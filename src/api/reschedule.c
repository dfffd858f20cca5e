/*-------------------------------------------------------------------------
 *
 * reschedule.c
 *		Changing a message that waits: reschedule(), cancel().
 *
 * In the caller's transaction: other sessions find the row busy until that
 * ends, as with a plain UPDATE or DELETE, and neither holds an entry of the
 * in-flight table, so a rollback has nothing to undo: it announces the message.
 * That is claimed for the moment of the change, so nobody else holds or examines
 * it then.
 *
 * Both look at the present state of the message, whatever the statement's
 * snapshot sees.  Neither waits, but for a step of the worker on the message: one
 * that somebody holds, or is just changing, is left alone, and the result says
 * so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/change.h"
#include "common/args.h"
#include "common/compat.h"
#include "dispatch/lease.h"
#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/database.h"
#include "shared/quota.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "table/origin.h"
#include "table/rows.h"
#include "transaction/announce.h"
#include "transaction/charge.h"
#include "transaction/holds.h"

/*
 * A consumer that examines a message decides within less than as many
 * milliseconds
 */
#define MAX_LOOKS		1000

/* For so many milliseconds the worker is waited for to tell a back-off */
#define MAX_UNTOLD		100

PG_FUNCTION_INFO_V1(queue_reschedule);
PG_FUNCTION_INFO_V1(queue_cancel);

static bool begin_change(FunctionCallInfo fcinfo, Change *change);
static bool wait_for_step(Change *change);
static bool is_untold(Change *change);
static bool claim(Change *change);
static bool is_changeable(Change *change);
static void end_change(Change *change);
static bool reschedule(Change *change, TimestampTz due);

/* reschedule(queue, id, deliver_at) */
Datum
queue_reschedule(PG_FUNCTION_ARGS)
{
	Change		change = {0};
	TimestampTz due;

	queue_call_begin(fcinfo, "queue.reschedule()", CALL_WRITES,
					 "queue", "id", "deliver_at");
	due = queue_due_time(PG_GETARG_TIMESTAMPTZ(2), "deliver_at");
	if (begin_change(fcinfo, &change))
		change.is_done = reschedule(&change, due);
	end_change(&change);
	PG_RETURN_BOOL(change.is_done);
}

/* cancel(queue, id) */
Datum
queue_cancel(PG_FUNCTION_ARGS)
{
	Change		change = {0};

	queue_call_begin(fcinfo, "queue.cancel()", CALL_WRITES, "queue", "id");
	if (begin_change(fcinfo, &change))
		change.is_done = queue_charge_delete(change.rel, change.def,
											 change.row, GONE_REMOVED);
	if (change.is_done)
		queue_dedup_forget(change.def, change.row);
	end_change(&change);
	PG_RETURN_BOOL(change.is_done);
}

/*
 * begin_change
 *		Find and claim the message.
 *
 * Returns false if it is not there, or not to be changed now.  A step of the
 * worker on this very message is a small transaction, and is waited for.
 */
static bool
begin_change(FunctionCallInfo fcinfo, Change *change)
{
	change->rel = queue_open(PG_GETARG_OID(0), QUEUE_SETTLE, &change->def);
	queue_lease_load();
	change->row = queue_row_make(change->rel);
	change->row->id = PG_GETARG_INT64(1);
	queue_message_key(&change->key, RelationGetRelid(change->rel),
					  change->row->id);
	return queue_change_begin(change, QUEUE_ANY_ROW);
}

/*
 * queue_change_begin
 *		Find and claim the message of this key, sent then; the rest is as above.
 */
bool
queue_change_begin(Change *change, TimestampTz enqueued_at)
{
	bool		has_met_none = false;

	for (int looks = 0; looks < MAX_LOOKS; looks++)
	{
		change->row->enqueued_at = enqueued_at;
		change->row->state = queue_row_find(change->rel, change->def,
											change->row);
		if (change->row->state == ROW_LIVE || change->row->state == ROW_OWN)
		{
			queue_row_read(change->row);
			if (claim(change))
				return is_changeable(change);
		}
		if (!wait_for_step(change))
		{
			/* it may have ended since, so one more look */
			if (has_met_none)
				return false;
			has_met_none = true;
		}
	}
	return false;
}

/*
 * wait_for_step
 *		Wait a moment if the worker is rewriting or moving this row, or about
 *		to; returns false if it is not.
 *
 * A lock on its transaction is not waited for: the step may as well be that of
 * another call that changes the message, whose transaction goes on.
 */
static bool
wait_for_step(Change *change)
{
	int			holder;

	if (!queue_inflight_is_step(&change->key, change->row->enqueued_at,
								&holder))
	{
		if (!is_untold(change))
			return false;
		change->nuntold++;
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	}
	CHECK_FOR_INTERRUPTS();
	pg_usleep(1000L);
	return true;
}

/*
 * is_untold
 *		Returns true if the worker is about to tell the row when it is due
 *		again.
 *
 * If the change is rolled back, that is what holds.  A worker that does not come
 * is not waited for.
 */
static bool
is_untold(Change *change)
{
	InflightEntry entry;

	return change->nuntold < MAX_UNTOLD &&
		queue_inflight_peek(&change->key, change->row->enqueued_at, &entry) &&
		entry.state == INFLIGHT_IDLE && entry.is_delayed &&
		entry.deadline > GetCurrentTimestamp();
}

/*
 * claim
 *		Claim it, though it may not be due; returns false if it is held.
 *
 * What memory alone knows of a back-off ends: the caller says when the message
 * is due.  (The worker has not come; if the transaction is rolled back, the
 * message may come back early.)
 */
static bool
claim(Change *change)
{
	const MessageKey *key = &change->key;

	for (int looks = 0; looks < MAX_LOOKS; looks++)
	{
		InflightEntry *entry;
		TimestampTz due = TIMESTAMP_INFINITY;

		change->now = GetCurrentTimestamp();
		queue_xact_reserve();
		switch (queue_row_claim(change->rel, change->row, key,
								queue_def_slot(change->def), change->now,
								&entry, &due))
		{
			case CLAIM_OK:
				change->hold = queue_xact_push(HOLD_CLAIM, key, entry);
				return true;
			case CLAIM_NOT_DUE:
				if (is_untold(change))
					return false;
				if (!queue_inflight_claim_step(key, change->now, &entry))
					return false;
				change->hold = queue_xact_push(HOLD_STEP, key, entry);
				change->was_delivered = true;
				queue_inflight_end_delay(entry);
				return true;
			case CLAIM_EXAMINED:
				CHECK_FOR_INTERRUPTS();
				pg_usleep(1000L);
				break;
			case CLAIM_FULL:
				queue_quota_raise_full();
				break;
			case CLAIM_HELD:
			case CLAIM_EXHAUSTED:
			case CLAIM_OTHER:
				return false;
		}
	}
	return false;
}

/*
 * is_changeable
 *		Returns true if the row is still there, now that it is claimed, and
 *		has not expired.
 *
 * What the same statement has sent cannot be changed by it.
 */
static bool
is_changeable(Change *change)
{
	MessageRow *row = change->row;

	if (queue_row_recheck(change->rel, row) != row->state)
		return false;
	if (row->state == ROW_OWN &&
		!queue_row_is_visible(change->rel, row, GetActiveSnapshot()))
		return false;
	return !queue_has_expired(row->expires_at, change->now);
}

/* Give the claim back, if there is one. */
void
queue_change_unclaim(Change *change)
{
	if (change->hold != NULL)
	{
		if (change->hold->kind == HOLD_CLAIM)
			queue_inflight_unclaim(change->hold->entry);
		else
			queue_inflight_unclaim_step(change->hold->entry);
		queue_xact_pop(change->hold);
	}
	change->hold = NULL;
}

/* The same, note what was done, and close what was opened. */
static void
end_change(Change *change)
{
	queue_change_unclaim(change);
	if (change->is_done)
	{
		queue_announce_changed(RelationGetRelid(change->rel),
							   change->row->priority, change->row->id);
		queue_turn_note_end(change->def, change->row);
	}
	ExecDropSingleTupleTableSlot(change->row->slot);
	table_close(change->rel, NoLock);
}

/*
 * reschedule
 *		Write a new due time into the row, and announce it.
 *
 * The time in which it expires is counted from when it is due, so it moves
 * along.  A back-off has moved the due time alone, and so has release() for
 * later, so then what is left of that time is counted from now.
 */
static bool
reschedule(Change *change, TimestampTz due)
{
	MessageRow *row = change->row;
	Oid			relid = RelationGetRelid(change->rel);
	TimestampTz was_due = row->visible_at != 0 ? row->visible_at :
		row->enqueued_at;
	TimestampTz is_due = Max(due, change->now);
	TimestampTz expires_at;

	if (row->failures > 0 || !queue_origin_strip(queue_row_failure_log(row)).isnull)
		change->was_delivered = true;
	if (change->was_delivered)
		was_due = Min(was_due, change->now);
	expires_at = row->expires_at == 0 ? 0 :
		row->expires_at + (is_due - was_due);

	if (due > change->now)
		queue_announce_delayed(relid, row->priority, due);
	else
		queue_announce_sent(relid, row->priority, row->id, row->id);
	if (expires_at != 0)
		queue_announce_expiry(relid, expires_at);
	if (due <= change->now)
		due = 0;
	queue_charge_due(change->def, row, due, row->failures);
	return queue_row_reschedule(change->rel, change->def, row,
								due, expires_at,
								change->was_delivered);
}

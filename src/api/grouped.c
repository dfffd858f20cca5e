/*-------------------------------------------------------------------------
 *
 * grouped.c
 *		Taking messages of groups that keep an order.
 *
 * A row with such a group, met in a window, goes to its group (turn.c).  When
 * a group is out, in its turn, its rows are claimed, judged and taken here one
 * after the other, as take.c does with those of a window, with one difference.
 * What cannot be taken now, and is not gone, keeps those behind it waiting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "api/taking.h"
#include "common/compat.h"
#include "dispatch/selection.h"
#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/database.h"
#include "shared/expiry.h"

/*
 * How soon to look again at a group that a message at its limit of attempts
 * stops: plain SQL may have deleted that
 */
#define STOPPED_DELAY			(10 * USECS_PER_SEC)

/* What has become of the message of a group whose turn it was */
typedef enum Turn
{
	TURN_TAKEN,
	TURN_NOTHING,				/* it is gone, or keeps none waiting */
	TURN_HELD,					/* the worker is to move it: the group is held */
	TURN_WAITS,					/* until some time */
	TURN_UNSEEN					/* the statement's snapshot does not see it */
} Turn;

static Verdict take_picked(Take *take, CandidateScan *look, Snapshot snapshot,
						   MessageRow *row);
static void note_unwanted(CandidateScan *look);
static Turn take_turn(Take *take, CandidateScan *look, Snapshot snapshot,
					  MessageRow *row, bool is_behind, TimestampTz *until,
					  Verdict *verdict);
static Turn judge_turn(Take *take, CandidateScan *look, Snapshot snapshot,
					   MessageRow *row, Hold *hold, bool is_behind,
					   TimestampTz *until, Verdict *verdict);
static Turn leave_turn(Take *take, CandidateScan *look, MessageRow *row,
					   Hold *hold, const MessageStatus *status,
					   TimestampTz *until);

/*
 * queue_take_grouped
 *		Take a message that is in the window, if it is its turn.
 */
Verdict
queue_take_grouped(Take *take, CandidateScan *look, Snapshot snapshot,
				   MessageRow *row)
{
	Verdict		verdict = VERDICT_NEXT;

	switch (queue_turn_enter(look, row))
	{
		case GROUP_OURS:
			if (look->selection != NULL)
				return take_picked(take, look, snapshot, row);
			queue_look_narrow(look, row->id, queue_take_wanted(take));
			verdict = queue_take_from_group(take, look, snapshot);
			if (verdict == VERDICT_STOP)
				queue_look_keep_from(look, row->id + 1);
			break;
		case GROUP_OUT:
			queue_look_keep_examined(look, row->id);
			break;
		case GROUP_BEHIND:
			if (look->selection != NULL)
			{
				queue_selection_block(look, row);
				queue_look_keep_quietly(look, row->id);
			}
			break;
		case GROUP_OTHER:
			queue_look_keep_busy(look, row->id);
			break;
		case GROUP_FULL:
			/* those that are known already make room */
			queue_look_keep_quietly(look, row->id);
			if (look->slot == NULL || !queue_slot_has_ready_group(look->slot))
				queue_take_note_full(take, look);
			look->next->is_busy = true;
			break;
	}
	return verdict;
}

/*
 * take_picked
 *		The same in a look for certain messages, which has taken the group out
 *		because it wants this one.
 *
 * Whether it was taken or waits, the look comes to it again.
 */
static Verdict
take_picked(Take *take, CandidateScan *look, Snapshot snapshot,
			MessageRow *row)
{
	int64		id = row->id;
	int			before = take->ntaken;
	Verdict		verdict = queue_take_from_group(take, look, snapshot);

	if (verdict == VERDICT_STOP)
		queue_look_keep_from(look, id);
	else
	{
		queue_look_keep_quietly(look, id);
		if (take->ntaken == before)
			queue_selection_block(look, row);
	}
	return verdict;
}

/*
 * queue_take_from_group
 *		Take messages of the group that is out, in order, until there are no
 *		more or enough.
 *
 * Those of a lower priority than the first wait, as other groups may come
 * before them.
 */
Verdict
queue_take_from_group(Take *take, CandidateScan *look, Snapshot snapshot)
{
	MessageRow *row;
	TimestampTz until = 0;
	int			before = take->ntaken;
	Turn		turn = TURN_NOTHING;
	Verdict		verdict = VERDICT_NEXT;

	while ((row = queue_turn_row(look)) != NULL)
	{
		if (verdict == VERDICT_STOP || turn == TURN_HELD ||
			queue_turn_is_late(look, row))
		{
			if (queue_turn_keeps_none(look, row))
				continue;
			queue_turn_leave(look, row);
			break;
		}
		if (look->selection != NULL && !queue_selection_wants(look, row))
		{
			if (queue_turn_keeps_none(look, row) ||
				queue_turn_is_taken(look, row))
				continue;
			queue_turn_leave(look, row);
			note_unwanted(look);
			break;
		}
		turn = take_turn(take, look, snapshot, row, take->ntaken > before,
						 &until, &verdict);
		if (turn == TURN_TAKEN)
			look->group.entry->delay = 0;
		if (turn == TURN_NOTHING && row->state == ROW_GONE)
			queue_turn_note_gone(look, row);
		MemoryContextReset(take->row_context);
		if (turn == TURN_WAITS || turn == TURN_UNSEEN)
		{
			queue_turn_leave(look, row);
			break;
		}
	}
	if (turn == TURN_UNSEEN)
		queue_turn_end_unseen(look);
	else
		queue_turn_end(look, turn == TURN_WAITS ? until : 0);
	return verdict;
}

/*
 * note_unwanted
 *		Something else comes first in the group: if that is not wanted, look
 *		again soon.
 *
 * Nobody holds it, so that it is cancelled, purged, deleted by plain SQL or
 * expires is announced to nobody.
 */
static void
note_unwanted(CandidateScan *look)
{
	if (look->selection != NULL)
		look->next->is_busy = true;
}

/*
 * take_turn
 *		Claim, judge and take the message whose turn it is.
 *
 * "is_behind" tells that the call has just taken one of the group.  On
 * TURN_WAITS, *until is when to try again.  *verdict is set if the call ends
 * here.
 */
static Turn
take_turn(Take *take, CandidateScan *look, Snapshot snapshot, MessageRow *row,
		  bool is_behind, TimestampTz *until, Verdict *verdict)
{
	TimestampTz due = TIMESTAMP_INFINITY;
	MessageKey	key;
	InflightEntry *entry;
	Hold	   *hold;

	*until = TURN_BUSY;
	if (queue_turn_is_held_by_old(look, row))
		return TURN_WAITS;
	if (queue_turn_has_earlier(look, row))
	{
		*until = 0;
		note_unwanted(look);
		return TURN_WAITS;
	}
	if (row->state == ROW_BUSY)
		return TURN_WAITS;

	queue_message_key(&key, take->relid, row->id);
	queue_xact_reserve();
	switch (queue_row_claim(look->rel, row, &key, look->slot, look->now,
							&entry, &due))
	{
		case CLAIM_OK:
			break;
		case CLAIM_HELD:
			/* its consumer would hold the group: the worker has it */
			if (queue_has_expired(row->expires_at, look->now))
				return TURN_NOTHING;
			return queue_turn_is_taken(look, row) ? TURN_NOTHING : TURN_WAITS;
		case CLAIM_NOT_DUE:
			*until = due;
			pg_fallthrough;
		case CLAIM_EXAMINED:
			return queue_turn_is_taken(look, row) ? TURN_NOTHING : TURN_WAITS;
		case CLAIM_OTHER:
			return row->state == ROW_BUSY ? TURN_WAITS : TURN_NOTHING;
		case CLAIM_EXHAUSTED:
			look->next->saw_exhausted = true;
			queue_database_wake_by(MyDatabaseId, look->now);
			return queue_has_expired(row->expires_at, look->now) ?
				TURN_NOTHING : TURN_WAITS;
		case CLAIM_FULL:
			queue_take_note_full(take, look);
			*verdict = VERDICT_STOP;
			return TURN_WAITS;
	}
	hold = queue_xact_push(HOLD_CLAIM, &key, entry);
	INJECTION_POINT("queue-claimed", NULL);
	return judge_turn(take, look, snapshot, row, hold, is_behind, until,
					  verdict);
}

/*
 * judge_turn
 *		The same for a message that has been claimed.
 */
static Turn
judge_turn(Take *take, CandidateScan *look, Snapshot snapshot, MessageRow *row,
		   Hold *hold, bool is_behind, TimestampTz *until, Verdict *verdict)
{
	InflightEntry *entry = hold->entry;
	MessageStatus status;
	int			limit;

	row->state = queue_row_recheck(look->rel, row);
	if (row->state != ROW_LIVE)
	{
		queue_give_back(hold);
		return row->state == ROW_BUSY ? TURN_WAITS : TURN_NOTHING;
	}
	queue_row_status(look->def, row, entry, look->now, &status);
	if (status.availability != MESSAGE_AVAILABLE)
		return leave_turn(take, look, row, hold, &status, until);
	if (!queue_row_is_visible(look->rel, row, snapshot))
	{
		queue_give_back(hold);
		return TURN_UNSEEN;
	}
	if (!queue_selection_wants_attempt(look, row, status.failures + 1))
	{
		queue_give_back(hold);
		*until = 0;
		return TURN_WAITS;
	}
	limit = queue_row_batch_limit(look->def, row, entry, status.failures);
	if (!queue_take_fits(take, limit, is_behind))
	{
		queue_give_back(hold);
		*until = 0;
		*verdict = VERDICT_STOP;
		return TURN_WAITS;
	}

	queue_inflight_hold_group(entry, look->group.entry, look->turn.call);
	if (!queue_take_message(take, look, row, hold, status.failures + 1, limit))
	{
		queue_give_back(hold);
		return TURN_WAITS;
	}
	if (queue_take_wanted(take) == 0)
		*verdict = VERDICT_STOP;
	return TURN_TAKEN;
}

/*
 * leave_turn
 *		Leave a message whose turn it is, and that is not available.
 *
 * What has failed, and backs off or is to be moved, keeps the group waiting, as
 * does what was given back for later.  What is not due for the first time does
 * not, whether the statement's snapshot sees it or not: it may have been
 * rescheduled since.
 */
static Turn
leave_turn(Take *take, CandidateScan *look, MessageRow *row, Hold *hold,
		   const MessageStatus *status, TimestampTz *until)
{
	bool		keeps_place;

	switch (status->availability)
	{
		case MESSAGE_EXHAUSTED:
			if (queue_stays_exhausted(look, row, status->failures))
			{
				queue_give_back(hold);
				*until = look->now + STOPPED_DELAY;
				return TURN_WAITS;
			}
			queue_inflight_hold_group(hold->entry, look->group.entry,
									  QUEUE_NO_CALL);
			queue_leave_exhausted(look, row, hold, status->failures);
			return TURN_HELD;
		case MESSAGE_EXPIRED:
			queue_expiry_note(look->slot, MyDatabaseId, take->relid,
							  row->expires_at);
			queue_give_back(hold);
			return TURN_NOTHING;
		case MESSAGE_NOT_DUE:
			look->next->due = Min(look->next->due, status->due);
			keeps_place = status->failures > 0 ||
				queue_row_was_delivered(look->rel, row);
			if (!keeps_place)
				queue_cover_add_delayed_set(look->slot, MyDatabaseId,
											take->relid,
											1 << queue_rank(row->priority),
											status->due);
			queue_give_back(hold);
			*until = row->expires_at == 0 ? status->due :
				Min(status->due, row->expires_at);
			return keeps_place ? TURN_WAITS : TURN_NOTHING;
		case MESSAGE_AVAILABLE:
		case MESSAGE_HELD:
			break;
	}
	Assert(false);				/* it is not, and this call holds it */
	queue_give_back(hold);
	return TURN_WAITS;
}

/*-------------------------------------------------------------------------
 *
 * taking.c
 *		What becomes of a message that a call of dequeue() or receive() has
 *		claimed.
 *
 * It is leased, or its row is deleted; it is left to the worker, which moves
 * what is at its limit of attempts; or the claim is given back.  Whether it is
 * available has been asked before, by take.c, or by grouped.c for messages of
 * groups that keep an order.
 *
 * If anything is thrown here, the hold gives the claim back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "api/taking.h"
#include "common/compat.h"
#include "common/guc.h"
#include "dispatch/receipt.h"
#include "shared/counters.h"
#include "shared/database.h"
#include "shared/quota.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "table/message.h"
#include "transaction/charge.h"

static void lease_message(Take *take, CandidateScan *look, MessageRow *row,
						  Hold *hold, int attempt);
static bool dequeue_message(Take *take, CandidateScan *look, MessageRow *row,
							Hold *hold, int attempt);
static TimestampTz write_time(const CandidateScan *look);

/*
 * queue_take_fits
 *		Returns true if a message may come in the batch that the call has so
 *		far.
 *
 * What has failed comes with what has failed, in a batch that none of them is
 * too many for; so nothing is drawn into the failures of others.  Those behind
 * a message that holds their group are with it all the same.
 */
bool
queue_take_fits(const Take *take, int limit, bool is_behind)
{
	if (take->ntaken == 0)
		return true;
	if (limit == 0)
		return take->limit == 0 ||
			(is_behind && take->ntaken < take->limit);
	return take->limit > 0 && take->ntaken < Min(limit, take->limit);
}

/* So many messages are wanted from here on. */
int
queue_take_wanted(const Take *take)
{
	int			max = take->limit > 0 ? Min(take->max, take->limit) : take->max;

	return Max(max - take->ntaken, 0);
}

/*
 * queue_take_message
 *		Take a message that is available.
 *
 * It may be one of "limit" at most, if that is not 0.  Returns false, with
 * nothing done, if another transaction was quicker.
 */
bool
queue_take_message(Take *take, CandidateScan *look, MessageRow *row, Hold *hold,
				   int attempt, int limit)
{
	INJECTION_POINT("queue-row-read", NULL);
	if (take->is_lease)
		lease_message(take, look, row, hold, attempt);
	else if (!dequeue_message(take, look, row, hold, attempt))
		return false;
	queue_counters_note(look->slot, take->relid, COUNTER_WAIT, look->now -
						Max(row->enqueued_at, row->visible_at), 1);
	take->ntaken++;
	if (limit > 0)
		take->limit = take->limit == 0 ? limit : Min(limit, take->limit);
	return true;
}

/* receive(): from a claim to a lease */
static void
lease_message(Take *take, CandidateScan *look, MessageRow *row, Hold *hold,
			  int attempt)
{
	TimestampTz deadline = look->now +
		(take->lease < 0 ? look->def->lease : take->lease);
	MemoryContext old = MemoryContextSwitchTo(take->row_context);
	Receipt		values = {0};

	values.key = hold->key;
	values.epoch = queue_inflight_epoch();
	values.number = queue_inflight_new_number();
	queue_inflight_lease(hold->entry, values.number, &look->def->retry,
						 row->failures, &row->tid, deadline,
						 take->ntaken + 1);
	hold->kind = HOLD_LEASE;
	hold->number = values.number;
	tuplestore_puttuple(take->rsinfo->setResult,
						queue_message_result(take->rsinfo->setDesc, row,
											 attempt,
											 queue_receipt_format(&values)));
	MemoryContextSwitchTo(old);
	queue_database_wake_by(MyDatabaseId, Min(deadline, write_time(look)));
}

/*
 * dequeue_message
 *		dequeue(): delete the row, and hold the message until the transaction
 *		ends.
 *
 * Returns false, with nothing done, if another transaction was quicker.
 */
static bool
dequeue_message(Take *take, CandidateScan *look, MessageRow *row, Hold *hold,
				int attempt)
{
	MemoryContext old = MemoryContextSwitchTo(take->row_context);
	HeapTuple	tuple;
	bool		is_deleted;

	/* first the values: the row's pages may be pruned after it is gone */
	tuple = queue_message_result(take->rsinfo->setDesc, row, attempt, NULL);
	is_deleted = queue_charge_delete(look->rel, look->def, row,
									 GONE_ACKED);
	if (is_deleted)
	{
		queue_dedup_left(look->def, row);
		queue_inflight_dequeue(hold->entry, &look->def->retry, row->failures,
							   &row->tid);
		hold->kind = HOLD_DEQUEUE;
		queue_database_wake_by(MyDatabaseId, write_time(look));
		tuplestore_puttuple(take->rsinfo->setResult, tuple);
	}
	MemoryContextSwitchTo(old);
	return is_deleted;
}

/* Return when the log of leases is to know of what is taken now. */
static TimestampTz
write_time(const CandidateScan *look)
{
	return look->now + (int64) queue_lease_write_delay * 1000;
}

/*
 * queue_stays_exhausted
 *		Returns true if the worker has nothing to do for a message that is at
 *		its limit of attempts.
 *
 * With nowhere to move it to, or if it is to stop its group, it stays as it
 * is.  The worker is then needed only if there is a failure that the row does
 * not count.
 */
bool
queue_stays_exhausted(const CandidateScan *look, const MessageRow *row, int failures)
{
	return failures == row->failures &&
		(!OidIsValid(look->def->dead_letter) ||
		 (row->has_group && queue_def_stops_groups(look->def)));
}

/*
 * queue_leave_exhausted
 *		Leave a message that is at its limit of attempts to the worker, which
 *		moves it.
 *
 * Not if it stays as it is.
 */
void
queue_leave_exhausted(CandidateScan *look, MessageRow *row, Hold *hold, int failures)
{
	if (queue_stays_exhausted(look, row, failures))
	{
		queue_give_back(hold);
		return;
	}
	look->next->saw_exhausted = true;
	queue_inflight_exhaust(hold->entry, row->failures);
	queue_database_wake_by(MyDatabaseId, look->now);
	queue_xact_pop(hold);
}

/* Give the claim back that was pushed last. */
void
queue_give_back(Hold *hold)
{
	queue_inflight_unclaim(hold->entry);
	queue_xact_pop(hold);
}

/*
 * queue_take_note_full
 *		There is no room for a claim.
 *
 * Raises 53400 if the call has nothing, unless there is room again when the
 * worker has moved some.
 */
void
queue_take_note_full(Take *take, CandidateScan *look)
{
	queue_quota_note_refused();
	queue_database_wake_by(MyDatabaseId, look->now);
	look->next->is_busy = look->next->saw_exhausted;
	if (take->ntaken == 0 && !look->next->saw_exhausted)
		queue_quota_raise_full();
}

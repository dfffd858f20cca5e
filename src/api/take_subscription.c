/*-------------------------------------------------------------------------
 *
 * take_subscription.c
 *		Getting messages of a subscription, in one look.
 *
 * A subscription takes a partition, as a queue takes a message: it claims the
 * partition in the in-flight table, reads where it stands, reads the topic from
 * there on (topic/reading.c), and then holds the partition until the transaction
 * ends, or under a lease.  In between nobody else has anything of it, so its
 * messages are consumed in order.  Instead of deleting a row, it moves the
 * position, in the caller's transaction: at once (dequeue), or when the
 * messages are acknowledged (settle_subscription.c).
 *
 * A call goes over the partitions, that whose next message is the oldest first,
 * until it has as many messages as are wanted.  Those that its transaction holds
 * already come before the others.
 *
 * While its messages are read, a partition is claimed, and others get those of
 * other partitions: how far the batch goes is known when it is read.
 *
 * If anything is thrown here, the hold gives the partition back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "api/take_subscription.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "dispatch/receipt.h"
#include "shared/availability.h"
#include "shared/counters.h"
#include "shared/database.h"
#include "shared/quota.h"
#include "topic/reading.h"
#include "transaction/charge.h"
#include "transaction/holds.h"
#include "transaction/moves.h"

/* One look */
typedef struct PartitionTake
{
	Take	   *take;
	Reading		reading;
	QueueSlot  *slot;
	TimestampTz now;
	RetryHint  *next;
	ReadBatch	batch;
	int			nshown;			/* by the call, before this batch */
	int			attempt;		/* of the message that comes next */
	Receipt		receipt;		/* of the message that was read last ... */
	TupleTableSlot *received;	/* ... which is shown when it is known whether
								 * it is the last one */
} PartitionTake;

static void look_begin(PartitionTake *look, Take *take, Relation rel,
					   SubscriptionDef *def, Snapshot snapshot,
					   RetryHint *next);
static bool is_held_by_me(PartitionTake *look, int partition);
static void take_more(PartitionTake *look, int partition);
static void claim_and_take(PartitionTake *look, int partition);
static void take_claimed(PartitionTake *look, int partition, Hold *hold);
static bool read_position(PartitionTake *look, int partition);
static int64 done_up_to(PartitionTake *look, const InflightEntry *entry);
static bool stays_exhausted(const PartitionTake *look);
static bool move_and_hold(PartitionTake *look, Hold *hold, int attempt);
static void lease_batch(PartitionTake *look, Hold *hold);
static void read_batch(PartitionTake *look, int partition, int attempt,
					   int max);
static void dequeued(TupleTableSlot *slot, int64 id, void *arg);
static void received(TupleTableSlot *slot, int64 id, void *arg);
static void show_received(PartitionTake *look, bool is_last);
static void show(PartitionTake *look, TupleTableSlot *slot,
				 const char *receipt);
static void take_back(Take *take, int n);

/*
 * queue_take_partitions
 *		Go over the partitions once, and take up to take->max messages.
 *
 * If that is less, *next tells when to look again.
 */
void
queue_take_partitions(Take *take, Relation rel, SubscriptionDef *def,
					  Snapshot snapshot, RetryHint *next)
{
	MemoryContext context;
	MemoryContext old;
	PartitionTake look;
	int			partition;

	queue_subscription_check_lease(def, take->lease);

	/* a call that waits looks often */
	context = AllocSetContextCreate(CurrentMemoryContext, "queue look",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	look_begin(&look, take, rel, def, snapshot, next);
	for (int i = 0; i < look.reading.topic->partitions; i++)
		if (is_held_by_me(&look, i))
			queue_reading_prefer(&look.reading, i);
	queue_reading_find(&look.reading);
	while (take->ntaken < take->max &&
		   !queue_reading_is_enough(&look.reading) &&
		   (partition = queue_reading_next(&look.reading)) >= 0)
	{
		if (is_held_by_me(&look, partition))
			take_more(&look, partition);
		else
			claim_and_take(&look, partition);
	}

	/* there may be more than one call looks at */
	if (queue_reading_is_enough(&look.reading))
		next->goes_on = true;
	if (look.received != NULL)
		ExecDropSingleTupleTableSlot(look.received);
	queue_reading_end(&look.reading, take->ntaken > 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Begin to look: end what is due, and find out how far the topic can be read. */
static void
look_begin(PartitionTake *look, Take *take, Relation rel,
		   SubscriptionDef *def, Snapshot snapshot, RetryHint *next)
{
	memset(look, 0, sizeof(PartitionTake));
	look->take = take;
	look->slot = queue_subscription_slot(def);
	look->now = GetCurrentTimestamp();
	look->next = next;
	next->due = TIMESTAMP_INFINITY;
	next->is_busy = next->saw_exhausted = next->goes_on = false;
	if (look->slot != NULL)
		queue_inflight_end_due(look->slot, def->relid, look->now);
	queue_reading_begin(&look->reading, rel, def, snapshot,
						take != NULL ? take->max : 1);
}

/* Can this transaction dequeue more of a partition that it holds? */
static bool
is_held_by_me(PartitionTake *look, int partition)
{
	MessageKey	key;

	if (look->take->is_lease)
		return false;
	queue_message_key(&key, look->reading.def->relid, partition);
	return queue_xact_find_taken(&key) != NULL;
}

/*
 * take_more
 *		Take more of a partition of which this transaction has dequeued messages,
 *		or has set the position.
 *
 * What has failed before comes with nothing else, so that what would come now
 * does not fail with it.
 */
static void
take_more(PartitionTake *look, int partition)
{
	Reading    *reading = &look->reading;
	Take	   *take = look->take;
	MessageKey	key;
	Hold	   *hold;
	int64		until;
	int			failures;
	int			limit;

	queue_message_key(&key, reading->def->relid, partition);
	queue_xact_reserve();
	hold = queue_xact_find_taken(&key);
	if (hold == NULL || !read_position(look, partition))
		return;
	queue_reading_check_gap(reading, partition);

	/* what a savepoint gave back: once more, then when it is due again */
	until = reading->position->alone_until;
	failures = queue_hold_failures(hold, reading->position->id, &until);
	if (failures > 1 ||
		queue_is_at_limit(reading->def->retry.max_attempts, failures))
		return;
	limit = queue_reading_limit(reading, reading->position, failures, until,
								take->max - take->ntaken);
	read_batch(look, partition, failures + 1, limit);
	if (look->batch.n > 0)
		(void) move_and_hold(look, hold, failures + 1);
}

/* Claim a partition, and take messages of it. */
static void
claim_and_take(PartitionTake *look, int partition)
{
	Reading    *reading = &look->reading;
	MessageKey	key;
	InflightEntry *entry;
	TimestampTz other;

	queue_message_key(&key, reading->def->relid, partition);
	queue_xact_reserve();
	switch (queue_inflight_claim(&key, QUEUE_PARTITION_ROW, look->slot,
								 0 /* priority */ , look->now, &entry,
								 &look->next->due, &other))
	{
		case CLAIM_OK:
			take_claimed(look, partition,
						 queue_xact_push(HOLD_CLAIM, &key, entry));
			break;
		case CLAIM_HELD:
		case CLAIM_NOT_DUE:
			break;
		case CLAIM_EXAMINED:
		case CLAIM_OTHER:
			look->next->is_busy = true;
			break;
		case CLAIM_EXHAUSTED:
			look->next->saw_exhausted = true;
			queue_database_wake_by(MyDatabaseId, look->now);
			break;
		case CLAIM_FULL:
			queue_quota_note_refused();
			queue_database_wake_by(MyDatabaseId, look->now);
			if (look->take->ntaken == 0)
				queue_quota_raise_full();
			break;
	}
}

/* The partition is claimed: take messages of it, or give it back. */
static void
take_claimed(PartitionTake *look, int partition, Hold *hold)
{
	Reading    *reading = &look->reading;
	Position   *position = reading->position;
	InflightEntry *entry = hold->entry;
	RetryPolicy *retry = &reading->def->retry;
	int			failures;
	int			limit;

	INJECTION_POINT("queue-partition-claimed", NULL);
	if (!read_position(look, partition))
	{
		queue_give_back(hold);
		return;
	}
	queue_reading_check_gap(reading, partition);
	if (queue_inflight_is_consumed(entry, done_up_to(look, entry)))
		queue_inflight_forget_consumed(entry);
	failures = queue_add_failures(position->failures, entry->failures);
	if (queue_is_at_limit(retry->max_attempts, failures))
	{
		if (entry->failures == 0 && stays_exhausted(look))
			queue_give_back(hold);
		else
		{
			look->next->saw_exhausted = true;
			queue_inflight_exhaust(entry, position->failures);
			queue_database_wake_by(MyDatabaseId, look->now);
			queue_xact_pop(hold);
		}
		return;
	}
	if (entry->failures > 0)
		position->alone_until = entry->last_id; /* the row tells it later */
	limit = queue_reading_limit(reading, position, failures,
								position->alone_until,
								look->take->max - look->take->ntaken);
	if (look->take->is_lease)
	{
		look->receipt.key = hold->key;
		look->receipt.epoch = queue_inflight_epoch();
		look->receipt.number = queue_inflight_new_number();
	}
	read_batch(look, partition, failures + 1, limit);
	if (look->batch.n == 0)
	{
		queue_give_back(hold);
		return;
	}
	if (look->take->is_lease)
		lease_batch(look, hold);
	else if (!move_and_hold(look, hold, failures + 1))
		queue_give_back(hold);
}

/* Read where the partition stands; false: somebody is changing that. */
static bool
read_position(PartitionTake *look, int partition)
{
	switch (queue_position_read(look->reading.rel, look->reading.def,
								partition, look->reading.position))
	{
		case POSITION_FOUND:
			return true;
		case POSITION_BUSY:
			look->next->is_busy = true;
			return false;
		case POSITION_MISSING:
			queue_position_report_missing(look->reading.rel, partition);
			break;
	}
	return false;
}

/*
 * done_up_to
 *		Up to which id is all of the partition consumed, or gone from the topic, as
 *		far as that matters to what has failed?
 *
 * The position, which was read, forgets failures of what has gone.  What this
 * transaction has deleted may come back; but a lease is none of the transaction's.
 */
static int64
done_up_to(PartitionTake *look, const InflightEntry *entry)
{
	Position   *position = look->reading.position;
	int64		until = 0;
	int64		next;
	bool		is_undecided;

	if (position->failures > 0)
		until = position->alone_until;
	if (entry != NULL && entry->failures > 0)
		until = Max(until, entry->last_id);
	next = queue_reading_next_id(&look->reading, position, until, &is_undecided);
	if (is_undecided && !(look->take != NULL && look->take->is_lease))
		next = 0;
	queue_position_next_is(position, next);
	return Max(position->id, next - 1);
}

/*
 * Does a message that has used up its attempts stop its partition, with the row
 * telling all of it?
 */
static bool
stays_exhausted(const PartitionTake *look)
{
	SubscriptionDef *def = look->reading.def;

	return def->on_failure == ON_FAILURE_HOLD || !OidIsValid(def->dead_letter);
}

/*
 * move_and_hold
 *		dequeue(): move the position, and hold the partition until the
 *		transaction ends.
 *
 * The partition is claimed, or held already.  Returns false, with nothing done,
 * and nothing shown, if somebody has locked the row.
 *
 * What has failed, or was leased, before this transaction set the position, is
 * remembered as it was: a rollback leaves it so.
 */
static bool
move_and_hold(PartitionTake *look, Hold *hold, int attempt)
{
	Reading    *reading = &look->reading;
	Position   *position = reading->position;
	int64		last = look->batch.last;
	int			counted = position->failures;
	ItemPointerData tid = position->tid;

	if (!queue_position_move(reading->rel, reading->def, position, last))
	{
		take_back(look->take, look->nshown);
		look->next->is_busy = true;
		return false;
	}
	if (hold->kind != HOLD_CLAIM)
	{
		Hold	   *move = queue_xact_push_move(hold);

		if (!queue_xact_is_set(hold))
			queue_inflight_set_last(hold->entry, last);
		move->position = last;
		move->nconsumed = move->batch = look->batch.n;
	}
	else
	{
		queue_inflight_set_batch_ids(hold->entry, look->batch.first, last);
		queue_inflight_dequeue(hold->entry, &reading->def->retry, counted,
							   &tid);
		hold->kind = HOLD_DEQUEUE;
		hold->is_partition = true;
		hold->has_failed = attempt > 1;
		hold->position = last;
		hold->nconsumed = look->batch.n;
	}
	hold->batch += look->batch.n;
	queue_charge_passed(reading->def, GONE_ACKED, look->batch.n);
	queue_database_wake_by(MyDatabaseId, look->now +
						   (int64) queue_lease_write_delay * 1000);
	return true;
}

/* receive(): from a claim to a lease */
static void
lease_batch(PartitionTake *look, Hold *hold)
{
	Take	   *take = look->take;
	Reading    *reading = &look->reading;
	Position   *position = reading->position;
	ReadBatch  *batch = &look->batch;
	TimestampTz deadline = look->now +
		(take->lease < 0 ? reading->def->lease : take->lease);

	queue_inflight_set_batch_ids(hold->entry, batch->first, batch->last);
	queue_inflight_lease(hold->entry, look->receipt.number,
						 &reading->def->retry, position->failures,
						 &position->tid, deadline, batch->n);
	hold->kind = HOLD_LEASE;
	hold->is_partition = true;
	hold->number = look->receipt.number;
	hold->batch = batch->n;
	queue_database_wake_by(MyDatabaseId,
						   Min(deadline, look->now +
							   (int64) queue_lease_write_delay * 1000));
}

/*
 * read_batch
 *		Read messages after the position, and show each at once.
 *
 * Nothing of them is taken yet.
 */
static void
read_batch(PartitionTake *look, int partition, int attempt, int max)
{
	Reading    *reading = &look->reading;

	look->nshown = look->take->ntaken;
	look->attempt = attempt;
	look->batch.receiver = look->take->is_lease ? received : dequeued;
	look->batch.arg = look;
	look->receipt.message = 0;
	if (look->take->is_lease && look->received == NULL)
		look->received = table_slot_create(reading->topic_rel, NULL);
	queue_reading_batch(reading, partition, reading->position->id, 0, max,
						&look->batch);
	if (look->take->is_lease && look->batch.n > 0)
		show_received(look, true);
}

/* One more message that dequeue() returns: MessageReceiver. */
static void
dequeued(TupleTableSlot *slot, int64 id, void *arg)
{
	show((PartitionTake *) arg, slot, NULL /* no receipt */ );
}

/*
 * received
 *		One more message that receive() returns: MessageReceiver.
 *
 * The receipt of the last one says so.  So each is shown when the next one is
 * there.
 */
static void
received(TupleTableSlot *slot, int64 id, void *arg)
{
	PartitionTake *look = (PartitionTake *) arg;
	int64		before = look->receipt.message;

	if (before != 0)
		show_received(look, false);
	look->receipt.message = id;
	look->receipt.after = before != 0 ? before : look->reading.position->id;
	ExecCopySlot(look->received, slot);
}

/* Show the message that was read last. */
static void
show_received(PartitionTake *look, bool is_last)
{
	MemoryContext old = MemoryContextSwitchTo(look->take->row_context);

	look->receipt.is_last = is_last;
	show(look, look->received, queue_receipt_format(&look->receipt));
	ExecClearTuple(look->received);
	MemoryContextSwitchTo(old);
}

/* Add one message to the result. */
static void
show(PartitionTake *look, TupleTableSlot *slot, const char *receipt)
{
	Take	   *take = look->take;
	MemoryContext old = MemoryContextSwitchTo(take->row_context);

	queue_published_show(take->rsinfo, slot, look->attempt, receipt);
	queue_counters_note(look->slot, take->relid, COUNTER_WAIT, look->now -
						queue_published_start(slot)->published_at, 1);
	MemoryContextSwitchTo(old);
	MemoryContextReset(take->row_context);
	look->attempt = 1;
	take->ntaken++;
}

/*
 * take_back
 *		Leave the first so many messages in the result, and no others.
 *
 * This is so seldom that how long the first ones waited is forgotten, too.
 */
static void
take_back(Take *take, int n)
{
	ReturnSetInfo *rsinfo = take->rsinfo;
	Tuplestorestate *shown = rsinfo->setResult;
	MemoryContext old =
		MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(rsinfo->setDesc,
													&TTSOpsMinimalTuple);

	rsinfo->setResult = tuplestore_begin_heap((rsinfo->allowedModes &
											   SFRM_Materialize_Random) != 0,
											  false, work_mem);
	for (int i = 0; i < n; i++)
	{
		(void) tuplestore_gettupleslot(shown, true, false, slot);
		tuplestore_puttupleslot(rsinfo->setResult, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(shown);
	MemoryContextSwitchTo(old);
	take->ntaken = n;
	queue_counters_discard();
}

/*
 * queue_has_for_take
 *		Returns true if a partition has a message that a consumer could take
 *		now.
 *
 * Holds nothing.  Otherwise *next tells when to look again.
 */
bool
queue_has_for_take(Relation rel, SubscriptionDef *def, RetryHint *next)
{
	PartitionTake look;
	bool		found = false;
	int			partition;

	look_begin(&look, NULL, rel, def, GetActiveSnapshot(), next);
	queue_reading_find(&look.reading);
	while (!found && !def->paused &&
		   (partition = queue_reading_next(&look.reading)) >= 0)
	{
		MessageKey	key;
		InflightEntry entry;
		MessageStatus status;
		bool		has_entry;

		queue_message_key(&key, def->relid, partition);
		if (!read_position(&look, partition))
			continue;
		has_entry = queue_inflight_peek(&key, QUEUE_PARTITION_ROW, &entry);
		(void) done_up_to(&look, has_entry ? &entry : NULL);
		queue_message_status(def->retry.max_attempts,
							 look.reading.position->failures, 0, 0,
							 has_entry ? &entry : NULL, look.now, &status);
		if (status.is_claimed)
			next->is_busy = true;
		else if (status.availability == MESSAGE_AVAILABLE)
		{
			/* of a gap a consumer is to learn: nothing may be passed over */
			found = look.reading.gaps[partition] > 0;
			if (!found)
			{
				queue_reading_batch(&look.reading, partition,
									look.reading.position->id, 0, 1,
									&look.batch);
				found = look.batch.n > 0;
			}
		}
		else if (status.due != 0)
			next->due = Min(next->due, status.due);
	}
	if (queue_reading_is_enough(&look.reading))
		next->goes_on = true;
	queue_reading_end(&look.reading, false /* keeps topic */ );
	return found;
}

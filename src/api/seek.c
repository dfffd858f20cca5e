/*-------------------------------------------------------------------------
 *
 * seek.c
 *		Positions of subscriptions set by their owners: seek(), skip().
 *
 * A call holds each partition that it sets, until its transaction ends, as a
 * consumer does: a lease as an ack does, so that its receipts are good again
 * if that rolls back, and a free partition as a dequeue does, but that a
 * rollback is no failure.  What a transaction holds already it moves again.  So
 * savepoints and PREPARE do here what they do to consumers.  The commit forgets
 * what had failed, and wakes consumers that wait.
 *
 * Nothing here waits for a transaction.  A partition that another one holds, an
 * open or a prepared one, is an error, which names it.  A step of the worker, or a
 * consumer that looks whether it wants the partition, is waited for: that is over
 * in a moment.
 *
 * If anything is thrown here, the holds give the partitions back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/start.h"
#include "common/blocker.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "shared/quota.h"
#include "table/call.h"
#include "table/position.h"
#include "table/topic_settings.h"
#include "topic/reading.h"
#include "transaction/holds.h"
#include "transaction/moves.h"
#include "transaction/prepared.h"

/* How often to look, a millisecond apart, whether a step is over */
#define MAX_LOOKS			1000

PG_FUNCTION_INFO_V1(queue_seek);
PG_FUNCTION_INFO_V1(queue_skip);

/* One partition that is held, to be moved */
typedef struct Move
{
	Relation	rel;
	SubscriptionDef *def;
	MessageKey	key;
	HoldKind	kind;			/* how it is held */
	bool		is_new;			/* ... since this call */
} Move;

static Relation open_to_move(Oid relid, SubscriptionDef **def);
static void hold(Move *move, Relation rel, SubscriptionDef *def,
				 int partition);
static bool try_hold(Move *move);
static bool is_held_by_other(const MessageKey *key, InflightEntry *entry);
pg_noreturn static void report_held(const Move *move, const InflightEntry *entry);
pg_noreturn static void report_changed(const Move *move, TransactionId xid);
pg_noreturn static void report(const Move *move, TransactionId xid, int pid);
static void set_position(Move *move, Position *position, int64 id);
static void note_moved(Move *move, int64 id);
static void end_in_log(const Move *moves, int n);
static void let_go(Move *move);
static int64 pass_next(Move *move);

/* seek(subscription, start, start_id, start_at) */
Datum
queue_seek(PG_FUNCTION_ARGS)
{
	int64		positions[MAX_PARTITIONS];
	Move		moves[MAX_PARTITIONS];
	Start		start;
	Relation	rel;
	SubscriptionDef *def;
	Relation	topic_rel;
	TopicDef   *topic;
	Position   *position;

	queue_call_begin(fcinfo, "queue.seek()", CALL_WRITES, "subscription");
	start = queue_start_argument_given(fcinfo, 1);

	rel = open_to_move(PG_GETARG_OID(0), &def);
	topic_rel = queue_topic_open(def->topic, TOPIC_READ, &topic);

	/* first, lest somebody moves on from the place that is found */
	for (int i = 0; i < topic->partitions; i++)
		hold(&moves[i], rel, def, i);
	queue_start_find(&start, topic_rel, topic, positions);
	position = queue_position_make(rel);
	for (int i = 0; i < topic->partitions; i++)
		set_position(&moves[i], position, positions[i]);
	end_in_log(moves, topic->partitions);
	queue_position_free(position);
	table_close(topic_rel, NoLock);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* skip(subscription, partition): the id that is passed, or NULL */
Datum
queue_skip(PG_FUNCTION_ARGS)
{
	Relation	rel;
	SubscriptionDef *def;
	Relation	topic_rel;
	TopicDef   *topic;
	Move		move;
	int			partition;
	int64		id;

	queue_call_begin(fcinfo, "queue.skip()", CALL_WRITES,
					 "subscription", "partition");
	partition = PG_GETARG_INT32(1);

	rel = open_to_move(PG_GETARG_OID(0), &def);
	topic_rel = queue_topic_open(def->topic, TOPIC_READ, &topic);
	if (partition < 0 || partition >= topic->partitions)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition must be between 0 and %d",
						topic->partitions - 1)));
	table_close(topic_rel, NoLock);
	hold(&move, rel, def, partition);
	id = pass_next(&move);
	table_close(rel, NoLock);
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

/* Open a subscription of which the current user may move the positions. */
static Relation
open_to_move(Oid relid, SubscriptionDef **def)
{
	Relation	rel = queue_subscription_open(relid, SUBSCRIPTION_OWN, def);

	queue_lease_load();
	(void) queue_subscription_slot(*def);
	return rel;
}

/* ----------------------------------------------------------------
 *		Holding
 * ----------------------------------------------------------------
 */

/* Hold a partition until the transaction ends; 55P03 if another one does. */
static void
hold(Move *move, Relation rel, SubscriptionDef *def, int partition)
{
	InflightEntry entry;

	memset(move, 0, sizeof(Move));
	move->rel = rel;
	move->def = def;
	queue_message_key(&move->key, RelationGetRelid(rel), partition);
	for (int looks = 0; !try_hold(move); looks++)
	{
		if (is_held_by_other(&move->key, &entry))
			report_held(move, &entry);
		if (looks == MAX_LOOKS)
			report(move, InvalidTransactionId, 0);
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
	INJECTION_POINT("queue-partition-held", NULL);
}

/* Try that once; false: somebody else has it, if only for a moment. */
static bool
try_hold(Move *move)
{
	const MessageKey *key = &move->key;
	InflightEntry *entry;
	TimestampTz due = TIMESTAMP_INFINITY;
	TimestampTz other;

	queue_xact_reserve();
	switch (queue_inflight_settle_any(key, QUEUE_PARTITION_ROW, &entry))
	{
		case SETTLE_OK:
			move->kind = HOLD_SETTLE;
			queue_xact_push(HOLD_SETTLE, key, entry)->is_partition = true;
			move->is_new = true;
			return true;
		case SETTLE_SELF:
			move->kind = HOLD_SETTLE;
			return queue_xact_find(HOLD_SETTLE, key) != NULL;
		case SETTLE_BUSY:
		case SETTLE_EXAMINED:
			return false;
		case SETTLE_LOST:
		case SETTLE_HELD:
		case SETTLE_GIVEN_BACK:
			break;
	}
	if (queue_xact_holds_partition(key))
	{
		move->kind = HOLD_DEQUEUE;
		return queue_xact_find(HOLD_DEQUEUE, key) != NULL;
	}
	switch (queue_inflight_claim(key, QUEUE_PARTITION_ROW,
								 queue_subscription_slot(move->def),
								 0 /* priority */ , GetCurrentTimestamp(),
								 &entry, &due, &other))
	{
		case CLAIM_OK:
			break;
		case CLAIM_FULL:
			queue_quota_raise_full();
			break;
		case CLAIM_HELD:
		case CLAIM_EXAMINED:
		case CLAIM_NOT_DUE:
		case CLAIM_EXHAUSTED:
		case CLAIM_OTHER:
			if (!queue_inflight_claim_idle(key, &entry))
				return false;
	}
	move->kind = HOLD_CLAIM;
	queue_xact_push(HOLD_CLAIM, key, entry)->is_partition = true;
	move->is_new = true;
	return true;
}

/* Does another transaction hold it, which may last? */
static bool
is_held_by_other(const MessageKey *key, InflightEntry *entry)
{
	return queue_inflight_peek(key, QUEUE_PARTITION_ROW, entry) &&
		(entry->state == INFLIGHT_DEQUEUED ||
		 (entry->state == INFLIGHT_LEASED && entry->is_settling)) &&
		(entry->is_prepared || entry->holder != MyProcNumber);
}

/* Raise 55P03: this entry says who holds the partition. */
static void
report_held(const Move *move, const InflightEntry *entry)
{
	if (entry->is_prepared)
		report(move, queue_prepared_xid(entry->holder), 0);
	report(move, InvalidTransactionId, entry->holder_pid);
}

/* Raise 55P03: this transaction, if it is known, changes the row. */
static void
report_changed(const Move *move, TransactionId xid)
{
	if (TransactionIdIsValid(xid) && TransactionIdIsInProgress(xid))
		xid = SubTransGetTopmostTransaction(xid);
	report(move, xid, 0);
}

/*
 * Raise 55P03: this transaction or process, if one is known, holds the
 * partition.
 */
static void
report(const Move *move, TransactionId xid, int pid)
{
	char	   *gid = NULL;

	if (TransactionIdIsValid(xid))
	{
		gid = queue_blocker_gid(xid);
		pid = gid == NULL ? BackendXidGetPid(xid) : 0;
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not move the position of subscription \"%s\" in partition %d",
					queue_shown_name(move->key.relid),
					(int) move->key.id),
			 gid != NULL ?
			 errdetail("Prepared transaction \"%s\" holds it, and nobody has ended that.",
					   gid) :
			 pid != 0 ?
			 errdetail("Process %d holds it, in a transaction that has not ended.",
					   pid) :
			 errdetail("Another transaction holds it, and has not ended."),
			 errhint("Try again when that transaction has ended.")));
}

/* ----------------------------------------------------------------
 *		Moving
 * ----------------------------------------------------------------
 */

/*
 * set_position
 *		Set the position of a partition that is held, forgetting what failed.
 *
 * If somebody has deleted its row, there is one again.
 */
static void
set_position(Move *move, Position *position, int64 id)
{
	int			partition = (int) move->key.id;

	switch (queue_position_read(move->rel, move->def, partition, position))
	{
		case POSITION_FOUND:
			position->alone_until = 0;
			if (!queue_position_move(move->rel, move->def, position, id))
				report_changed(move, InvalidTransactionId);
			break;
		case POSITION_BUSY:
			report_changed(move, position->changer);
			break;
		case POSITION_MISSING:
			if (!queue_position_put(move->rel, move->def, partition, id))
				report_changed(move, InvalidTransactionId);
			break;
	}
	note_moved(move, id);
}

/* Note where the partition is when this transaction commits. */
static void
note_moved(Move *move, int64 id)
{
	Hold	   *noted;

	queue_xact_reserve();
	noted = queue_xact_find(move->kind, &move->key);
	if (!move->is_new)
		noted = queue_xact_push_move(noted);
	else if (move->kind == HOLD_CLAIM)
	{
		queue_inflight_hold(noted->entry);
		noted->kind = HOLD_DEQUEUE;
	}
	noted->position = id;
	noted->goes_on = false;
	noted->is_set = true;
}

/* End what the log of leases says of what was moved, if it knows of any of it. */
static void
end_in_log(const Move *moves, int n)
{
	LeaseFence	leases[MAX_PARTITIONS];
	int			nleases = 0;

	for (int i = 0; i < n; i++)
	{
		InflightEntry entry;

		/* what this transaction settles is written if the server stops */
		if (!queue_inflight_peek(&moves[i].key, QUEUE_PARTITION_ROW, &entry) ||
			(!entry.is_durable && moves[i].kind != HOLD_SETTLE))
			continue;
		leases[nleases].key = moves[i].key;
		leases[nleases].epoch = entry.epoch;
		leases[nleases++].number = entry.number;
	}
	if (nleases > 0)
		queue_lease_log_end(leases, nleases);
}

/* Nothing is to be moved: let go of the partition that was held last. */
static void
let_go(Move *move)
{
	Hold	   *held;

	if (!move->is_new)
		return;
	held = queue_xact_find(move->kind, &move->key);
	if (move->kind == HOLD_SETTLE)
		queue_inflight_undo_settle(held->entry);
	else
		queue_inflight_unclaim(held->entry);
	queue_xact_pop(held);
}

/*
 * pass_next
 *		Move the position past the next message that is wanted; returns its id,
 *		or 0 if there is none.
 *
 * What had failed together with it may still fail.
 */
static int64
pass_next(Move *move)
{
	Reading		reading;
	ReadBatch	batch = {0};
	Position   *position;
	int64		id = 0;

	queue_reading_begin(&reading, move->rel, move->def, GetActiveSnapshot(),
						1);
	position = reading.position;
	switch (queue_position_read(move->rel, move->def, (int) move->key.id,
								position))
	{
		case POSITION_FOUND:
			break;
		case POSITION_BUSY:
			report_changed(move, position->changer);
			break;
		case POSITION_MISSING:
			queue_position_report_missing(move->rel, (int) move->key.id);
			break;
	}
	queue_reading_look_at(&reading, position->partition);
	if (queue_reading_first(&reading, position, &batch))
	{
		Hold	   *held = queue_xact_find(move->kind, &move->key);

		id = batch.last;
		if (held->entry->failures > 0)
			position->alone_until = held->entry->last_id;
		if (!queue_position_move(move->rel, move->def, position, id))
			report_changed(move, InvalidTransactionId);
		note_moved(move, id);
		end_in_log(move, 1);
	}
	else
		let_go(move);
	queue_reading_end(&reading, true /* keeps topic */ );
	return id;
}

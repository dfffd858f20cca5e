/*-------------------------------------------------------------------------
 *
 * end_lease.c
 *		A lease ended by the owner of the queue: end_lease().
 *
 * As if the consumer had called nack(), or release(), and at once as these: in
 * two steps, of which only the first throws.  The lease is held, as by a
 * caller that settles it, and the row or the position looked at; then it ends.
 * An error in between, or the end of the process, lets it go on.
 *
 * A lease whose time is over, but whose receipt is still good because nobody has
 * taken the message since, is ended all the same: what is wanted is that its
 * consumer comes too late.
 *
 * One that a transaction is settling is left to that, because its commit would
 * consume the message whatever happened here: 55006.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "api/settling.h"
#include "common/blocker.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "shared/database.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/fate.h"
#include "table/message.h"
#include "table/position.h"
#include "table/topic.h"
#include "table/topic_scan.h"
#include "transaction/holds.h"
#include "transaction/prepared.h"

PG_FUNCTION_INFO_V1(queue_end_lease);

/* A lease that is about to be ended */
typedef struct Ending
{
	Receipt		receipt;
	InflightEntry *entry;
	const RetryPolicy *retry;
	int			counted;		/* failures in the row, or the position */
} Ending;

static bool end_message(Oid relid, int64 id, bool counts);
static bool find_row(Relation rel, QueueDef *def, Ending *ending);
static bool end_partition(Oid relid, int64 id, bool counts);
static bool find_partition(Relation rel, SubscriptionDef *def, int64 id,
						   Ending *ending);
static bool is_there(TopicScan *scan, int partition, int64 id);
static bool read_position(Relation rel, SubscriptionDef *def, int64 id,
						  Ending *ending);
static bool find_lease(Ending *ending, TimestampTz enqueued_at);
static bool hold(Ending *ending);
static void let_go(Ending *ending);
static void finish(Ending *ending, bool counts);
pg_noreturn static void report_settled(const Ending *ending);
pg_noreturn static void report(const Ending *ending, int sqlstate,
							   const char *detail);

/* end_lease(queue, id, counts): was there a lease? */
Datum
queue_end_lease(PG_FUNCTION_ARGS)
{
	Oid			relid;
	int64		id;
	bool		counts;

	queue_call_begin(fcinfo, "queue.end_lease()", CALL_WRITES,
					 "queue", "id", "counts");
	relid = PG_GETARG_OID(0);
	id = PG_GETARG_INT64(1);
	counts = PG_GETARG_BOOL(2);
	PG_RETURN_BOOL(queue_is_subscription(relid) ?
				   end_partition(relid, id, counts) :
				   end_message(relid, id, counts));
}

/* ----------------------------------------------------------------
 *		Of a queue
 * ----------------------------------------------------------------
 */

/* End the lease of a message. */
static bool
end_message(Oid relid, int64 id, bool counts)
{
	Ending		ending = {0};
	QueueDef   *def;
	Relation	rel = queue_open(relid, QUEUE_OWN, &def);
	bool		found;

	queue_lease_load();
	queue_message_key(&ending.receipt.key, relid, id);
	found = find_lease(&ending, DT_NOBEGIN) && hold(&ending) &&
		find_row(rel, def, &ending);
	if (found)
		finish(&ending, counts);
	table_close(rel, NoLock);
	return found;
}

/*
 * find_row
 *		Look at the row of a message that is held.
 *
 * If it has gone, its lease is nobody's business any more.
 */
static bool
find_row(Relation rel, QueueDef *def, Ending *ending)
{
	MessageRow *row = queue_row_make(rel);
	RowState	state;
	Fate		fate;
	char	   *gid;

	row->id = ending->receipt.key.id;
	row->enqueued_at = ending->entry->enqueued_at;
	row->tid = ending->entry->tid;
	row->priority = ending->entry->priority;
	state = queue_row_find(rel, def, row);
	ending->retry = &def->retry;
	ending->counted = row->failures;
	if (state == ROW_BUSY)
	{
		/* memory does not know what was prepared before the start */
		queue_fate_find(rel, def, row->id, row, &fate);
		gid = queue_blocker_gid(fate.xid);
		if (gid != NULL)
			report(ending, ERRCODE_OBJECT_IN_USE,
				   psprintf("Prepared transaction \"%s\" has settled, deleted or changed it, and nobody has ended that.",
							gid));
		report(ending, ERRCODE_LOCK_NOT_AVAILABLE,
			   "Another transaction is deleting or changing the message.");
	}
	ExecDropSingleTupleTableSlot(row->slot);
	if (state == ROW_GONE)
		let_go(ending);
	return state != ROW_GONE;
}

/* ----------------------------------------------------------------
 *		Of a subscription
 * ----------------------------------------------------------------
 */

/* End the lease of the batch that has this message. */
static bool
end_partition(Oid relid, int64 id, bool counts)
{
	Ending		ending = {0};
	SubscriptionDef *def;
	Relation	rel = queue_subscription_open(relid, SUBSCRIPTION_OWN, &def);
	bool		found;

	queue_lease_load();
	found = find_partition(rel, def, id, &ending) && hold(&ending) &&
		read_position(rel, def, id, &ending);
	if (found)
		finish(&ending, counts);
	table_close(rel, NoLock);
	return found;
}

/*
 * find_partition
 *		Find a partition that is leased, and has this message not behind the
 *		end of its batch.
 *
 * Ids say nothing about partitions, so the topic is asked.
 */
static bool
find_partition(Relation rel, SubscriptionDef *def, int64 id, Ending *ending)
{
	TopicDef   *topic;
	Relation	topic_rel = queue_topic_open(def->topic, TOPIC_READ, &topic);
	TopicScan  *scan = queue_topic_scan_begin(topic_rel, topic,
											  GetActiveSnapshot(), 1);
	bool		found = false;

	for (int i = 0; i < topic->partitions && !found; i++)
	{
		InflightEntry copy;

		queue_message_key(&ending->receipt.key, RelationGetRelid(rel), i);
		found = find_lease(ending, QUEUE_PARTITION_ROW) &&
			queue_inflight_copy(&ending->receipt.key, &copy) &&
			(copy.last_id == 0 || id <= copy.last_id) && is_there(scan, i, id);
	}
	queue_topic_scan_end(scan);
	table_close(topic_rel, NoLock);
	ending->receipt.message = id;
	return found;
}

/* Is this message in that partition? */
static bool
is_there(TopicScan *scan, int partition, int64 id)
{
	int64		found;

	if (id <= 0 || id == PG_INT64_MAX ||
		!queue_topic_scan_add(scan, partition, id - 1, id + 1, &found))
		return false;
	while (queue_topic_scan_next_of(scan, partition, &found) != NULL)
		if (queue_topic_row_state(scan) == TOPIC_ROW_SEEN)
			return true;
	return false;
}

/* Look where a partition stands that is held: is the message still to come? */
static bool
read_position(Relation rel, SubscriptionDef *def, int64 id, Ending *ending)
{
	Position   *position = queue_position_make(rel);
	PositionState state = queue_position_read(rel, def,
											  (int) ending->receipt.key.id,
											  position);
	bool		is_ahead = state == POSITION_FOUND && position->id < id;

	ending->retry = &def->retry;
	if (state == POSITION_FOUND)
		queue_position_next_is(position, ending->entry->first_id);
	ending->counted = position->failures;
	queue_position_free(position);
	if (state == POSITION_BUSY)
		report(ending, ERRCODE_LOCK_NOT_AVAILABLE,
			   "Another transaction is changing the position of the subscription.");
	if (!is_ahead)
		let_go(ending);
	return is_ahead;
}

/* ----------------------------------------------------------------
 *		Common parts
 * ----------------------------------------------------------------
 */

/*
 * find_lease
 *		Is there a lease, or one that ran out of which the receipt is good?
 *
 * Then the receipt is filled in.  enqueued_at is that of the row, DT_NOBEGIN:
 * of any.
 */
static bool
find_lease(Ending *ending, TimestampTz enqueued_at)
{
	InflightEntry copy;

	if (!queue_inflight_copy(&ending->receipt.key, &copy) ||
		(enqueued_at != DT_NOBEGIN && copy.enqueued_at != enqueued_at) ||
		(copy.state != INFLIGHT_LEASED && !copy.is_lapsed))
		return false;
	ending->receipt.epoch = copy.epoch;
	ending->receipt.number = copy.number;
	return true;
}

/* Hold the lease as an ack does; false: it has ended meanwhile. */
static bool
hold(Ending *ending)
{
	Hold	   *pushed;
	SettleResult result;

	(void) queue_settling_begin(&ending->receipt, &ending->entry, &result);
	if (result == SETTLE_SELF || queue_settling_is_busy(result))
		report_settled(ending);
	if (result != SETTLE_OK)
		return false;
	pushed = queue_xact_push(HOLD_SETTLE, &ending->receipt.key, ending->entry);
	if (ending->receipt.message != 0)
	{
		pushed->is_partition = true;
		pushed->goes_on = true;
	}
	return true;
}

/* Let it go on as it was. */
static void
let_go(Ending *ending)
{
	queue_inflight_undo_settle(ending->entry);
	queue_xact_pop_settled(1);
}

/*
 * finish
 *		End the lease: the message is available at once, whether it counts or
 *		not.
 *
 * What the row tells of the failure is who had the message, and in its text who
 * has taken it away.
 */
static void
finish(Ending *ending, bool counts)
{
	InflightEntry *entry = ending->entry;

	if (counts)
	{
		char	   *text = psprintf("lease ended by %s",
									GetUserNameFromId(GetUserId(), false));
		FailureNote failure = queue_failure_note(FAILURE_NACKED, text, 0,
												 entry->role,
												 entry->application);

		queue_inflight_nack(entry, ending->retry, ending->counted, 0,
							&failure, entry->batch);
	}
	else
		queue_inflight_release(entry, 0);
	queue_xact_pop_settled(1);
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
}

/* Raise 55006: a transaction has settled the message, and has not ended. */
static void
report_settled(const Ending *ending)
{
	InflightEntry copy;
	char	   *gid = NULL;
	char	   *detail = "Another session is settling it, or looking at it.";

	if (queue_inflight_copy(&ending->receipt.key, &copy) && copy.is_settling)
	{
		if (copy.is_prepared)
			gid = queue_blocker_gid(queue_prepared_xid(copy.holder));
		else if (copy.holder_pid == MyProcPid)
			detail = "This transaction has settled it, and has not ended.";
		else
			detail = psprintf("Process %d is settling it, in a transaction that has not ended.",
							  copy.holder_pid);
	}
	if (gid != NULL)
		detail = psprintf("Prepared transaction \"%s\" has settled it, and nobody has ended that.",
						  gid);
	report(ending, ERRCODE_OBJECT_IN_USE, detail);
}

/* Raise an error: another transaction is in the way, as the detail says. */
static void
report(const Ending *ending, int sqlstate, const char *detail)
{
	const Receipt *receipt = &ending->receipt;
	bool		is_message = receipt->message == 0;

	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("could not end the lease of message " INT64_FORMAT " of %s \"%s\"",
					is_message ? receipt->key.id : receipt->message,
					is_message ? "queue" : "subscription",
					queue_shown_name(receipt->key.relid)),
			 errdetail_internal("%s", detail),
			 errhint("Try again when that transaction has ended.")));
}

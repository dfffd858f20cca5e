/*-------------------------------------------------------------------------
 *
 * subscriptions.c
 *		Where subscriptions stand, for view queue.subscriptions.
 *
 * By what memory knows (shared/place.c) and the index of the topic: the rows of
 * the positions are not read, because under an old snapshot that may take long.
 * What memory does not know is NULL, until somebody takes from the partition.
 *
 * Locks: on the subscription and its topic, if they can be had at once, given
 * back at once, as in inspect.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "common/relation.h"
#include "dispatch/lease.h"
#include "shared/inflight.h"
#include "shared/place.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/subscription.h"
#include "table/topic.h"
#include "topic/behind.h"
#include "transaction/prepared.h"

/* partition, position, behind, behind_since, failures, pid, xid, since, until */
#define Natts_positions		9

PG_FUNCTION_INFO_V1(queue_partition_positions);

/* A look at one subscription */
typedef struct PositionsLook
{
	ReturnSetInfo *rsinfo;
	SubscriptionDef *def;
	TopicDef   *topic;			/* NULL: what is in it is not shown */
	TopicScan  *scan;
	Snapshot	snapshot;
} PositionsLook;

static void show_all(PositionsLook *look, Relation rel, Relation topic_rel);
static void show(PositionsLook *look, int partition);
static void add_behind(PositionsLook *look, int partition, int64 after,
					   Datum *values, bool *nulls);
static void add_holder(const InflightEntry *entry, Datum *values, bool *nulls);

/* partition_positions(subscription) */
Datum
queue_partition_positions(PG_FUNCTION_ARGS)
{
	PositionsLook look = {0};
	Relation	rel;
	Oid			relid;
	bool		is_locked;

	queue_call_begin(fcinfo, "queue_internal.partition_positions()", CALL_READS,
					 "subscription");
	relid = PG_GETARG_OID(0);
	InitMaterializedSRF(fcinfo, 0);
	look.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	if (RecoveryInProgress() || !queue_may_watch(relid) ||
		!queue_is_subscription(relid))
		return (Datum) 0;
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel == NULL)
		return (Datum) 0;
	look.def = queue_subscription_def(rel);
	if (look.def->is_subscription && look.def->problem == NULL)
	{
		Relation	topic_rel = queue_open_unless_locked(look.def->topic,
														 AccessShareLock,
														 &is_locked);

		if (topic_rel != NULL)
		{
			show_all(&look, rel, topic_rel);
			table_close(topic_rel, AccessShareLock);
		}
	}
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* Add a row for each partition of the topic. */
static void
show_all(PositionsLook *look, Relation rel, Relation topic_rel)
{
	TopicDef   *topic = queue_topic_def(topic_rel);
	int			partitions = topic->partitions;

	if (!topic->is_topic || topic->problem != NULL)
		return;
	queue_lease_load_to_look();
	look->snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (queue_may_watch(topic->relid))
	{
		look->topic = topic;
		look->scan = queue_topic_scan_begin(topic_rel, topic,
											look->snapshot, 1);
	}
	for (int i = 0; i < partitions; i++)
		show(look, i);
	if (look->scan != NULL)
		queue_topic_scan_end(look->scan);
	UnregisterSnapshot(look->snapshot);
}

/* Add the row of one partition. */
static void
show(PositionsLook *look, int partition)
{
	Datum		values[Natts_positions] = {0};
	bool		nulls[Natts_positions];
	MessageKey	key;
	InflightEntry entry;
	Place		place;
	bool		has_entry;
	bool		has_place = queue_place_get(look->def->relid, partition,
											&place) && place.position >= 0;

	memset(nulls, true, sizeof(nulls));
	queue_message_key(&key, look->def->relid, partition);
	has_entry = queue_inflight_peek(&key, QUEUE_PARTITION_ROW, &entry);
	values[0] = Int16GetDatum(partition);
	nulls[0] = false;
	if (has_place)
	{
		values[1] = Int64GetDatum(place.position);
		nulls[1] = false;
		if (look->scan != NULL)
			add_behind(look, partition,
					   queue_place_look_after(&place, look->def->filter,
											  place.position), values, nulls);
		values[4] = Int32GetDatum(queue_add_failures(place.failures, has_entry ?
													 entry.failures : 0));
		nulls[4] = false;
	}
	if (has_entry)
		add_holder(&entry, values, nulls);
	tuplestore_putvalues(look->rsinfo->setResult, look->rsinfo->setDesc, values,
						 nulls);
}

/* How many messages can be read after an id, and since when? */
static void
add_behind(PositionsLook *look, int partition, int64 after, Datum *values,
		   bool *nulls)
{
	Behind		behind;

	if (!queue_behind_of(look->scan, look->topic, partition, after, &behind))
		return;
	values[2] = Int64GetDatum(behind.n);
	nulls[2] = false;
	values[3] = TimestampTzGetDatum(behind.since);
	nulls[3] = behind.since == 0;
}

/*
 * add_holder
 *		Who holds it: of a lease that nobody is settling, the process that
 *		received it, which may have ended.
 */
static void
add_holder(const InflightEntry *entry, Datum *values, bool *nulls)
{
	bool		is_leased = entry->state == INFLIGHT_LEASED;
	TransactionId xid = InvalidTransactionId;

	if (!is_leased && entry->state != INFLIGHT_DEQUEUED)
		return;
	if (entry->is_prepared)
		xid = queue_prepared_xid(entry->holder);
	values[5] = Int32GetDatum(entry->holder_pid);
	nulls[5] = entry->is_prepared || entry->holder_pid == 0;
	values[6] = TransactionIdGetDatum(xid);
	nulls[6] = !TransactionIdIsValid(xid);
	values[7] = TimestampTzGetDatum(entry->since);
	nulls[7] = false;
	values[8] = TimestampTzGetDatum(entry->deadline);
	nulls[8] = !is_leased;
}

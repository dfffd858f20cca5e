/*-------------------------------------------------------------------------
 *
 * idle.c
 *		Subscriptions that nobody reads, that a failed message holds, or that
 *		retention has overtaken, for queue.health().
 *
 * Unlike view queue.subscriptions this reads the rows of the positions, because
 * memory knows nothing of a subscription that nobody has read since the server
 * was started, and that is the one to be found.  They are few.
 *
 * What is broken or locked by others has no row here, and raises no error.
 *
 * Locks: AccessShareLock on the subscription and its topic, if they can be had
 * at once, given back at once.  Changes nothing, so nothing is left if this
 * process dies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/relation.h"
#include "shared/availability.h"
#include "shared/place.h"
#include "shared/topic_slot.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/position.h"
#include "table/published.h"
#include "table/removed_id.h"
#include "table/subscription.h"
#include "table/topic.h"
#include "table/topic_column.h"
#include "table/topic_scan.h"

/* Rows of a partition that are looked at for one that is there */
#define MAX_ROWS				1000

/* moved_at, unread_since, overtaken, held */
#define Natts_state				4

PG_FUNCTION_INFO_V1(queue_subscription_state);

static bool find_state(Relation rel, SubscriptionDef *def, TimestampTz before,
					   Datum *values, bool *nulls);
static int	count_overtaken(SubscriptionDef *def, TopicDef *topic,
							const int64 *positions);
static ArrayType *list_held(SubscriptionDef *def, TopicDef *topic,
							const PositionFailure *failures);
static TimestampTz unread_since(Relation topic_rel, TopicDef *topic,
								const int64 *positions);

/*
 * subscription_state(subscription, before)
 *
 * When its positions last moved; if that was before the second argument, since
 * when the oldest message that it has not passed is there; of how many
 * partitions retention has deleted messages that it has not passed, if that is
 * an error to it; and which partitions a failed message holds, null if none.
 * Null if it cannot be looked at.
 */
Datum
queue_subscription_state(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[Natts_state] = {0};
	bool		nulls[Natts_state];
	Relation	rel;
	Oid			relid;
	bool		is_locked;
	bool		is_found = false;

	queue_require_preload();
	queue_require_arg(fcinfo, 0, "subscription");
	queue_require_arg(fcinfo, 1, "before");
	desc = queue_call_row_type(fcinfo);
	relid = PG_GETARG_OID(0);
	memset(nulls, true, sizeof(nulls));
	if (!queue_may_watch(relid) || !queue_is_subscription(relid))
		PG_RETURN_NULL();
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel != NULL)
	{
		SubscriptionDef *def = queue_subscription_def(rel);

		if (def->is_subscription && def->problem == NULL)
			is_found = find_state(rel, def, PG_GETARG_TIMESTAMPTZ(1), values,
								  nulls);
		table_close(rel, AccessShareLock);
	}
	if (!is_found)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* Find all of it; false if its topic is not to be had. */
static bool
find_state(Relation rel, SubscriptionDef *def, TimestampTz before,
		   Datum *values, bool *nulls)
{
	bool		is_locked;
	Relation	topic_rel = queue_open_unless_locked(def->topic,
													 AccessShareLock,
													 &is_locked);
	TopicDef   *topic = topic_rel != NULL ? queue_topic_def(topic_rel) : NULL;
	bool		is_found = topic != NULL && topic->is_topic &&
		topic->problem == NULL;

	if (is_found)
	{
		int64	   *positions = palloc(topic->partitions * sizeof(int64));
		PositionFailure *failures = palloc0(topic->partitions *
											sizeof(PositionFailure));
		ArrayType  *held;
		TimestampTz moved_at;
		TimestampTz since = DT_NOEND;

		for (int i = 0; i < topic->partitions; i++)
			positions[i] = PG_INT64_MAX;
		moved_at = queue_positions_read(rel, topic->partitions, positions,
										failures);
		values[0] = TimestampTzGetDatum(moved_at);
		nulls[0] = moved_at == DT_NOBEGIN;
		if (moved_at < before && queue_may_watch(topic->relid))
			since = unread_since(topic_rel, topic, positions);
		values[1] = TimestampTzGetDatum(since);
		nulls[1] = since == DT_NOEND;
		values[2] = Int32GetDatum(def->on_gap != ON_GAP_ERROR ? 0 :
								  count_overtaken(def, topic, positions));
		nulls[2] = false;
		held = list_held(def, topic, failures);
		values[3] = PointerGetDatum(held);
		nulls[3] = held == NULL;
		pfree(failures);
		pfree(positions);
	}
	if (topic_rel != NULL)
		table_close(topic_rel, AccessShareLock);
	return is_found;
}

/*
 * count_overtaken
 *		Return of how many partitions messages after the position are gone, and
 *		were not passed over by its filter.
 *
 * Memory knows how far retention has come in any partition, so the rows that
 * tell it of each are read for few subscriptions only.
 */
static int
count_overtaken(SubscriptionDef *def, TopicDef *topic, const int64 *positions)
{
	int64		removed = queue_topic_slot_removed(topic->relid);
	int64		least = PG_INT64_MAX;
	int			n = 0;
	Snapshot	snapshot;

	for (int i = 0; i < topic->partitions; i++)
		least = Min(least, positions[i]);
	if (removed >= 0 && removed <= least)
		return 0;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < topic->partitions; i++)
	{
		int64		after = positions[i];
		Place		place;

		if (queue_place_get(def->relid, i, &place))
			after = queue_place_look_after(&place, def->filter, after);
		if (queue_removed_id_read(topic->relid, i, snapshot) > after)
			n++;
	}
	UnregisterSnapshot(snapshot);
	return n;
}

/*
 * list_held
 *		Return the partitions that a message holds because it has failed so
 *		often, NULL if there are none.
 *
 * By the rows alone, in which the worker counts failures soon after they came:
 * with what memory has for it to count, some would be counted twice.  Failures
 * of what retention has deleted hold nothing.
 */
static ArrayType *
list_held(SubscriptionDef *def, TopicDef *topic,
		  const PositionFailure *failures)
{
	Datum	   *held = palloc(topic->partitions * sizeof(Datum));
	int			n = 0;
	Snapshot	snapshot;

	if (def->on_failure != ON_FAILURE_HOLD)
		return NULL;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < topic->partitions; i++)
	{
		const PositionFailure *failure = &failures[i];

		if (queue_is_at_limit(def->retry.max_attempts, failure->failures) &&
			(failure->alone_until == 0 ||
			 queue_removed_id_read(topic->relid, i, snapshot) <
			 failure->alone_until))
			held[n++] = Int32GetDatum(i);
	}
	UnregisterSnapshot(snapshot);
	return n == 0 ? NULL :
		construct_array(held, n, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

/* Return since when the oldest message after the positions is there. */
static TimestampTz
unread_since(Relation topic_rel, TopicDef *topic, const int64 *positions)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TopicScan  *scan = queue_topic_scan_begin(topic_rel, topic, snapshot, 1);
	TimestampTz since = DT_NOEND;

	for (int i = 0; i < topic->partitions; i++)
	{
		TupleTableSlot *slot;
		int64		id;

		if (positions[i] == PG_INT64_MAX ||
			!queue_topic_scan_add(scan, i, positions[i], PG_INT64_MAX, &id))
			continue;
		for (int n = 0; n < MAX_ROWS &&
			 (slot = queue_topic_scan_next_of(scan, i, &id)) != NULL; n++)
			if (queue_topic_row_state(scan) == TOPIC_ROW_SEEN)
			{
				Datum		at = queue_published_column(slot,
														Anum_published_at).value;

				since = Min(since, DatumGetTimestampTz(at));
				break;
			}
	}
	queue_topic_scan_end(scan);
	UnregisterSnapshot(snapshot);
	return since;
}

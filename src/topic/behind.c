/*-------------------------------------------------------------------------
 *
 * behind.c
 *		How much of its topic a subscription has not passed.
 *
 * That is counted in the index of the topic, from the position on, up to a number
 * beyond which it is estimated from how close the ids lie that were counted.  So
 * it costs the same however far behind the subscription is.
 *
 * Where it stands is what memory knows (shared/place.c).  After a restart that is
 * nothing, so the rows of the positions are read.  Under an old snapshot there may
 * be many dead ones.  Then the worker looks each position up by its key, which ends
 * with the first that is alive; a view does without.
 *
 * Locks: the topic, if it can be had at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/relation.h"
#include "shared/counters.h"
#include "shared/place.h"
#include "shared/topic_slot.h"
#include "table/position.h"
#include "table/published.h"
#include "table/topic_column.h"
#include "topic/behind.h"
#include "transaction/publishing.h"

/* Entries of a partition that are counted, and rows that are looked at */
#define MAX_COUNTED			1000

/* A table of positions of so many pages is read as a whole */
#define SMALL_PAGES			16

static TimestampTz published_at(TopicScan *scan, int partition);
static bool find_all(Relation rel, SubscriptionDef *def, bool is_worker,
					 Behind *behind);
static int64 *find_places(Relation rel, SubscriptionDef *def, int partitions,
						  bool is_worker);
static void look_up_places(Relation rel, SubscriptionDef *def, int partitions,
						   int64 *positions);
static bool add_all(Relation topic_rel, TopicDef *topic, const int64 *after,
					Behind *behind);

/*
 * queue_behind_of
 *		How many messages of a partition can be read after an id, and since when
 *		the first of them is there?
 */
bool
queue_behind_of(TopicScan *scan, TopicDef *topic, int partition, int64 after,
				Behind *behind)
{
	TopicLimit	limit;
	int64		last;
	int64		id;

	if (!queue_publishing_limit(topic, partition, &limit,
								true /* missing_ok */ ))
		return false;
	behind->n = behind->since = 0;
	if (after >= Min(limit.greatest, limit.stable_id - 1))
		return true;
	behind->n = queue_topic_scan_count(scan, partition, after, limit.stable_id,
									   MAX_COUNTED, &last);
	if (behind->n == MAX_COUNTED)
		behind->n += (int64) ((double) (limit.stable_id - 1 - last) *
							  MAX_COUNTED / (last - after));
	if (behind->n > 0 &&
		queue_topic_scan_add(scan, partition, after, limit.stable_id, &id))
		behind->since = published_at(scan, partition);
	return true;
}

/* Return when the first message that is there was published; 0: there is none. */
static TimestampTz
published_at(TopicScan *scan, int partition)
{
	TupleTableSlot *slot;
	int64		id;

	for (int i = 0; i < MAX_COUNTED &&
		 (slot = queue_topic_scan_next_of(scan, partition, &id)) != NULL; i++)
		if (queue_topic_row_state(scan) == TOPIC_ROW_SEEN)
			return DatumGetTimestampTz(queue_published_column(slot,
															  Anum_published_at).value);
	return 0;
}

/*
 * queue_behind_count
 *		Set how much a subscription has not passed, and since when the oldest of
 *		that is there.
 *
 * What it consumes from here on goes off; what is published comes with the next
 * look.  Returns false if it is not known, or the topic is locked.
 */
bool
queue_behind_count(Relation rel, SubscriptionDef *def, QueueSlot *slot,
				   bool is_worker)
{
	TimestampTz now = GetCurrentTimestamp();
	CounterRows rows = {0};
	CounterStart start;
	Behind		behind = {0};
	uint64		nevents;

	queue_counters_set_topic(slot, queue_topic_slot_find(def->topic));
	nevents = queue_counters_nevents(slot);
	queue_counters_start(slot, now, &start);
	if (!find_all(rel, def, is_worker, &behind))
		return false;

	/* the first look at a topic makes its slot */
	queue_counters_set_topic(slot, queue_topic_slot_find(def->topic));
	rows.rows = behind.n;
	queue_counters_set(slot, def->relid, &start, &rows,
					   Max(GetCurrentTimestamp() - now, 0));
	queue_counters_set_oldest(slot, def->relid, nevents, behind.since);
	return true;
}

/* How much of all partitions is it?  False: that is not known. */
static bool
find_all(Relation rel, SubscriptionDef *def, bool is_worker, Behind *behind)
{
	bool		is_locked;
	Relation	topic_rel = queue_open_unless_locked(def->topic,
													 AccessShareLock,
													 &is_locked);
	bool		is_known = false;
	TopicDef   *topic;

	if (topic_rel == NULL)
		return false;
	topic = queue_topic_def(topic_rel);
	if (topic->is_topic && topic->problem == NULL)
	{
		int64	   *after = find_places(rel, def, topic->partitions,
										is_worker);

		is_known = after != NULL && add_all(topic_rel, topic, after, behind);
	}
	table_close(topic_rel, AccessShareLock);
	return is_known;
}

/* From which ids on is there something to look at?  NULL: it is not known. */
static int64 *
find_places(Relation rel, SubscriptionDef *def, int partitions,
			bool is_worker)
{
	int64	   *after = palloc(partitions * sizeof(int64));
	int64	   *positions = NULL;
	bool		is_small = RelationGetNumberOfBlocks(rel) <= SMALL_PAGES;

	for (int i = 0; i < partitions; i++)
	{
		Place		place;

		if (queue_place_get(def->relid, i, &place) && place.position >= 0)
		{
			after[i] = queue_place_look_after(&place, def->filter,
											  place.position);
			continue;
		}
		if (positions == NULL && (is_small || is_worker))
		{
			positions = palloc(partitions * sizeof(int64));
			memset(positions, -1, partitions * sizeof(int64));
			if (is_small)
				(void) queue_positions_read(rel, partitions, positions,
											NULL /* failures */ );
			else
				look_up_places(rel, def, partitions, positions);
		}
		if (positions == NULL || positions[i] < 0)
			return NULL;
		after[i] = positions[i];
	}
	return after;
}

/* Look all positions up by their keys; one that is not there is left as it is. */
static void
look_up_places(Relation rel, SubscriptionDef *def, int partitions,
			   int64 *positions)
{
	Position   *position = queue_position_make(rel);

	for (int i = 0; i < partitions; i++)
		if (queue_position_read(rel, def, i, position) != POSITION_MISSING)
			positions[i] = position->id;
	queue_position_free(position);
}

/* Add all partitions up; false: memory does not know the topic. */
static bool
add_all(Relation topic_rel, TopicDef *topic, const int64 *after,
		Behind *behind)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TopicScan  *scan = queue_topic_scan_begin(topic_rel, topic, snapshot, 1);
	bool		is_known = true;
	Behind		part;

	for (int i = 0; i < topic->partitions && is_known; i++)
	{
		is_known = queue_behind_of(scan, topic, i, after[i], &part);
		if (!is_known)
			break;
		behind->n += part.n;
		if (part.since != 0 &&
			(behind->since == 0 || part.since < behind->since))
			behind->since = part.since;
	}
	queue_topic_scan_end(scan);
	UnregisterSnapshot(snapshot);
	return is_known;
}

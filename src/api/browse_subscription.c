/*-------------------------------------------------------------------------
 *
 * browse_subscription.c
 *		Looking at what a subscription gets next: what browse() and get() do
 *		there.
 *
 * A look takes nothing.  It begins in each partition after the position that is
 * committed now, whoever holds the partition, or that the own transaction has
 * set, and ends where a consumer would end: below the stable id, and before what
 * is committed and not seen by the statement's snapshot.
 *
 * On a standby memory knows of no publisher and of no failure.  There the stable
 * id is what the snapshot sees written down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "api/browse_subscription.h"
#include "dispatch/lease.h"
#include "shared/inflight.h"
#include "shared/place.h"
#include "table/position.h"
#include "table/published.h"
#include "table/stable_id.h"
#include "table/topic.h"
#include "table/topic_column.h"
#include "table/topic_scan.h"
#include "transaction/publishing.h"

typedef struct SubscriptionLook
{
	ReturnSetInfo *rsinfo;
	Relation	rel;
	SubscriptionDef *def;
	Relation	topic_rel;
	TopicDef   *topic;
	Snapshot	snapshot;
	Position   *position;
	TopicFilter filter;			/* what the subscription wants */
	MemoryContext context;		/* reset for each message */
} SubscriptionLook;

/* How often what comes next in a partition has failed */
typedef struct Failed
{
	int			told;			/* by the row ... */
	int64		told_until;		/* the last one that failed with it, 0: not
								 * known */
	int			untold;			/* only memory knows of these ... */
	int64		untold_until;
} Failed;

static void begin(SubscriptionLook *look, ReturnSetInfo *rsinfo, Oid relid);
static int64 stands_at(SubscriptionLook *look, int partition, Failed *failed);
static void failed_in_memory(SubscriptionLook *look, int partition,
							 Failed *failed);
static int	attempt_of(const Failed *failed, int64 id);
static int64 ends_before(SubscriptionLook *look, int partition);
static TupleTableSlot *find(SubscriptionLook *look, TopicScan *scan,
							int partition, int64 after, int64 below,
							int64 *id);
static void show(SubscriptionLook *look, TupleTableSlot *slot, int attempt);
static void end(SubscriptionLook *look);

/* Show what comes next, in the order of ids over all partitions. */
void
queue_subscription_browse(ReturnSetInfo *rsinfo, Oid relid, int max,
						  QueueSelector *selector)
{
	SubscriptionLook look;
	TopicFilter chosen = {.selector = selector};
	TopicScan  *scan;
	TupleTableSlot *slot;
	int64	   *after;
	int64	   *below;
	Failed	   *failed;
	int64		most = 0;
	int64		id;
	int			n = 0;

	begin(&look, rsinfo, relid);
	chosen.context = look.context;
	after = palloc(look.topic->partitions * sizeof(int64));
	below = palloc(look.topic->partitions * sizeof(int64));
	failed = palloc(look.topic->partitions * sizeof(Failed));
	for (int i = 0; i < look.topic->partitions; i++)
	{
		after[i] = stands_at(&look, i, &failed[i]);
		below[i] = ends_before(&look, i);
		most = Max(most, below[i]);
	}
	scan = queue_topic_scan_begin_each(look.topic_rel, look.topic,
									   look.snapshot, after, most, max);
	while (n < max && (slot = queue_topic_scan_next(scan, &id)) != NULL)
	{
		bool		isnull;
		int			partition =
			DatumGetInt16(slot_getattr(slot, Anum_published_partition,
									   &isnull));
		TopicRowState state = queue_topic_row_state(scan);

		if (id >= below[partition] || state == TOPIC_ROW_NEWER)
		{
			queue_topic_scan_stop(scan, partition);
			continue;
		}
		if (state == TOPIC_ROW_GONE ||
			!queue_published_is_wanted(&look.filter, slot, id))
			continue;

		/* what has failed is the first one */
		chosen.attempt = attempt_of(&failed[partition], id);
		memset(&failed[partition], 0, sizeof(Failed));
		if (!queue_published_is_wanted(&chosen, slot, id))
			continue;
		show(&look, slot, chosen.attempt);
		n++;
	}
	queue_topic_scan_end(scan);
	end(&look);
}

/*
 * queue_subscription_get
 *		Show one message that is still to come.
 *
 * Its id does not tell its partition, so all are asked.
 */
void
queue_subscription_get(ReturnSetInfo *rsinfo, Oid relid, int64 id)
{
	SubscriptionLook look;
	TopicScan  *scan;
	bool		is_shown = false;

	begin(&look, rsinfo, relid);
	scan = queue_topic_scan_begin(look.topic_rel, look.topic, look.snapshot, 1);
	for (int i = 0; i < look.topic->partitions && !is_shown; i++)
	{
		TupleTableSlot *slot;
		Failed		failed;
		int			attempt = 1;
		int64		after;
		int64		found;

		if (id < 1 ||
			!queue_topic_scan_add(scan, i, id - 1, id + 1, &found) ||
			id >= ends_before(&look, i) ||
			(after = stands_at(&look, i, &failed)) >= id)
			continue;

		/* is it what has failed? */
		if (attempt_of(&failed, id) > 1 &&
			find(&look, scan, i, after, id + 1, &found) != NULL && found == id)
			attempt = attempt_of(&failed, id);
		slot = find(&look, scan, i, id - 1, id + 1, &found);
		if (slot == NULL)
			continue;
		show(&look, slot, attempt);
		is_shown = true;
	}
	queue_topic_scan_end(scan);
	end(&look);
}

/* Begin to look at a subscription and its topic. */
static void
begin(SubscriptionLook *look, ReturnSetInfo *rsinfo, Oid relid)
{
	memset(look, 0, sizeof(SubscriptionLook));
	look->rsinfo = rsinfo;
	look->rel = queue_subscription_open(relid, SUBSCRIPTION_BROWSE,
										&look->def);
	look->topic_rel = queue_topic_open(look->def->topic, TOPIC_READ,
									   &look->topic);
	queue_lease_load_to_look();
	look->snapshot = GetActiveSnapshot();
	look->position = queue_position_make(look->rel);
	look->context = AllocSetContextCreate(CurrentMemoryContext,
										  "queue message",
										  ALLOCSET_DEFAULT_SIZES);
	look->filter.pattern = look->def->pattern;
	look->filter.selector = look->def->selector;
	look->filter.context = look->context;
}

/*
 * stands_at
 *		Return after which id a partition goes on, and what has failed there.
 *
 * The worker counts failures in the row, and then memory forgets them.  So both
 * are read until memory has not changed.
 */
static int64
stands_at(SubscriptionLook *look, int partition, Failed *failed)
{
	Place		place;

	failed_in_memory(look, partition, failed);

	for (;;)
	{
		int			before = failed->untold;

		if (queue_position_read(look->rel, look->def, partition,
								look->position) == POSITION_MISSING)
			queue_position_report_missing(look->rel, partition);
		failed_in_memory(look, partition, failed);
		if (failed->untold == before)
			break;
	}
	failed->told = look->position->failures;
	failed->told_until = look->position->alone_until;
	if (!RecoveryInProgress() &&
		queue_place_get(RelationGetRelid(look->rel), partition, &place))
		return queue_place_look_after(&place, look->def->filter,
									  look->position->id);
	return look->position->id;
}

/* Find the failures that memory knows of, and the row does not tell. */
static void
failed_in_memory(SubscriptionLook *look, int partition, Failed *failed)
{
	MessageKey	key;
	InflightEntry entry;

	failed->untold = 0;
	failed->untold_until = 0;
	queue_message_key(&key, RelationGetRelid(look->rel), partition);
	if (queue_inflight_peek(&key, QUEUE_PARTITION_ROW, &entry) &&
		entry.failures > 0)
	{
		failed->untold = entry.failures;
		failed->untold_until = entry.last_id;
	}
}

/*
 * attempt_of
 *		Return which attempt it is to deliver what comes next.
 *
 * If what failed is gone from the topic, the first.
 */
static int
attempt_of(const Failed *failed, int64 id)
{
	int			attempt = 1;

	if (failed->told_until == 0 || id <= failed->told_until)
		attempt += failed->told;
	if (failed->untold_until == 0 || id <= failed->untold_until)
		attempt += failed->untold;
	return attempt;
}

/* Nothing below this id can appear in the partition any more. */
static int64
ends_before(SubscriptionLook *look, int partition)
{
	TopicLimit	limit;

	if (RecoveryInProgress())
		return queue_stable_id_read(RelationGetRelid(look->topic_rel),
									look->snapshot);
	(void) queue_publishing_limit(look->topic, partition, &limit,
								  false /* raises */ );
	return limit.stable_id;
}

/* Find the first message in a range that the subscription wants, or NULL. */
static TupleTableSlot *
find(SubscriptionLook *look, TopicScan *scan, int partition, int64 after,
	 int64 below, int64 *id)
{
	TupleTableSlot *slot;

	if (!queue_topic_scan_add(scan, partition, after, below, id))
		return NULL;
	while ((slot = queue_topic_scan_next_of(scan, partition, id)) != NULL)
	{
		TopicRowState state = queue_topic_row_state(scan);

		if (state == TOPIC_ROW_NEWER)
			return NULL;
		if (state == TOPIC_ROW_SEEN &&
			queue_published_is_wanted(&look->filter, slot, *id))
			return slot;
	}
	return NULL;
}

/* Add a message to the result. */
static void
show(SubscriptionLook *look, TupleTableSlot *slot, int attempt)
{
	MemoryContext old = MemoryContextSwitchTo(look->context);

	queue_published_show(look->rsinfo, slot, attempt, NULL /* no receipt */ );
	MemoryContextSwitchTo(old);
	MemoryContextReset(look->context);
}

/* End that; the locks stay. */
static void
end(SubscriptionLook *look)
{
	queue_position_free(look->position);
	MemoryContextDelete(look->context);
	table_close(look->topic_rel, NoLock);
	table_close(look->rel, NoLock);
}

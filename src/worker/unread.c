/*-------------------------------------------------------------------------
 *
 * unread.c
 *		What is kept in a topic for its subscriptions.
 *
 * A subscription is a small table with a row for each partition, which says how
 * far it has come.  These rows are read as they are committed, whoever holds
 * them.  One that is locked, or beyond the white list, is taken not to have come
 * anywhere, so that nothing is lost by mistake.
 *
 * A subscription with an idle_after that has not moved for so long, in any
 * partition, keeps nothing.
 *
 * Locks: AccessShareLock on each subscription, unless that takes a wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "table/subscription.h"
#include "table/subscription_column.h"
#include "worker/unread.h"

static void add_subscription(TopicDef *topic, Oid relid, int64 *from);
static TimestampTz read_positions(Relation rel, TopicDef *topic, int64 *from);

/* Find from where on partitions have what is unread. */
void
queue_unread_from(TopicDef *topic, int64 *from)
{
	List	   *relids = queue_subscriptions_of(topic->relid);
	ListCell   *lc;

	for (int i = 0; i < topic->partitions; i++)
		from[i] = PG_INT64_MAX;
	foreach(lc, relids)
		add_subscription(topic, lfirst_oid(lc), from);
	list_free(relids);
}

/* Add what one of them has not passed. */
static void
add_subscription(TopicDef *topic, Oid relid, int64 *from)
{
	bool		is_locked;
	Relation	rel = queue_open_unless_locked(relid, AccessShareLock,
											   &is_locked);
	SubscriptionDef *def = rel != NULL ? queue_subscription_def(rel) : NULL;
	int64	   *own = palloc(topic->partitions * sizeof(int64));
	TimestampTz moved_at = DT_NOEND;

	for (int i = 0; i < topic->partitions; i++)
		own[i] = PG_INT64_MAX;
	if (is_locked || (def != NULL && def->is_subscription &&
					  def->problem != NULL))
		for (int i = 0; i < topic->partitions; i++)
			own[i] = PG_INT64_MIN;
	else if (def != NULL && def->is_subscription)
		moved_at = read_positions(rel, topic, own);

	/* nobody has taken from it for so long */
	if (def != NULL && def->idle_after > 0 &&
		moved_at <= GetCurrentTimestamp() - def->idle_after)
		for (int i = 0; i < topic->partitions; i++)
			own[i] = PG_INT64_MAX;
	for (int i = 0; i < topic->partitions; i++)
		from[i] = Min(from[i], own[i]);
	pfree(own);
	if (rel != NULL)
		table_close(rel, AccessShareLock);
}

/* Read the rows of a subscription, and return when the last of them has moved. */
static TimestampTz
read_positions(Relation rel, TopicDef *topic, int64 *from)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TimestampTz moved_at = DT_NOBEGIN;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int			partition =
			DatumGetInt16(slot_getattr(slot, Anum_position_partition, &isnull));
		int64		position =
			DatumGetInt64(slot_getattr(slot, Anum_position_position, &isnull));
		TimestampTz moved =
			DatumGetTimestampTz(slot_getattr(slot, Anum_position_moved_at,
											 &isnull));

		moved_at = Max(moved_at, moved);
		if (partition >= 0 && partition < topic->partitions)
			from[partition] = position < PG_INT64_MAX ? position + 1 :
				PG_INT64_MAX;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return moved_at;
}

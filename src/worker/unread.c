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
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "table/position.h"
#include "table/subscription.h"
#include "worker/unread.h"

static void add_subscription(TopicDef *topic, Oid relid, int64 *from);

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
	{
		moved_at = queue_positions_read(rel, topic->partitions, own,
										NULL /* failures */ );
		for (int i = 0; i < topic->partitions; i++)
			if (own[i] < PG_INT64_MAX)
				own[i]++;
	}

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

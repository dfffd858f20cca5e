/*-------------------------------------------------------------------------
 *
 * wait_subscription.c
 *		Consumers of a subscription, which look and wait: what dequeue(),
 *		receive() and wait() do there.
 *
 * A consumer that waits is in the list of the subscription, for what is given
 * back, and in that of the topic, for what is published: each publisher that
 * ends wakes all who wait for the topic, because each may be one of another
 * subscription.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "api/take_subscription.h"
#include "api/wait_subscription.h"
#include "common/clock.h"
#include "dispatch/lease.h"
#include "shared/waiter.h"

/* A subscription waits in its own list, and in that of its topic */
#define NUM_LISTS			2

static void wait_and_look(Take *take, TimestampTz end);
static void lists_of(SubscriptionDef *def, Oid *relids);

/* Take messages of a subscription; dequeue() and receive() have begun. */
void
queue_take_subscription(Take *take, bool waits, TimestampTz end)
{
	SubscriptionDef *def;
	Relation	rel;
	RetryHint	next;

	if (take->selection != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot take certain messages of a subscription"),
				 errdetail("A subscription gets the messages of its topic in order; what a call left out would not come again."),
				 errhint("Give the subscription a pattern or a selector with queue.subscribe() or queue.alter_subscription().")));
	rel = queue_subscription_open(take->relid, SUBSCRIPTION_TAKE, &def);
	queue_lease_load();
	queue_take_partitions(take, rel, def, GetActiveSnapshot(), &next);
	table_close(rel, take->ntaken == 0 && waits ?
				queue_subscription_lockmode(SUBSCRIPTION_TAKE) : NoLock);
	if (take->ntaken == 0 && waits)
		wait_and_look(take, end);
}

/* Nothing was there: wait until there is, or until "end". */
static void
wait_and_look(Take *take, TimestampTz end)
{
	WaitTerms	terms = {WANTS_ANY, 1, end};
	int64		busy_delay = 0;

	for (;;)
	{
		SubscriptionDef *def;
		Relation	rel = queue_subscription_open(take->relid,
												  SUBSCRIPTION_TAKE, &def);
		Oid			relids[NUM_LISTS];
		Snapshot	snapshot;
		RetryHint	next;

		lists_of(def, relids);
		queue_waiter_enter(relids, NUM_LISTS, &terms);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		queue_take_partitions(take, rel, def, snapshot, &next);
		UnregisterSnapshot(snapshot);
		table_close(rel, take->ntaken > 0 ? NoLock :
					queue_subscription_lockmode(SUBSCRIPTION_TAKE));
		if (take->ntaken > 0 || queue_clock() >= end)
			break;
		queue_waiter_sleep(queue_look_again_at(&next, &busy_delay, end),
						   next.due);
	}
	queue_waiter_leave();
}

/* The lists that a waiter enters; both have a place in memory, if there is room. */
static void
lists_of(SubscriptionDef *def, Oid *relids)
{
	(void) queue_subscription_slot(def);
	(void) queue_slot_make(def->topic, SLOT_TOPIC);
	relids[0] = def->relid;
	relids[1] = def->topic;
}

/*
 * queue_subscription_check_waiter
 *		Raise an error unless the caller may take messages of it; return its
 *		topic.
 */
Oid
queue_subscription_check_waiter(Oid relid)
{
	SubscriptionDef *def;
	Relation	rel = queue_subscription_open(relid, SUBSCRIPTION_SETTLE, &def);
	Oid			relids[NUM_LISTS];

	lists_of(def, relids);
	table_close(rel, queue_subscription_lockmode(SUBSCRIPTION_SETTLE));
	return def->topic;
}

/*
 * queue_subscription_has_message
 *		Returns true if there is a message that a consumer could take now.
 *
 * Holds nothing.  Otherwise *next tells when to look again.
 */
bool
queue_subscription_has_message(Oid relid, RetryHint *next, bool *is_paused)
{
	SubscriptionDef *def;
	Relation	rel = queue_subscription_open(relid, SUBSCRIPTION_SETTLE, &def);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "queue look",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		found;

	queue_lease_load();
	*is_paused = def->paused;
	found = queue_has_for_take(rel, def, next);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	table_close(rel, queue_subscription_lockmode(SUBSCRIPTION_SETTLE));
	return found;
}

/*-------------------------------------------------------------------------
 *
 * subscription_ddl.c
 *		What follows for subscriptions from tables that are dropped.
 *
 * The settings of a subscription go with its table.  If its topic goes without
 * it (subscription_topic.c), the settings go, too.  If its dead-letter queue
 * goes, it has none.
 *
 * Locks: the table that is dropped, by the statement; then rows of
 * queue.subscription.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "api/subscription_ddl.h"
#include "api/subscription_topic.h"
#include "common/relation.h"
#include "table/def_cache.h"
#include "table/setting_row.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "table/subscription_settings.h"
#include "transaction/announce.h"
#include "transaction/holds.h"

static void forget(Oid relid);
static void forget_dead_letter(Oid relid, Oid dead_letter);
static bool exists(Oid relid);


/*
 * queue_subscription_on_drop
 *		A table is about to be dropped, by whatever means.
 */
void
queue_subscription_on_drop(Oid relid)
{
	ListCell   *lc;

	if (queue_setting_find(MEMBER_SUBSCRIPTION, relid, 0, NULL))
	{
		forget(relid);
		queue_xact_note_drop(relid);
	}
	foreach(lc, queue_subscriptions_of(relid))
	{
		forget(lfirst_oid(lc));
	}
	foreach(lc, queue_dead_letter_subscriptions(relid))
	{
		forget_dead_letter(lfirst_oid(lc), relid);
	}
}

/* Delete the row of a subscription that is being dropped, or lost its topic. */
static void
forget(Oid relid)
{
	Relation	settings = queue_setting_try_open(MEMBER_SUBSCRIPTION,
												  RowExclusiveLock);
	HeapTuple	tuple = settings == NULL ? NULL :
		queue_setting_lock(settings, MEMBER_SUBSCRIPTION, relid);

	if (tuple != NULL)
	{
		CatalogTupleDelete(settings, &tuple->t_self);
		heap_freetuple(tuple);
		queue_def_invalidate(relid);
		queue_announce_all(relid);
		CommandCounterIncrement();
	}
	if (settings != NULL)
		table_close(settings, NoLock);
}

/* It had this table for dead-letter queue, and has none now. */
static void
forget_dead_letter(Oid relid, Oid dead_letter)
{
	const int	column = Anum_subscription_dead_letter - 1;
	Relation	settings = queue_setting_try_open(MEMBER_SUBSCRIPTION,
												  RowExclusiveLock);
	HeapTuple	tuple = settings == NULL ? NULL :
		queue_setting_lock(settings, MEMBER_SUBSCRIPTION, relid);
	Datum		values[Natts_subscription];
	bool		nulls[Natts_subscription];

	if (tuple != NULL)
	{
		queue_member_deform(settings, MEMBER_SUBSCRIPTION, tuple, values,
							nulls);

		/* it may have been changed while we waited for the row */
		if (!nulls[column] && DatumGetObjectId(values[column]) == dead_letter)
		{
			nulls[column] = true;
			values[Anum_subscription_own_dead_letter - 1] =
				BoolGetDatum(false);
			CatalogTupleUpdate(settings, &tuple->t_self,
							   queue_member_form(settings,
												 MEMBER_SUBSCRIPTION, values,
												 nulls));
			queue_def_invalidate(relid);
			CommandCounterIncrement();
		}
		heap_freetuple(tuple);
	}
	if (settings != NULL)
		table_close(settings, NoLock);
}

/*
 * queue_subscription_mend
 *		Delete settings whose tables were dropped unnoticed, and tie the
 *		others to their topics.
 *
 * For the worker, which waits for no lock: a session that holds one in the way
 * is about to drop the table, or ties it itself.
 */
void
queue_subscription_mend(void)
{
	ListCell   *lc;

	/* a row that is seen now is of a table that is known now */
	AcceptInvalidationMessages();
	foreach(lc, queue_setting_list(MEMBER_SUBSCRIPTION, NULL, 0, NULL))
	{
		Oid			relid = lfirst_oid(lc);
		Oid			topic;
		Oid			dead_letter;

		if (!queue_setting_find(MEMBER_SUBSCRIPTION, relid,
								Anum_subscription_topic, &topic))
			continue;
		(void) queue_setting_find(MEMBER_SUBSCRIPTION, relid,
								  Anum_subscription_dead_letter,
								  &dead_letter);
		if (!exists(relid) || !exists(topic))
		{
			forget(relid);
			continue;
		}
		if (OidIsValid(dead_letter) && !exists(dead_letter))
			forget_dead_letter(relid, dead_letter);
		queue_subscription_on_write(relid, topic);
	}
}

/*
 * queue_subscription_on_write
 *		Settings were written that name this topic, perhaps by hand: tie the
 *		subscription to it.
 */
void
queue_subscription_on_write(Oid relid, Oid topic)
{
	bool		is_locked;
	Relation	topic_rel = queue_open_unless_locked(topic, AccessShareLock,
													 &is_locked);
	Relation	rel;

	if (topic_rel == NULL)
		return;
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel != NULL)
	{
		queue_subscription_tie(relid, topic);
		table_close(rel, NoLock);
	}
	table_close(topic_rel, NoLock);
}

static bool
exists(Oid relid)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
}

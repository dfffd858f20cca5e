/*-------------------------------------------------------------------------
 *
 * restore_subscription.c
 *		Subscriptions that come out of a dump, by way of
 *		queue.restored_subscriptions.
 *
 * As settings of queues do (restore.c).  The topic must be there, but the right
 * to read it may be restored later, and is asked for at each call.
 *
 * Locks: the topic, then the subscription, then its row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "api/restore.h"
#include "api/subscription_args.h"
#include "api/subscription_topic.h"
#include "table/def_cache.h"
#include "table/setting_row.h"
#include "table/shape.h"
#include "table/subscription_settings.h"
#include "transaction/announce.h"

PG_FUNCTION_INFO_V1(queue_restore_subscriptions);

static bool may_have_topic(const char *name, Oid topic,
						   const char *topic_name);
static void find_dead_letter(Oid relid, const char *name, Datum *values,
							 bool *nulls);
static void put_row(Oid relid, Relation catalog, Datum *values, bool *nulls);


/* Trigger on queue.restored_subscriptions; nothing is ever stored there. */
Datum
queue_restore_subscriptions(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_subscription];
	bool		nulls[Natts_subscription];
	Relation	catalog;
	char	   *name;
	char	   *topic_name;
	Oid			relid;
	Oid			topic;

	queue_restore_read(fcinfo, MEMBER_RESTORED_SUBSCRIPTIONS,
					   "queue_internal.restore_subscriptions()", values, nulls);
	catalog = queue_setting_open(MEMBER_SUBSCRIPTION, RowExclusiveLock);
	name = TextDatumGetCString(values[Anum_subscription_subscription - 1]);
	topic_name = TextDatumGetCString(values[Anum_subscription_topic - 1]);
	relid = queue_restore_find(name);
	topic = queue_restore_find(topic_name);
	if (may_have_topic(name, topic, topic_name) &&
		queue_restore_may_have_settings(relid, name,
										&queue_subscription_form))
	{
		/* 22023 for what alter_subscription() would not take */
		queue_subscription_args_check(values, nulls);
		values[Anum_subscription_subscription - 1] = ObjectIdGetDatum(relid);
		values[Anum_subscription_topic - 1] = ObjectIdGetDatum(topic);
		find_dead_letter(relid, name, values, nulls);
		put_row(relid, catalog, values, nulls);
		queue_subscription_tie(relid, topic);
	}
	table_close(catalog, NoLock);
	return PointerGetDatum(NULL);
}

/*
 * may_have_topic
 *		Returns true if there is such a topic, which is then locked.
 *
 * It is judged by its columns, because its settings, and what a restore makes
 * last, may be still to come.
 */
static bool
may_have_topic(const char *name, Oid topic, const char *topic_name)
{
	Relation	rel = OidIsValid(topic) &&
		get_rel_relkind(topic) == RELKIND_RELATION ?
		try_table_open(topic, AccessShareLock) : NULL;
	bool		resembles = false;

	if (rel != NULL)
	{
		resembles = queue_shape_resembles(topic, &queue_topic_form);
		table_close(rel, NoLock);
	}
	if (!resembles)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("settings of subscription \"%s\" are left out", name),
				 errdetail("There is no topic \"%s\".", topic_name),
				 errhint("When it is restored, use queue.subscribe() to make the table a subscription again.")));
	return resembles;
}

/* Find the dead-letter queue by its name; without it the rest is good. */
static void
find_dead_letter(Oid relid, const char *name, Datum *values, bool *nulls)
{
	const int	column = Anum_subscription_dead_letter - 1;
	char	   *dead_name;
	Oid			dead_letter;

	if (nulls[column])
		return;
	dead_name = TextDatumGetCString(values[column]);
	dead_letter = queue_restore_find(dead_name);
	values[column] = ObjectIdGetDatum(dead_letter);
	if (!queue_restore_may_have_dead_letter(&queue_subscription_form, relid,
											name, dead_letter, dead_name))
	{
		nulls[column] = true;
		values[Anum_subscription_own_dead_letter - 1] = BoolGetDatum(false);
	}
}

/* Insert these settings, or replace those that there are; a pause stays. */
static void
put_row(Oid relid, Relation catalog, Datum *values, bool *nulls)
{
	HeapTuple	old = queue_setting_lock(catalog, MEMBER_SUBSCRIPTION, relid);
	HeapTuple	new;

	if (old != NULL)
	{
		bool		isnull;

		if (DatumGetBool(heap_getattr(old, Anum_subscription_paused,
									  RelationGetDescr(catalog), &isnull)))
			values[Anum_subscription_paused - 1] = BoolGetDatum(true);
	}
	new = queue_member_form(catalog, MEMBER_SUBSCRIPTION, values, nulls);
	if (old != NULL)
		CatalogTupleUpdate(catalog, &old->t_self, new);
	else
		CatalogTupleInsert(catalog, new);
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	queue_announce_all(relid);
}

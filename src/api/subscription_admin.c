/*-------------------------------------------------------------------------
 *
 * subscription_admin.c
 *		Subscriptions made and altered.
 *
 * As for topics (topic_admin.c): the table is made by plain DDL, as the caller,
 * and the settings in queue.subscription are written by catalog functions after
 * ownership is checked.  queue.drop_queue() drops it (admin.c).
 *
 * A table that was restored without its settings is adopted, and goes on where
 * it was: only partitions without a row get one.
 *
 * Locks: the topic, to keep it and the number of its partitions, then the name,
 * the subscription, its dead-letter queue, and its row of queue.subscription.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/dead_letter.h"
#include "api/make_queue.h"
#include "api/make_table.h"
#include "api/name.h"
#include "api/start.h"
#include "api/subscription_admin.h"
#include "api/subscription_args.h"
#include "api/subscription_topic.h"
#include "common/relation_name.h"
#include "table/call.h"
#include "table/def_cache.h"
#include "table/position.h"
#include "table/setting_row.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "table/subscription_column.h"
#include "table/subscription_settings.h"
#include "table/topic.h"
#include "table/topic_settings.h"
#include "transaction/announce.h"

PG_FUNCTION_INFO_V1(queue_subscribe);
PG_FUNCTION_INFO_V1(queue_alter_subscription);

static Oid	make_dead_letter(Oid schema, const char *relname,
							 const Datum *values);
static void put_positions(Relation rel, SubscriptionDef *def,
						  const TopicDef *topic, const int64 *positions);
static void find_rows(Relation rel, int partitions, bool *has_row);
static void change_row(Relation catalog, HeapTuple tuple,
					   const Datum *values, const bool *nulls, Oid relid);


/*
 * subscribe(topic, name, start, start_id, start_at, ...), with settings as
 * subscription_args.c has them
 */
Datum
queue_subscribe(PG_FUNCTION_ARGS)
{
	const int	column = Anum_subscription_dead_letter - 1;
	Datum		values[Natts_subscription];
	bool		nulls[Natts_subscription];
	int64		positions[MAX_PARTITIONS];
	Start		start;
	Relation	topic_rel;
	TopicDef   *topic;
	char	   *relname;
	Oid			schema;
	Oid			relid;
	Relation	rel;
	SubscriptionDef *def;

	queue_call_begin(fcinfo, "queue.subscribe()", CALL_WRITES,
					 "topic", "name");
	start = queue_start_argument(fcinfo, 2);
	queue_subscription_args_create(fcinfo, values, nulls);

	topic_rel = queue_topic_open(PG_GETARG_OID(0), TOPIC_READ, &topic);
	queue_subscription_check_topic(topic->relid);
	table_close(queue_setting_open(MEMBER_SUBSCRIPTION, RowExclusiveLock),
				NoLock);
	schema = queue_name_schema(PG_GETARG_TEXT_PP(1),
							   queue_subscription_form.noun, &relname);
	queue_name_lock(schema, relname);
	relid = queue_make_table(&queue_subscription_form, schema, relname, NULL,
							 false /* logged */ );
	if (nulls[column])
	{
		values[column] = ObjectIdGetDatum(make_dead_letter(schema, relname,
														   values));
		nulls[column] = false;
	}
	else
		queue_check_dead_letter(DatumGetObjectId(values[column]), InvalidOid);
	values[Anum_subscription_topic - 1] =
		ObjectIdGetDatum(RelationGetRelid(topic_rel));
	nulls[Anum_subscription_topic - 1] = false;
	queue_make_setting_row(&queue_subscription_form, relid, values, nulls);
	queue_subscription_tie(relid, RelationGetRelid(topic_rel));

	/* an event trigger may have changed either */
	topic = queue_topic_def(topic_rel);
	queue_topic_check(topic);
	rel = table_open(relid, RowExclusiveLock);
	def = queue_subscription_def(rel);
	queue_subscription_check(def);
	queue_start_find(&start, topic_rel, topic, positions);
	put_positions(rel, def, topic, positions);
	table_close(rel, NoLock);
	table_close(topic_rel, NoLock);

	PG_RETURN_OID(relid);
}

/* Make the dead-letter queue, with the settings that both have in common. */
static Oid
make_dead_letter(Oid schema, const char *relname, const Datum *values)
{
	Interval	max_lease = {.day = SUBSCRIPTION_MAX_LEASE / USECS_PER_DAY};
	Datum		queue_values[Natts_settings] = {0};
	bool		queue_nulls[Natts_settings];
	static const int common[][2] = {
		{Anum_settings_lease, Anum_subscription_lease},
		{Anum_settings_retry_delay, Anum_subscription_retry_delay},
		{Anum_settings_retry_max_delay, Anum_subscription_retry_max_delay}
	};

	memset(queue_nulls, false, sizeof(queue_nulls));
	for (int i = 0; i < lengthof(common); i++)
		queue_values[common[i][0] - 1] = values[common[i][1] - 1];
	queue_values[Anum_settings_max_lease - 1] = IntervalPGetDatum(&max_lease);
	return queue_make_dead_letter(schema, relname, queue_values, queue_nulls);
}

/*
 * put_positions
 *		Give each partition of the topic its row, unless there is one.
 *
 * The table is new, or adopted and locked against writers.
 */
static void
put_positions(Relation rel, SubscriptionDef *def, const TopicDef *topic,
			  const int64 *positions)
{
	bool		has_row[MAX_PARTITIONS] = {false};

	find_rows(rel, topic->partitions, has_row);
	for (int i = 0; i < topic->partitions; i++)
	{
		if (!has_row[i])
			(void) queue_position_put(rel, def, i, positions[i]);
	}
	CommandCounterIncrement();
}

/*
 * Find the partitions that have a row.  Raises 22023 if there is one of a
 * partition that the topic does not have.
 */
static void
find_rows(Relation rel, int partitions, bool *has_row)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int			partition =
			DatumGetInt16(slot_getattr(slot, Anum_position_partition,
									   &isnull));

		if (partition < 0 || partition >= partitions)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("table \"%s\" has a position in partition %d, which the topic does not have",
							queue_shown_name(RelationGetRelid(rel)),
							partition),
					 errhint("Name the topic that the positions are of.")));
		has_row[partition] = true;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/* alter_subscription(subscription, ...), with settings as there */
Datum
queue_alter_subscription(PG_FUNCTION_ARGS)
{
	Oid			relid;
	Relation	rel;
	SubscriptionDef *def;
	Relation	catalog;
	HeapTuple	tuple;
	Datum		values[Natts_subscription];
	bool		nulls[Natts_subscription];

	queue_call_begin(fcinfo, "queue.alter_subscription()", CALL_WRITES,
					 "subscription");
	relid = PG_GETARG_OID(0);

	rel = queue_subscription_open(relid, SUBSCRIPTION_OWN, &def);
	if (queue_subscription_args_given(fcinfo, Anum_subscription_dead_letter))
		queue_check_dead_letter(PG_GETARG_OID(10), InvalidOid);
	catalog = queue_setting_open(MEMBER_SUBSCRIPTION, RowExclusiveLock);
	tuple = queue_setting_lock(catalog, MEMBER_SUBSCRIPTION, relid);
	if (tuple == NULL)
		elog(ERROR, "settings of subscription %u have disappeared", relid);
	queue_member_deform(catalog, MEMBER_SUBSCRIPTION, tuple, values, nulls);
	queue_subscription_args_alter(fcinfo, values, nulls);
	change_row(catalog, tuple, values, nulls, relid);
	table_close(catalog, NoLock);
	table_close(rel, NoLock);

	PG_RETURN_VOID();
}

/* What pause() and resume() do to one */
void
queue_subscription_set_paused(Oid relid, bool is_paused)
{
	SubscriptionDef *def;
	Relation	rel = queue_subscription_open(relid, SUBSCRIPTION_OWN, &def);
	Relation	catalog = queue_setting_open(MEMBER_SUBSCRIPTION,
											 RowExclusiveLock);
	HeapTuple	tuple = queue_setting_lock(catalog, MEMBER_SUBSCRIPTION,
										   relid);
	Datum		values[Natts_subscription];
	bool		nulls[Natts_subscription];

	if (tuple == NULL)
		elog(ERROR, "settings of subscription %u have disappeared", relid);
	queue_member_deform(catalog, MEMBER_SUBSCRIPTION, tuple, values, nulls);
	values[Anum_subscription_paused - 1] = BoolGetDatum(is_paused);
	change_row(catalog, tuple, values, nulls, relid);
	table_close(catalog, NoLock);
	table_close(rel, NoLock);
}

/* Write a row, and let all sessions know, those that wait for messages too. */
static void
change_row(Relation catalog, HeapTuple tuple, const Datum *values,
		   const bool *nulls, Oid relid)
{
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   queue_member_form(catalog, MEMBER_SUBSCRIPTION, values,
										 nulls));
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	queue_announce_all(relid);
}

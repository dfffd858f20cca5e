/*-------------------------------------------------------------------------
 *
 * topic_admin.c
 *		Topics made, altered and dropped.
 *
 * As for queues (create.c, admin.c): the table is made and dropped by plain
 * DDL, as the caller, and the settings in queue.topic are written by catalog
 * functions after ownership is checked.
 *
 * The number of partitions is fixed when a topic is made, because a message
 * stays in the partition of its key.  A table that was restored without its
 * settings is adopted with the number that is given then; none of its messages
 * may be in a partition beyond.
 *
 * Locks: the table first, then its row of queue.topic.
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

#include "api/drop_table.h"
#include "api/make_table.h"
#include "api/name.h"
#include "api/subscription_topic.h"
#include "api/topic_args.h"
#include "common/relation_name.h"
#include "shared/database.h"
#include "shared/topic_slot.h"
#include "table/call.h"
#include "table/def_cache.h"
#include "table/setting_row.h"
#include "table/topic.h"
#include "table/topic_column.h"
#include "table/topic_settings.h"

PG_FUNCTION_INFO_V1(queue_create_topic);
PG_FUNCTION_INFO_V1(queue_alter_topic);
PG_FUNCTION_INFO_V1(queue_drop_topic);

static void check_rows(Relation rel, int partitions);


/* create_topic(name, partitions, retention, max_bytes, keep_unread) */
Datum
queue_create_topic(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_topic];
	bool		nulls[Natts_topic];
	char	   *relname;
	Oid			schema;
	Oid			relid;
	Relation	rel;

	queue_call_begin(fcinfo, "queue.create_topic()", CALL_WRITES, "name");
	queue_topic_args_create(fcinfo, values, nulls);

	table_close(queue_setting_open(MEMBER_TOPIC, RowExclusiveLock), NoLock);
	schema = queue_name_schema(PG_GETARG_TEXT_PP(0), queue_topic_form.noun,
							   &relname);
	queue_name_lock(schema, relname);
	relid = queue_make_table(&queue_topic_form, schema, relname, NULL,
							 false /* logged */ );
	queue_make_setting_row(&queue_topic_form, relid, values, nulls);
	queue_topic_slot_note_altered(relid);	/* it may have messages */

	/* an event trigger may have changed it */
	rel = table_open(relid, NoLock);
	queue_topic_check(queue_topic_def(rel));
	check_rows(rel, DatumGetInt32(values[Anum_topic_partitions - 1]));
	table_close(rel, NoLock);

	PG_RETURN_OID(relid);
}

/*
 * check_rows
 *		Raise 22023 if a message is in a partition that there is not to be.
 *
 * The table is new, or adopted and locked against writers.
 */
static void
check_rows(Relation rel, int partitions)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int			highest = -1;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		highest = Max(highest,
					  DatumGetInt16(slot_getattr(slot,
												 Anum_published_partition,
												 &isnull)));
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	if (highest >= partitions)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" has more partitions than that",
						queue_shown_name(RelationGetRelid(rel))),
				 errdetail("It has a message in partition %d.", highest),
				 errhint("Give the number of partitions that it was created with.")));
}

/* alter_topic(topic, retention, max_bytes, keep_unread) */
Datum
queue_alter_topic(PG_FUNCTION_ARGS)
{
	Oid			relid;
	Relation	rel;
	TopicDef   *topic;
	Relation	catalog;
	HeapTuple	tuple;
	Datum		values[Natts_topic];
	bool		nulls[Natts_topic];

	queue_call_begin(fcinfo, "queue.alter_topic()", CALL_WRITES, "topic");
	relid = PG_GETARG_OID(0);

	rel = queue_topic_open(relid, TOPIC_OWN, &topic);
	catalog = queue_setting_open(MEMBER_TOPIC, RowExclusiveLock);
	tuple = queue_setting_lock(catalog, MEMBER_TOPIC, relid);
	if (tuple == NULL)
		elog(ERROR, "settings of topic %u have disappeared", relid);
	queue_member_deform(catalog, MEMBER_TOPIC, tuple, values, nulls);
	queue_topic_args_alter(fcinfo, values, nulls);
	CatalogTupleUpdate(catalog, &tuple->t_self,
					   queue_member_form(catalog, MEMBER_TOPIC, values,
										 nulls));
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	table_close(catalog, NoLock);
	table_close(rel, NoLock);

	/* what is to go by the new settings: if this commits later, so be it */
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp() +
						   USECS_PER_SEC);
	PG_RETURN_VOID();
}

/*
 * drop_topic(topic)
 *
 * Asks for ownership alone, as drop_queue().
 */
Datum
queue_drop_topic(PG_FUNCTION_ARGS)
{
	Oid			relid;

	queue_call_begin(fcinfo, "queue.drop_topic()", CALL_WRITES, "topic");
	relid = PG_GETARG_OID(0);

	table_close(queue_drop_open(relid, &queue_topic_form), NoLock);
	queue_subscription_refuse_drop(relid);
	queue_drop_table(relid, &queue_topic_form);

	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * stable_id.c
 *		Stable ids of topics, written down: table queue.topic_stable.
 *
 * A reader that sees the row of a topic, by whatever snapshot, sees all
 * messages with lower ids that there will ever be: they were published by
 * transactions that others saw to have ended when the worker wrote the row.
 * On a standby their commits come before the worker's, as in the WAL.
 *
 * The row is written by the worker and deleted with the topic.  Both hold a
 * lock on the topic that excludes the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/setting_row.h"
#include "table/stable_id.h"

static HeapTuple find_row(Relation rel, Oid relid, Snapshot snapshot);
static int64 id_of(Relation rel, HeapTuple tuple);

/*
 * queue_stable_id_read
 *		Return the stable id that a snapshot sees.
 *
 * No id is below 1, so that is what it is before the worker has written any.
 */
int64
queue_stable_id_read(Oid relid, Snapshot snapshot)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_TOPIC_STABLE,
												  AccessShareLock);
	HeapTuple	tuple;
	int64		id = 1;

	if (rel == NULL)
		return 1;
	tuple = find_row(rel, relid, snapshot);
	if (tuple != NULL)
		id = id_of(rel, tuple);
	table_close(rel, AccessShareLock);
	return id;
}

/* Return a copy of the row of a topic that a snapshot sees, or NULL. */
static HeapTuple
find_row(Relation rel, Oid relid, Snapshot snapshot)
{
	SysScanDesc scan = queue_setting_scan(rel, MEMBER_TOPIC_STABLE, relid);
	HeapTuple	tuple = queue_setting_next(scan, snapshot);

	if (tuple != NULL)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

/* The stable id in a row */
static int64
id_of(Relation rel, HeapTuple tuple)
{
	Datum		values[Natts_stable];
	bool		nulls[Natts_stable];

	queue_member_deform(rel, MEMBER_TOPIC_STABLE, tuple, values, nulls);
	return DatumGetInt64(values[Anum_stable_id - 1]);
}

/*
 * queue_stable_id_write
 *		Write a stable id down, if it has changed.
 *
 * For the worker, with a lock on the topic.
 */
void
queue_stable_id_write(Oid relid, int64 stable_id)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_TOPIC_STABLE,
												  RowExclusiveLock);
	Snapshot	snapshot;
	HeapTuple	tuple;
	HeapTuple	new_tuple;
	Datum		values[Natts_stable] = {0};
	bool		nulls[Natts_stable] = {false};
	bool		replaces[Natts_stable] = {false};

	if (rel == NULL)
		return;
	values[Anum_stable_topic - 1] = ObjectIdGetDatum(relid);
	values[Anum_stable_id - 1] = Int64GetDatum(stable_id);
	replaces[Anum_stable_id - 1] = true;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	tuple = find_row(rel, relid, snapshot);
	UnregisterSnapshot(snapshot);
	if (tuple == NULL)
		CatalogTupleInsert(rel, queue_member_form(rel, MEMBER_TOPIC_STABLE,
												  values, nulls));
	else if (id_of(rel, tuple) < stable_id)
	{
		new_tuple = queue_member_modify(rel, MEMBER_TOPIC_STABLE, tuple, values,
										nulls, replaces);
		CatalogTupleUpdate(rel, &tuple->t_self, new_tuple);
	}
	table_close(rel, NoLock);
}

/*
 * queue_stable_id_forget
 *		The topic is being dropped, so another table may have its OID later.
 */
void
queue_stable_id_forget(Oid relid)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_TOPIC_STABLE,
												  RowExclusiveLock);
	Snapshot	snapshot;
	HeapTuple	tuple;

	if (rel == NULL)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	tuple = find_row(rel, relid, snapshot);
	UnregisterSnapshot(snapshot);
	if (tuple != NULL)
		CatalogTupleDelete(rel, &tuple->t_self);
	table_close(rel, NoLock);
}

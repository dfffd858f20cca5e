/*-------------------------------------------------------------------------
 *
 * removed_id.c
 *		How far retention has deleted from topics: table queue.topic_removed.
 *
 * A reader that sees the row of a partition knows that messages up to its id
 * were deleted because of their age, or of the size of the topic.  A
 * subscription that has not come so far has lost some of them.  The row is
 * written in the transaction that deletes, so nobody sees the one without the
 * other.
 *
 * It is written by the worker, some times a second under load, and deleted with
 * the topic.  Both hold a lock on the topic that excludes the other.  While an
 * old snapshot keeps the dead versions, the newest one is found by its TID,
 * which the worker remembers, and not by its key.
 *
 * What the owner deletes by hand is not told here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/indexing.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/removed_id.h"
#include "table/setting_row.h"

static HeapTuple find_row(Relation rel, Oid relid, int partition,
						  Snapshot snapshot);
static HeapTuple find_by_tid(Relation rel, TupleTableSlot *slot,
							 ItemPointer tid, Oid relid, int partition,
							 Snapshot snapshot);
static int64 id_of(Relation rel, HeapTuple tuple);
static bool is_of(Relation rel, HeapTuple tuple, Oid relid, int partition);
static void write_row(Relation rel, HeapTuple old, Oid relid, int partition,
					  int64 id, ItemPointer tid);

/* Return how far messages of a partition were deleted; 0: none was. */
int64
queue_removed_id_read(Oid relid, int partition, Snapshot snapshot)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_TOPIC_REMOVED,
												  AccessShareLock);
	HeapTuple	tuple;
	int64		id = 0;

	if (rel == NULL)
		return 0;
	tuple = find_row(rel, relid, partition, snapshot);
	if (tuple != NULL)
		id = id_of(rel, tuple);
	table_close(rel, AccessShareLock);
	return id;
}

/* Return the highest of all partitions, by what has been committed now. */
int64
queue_removed_id_highest(Oid relid, int npartitions)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		highest = 0;

	for (int i = 0; i < npartitions; i++)
	{
		int64		id = queue_removed_id_read(relid, i, snapshot);

		highest = Max(highest, id);
	}
	UnregisterSnapshot(snapshot);
	return highest;
}

/* Return a copy of the row of a partition that a snapshot sees, or NULL. */
static HeapTuple
find_row(Relation rel, Oid relid, int partition, Snapshot snapshot)
{
	Oid			index = queue_catalog_relid("topic_removed_pkey");
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_removed_topic, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&keys[1], Anum_removed_partition, BTEqualStrategyNumber,
				F_INT2EQ, Int16GetDatum(partition));
	scan = systable_beginscan(rel, index, OidIsValid(index), SnapshotAny, 2,
							  keys);
	tuple = queue_setting_next(scan, snapshot);
	if (tuple != NULL)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

/* Is this the row of that partition? */
static bool
is_of(Relation rel, HeapTuple tuple, Oid relid, int partition)
{
	bool		isnull;

	return DatumGetObjectId(heap_getattr(tuple, Anum_removed_topic,
										 RelationGetDescr(rel),
										 &isnull)) == relid &&
		DatumGetInt16(heap_getattr(tuple, Anum_removed_partition,
								   RelationGetDescr(rel),
								   &isnull)) == partition;
}

/* The id in a row */
static int64
id_of(Relation rel, HeapTuple tuple)
{
	Datum		values[Natts_removed];
	bool		nulls[Natts_removed];

	queue_member_deform(rel, MEMBER_TOPIC_REMOVED, tuple, values, nulls);
	return DatumGetInt64(values[Anum_removed_id - 1]);
}

/*
 * queue_removed_ids_write
 *		Write down how far messages were deleted.
 *
 * For the worker, with a lock on the topic.  If the transaction fails, it
 * forgets the TIDs.
 */
void
queue_removed_ids_write(Oid relid, int npartitions, const int64 *ids,
						ItemPointerData * tids)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_TOPIC_REMOVED,
												  RowExclusiveLock);
	TupleTableSlot *slot;
	Snapshot	snapshot;

	if (rel == NULL)
		return;
	slot = table_slot_create(rel, NULL);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < npartitions; i++)
	{
		HeapTuple	old;

		if (ids[i] == 0)
			continue;
		old = find_by_tid(rel, slot, &tids[i], relid, i, snapshot);
		if (old == NULL)
			old = find_row(rel, relid, i, snapshot);
		write_row(rel, old, relid, i, ids[i], &tids[i]);
	}
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

/*
 * find_by_tid
 *		Return a copy of the row at this place, if it is the one, and the
 *		snapshot sees it.
 */
static HeapTuple
find_by_tid(Relation rel, TupleTableSlot *slot, ItemPointer tid, Oid relid,
			int partition, Snapshot snapshot)
{
	HeapTuple	tuple;

	if (!ItemPointerIsValid(tid) ||
		ItemPointerGetBlockNumber(tid) >= RelationGetNumberOfBlocks(rel) ||
		!table_tuple_fetch_row_version(rel, tid, snapshot, slot))
		return NULL;
	tuple = ExecCopySlotHeapTuple(slot);
	return is_of(rel, tuple, relid, partition) ? tuple : NULL;
}

/* Write one row, unless it says as much already; *tid is where it is then. */
static void
write_row(Relation rel, HeapTuple old, Oid relid, int partition, int64 id,
		  ItemPointer tid)
{
	Datum		values[Natts_removed];
	bool		nulls[Natts_removed] = {false};
	bool		replaces[Natts_removed] = {false};
	HeapTuple	tuple;

	values[Anum_removed_topic - 1] = ObjectIdGetDatum(relid);
	values[Anum_removed_partition - 1] = Int16GetDatum(partition);
	values[Anum_removed_id - 1] = Int64GetDatum(id);
	replaces[Anum_removed_id - 1] = true;
	if (old == NULL)
	{
		tuple = queue_member_form(rel, MEMBER_TOPIC_REMOVED, values, nulls);
		CatalogTupleInsert(rel, tuple);
		*tid = tuple->t_self;
		return;
	}
	*tid = old->t_self;
	if (id_of(rel, old) >= id)
		return;
	tuple = queue_member_modify(rel, MEMBER_TOPIC_REMOVED, old, values, nulls,
								replaces);
	CatalogTupleUpdate(rel, &old->t_self, tuple);
	*tid = tuple->t_self;
}

/* The topic is being dropped, so another table may have its OID later. */
void
queue_removed_ids_forget(Oid relid)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_TOPIC_REMOVED,
												  RowExclusiveLock);
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = queue_setting_scan(rel, MEMBER_TOPIC_REMOVED, relid);
	while ((tuple = queue_setting_next(scan, snapshot)) != NULL)
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

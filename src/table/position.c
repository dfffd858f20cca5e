/*-------------------------------------------------------------------------
 *
 * position.c
 *		Where a subscription stands in a partition: rows of its table.
 *
 * A table of a subscription has one row for each partition of its topic, which
 * is updated whenever messages of the partition are consumed, in the consumer's
 * transaction.  That is done below the executor, as with the rows of queues
 * (rows.c), and under the same white list.
 *
 * Of each partition at most one version is alive, so one that is found to be
 * alive is the newest, wherever the search for it began.  It begins where memory
 * says that it was (shared/place.c) and follows the pointers from there; if that
 * leads nowhere, the index has it.
 *
 * Rows are judged by the present status of transactions.  A consumer that
 * reads to take messages holds the partition in the in-flight table, so nobody
 * else moves it meanwhile, but for what is done by hand in replica role.
 *
 * Locks: the caller's on the table.  Nothing here waits for a transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/place.h"
#include "table/entries.h"
#include "table/failure_log.h"
#include "table/position.h"
#include "table/subscription_column.h"

static PositionState read_from(Relation rel, ItemPointerData tid,
							   int partition, Position *position);
static PositionState look_up(Relation rel, SubscriptionDef *def,
							 int partition, Position *position);
static void begin_look_up(IndexScanDesc *scan, Relation rel, Relation index,
						  int partition, SnapshotData *dirty);
static bool is_there(Relation rel, SubscriptionDef *def, int partition);
static bool is_of(TupleTableSlot *slot, int partition);
static PositionState note(Position *position, SnapshotData *dirty);
static void read_failure(TupleTableSlot *slot, PositionFailure *failure);
static bool next_version(TupleTableSlot *slot, ItemPointerData * tid);
static bool change(Relation rel, SubscriptionDef *def, Position *position,
				   Datum *values, bool *nulls, bool *replaces);

/* Make a position without a row, in the current memory context. */
Position *
queue_position_make(Relation rel)
{
	Position   *position = palloc0(sizeof(Position));

	position->slot = table_slot_create(rel, NULL);
	return position;
}

/* Let go of the row. */
void
queue_position_free(Position *position)
{
	ExecDropSingleTupleTableSlot(position->slot);
	pfree(position);
}

/*
 * queue_position_read
 *		Read the newest version of a partition's row.
 *
 * What was committed is noted in memory, for the next reader.  An update may
 * hide a row from a scan of the index, so that is made twice.
 */
PositionState
queue_position_read(Relation rel, SubscriptionDef *def, int partition,
					Position *position)
{
	Oid			relid = RelationGetRelid(rel);
	PositionState state = POSITION_MISSING;
	Place		place;
	uint32		nmoves;

	if (queue_place_get_to_read(relid, partition, &place, &nmoves) &&
		ItemPointerIsValid(&place.tid) &&
		ItemPointerGetBlockNumber(&place.tid) < RelationGetNumberOfBlocks(rel))
		state = read_from(rel, place.tid, partition, position);
	for (int i = 0; i < 2 && state == POSITION_MISSING; i++)
		state = look_up(rel, def, partition, position);

	INJECTION_POINT("queue-position-read", NULL);

	/* on a standby nobody would tell that it has been moved */
	if (state == POSITION_FOUND && !position->is_own && !RecoveryInProgress())
		queue_place_set(relid, partition, &position->tid, position->id,
						position->failures, nmoves);
	return state;
}

/* Follow the versions of a row from this one on. */
static PositionState
read_from(Relation rel, ItemPointerData tid, int partition, Position *position)
{
	for (;;)
	{
		SnapshotData dirty;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(dirty);
		if (table_tuple_fetch_row_version(rel, &tid, &dirty, position->slot))
			return !is_of(position->slot, partition) ? POSITION_MISSING :
				note(position, &dirty);
		if (!table_tuple_fetch_row_version(rel, &tid, SnapshotAny,
										   position->slot) ||
			!is_of(position->slot, partition) ||
			!next_version(position->slot, &tid))
			return POSITION_MISSING;
	}
}

/* Is it a version of this partition's row? */
static bool
is_of(TupleTableSlot *slot, int partition)
{
	bool		isnull;

	return DatumGetInt16(slot_getattr(slot, Anum_position_partition,
									  &isnull)) == partition;
}

/*
 * next_version
 *		Go to the next version of a row that is outdated; false if there is
 *		none.
 *
 * The updater has written that pointer before anybody can see the update as
 * committed.
 */
static bool
next_version(TupleTableSlot *slot, ItemPointerData * tid)
{
	HeapTuple	tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;

	Assert(TTS_IS_BUFFERTUPLE(slot));
	if (ItemPointerEquals(&tuple->t_self, &tuple->t_data->t_ctid))
		return false;
	*tid = tuple->t_data->t_ctid;
	return true;
}

/* Look the row up by its key. */
static PositionState
look_up(Relation rel, SubscriptionDef *def, int partition, Position *position)
{
	Relation	index = index_open(def->indexes.pkey, AccessShareLock);
	PositionState state = POSITION_MISSING;
	SnapshotData dirty;
	IndexScanDesc scan;

	begin_look_up(&scan, rel, index, partition, &dirty);
	while (state == POSITION_MISSING &&
		   index_getnext_slot(scan, ForwardScanDirection, position->slot))
		state = note(position, &dirty);
	index_endscan(scan);
	index_close(index, AccessShareLock);
	return state;
}

/* Begin to look a partition up, by what all transactions have written. */
static void
begin_look_up(IndexScanDesc *scan, Relation rel, Relation index, int partition,
			  SnapshotData *dirty)
{
	ScanKeyData key;

	InitDirtySnapshot(*dirty);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(partition));
	*scan = index_beginscan(rel, index, dirty, NULL, 1, 0, 0);
	index_rescan(*scan, &key, 1, NULL, 0);
}

/*
 * note
 *		Take the values out of a row that "dirty" has just let pass into the
 *		slot.
 *
 * One that is coming with another transaction is not there yet.
 */
static PositionState
note(Position *position, SnapshotData *dirty)
{
	TupleTableSlot *slot = position->slot;
	HeapTuple	tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;

	if (TransactionIdIsValid(dirty->xmin))
		return POSITION_MISSING;
	slot_getallattrs(slot);
	position->partition =
		DatumGetInt16(slot->tts_values[Anum_position_partition - 1]);
	position->id = DatumGetInt64(slot->tts_values[Anum_position_position - 1]);
	position->failures =
		DatumGetInt16(slot->tts_values[Anum_position_failures - 1]);
	position->alone_until = slot->tts_isnull[Anum_position_alone_until - 1] ?
		0 : DatumGetInt64(slot->tts_values[Anum_position_alone_until - 1]);
	position->moved_at =
		DatumGetTimestampTz(slot->tts_values[Anum_position_moved_at - 1]);
	position->tid = slot->tts_tid;
	position->is_own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	position->has_gone = false;
	position->changer = dirty->xmax;
	return TransactionIdIsValid(dirty->xmax) ? POSITION_BUSY : POSITION_FOUND;
}

/* Return what the row tells of the failures of the message that is next. */
NullableDatum
queue_position_failure_log(Position *position)
{
	NullableDatum log = {0, true};

	if (!position->has_gone)
		log.value = slot_getattr(position->slot, Anum_position_failure_log,
								 &log.isnull);
	return log;
}

/*
 * queue_position_next_is
 *		The message that is next has this id, or a higher one.
 *
 * The row counts failures of a message without telling which one that was, but
 * for the last id of those that failed with it.  If they are gone from the topic,
 * what comes next has not failed.
 */
void
queue_position_next_is(Position *position, int64 id)
{
	if (position->failures == 0 || position->alone_until == 0 ||
		id <= position->alone_until)
		return;
	position->failures = 0;
	position->alone_until = 0;
	position->has_gone = true;
}

/*
 * queue_position_move
 *		Move the position, in the caller's transaction.
 *
 * The failures were those of a message that is behind it now.  How far they
 * failed together still holds for what is left of these.  The position is what
 * was moved to then, and can be moved again.
 */
bool
queue_position_move(Relation rel, SubscriptionDef *def, Position *position,
					int64 id)
{
	Datum		values[Natts_position] = {0};
	bool		nulls[Natts_position] = {0};
	bool		replaces[Natts_position] = {0};
	int64		alone_until = position->alone_until > id ?
		position->alone_until : 0;

	values[Anum_position_position - 1] = Int64GetDatum(id);
	values[Anum_position_failures - 1] = Int16GetDatum(0);
	values[Anum_position_alone_until - 1] = Int64GetDatum(alone_until);
	nulls[Anum_position_alone_until - 1] = alone_until == 0;
	nulls[Anum_position_failure_log - 1] = true;
	values[Anum_position_moved_at - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	for (int att = Anum_position_position; att <= Natts_position; att++)
		replaces[att - 1] = true;
	if (!change(rel, def, position, values, nulls, replaces))
		return false;
	position->id = id;
	position->failures = 0;
	position->alone_until = alone_until;
	return true;
}

/*
 * queue_position_fail
 *		Note that the message that is next has failed so often, and with which
 *		others.
 */
bool
queue_position_fail(Relation rel, SubscriptionDef *def, Position *position,
					int failures, int64 alone_until, const FailureNews *news)
{
	Datum		values[Natts_position] = {0};
	bool		nulls[Natts_position] = {0};
	bool		replaces[Natts_position] = {0};

	/* the counter saturates */
	values[Anum_position_failures - 1] =
		Int16GetDatum(Min(failures, PG_INT16_MAX));
	replaces[Anum_position_failures - 1] = true;
	values[Anum_position_alone_until - 1] = Int64GetDatum(alone_until);
	nulls[Anum_position_alone_until - 1] = alone_until == 0;
	replaces[Anum_position_alone_until - 1] = true;
	values[Anum_position_failure_log - 1] =
		queue_failure_log_add(queue_position_failure_log(position), news);
	replaces[Anum_position_failure_log - 1] = true;
	return change(rel, def, position, values, nulls, replaces);
}

/*
 * change
 *		Write a new version of the row; false if another transaction is in the
 *		way.
 *
 * The slot has the new version then.
 */
static bool
change(Relation rel, SubscriptionDef *def, Position *position, Datum *values,
	   bool *nulls, bool *replaces)
{
	bool		should_free;
	HeapTuple	old;
	HeapTuple	new;
	TupleTableSlot *slot;
	bool		is_done;

	/* one statement may move it more than once */
	if (position->is_own)
		CommandCounterIncrement();
	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	old = ExecFetchSlotHeapTuple(position->slot, false, &should_free);
	new = heap_modify_tuple(old, RelationGetDescr(rel), values, nulls,
							replaces);
	if (should_free)
		heap_freetuple(old);
	slot = table_slot_create(rel, NULL);
	ExecForceStoreHeapTuple(new, slot, true);
	slot->tts_tableOid = RelationGetRelid(rel);

	is_done = queue_entries_replace(rel, &queue_subscription_form,
									&def->indexes, position->slot, slot);
	if (is_done)
	{
		SnapshotData dirty;

		position->tid = slot->tts_tid;
		position->is_own = true;
		InitDirtySnapshot(dirty);
		if (!table_tuple_fetch_row_version(rel, &position->tid, &dirty,
										   position->slot))
			elog(ERROR, "row of partition %d has disappeared",
				 position->partition);
	}
	ExecDropSingleTupleTableSlot(slot);
	return is_done;
}

/*
 * queue_position_put
 *		Make a row that is missing, in the caller's transaction.
 *
 * Somebody may be about to do so by hand: the index would wait for that.
 */
bool
queue_position_put(Relation rel, SubscriptionDef *def, int partition, int64 id)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values;
	bool	   *nulls;
	HeapTuple	tuple;

	if (is_there(rel, def, partition))
		return false;

	/* dropped columns may follow */
	values = palloc0(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	memset(nulls, true, desc->natts * sizeof(bool));
	values[Anum_position_partition - 1] = Int16GetDatum(partition);
	nulls[Anum_position_partition - 1] = false;
	values[Anum_position_position - 1] = Int64GetDatum(id);
	nulls[Anum_position_position - 1] = false;
	values[Anum_position_failures - 1] = Int16GetDatum(0);
	nulls[Anum_position_failures - 1] = false;
	values[Anum_position_moved_at - 1] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	nulls[Anum_position_moved_at - 1] = false;
	tuple = heap_form_tuple(desc, values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	pfree(values);
	pfree(nulls);
	return true;
}

/* Is there a row of the partition, or one that is coming or going? */
static bool
is_there(Relation rel, SubscriptionDef *def, int partition)
{
	Relation	index = index_open(def->indexes.pkey, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData dirty;
	IndexScanDesc scan;
	bool		result;

	begin_look_up(&scan, rel, index, partition, &dirty);
	result = index_getnext_slot(scan, ForwardScanDirection, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	return result;
}

/* Raise 42809: a row of the subscription is not there. */
void
queue_position_report_missing(Relation rel, int partition)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("subscription \"%s\" has no position in partition %d",
					RelationGetRelationName(rel), partition),
			 errdetail("Somebody has deleted a row of its table."),
			 errhint("Set its positions with queue.seek().")));
}

/*
 * queue_positions_read
 *		Read all rows of a subscription as they are committed, whoever holds
 *		them.
 *
 * Positions of partitions without a row are left as they are.  Returns when the
 * last of them has moved.
 */
TimestampTz
queue_positions_read(Relation rel, int partitions, int64 *positions,
					 PositionFailure *failures)
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
		if (partition < 0 || partition >= partitions)
			continue;
		positions[partition] = position;
		if (failures != NULL)
			read_failure(slot, &failures[partition]);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return moved_at;
}

/* Take what a row tells of failures out of the slot. */
static void
read_failure(TupleTableSlot *slot, PositionFailure *failure)
{
	bool		isnull;
	Datum		alone_until = slot_getattr(slot, Anum_position_alone_until,
										   &isnull);

	failure->alone_until = isnull ? 0 : DatumGetInt64(alone_until);
	failure->failures = DatumGetInt16(slot_getattr(slot, Anum_position_failures,
												   &isnull));
}

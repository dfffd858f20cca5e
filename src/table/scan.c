/*-------------------------------------------------------------------------
 *
 * scan.c
 *		Messages one after the other: scans of a queue, by index or by table.
 *
 * A scan goes over a range of ids, or over all messages, in order of priority
 * and id; a pass goes over the rows that a snapshot sees, in the order of the
 * table.  How rows are judged, and under which locks, is in rows.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/definition.h"
#include "table/scan.h"

static QueueScan *begin_scan(Relation rel, Oid index);
static QueueTableScan *begin_pass(Relation rel, Snapshot snapshot,
								  bool allow_sync);
static void start_priority(QueueScan *scan);
static void rescan(QueueScan *scan, ScanKey keys, int nkeys,
				   bool wants_index_tuples);
static bool fetch_next(QueueScan *scan);

/*
 * queue_scan_begin
 *		Begin a scan of the live rows of a queue, which is open.
 *
 * It goes over all messages, unless queue_scan_range() is called.
 */
QueueScan *
queue_scan_begin(Relation rel, QueueDef *def)
{
	return begin_scan(rel, def->indexes.pkey);
}

/* The same with one of the indexes */
static QueueScan *
begin_scan(Relation rel, Oid index)
{
	QueueScan  *scan = palloc0(sizeof(QueueScan));

	scan->rel = rel;
	scan->index = index_open(index, AccessShareLock);
	InitDirtySnapshot(scan->dirty);
	scan->row.slot = table_slot_create(rel, NULL);
	scan->priority = QUEUE_MAX_PRIORITY + 1;
	return scan;
}

/*
 * queue_scan_begin_snapshot
 *		The same over the rows that a snapshot sees, whatever became of them.
 *
 * A serializable transaction scans with a snapshot that is not MVCC and
 * applies its own to each row, because its scan would take predicate locks
 * (see the top of rows.c).
 */
QueueScan *
queue_scan_begin_snapshot(Relation rel, QueueDef *def, Snapshot snapshot)
{
	QueueScan  *scan = queue_scan_begin(rel, def);

	scan->filter = IsolationIsSerializable() ? snapshot : NULL;
	scan->snapshot = scan->filter ? SnapshotAny : snapshot;
	return scan;
}

/*
 * queue_scan_begin_group
 *		Begin a scan of messages of groups.
 *
 * It goes over those that queue_scan_group() names.  Rows that another
 * transaction changes are returned, too, and if the scan comes upon the new
 * version first, as that.
 */
QueueScan *
queue_scan_begin_group(Relation rel, QueueDef *def)
{
	QueueScan  *scan = begin_scan(rel, def->indexes.own[GROUP_INDEX]);

	scan->wants_busy = true;
	scan->wants_versions = true;
	return scan;
}

/*
 * queue_scan_group
 *		Go over the messages of one group with ids from "low" to "high".
 *
 * The key must live as long as they are fetched.
 */
void
queue_scan_group(QueueScan *scan, Datum key, int64 low, int64 high)
{
	ScanKeyData keys[3];

	scan->is_range = true;
	scan->priority = 0;
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid,
						   scan->index->rd_indcollation[0], F_TEXTEQ, key);
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(low));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(high));
	rescan(scan, keys, 3, false);
}

/*
 * queue_scan_next_group
 *		Find the first group beyond this key, or of all if that is NULL.
 *
 * Returns a copy of its key, or false if there is none.  No row is read, so it
 * may be one of which only dead rows are left.
 */
bool
queue_scan_next_group(QueueScan *scan, Datum after, Datum *key)
{
	ScanKeyData beyond;
	bool		isnull;
	Datum		found;

	if (DatumGetPointer(after) == NULL)
		rescan(scan, NULL, 0, true);
	else
	{
		ScanKeyEntryInitialize(&beyond, 0, 1, BTGreaterStrategyNumber,
							   InvalidOid, scan->index->rd_indcollation[0],
							   F_TEXT_GT, after);
		rescan(scan, &beyond, 1, true);
	}
	CHECK_FOR_INTERRUPTS();
	if (index_getnext_tid(scan->scan, ForwardScanDirection) == NULL)
		return false;
	found = index_getattr(scan->scan->xs_itup, 1, scan->scan->xs_itupdesc,
						  &isnull);
	*key = PointerGetDatum(PG_DETOAST_DATUM_COPY(found));
	return true;
}

/* Go over the messages of all groups, one group after the other. */
void
queue_scan_groups(QueueScan *scan)
{
	scan->is_range = true;
	scan->priority = 0;
	rescan(scan, NULL, 0, false);
}

/* Begin a scan of messages with correlation_ids. */
QueueScan *
queue_scan_begin_correlated(Relation rel, QueueDef *def)
{
	return begin_scan(rel, def->indexes.own[CORRELATION_INDEX]);
}

/*
 * Go over those with this one, which must live as long as they are fetched.
 */
void
queue_scan_correlated(QueueScan *scan, Datum correlation_id)
{
	ScanKeyData key;

	scan->is_range = true;
	scan->priority = 0;
	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   scan->index->rd_indcollation[0], F_TEXTEQ,
						   correlation_id);
	rescan(scan, &key, 1, false);
}

/* Go over these messages only, from now on. */
void
queue_scan_range(QueueScan *scan, const QueueRange *range)
{
	ScanKeyData keys[3];

	scan->is_range = true;
	scan->priority = queue_rank_priority(range->rank);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(scan->priority));
	if (range->low == range->high)
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(range->low));
	else
	{
		ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
					Int64GetDatum(range->low));
		ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_INT8LE,
					Int64GetDatum(range->high));
	}
	rescan(scan, keys, range->low == range->high ? 2 : 3, false);
}

/*
 * queue_scan_probe
 *		Return the first id, from the range's low end on, that the index has
 *		an entry of, dead or alive.
 *
 * It may be beyond the range; PG_INT64_MAX if there is none at all.  To be
 * followed by queue_scan_range().
 */
int64
queue_scan_probe(QueueScan *scan, const QueueRange *range)
{
	ScanKeyData keys[2];
	bool		isnull;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(queue_rank_priority(range->rank)));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(range->low));
	rescan(scan, keys, 2, true);
	if (index_getnext_tid(scan->scan, ForwardScanDirection) == NULL)
		return PG_INT64_MAX;
	return DatumGetInt64(index_getattr(scan->scan->xs_itup, 2,
									   scan->scan->xs_itupdesc, &isnull));
}

/*
 * queue_scan_last_id
 *		Return the highest id that the index has an entry of, dead or alive; 0
 *		if none.
 *
 * To be followed by queue_scan_range().
 */
int64
queue_scan_last_id(QueueScan *scan)
{
	int64		last = 0;
	int			priority;

	for (priority = 0; priority <= QUEUE_MAX_PRIORITY; priority++)
	{
		ScanKeyData key;
		bool		isnull;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT2EQ,
					Int16GetDatum(priority));
		rescan(scan, &key, 1, true);
		if (index_getnext_tid(scan->scan, BackwardScanDirection) != NULL)
			last = Max(last,
					   DatumGetInt64(index_getattr(scan->scan->xs_itup, 2,
												   scan->scan->xs_itupdesc,
												   &isnull)));
	}
	return last;
}

/*
 * rescan
 *		Begin to scan with these keys.
 *
 * The scan is begun late, because the number of keys is fixed with it.
 */
static void
rescan(QueueScan *scan, ScanKey keys, int nkeys, bool wants_index_tuples)
{
	if (scan->scan != NULL && scan->scan->numberOfKeys != nkeys)
	{
		index_endscan(scan->scan);
		scan->scan = NULL;
	}
	if (scan->scan == NULL)
		scan->scan = index_beginscan(scan->rel, scan->index,
									 scan->snapshot ? scan->snapshot :
									 &scan->dirty, NULL, nkeys, 0, 0);
	scan->scan->xs_want_itup = wants_index_tuples;
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

/* Go on with the first message of scan->priority. */
static void
start_priority(QueueScan *scan)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(scan->priority));
	rescan(scan, &key, 1, false);
}

/*
 * queue_scan_next
 *		Return the next live row, or NULL.
 *
 * Without a range, of all messages.  Rows that another transaction inserts,
 * deletes or changes are skipped unless wanted, and so are rows written by
 * this transaction.
 */
MessageRow *
queue_scan_next(QueueScan *scan)
{
	if (scan->priority > QUEUE_MAX_PRIORITY)
	{
		scan->priority = QUEUE_MAX_PRIORITY;
		start_priority(scan);
	}
	while (scan->priority >= 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (!fetch_next(scan))
		{
			if (scan->is_range)
				scan->priority = -1;
			else if (--scan->priority >= 0)
				start_priority(scan);
			continue;
		}
		if (scan->snapshot != NULL)
		{
			if (scan->filter != NULL &&
				!queue_row_is_visible(scan->rel, &scan->row, scan->filter))
				continue;
			scan->row.state = ROW_LIVE;
			queue_row_read(&scan->row);
			return &scan->row;
		}
		scan->row.state = queue_row_state(&scan->row, &scan->dirty);
		if (scan->row.state == ROW_LIVE ||
			(scan->row.state == ROW_BUSY && scan->wants_busy) ||
			(scan->row.state == ROW_COMING && scan->wants_coming))
		{
			queue_row_read(&scan->row);
			return &scan->row;
		}
		if (scan->row.state == ROW_COMING && scan->wants_versions &&
			queue_row_is_version(&scan->row))
		{
			scan->row.state = ROW_BUSY;
			queue_row_read(&scan->row);
			return &scan->row;
		}
	}
	return NULL;
}

/*
 * Fetch the next row, as index_getnext_slot() does, and note entries that have
 * none.  What comes after a row in the same chain of versions is no entry.
 */
static bool
fetch_next(QueueScan *scan)
{
	IndexScanDesc index_scan = scan->scan;

	for (;;)
	{
		bool		is_entry = !index_scan->xs_heap_continue;

		if (is_entry &&
			index_getnext_tid(index_scan, ForwardScanDirection) == NULL)
			return false;
		if (index_fetch_heap(index_scan, scan->row.slot))
			return true;
		if (is_entry)
		{
			ItemPointer tid = &index_scan->xs_heaptid;

			scan->has_missed = true;
			scan->missed += ((uint64) ItemPointerGetBlockNumber(tid) << 16) +
				ItemPointerGetOffsetNumber(tid);
		}
	}
}

/* End the scan, and give back the lock on the index. */
void
queue_scan_end(QueueScan *scan)
{
	if (scan->scan != NULL)
		index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->row.slot);
	index_close(scan->index, AccessShareLock);
	pfree(scan);
}

/*
 * queue_due_scan_begin
 *		Begin to go over the index by due time: (priority, visible_at, id).
 *
 * Its entries tell all that is asked for, and no row is read.
 */
QueueDueScan *
queue_due_scan_begin(Relation rel, QueueDef *def)
{
	QueueDueScan *scan = palloc(sizeof(QueueDueScan));

	scan->index = index_open(def->indexes.own[DUE_INDEX], AccessShareLock);
	scan->scan = index_beginscan(rel, scan->index, SnapshotAny, NULL, 2, 0, 0);
	scan->scan->xs_want_itup = true;
	return scan;
}

/* Go over the entries of this priority from this time on. */
void
queue_due_scan_from(QueueDueScan *scan, int priority, TimestampTz from)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(priority));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Return the next one, or false. */
bool
queue_due_scan_next(QueueDueScan *scan, TimestampTz *due, int64 *id)
{
	IndexTuple	entry;
	TupleDesc	desc = scan->scan->xs_itupdesc;
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (index_getnext_tid(scan->scan, ForwardScanDirection) == NULL)
		return false;
	entry = scan->scan->xs_itup;
	*due = DatumGetTimestampTz(index_getattr(entry, 2, desc, &isnull));
	*id = DatumGetInt64(index_getattr(entry, 3, desc, &isnull));
	return true;
}

/* End that, and give back the lock on the index. */
void
queue_due_scan_end(QueueDueScan *scan)
{
	index_endscan(scan->scan);
	index_close(scan->index, AccessShareLock);
	pfree(scan);
}

/* Begin to go over rows with a due time that a snapshot sees. */
QueueDueRows *
queue_due_rows_begin(Relation rel, QueueDef *def, Snapshot snapshot)
{
	QueueDueRows *scan = palloc0(sizeof(QueueDueRows));

	scan->index = index_open(def->indexes.own[DUE_INDEX], AccessShareLock);
	scan->row.slot = table_slot_create(rel, NULL);
	scan->scan = index_beginscan(rel, scan->index, snapshot, NULL, 2, 0, 0);
	return scan;
}

/* Go over those of this priority that are due after this time. */
void
queue_due_rows_after(QueueDueRows *scan, int priority, TimestampTz after)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(priority));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
				TimestampTzGetDatum(after));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Return the next one, or NULL. */
MessageRow *
queue_due_rows_next(QueueDueRows *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(scan->scan, ForwardScanDirection, scan->row.slot))
		return NULL;
	queue_row_read(&scan->row);
	return &scan->row;
}

/* End that, and give back the lock on the index. */
void
queue_due_rows_end(QueueDueRows *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->row.slot);
	index_close(scan->index, AccessShareLock);
	pfree(scan);
}

/*
 * queue_expiry_scan_begin
 *		Begin to go over the rows that expire from this time on.
 */
QueueExpiryScan *
queue_expiry_scan_begin(Relation rel, QueueDef *def, TimestampTz from)
{
	QueueExpiryScan *scan = palloc0(sizeof(QueueExpiryScan));
	ScanKeyData key;

	InitDirtySnapshot(scan->dirty);
	scan->index = index_open(def->indexes.own[EXPIRY_INDEX], AccessShareLock);
	scan->row.slot = table_slot_create(rel, NULL);
	scan->scan = index_beginscan(rel, scan->index, &scan->dirty, NULL, 1, 0, 0);
	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	index_rescan(scan->scan, &key, 1, NULL, 0);
	return scan;
}

/* Return the next one, or NULL; row->state says whether others change it. */
MessageRow *
queue_expiry_scan_next(QueueExpiryScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (!index_getnext_slot(scan->scan, ForwardScanDirection, scan->row.slot))
		return NULL;
	scan->row.state = queue_row_state(&scan->row, &scan->dirty);
	queue_row_read(&scan->row);
	return &scan->row;
}

/* End that, and give back the lock on the index. */
void
queue_expiry_scan_end(QueueExpiryScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->row.slot);
	index_close(scan->index, AccessShareLock);
	pfree(scan);
}

/*
 * queue_table_scan_begin
 *		Begin a pass over the rows that a snapshot sees, in the order of the
 *		table.
 *
 * See queue_scan_begin_snapshot() for serializable transactions.
 */
QueueTableScan *
queue_table_scan_begin(Relation rel, Snapshot snapshot)
{
	return begin_pass(rel, snapshot, true /* begins anywhere */ );
}

/* Begin one, at the first page if it does not begin where others are. */
static QueueTableScan *
begin_pass(Relation rel, Snapshot snapshot, bool allow_sync)
{
	QueueTableScan *pass = palloc0(sizeof(QueueTableScan));

	pass->filter = IsolationIsSerializable() ? snapshot : NULL;
	pass->scan = table_beginscan_strat(rel, pass->filter ? SnapshotAny :
									   snapshot, 0, NULL,
									   true /* allow_strat */ , allow_sync);
	pass->row.slot = table_slot_create(rel, NULL);
	return pass;
}

/*
 * queue_table_scan_begin_stretches
 *		Begin a pass that is made stretch by stretch.
 *
 * What the snapshot sees is in pages that there are by now, and they stay while
 * the table is open.
 */
QueueTableScan *
queue_table_scan_begin_stretches(Relation rel, Snapshot snapshot)
{
	QueueTableScan *pass = begin_pass(rel, snapshot, false);

	pass->nblocks = RelationGetNumberOfBlocks(rel);
	return pass;
}

/*
 * queue_table_scan_go_on
 *		Go on with the next so many pages; false: all have been looked at.
 *
 * The server counts each stretch as a scan of the table.
 */
bool
queue_table_scan_go_on(QueueTableScan *pass, BlockNumber npages)
{
	BlockNumber n = Min(npages, pass->nblocks - pass->next);

	if (n == 0)
		return false;
	if (pass->next > 0)
		table_rescan(pass->scan, NULL);
	heap_setscanlimits(pass->scan, pass->next, n);
	pass->next += n;
	return true;
}

/*
 * queue_table_scan_next
 *		Return the next row, or NULL.
 *
 * Whether another transaction has changed it since, or does, is not looked at.
 */
MessageRow *
queue_table_scan_next(QueueTableScan *pass)
{
	MessageRow *row = &pass->row;

	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!table_scan_getnextslot(pass->scan, ForwardScanDirection,
									row->slot))
			return NULL;
	} while (pass->filter != NULL &&
			 !queue_row_is_visible(pass->scan->rs_rd, row, pass->filter));
	queue_row_read(row);
	row->state = queue_row_is_own(row) ? ROW_OWN : ROW_LIVE;
	return row;
}

/* End the pass. */
void
queue_table_scan_end(QueueTableScan *pass)
{
	table_endscan(pass->scan);
	ExecDropSingleTupleTableSlot(pass->row.slot);
	pfree(pass);
}

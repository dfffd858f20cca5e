/*-------------------------------------------------------------------------
 *
 * storage.c
 *		Rows of queue tables, below the executor.
 *
 * The only file that touches queue tables by way of the table and index access
 * methods.  What the executor would have done is done elsewhere or needs no
 * doing, thanks to the white list of queue tables (shape.c):
 *
 *	- privileges: queue_open(), on every call
 *	- row security, rules, CHECK, foreign keys, generated columns, defaults,
 *	  partitions: a queue table has none
 *	- triggers: a queue table has two of ours, whose work the callers do
 *	- NOT NULL: the callers fill all such columns
 *	- replica identity: the primary key or the full row is there, but a
 *	  publication may ask for more; the server's own check, before rows are
 *	  deleted or updated
 *	- read-only transactions, standbys, parallel workers: the SQL functions
 *
 * Rows are judged by the current status of transactions (SnapshotDirty), and
 * only then by the snapshot of the statement.  The second alone would return
 * rows that are gone already; the first alone, rows that a join in the same
 * statement cannot see the companions of.  Scanning with a snapshot that is
 * not MVCC has a welcome effect: serializable transactions take no predicate
 * locks on the queue, and so the queue gives them no serialization failures.
 *
 * A scan with SnapshotDirty may miss a row that is updated behind its back.
 * To a consumer that row counts as taken, and the end of the update wakes him
 * (the trigger on UPDATE, or the worker's own note, says so).
 *
 * Locks: the caller's on the table protects its index too, so that of the
 * index is given back with the scan; a call that then sleeps holds neither.
 *
 * Nothing here waits for the end of another transaction, but queue_row_wait().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "common/mutant.h"
#include "common/ranges.h"
#include "table/storage.h"

/* rows and bytes that one multi-insert takes */
#define INSERT_ROWS			1000
#define INSERT_BYTES		(4 * 1024 * 1024)

struct QueueInsert
{
	Relation	rel;
	Relation	pkey;			/* the only index; NULL if there are more */
	EState	   *estate;			/* ... then these */
	ResultRelInfo *info;
	TupleTableSlot **slots;
	int			room;			/* places in "slots" */
	int			nslots;			/* filled */
	int			nmade;			/* created */
	Size		nbytes;
};

static void read_row(MessageRow *row);
static RowState row_state(MessageRow *row, SnapshotData *dirty);
static bool is_own(MessageRow *row);
static void start_priority(QueueScan *scan);
static void rescan(QueueScan *scan, ScanKey keys, int nkeys,
				   bool wants_index_tuples);
static bool is_own_lock(MessageRow *row);
static RowState find_in_index(Relation rel, Relation index, MessageRow *row,
							  int priority);
static void flush_insert(QueueInsert *insert);
static void insert_key(QueueInsert *insert, TupleTableSlot *slot);

/* ----------------------------------------------------------------
 *		Reading
 * ----------------------------------------------------------------
 */

/* A row with an empty slot, in the current memory context. */
MessageRow *
queue_row_make(Relation rel)
{
	MessageRow *row = palloc0(sizeof(MessageRow));

	row->slot = table_slot_create(rel, NULL);
	row->priority = QUEUE_DEFAULT_PRIORITY;
	ItemPointerSetInvalid(&row->tid);
	return row;
}

/* Fill in the columns from the slot. */
static void
read_row(MessageRow *row)
{
	TupleTableSlot *slot = row->slot;

	slot_getsomeattrs(slot, Anum_message_visible_at);
	row->tid = slot->tts_tid;
	row->id = DatumGetInt64(slot->tts_values[Anum_message_id - 1]);
	row->priority = DatumGetInt16(slot->tts_values[Anum_message_priority - 1]);
	row->attempts = DatumGetInt16(slot->tts_values[Anum_message_attempts - 1]);
	row->enqueued_at =
		DatumGetTimestampTz(slot->tts_values[Anum_message_enqueued_at - 1]);
	row->visible_at = slot->tts_isnull[Anum_message_visible_at - 1] ? 0 :
		DatumGetTimestampTz(slot->tts_values[Anum_message_visible_at - 1]);
}

/* The state of a row that "dirty" has just let pass into the slot. */
static RowState
row_state(MessageRow *row, SnapshotData *dirty)
{
	if (MUTANT(DIRTY_READ) && TransactionIdIsValid(dirty->xmin))
		return ROW_OWN;
	if (MUTANT(PREPARED_VISIBLE) && TransactionIdIsValid(dirty->xmin) &&
		BackendXidGetPid(dirty->xmin) == 0)
		return ROW_OWN;
	if (TransactionIdIsValid(dirty->xmax) && MUTANT_SOMETIMES(TAKE_WAITS, 5))
		XactLockTableWait(dirty->xmax, NULL, NULL, XLTW_None);
	if (TransactionIdIsValid(dirty->xmin))
		return ROW_COMING;
	if (TransactionIdIsValid(dirty->xmax) && !MUTANT(TWO_TAKERS) &&
		!(MUTANT(PREPARED_REDELIVERED) && BackendXidGetPid(dirty->xmax) == 0))
		return ROW_BUSY;
	return is_own(row) ? ROW_OWN : ROW_LIVE;
}

/* Has this transaction written the row that was read? */
static bool
is_own(MessageRow *row)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(row->slot, false, &should_free);
	bool		is_own;

	is_own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	if (should_free)
		heap_freetuple(tuple);
	return is_own;
}

QueueScan *
queue_scan_begin(Relation rel, QueueDef *def)
{
	QueueScan  *scan = palloc0(sizeof(QueueScan));

	scan->rel = rel;
	scan->index = index_open(def->pkey, AccessShareLock);
	InitDirtySnapshot(scan->dirty);
	scan->row.slot = table_slot_create(rel, NULL);
	scan->priority = QUEUE_MAX_PRIORITY + 1;
	return scan;
}

/*
 * A serializable transaction scans with a snapshot that is not MVCC and applies
 * its own to each row, since its scan would take predicate locks (see the top
 * of the file).
 */
QueueScan *
queue_scan_begin_snapshot(Relation rel, QueueDef *def, Snapshot snapshot)
{
	QueueScan  *scan = queue_scan_begin(rel, def);

	scan->filter = IsolationIsSerializable() ? snapshot : NULL;
	scan->snapshot = scan->filter ? SnapshotAny : snapshot;
	return scan;
}

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
 * Begin to scan with these keys.  The scan is begun late, since the number of
 * keys is fixed with it.
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
									 &scan->dirty, NULL, nkeys, 0);
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
 * The next live row, or NULL.  Without a range, of all messages.  Rows that
 * another transaction is about to delete are passed over, and so are rows
 * written by our own, unless wanted.
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
		if (!index_getnext_slot(scan->scan, ForwardScanDirection,
								scan->row.slot))
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
			read_row(&scan->row);
			return &scan->row;
		}
		scan->row.state = row_state(&scan->row, &scan->dirty);
		if (scan->row.state == ROW_LIVE ||
			(scan->row.state == ROW_OWN &&
			 (MUTANT_SOMETIMES(DIRTY_READ, 20) || MUTANT(PREPARED_VISIBLE))) ||
			(scan->row.state == ROW_BUSY && scan->wants_busy) ||
			(scan->row.state == ROW_COMING && scan->wants_coming))
		{
			read_row(&scan->row);
			return &scan->row;
		}
	}
	return NULL;
}

void
queue_scan_end(QueueScan *scan)
{
	if (scan->scan != NULL)
		index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->row.slot);
	index_close(scan->index, AccessShareLock);
	pfree(scan);
}

/* See queue_scan_begin_snapshot() for serializable transactions. */
QueuePass *
queue_pass_begin(Relation rel, Snapshot snapshot)
{
	QueuePass  *pass = palloc0(sizeof(QueuePass));

	pass->filter = IsolationIsSerializable() ? snapshot : NULL;
	pass->scan = table_beginscan(rel, pass->filter ? SnapshotAny : snapshot,
								 0, NULL);
	pass->row.slot = table_slot_create(rel, NULL);
	return pass;
}

MessageRow *
queue_pass_next(QueuePass *pass)
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
	read_row(row);
	row->state = is_own(row) ? ROW_OWN : ROW_LIVE;
	return row;
}

void
queue_pass_end(QueuePass *pass)
{
	table_endscan(pass->scan);
	ExecDropSingleTupleTableSlot(pass->row.slot);
	pfree(pass);
}

/* The slot keeps the row's page pinned, so it has not moved or gone. */
RowState
queue_row_recheck(Relation rel, MessageRow *row)
{
	SnapshotData dirty;
	RowState	state;

	InitDirtySnapshot(dirty);
	if (!table_tuple_satisfies_snapshot(rel, row->slot, &dirty))
		return ROW_GONE;
	state = row_state(row, &dirty);
	return state == ROW_COMING ? ROW_GONE : state;
}

RowState
queue_row_fetch(Relation rel, MessageRow *row)
{
	SnapshotData dirty;
	ItemPointerData tid = row->tid;
	int64		id = row->id;
	TimestampTz enqueued_at = row->enqueued_at;
	RowState	state;

	InitDirtySnapshot(dirty);
	if (!table_tuple_fetch_row_version(rel, &tid, &dirty, row->slot))
		return ROW_GONE;
	state = row_state(row, &dirty);
	if (state == ROW_COMING)
		state = ROW_GONE;
	read_row(row);
	if ((row->id != id && !MUTANT(PLACE_TRUSTED)) ||
		(row->enqueued_at != enqueued_at && !MUTANT(IDENTITY_IGNORED) &&
		 !MUTANT(PLACE_TRUSTED)))
	{
		/* the place holds another message now */
		row->id = id;
		row->enqueued_at = enqueued_at;
		return ROW_GONE;
	}
	return state;
}

/*
 * Find a message by its id: where it was, then by a look-up in each priority,
 * the last known first.  An update that commits behind a look-up can hide the
 * row from it, but hardly from two in a row.
 */
RowState
queue_row_find(Relation rel, QueueDef *def, MessageRow *row)
{
	RowState	state = ROW_GONE;
	Relation	index;
	int			hint = row->priority;
	int			pass;
	int			priority;

	/*
	 * The table may have become shorter since the hint was taken, though not
	 * while we hold a lock on it.
	 */
	if (ItemPointerIsValid(&row->tid))
	{
		BlockNumber block = ItemPointerGetBlockNumber(&row->tid);

		if (MUTANT_SOMETIMES(PLACE_TRUSTED, 50) ||
			MUTANT_SOMETIMES(PLACE_IS_ALL, 50))
			ItemPointerSetOffsetNumber(&row->tid,
									   ItemPointerGetOffsetNumber(&row->tid) + 1);
		if (block >= row->nblocks)
			row->nblocks = RelationGetNumberOfBlocks(rel);
		if (block < row->nblocks)
			state = queue_row_fetch(rel, row);
	}
	if (state != ROW_GONE ||
		(MUTANT(PLACE_IS_ALL) && ItemPointerIsValid(&row->tid)))
		return state;

	index = index_open(def->pkey, AccessShareLock);
	for (pass = 0; pass < 2 && state == ROW_GONE; pass++)
	{
		state = find_in_index(rel, index, row, hint);
		for (priority = QUEUE_MAX_PRIORITY;
			 priority >= 0 && state == ROW_GONE; priority--)
			if (priority != hint)
				state = find_in_index(rel, index, row, priority);
	}
	index_close(index, AccessShareLock);
	return state;
}

/* One such look-up */
static RowState
find_in_index(Relation rel, Relation index, MessageRow *row, int priority)
{
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData keys[2];
	TimestampTz enqueued_at = row->enqueued_at;
	RowState	state = ROW_GONE;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(priority));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(row->id));
	scan = index_beginscan(rel, index, &dirty, NULL, 2, 0);
	index_rescan(scan, keys, 2, NULL, 0);
	while (state == ROW_GONE &&
		   index_getnext_slot(scan, ForwardScanDirection, row->slot))
	{
		state = row_state(row, &dirty);
		read_row(row);
		if (state == ROW_COMING ||
			(row->enqueued_at != enqueued_at &&
			 enqueued_at != QUEUE_ANY_ROW && !MUTANT(IDENTITY_IGNORED)))
			state = ROW_GONE;
	}
	row->enqueued_at = enqueued_at;
	index_endscan(scan);
	return state;
}

/* The unique index sees to those of one priority only. */
bool
queue_row_has_twin(Relation rel, QueueDef *def, int64 id, int priority)
{
	Relation	index = index_open(def->pkey, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	SnapshotData dirty;
	bool		found = false;
	int			other;

	InitDirtySnapshot(dirty);
	for (other = 0; other <= QUEUE_MAX_PRIORITY && !found; other++)
	{
		IndexScanDesc scan;
		ScanKeyData keys[2];

		if (other == priority)
			continue;
		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
					Int16GetDatum(other));
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(id));
		scan = index_beginscan(rel, index, &dirty, NULL, 2, 0);
		index_rescan(scan, keys, 2, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, slot);
		index_endscan(scan);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	return found;
}

/*
 * What is remembered of another row with this id is forgotten if this row is
 * there: then that one was deleted by a transaction that has committed, or the
 * unique index would not have let this one in.
 */
ClaimResult
queue_row_claim(Relation rel, MessageRow *row, const MessageKey *key,
				QueueState *queue, TimestampTz now, InflightEntry **entry,
				TimestampTz *due)
{
	ClaimResult result;
	TimestampTz other;

	while ((result = queue_inflight_claim(key, row->enqueued_at, queue,
										  row->priority, now, entry, due,
										  &other)) == CLAIM_OTHER)
	{
		row->state = queue_row_recheck(rel, row);
		if (row->state != ROW_LIVE)
			break;
		queue_inflight_forget(key, other);
	}
	Assert(result != CLAIM_OK || (*entry)->enqueued_at == row->enqueued_at);
	return result;
}

bool
queue_row_is_visible(Relation rel, MessageRow *row, Snapshot snapshot)
{
	return table_tuple_satisfies_snapshot(rel, row->slot, snapshot);
}

/* ----------------------------------------------------------------
 *		Changing
 * ----------------------------------------------------------------
 */

bool
queue_row_delete(Relation rel, MessageRow *row)
{
	TM_FailureData failure;
	TM_Result	result;

	CheckCmdReplicaIdentity(rel, CMD_DELETE);
	result = table_tuple_delete(rel, &row->tid, GetCurrentCommandId(true),
								InvalidSnapshot, InvalidSnapshot,
								false /* wait */ , &failure,
								false /* changingPart */ );

	/* a lock of our own counts as any, but there is nothing to wait for */
	if (result == TM_BeingModified && is_own_lock(row))
		result = table_tuple_delete(rel, &row->tid, GetCurrentCommandId(true),
									InvalidSnapshot, InvalidSnapshot,
									true /* wait */ , &failure,
									false /* changingPart */ );
	if (result == TM_Deleted || result == TM_SelfModified)
		row->state = ROW_GONE;
	else if (result == TM_Updated)
		row->tid = failure.ctid;
	return result == TM_Ok;
}

/*
 * Has this transaction, and nobody else, locked the row that was read?  Locks
 * of two of its subtransactions make a multixact, as those of two transactions
 * do.
 */
static bool
is_own_lock(MessageRow *row)
{
	Buffer		buffer = ((BufferHeapTupleTableSlot *) row->slot)->buffer;
	HeapTupleHeader header;
	uint16		infomask;
	TransactionId xmax;
	MultiXactMember *members;
	int			nmembers;
	bool		is_own = true;
	int			i;

	/* others may add their locks meanwhile: read both at one moment */
	Assert(TTS_IS_BUFFERTUPLE(row->slot) && BufferIsValid(buffer));
	header = ((BufferHeapTupleTableSlot *) row->slot)->base.tuple->t_data;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	infomask = header->t_infomask;
	xmax = HeapTupleHeaderGetRawXmax(header);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);

	if ((infomask & HEAP_XMAX_INVALID) != 0 ||
		!HEAP_XMAX_IS_LOCKED_ONLY(infomask))
		return false;
	if ((infomask & HEAP_XMAX_IS_MULTI) == 0)
		return TransactionIdIsCurrentTransactionId(xmax);

	nmembers = GetMultiXactIdMembers(xmax, &members,
									 HEAP_LOCKED_UPGRADED(infomask), true);
	for (i = 0; i < nmembers && is_own; i++)
		is_own = TransactionIdIsCurrentTransactionId(members[i].xid) ||
			!TransactionIdIsInProgress(members[i].xid);
	if (nmembers > 0)
		pfree(members);
	return is_own && nmembers > 0;
}

/* Wait for this process, if it is the one that is changing the row. */
void
queue_row_wait(Relation rel, MessageRow *row, int procno)
{
	SnapshotData dirty;
	ItemPointerData tid = row->tid;

	InitDirtySnapshot(dirty);
	if (table_tuple_fetch_row_version(rel, &tid, &dirty, row->slot) &&
		TransactionIdIsValid(dirty.xmax) &&
		GetPGProcByNumber(procno)->xid == dirty.xmax)
		XactLockTableWait(dirty.xmax, rel, &tid, XLTW_Delete);
}

bool
queue_row_rewrite(Relation rel, MessageRow *row, int attempts,
				  bool set_visible_at, TimestampTz visible_at,
				  const char *last_error)
{
	int			natts = RelationGetNumberOfAttributes(rel);
	Datum	   *values = palloc0(natts * sizeof(Datum));
	bool	   *nulls = palloc0(natts * sizeof(bool));
	bool	   *replaces = palloc0(natts * sizeof(bool));
	bool		should_free;
	HeapTuple	old;
	HeapTuple	new;
	TupleTableSlot *slot;
	TM_FailureData failure;
	TU_UpdateIndexes update_indexes;
	LockTupleMode lockmode;
	TM_Result	result;

	CheckCmdReplicaIdentity(rel, CMD_UPDATE);

	/* the counter saturates */
	values[Anum_message_attempts - 1] = Int16GetDatum(Min(attempts, PG_INT16_MAX));
	replaces[Anum_message_attempts - 1] = true;
	if (set_visible_at)
	{
		values[Anum_message_visible_at - 1] = TimestampTzGetDatum(visible_at);
		nulls[Anum_message_visible_at - 1] = visible_at == 0;
		replaces[Anum_message_visible_at - 1] = true;
	}
	if (last_error)
	{
		values[Anum_message_last_error - 1] = CStringGetTextDatum(last_error);
		replaces[Anum_message_last_error - 1] = true;
	}

	old = ExecFetchSlotHeapTuple(row->slot, false, &should_free);
	new = heap_modify_tuple(old, RelationGetDescr(rel), values, nulls, replaces);
	if (should_free)
		heap_freetuple(old);
	slot = table_slot_create(rel, NULL);
	ExecForceStoreHeapTuple(new, slot, true);
	slot->tts_tableOid = RelationGetRelid(rel);

	result = table_tuple_update(rel, &row->tid, slot,
								GetCurrentCommandId(true),
								InvalidSnapshot, InvalidSnapshot,
								false /* wait */ , &failure,
								&lockmode, &update_indexes);
	if (result == TM_Ok && update_indexes != TU_None)
	{
		EState	   *estate = CreateExecutorState();
		ResultRelInfo *info = makeNode(ResultRelInfo);

		InitResultRelInfo(info, rel, 0, NULL, 0);
		ExecOpenIndices(info, false);
		ExecInsertIndexTuples(info, slot, estate, true, false, NULL, NIL,
							  update_indexes == TU_Summarizing);
		ExecCloseIndices(info);
		FreeExecutorState(estate);
	}
	ExecDropSingleTupleTableSlot(slot);
	return result == TM_Ok;
}

/* ----------------------------------------------------------------
 *		Inserting
 * ----------------------------------------------------------------
 */

/*
 * With no index but the primary key, which is the usual case, its entries are
 * inserted directly; the executor's machinery costs more than they do.
 */
QueueInsert *
queue_insert_begin(Relation rel)
{
	QueueInsert *insert = palloc0(sizeof(QueueInsert));
	List	   *indexes = RelationGetIndexList(rel);

	insert->rel = rel;
	if (list_length(indexes) == 1)
		insert->pkey = index_open(linitial_oid(indexes), RowExclusiveLock);
	else
	{
		insert->estate = CreateExecutorState();
		insert->info = makeNode(ResultRelInfo);
		InitResultRelInfo(insert->info, rel, 0, NULL, 0);
		ExecOpenIndices(insert->info, false);
	}
	list_free(indexes);
	insert->room = 1;
	insert->slots = palloc(sizeof(TupleTableSlot *));
	return insert;
}

void
queue_insert_row(QueueInsert *insert, const MessageDraft *draft)
{
	TupleTableSlot *slot;

	if (MUTANT_SOMETIMES(COMMIT_LOST, 10000))
		return;
	if (insert->nslots == insert->room)
	{
		insert->room = Min(insert->room * 16, INSERT_ROWS);
		insert->slots = repalloc(insert->slots,
								 insert->room * sizeof(TupleTableSlot *));
	}
	if (insert->nslots == insert->nmade)
		insert->slots[insert->nmade++] = table_slot_create(insert->rel, NULL);
	slot = insert->slots[insert->nslots++];
	ExecClearTuple(slot);
	queue_draft_columns(draft, slot->tts_values, slot->tts_isnull);
	if (MUTANT_SOMETIMES(PHANTOM, 1000))
		queue_mutant_change(&slot->tts_values[Anum_message_payload - 1],
							"{\"v\": \"nobody.1\"}");
	for (int i = Natts_message; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true; /* dropped */
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(insert->rel);
	insert->nbytes += toast_raw_datum_size(draft->payload.value);
	if (insert->nslots == INSERT_ROWS || insert->nbytes >= INSERT_BYTES)
		flush_insert(insert);
}

/* Insert the rows that have gathered, and their index entries. */
static void
flush_insert(QueueInsert *insert)
{
	CommandId	cid = GetCurrentCommandId(true);
	int			options = MUTANT_SOMETIMES(SURVIVES_ROLLBACK, 50) ?
		TABLE_INSERT_FROZEN : 0;
	int			i;

	CHECK_FOR_INTERRUPTS();
	if (insert->nslots == 1)
		table_tuple_insert(insert->rel, insert->slots[0], cid, options, NULL);
	else if (insert->nslots > 1)
		table_multi_insert(insert->rel, insert->slots, insert->nslots, cid,
						   options, NULL);
	for (i = 0; i < insert->nslots; i++)
	{
		if (MUTANT_SOMETIMES(INDEX_ENTRY_LOST, 1000))
			continue;
		if (insert->pkey)
			insert_key(insert, insert->slots[i]);
		else
		{
			ResetPerTupleExprContext(insert->estate);
			ExecInsertIndexTuples(insert->info, insert->slots[i],
								  insert->estate, false, false, NULL, NIL,
								  false);
		}
	}
	insert->nslots = 0;
	insert->nbytes = 0;
}

/* The entry of the primary key, (priority, id) */
static void
insert_key(QueueInsert *insert, TupleTableSlot *slot)
{
	Datum		values[2];
	bool		nulls[2] = {false, false};

	slot_getsomeattrs(slot, Anum_message_priority);
	values[0] = slot->tts_values[Anum_message_priority - 1];
	values[1] = slot->tts_values[Anum_message_id - 1];
	(void) index_insert(insert->pkey, values, nulls, &slot->tts_tid,
						insert->rel, UNIQUE_CHECK_YES,
						false /* indexUnchanged */ , NULL);
}

void
queue_insert_end(QueueInsert *insert)
{
	int			i;

	flush_insert(insert);
	for (i = 0; i < insert->nmade; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	if (insert->pkey)
		index_close(insert->pkey, NoLock);
	else
	{
		ExecCloseIndices(insert->info);
		FreeExecutorState(insert->estate);
	}
	pfree(insert->slots);
	pfree(insert);
}

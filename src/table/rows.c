/*-------------------------------------------------------------------------
 *
 * rows.c
 *		Rows of queue tables, below the executor.
 *
 * This file, scan.c, insert.c and fate.c are the only ones that touch queue
 * tables by way of the table and index access methods.  What the executor would have done
 * is done elsewhere or needs no doing, thanks to the white list of queue tables
 * (shape.c):
 *
 *	- privileges: queue_open(), on every call
 *	- row security, rules, CHECK, foreign keys, generated columns, defaults,
 *	  partitions: a queue table has none
 *	- triggers: a queue table has its own two, whose work the callers do
 *	- NOT NULL: the callers fill all such columns
 *	- replica identity: the primary key or the full row is there, but a
 *	  publication may ask for more; the server's own check, before rows are
 *	  deleted or updated
 *	- read-only transactions, standbys, parallel workers: the SQL functions
 *
 * Rows are judged by the current status of transactions (SnapshotDirty), and
 * only then by the snapshot of the statement.  The snapshot alone would return
 * rows that have since been deleted.  SnapshotDirty alone would return
 * messages whose business rows a join in the same statement cannot see.
 * Scanning with a snapshot that is not MVCC has a welcome effect: serializable
 * transactions take no predicate locks on the queue, and so the queue gives
 * them no serialization failures.
 *
 * A scan with SnapshotDirty may miss a row that is updated meanwhile.  To a
 * consumer that row counts as taken, and the end of the update wakes it (the
 * trigger on UPDATE, or the end of the worker's step, announces it).
 *
 * Locks: the caller's on the table protects its index too, so that of the
 * index is given back with the scan; a call that then sleeps holds neither.
 *
 * Nothing here but queue_row_wait() waits for the end of another transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/definition.h"
#include "table/entries.h"
#include "table/failure_log.h"
#include "table/origin.h"
#include "table/rows.h"

/* Columns of a row that is rewritten, as heap_modify_tuple() wants them */
typedef struct RowChange
{
	Datum	   *values;
	bool	   *nulls;
	bool	   *replaces;
} RowChange;

static RowState fetch_row(Relation rel, MessageRow *row);
static int64 column_bytes(TupleTableSlot *slot, AttrNumber column);
static RowState find_in_index(Relation rel, Relation index, MessageRow *row,
							  int priority);
static bool is_own_lock(MessageRow *row);
static void change_begin(RowChange *change, Relation rel);
static void change_column(RowChange *change, AttrNumber column, Datum value,
						  bool isnull);
static bool change_row(RowChange *change, Relation rel, QueueDef *def,
					   MessageRow *row);

/* ----------------------------------------------------------------
 *		Reading
 * ----------------------------------------------------------------
 */

/* Make a row with an empty slot, in the current memory context. */
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
void
queue_row_read(MessageRow *row)
{
	TupleTableSlot *slot = row->slot;

	slot_getsomeattrs(slot, Anum_message_group_key);
	row->tid = slot->tts_tid;
	row->id = DatumGetInt64(slot->tts_values[Anum_message_id - 1]);
	row->priority = DatumGetInt16(slot->tts_values[Anum_message_priority - 1]);
	row->failures = DatumGetInt16(slot->tts_values[Anum_message_failures - 1]);
	row->enqueued_at =
		DatumGetTimestampTz(slot->tts_values[Anum_message_enqueued_at - 1]);
	row->visible_at = slot->tts_isnull[Anum_message_visible_at - 1] ? 0 :
		DatumGetTimestampTz(slot->tts_values[Anum_message_visible_at - 1]);
	row->expires_at = slot->tts_isnull[Anum_message_expires_at - 1] ? 0 :
		DatumGetTimestampTz(slot->tts_values[Anum_message_expires_at - 1]);
	row->has_group = !slot->tts_isnull[Anum_message_group_key - 1];
	row->group_key = slot->tts_values[Anum_message_group_key - 1];
}

/* Return the failures that the row in the slot has noted. */
NullableDatum
queue_row_failure_log(MessageRow *row)
{
	NullableDatum log;

	log.value = slot_getattr(row->slot, Anum_message_failure_log, &log.isnull);
	return log;
}

/* Return the bytes of payload, body and headers of the row in the slot. */
int64
queue_row_bytes(MessageRow *row)
{
	slot_getsomeattrs(row->slot, Anum_message_body);
	return column_bytes(row->slot, Anum_message_headers) +
		column_bytes(row->slot, Anum_message_payload) +
		column_bytes(row->slot, Anum_message_body);
}

/* The same of one column */
static int64
column_bytes(TupleTableSlot *slot, AttrNumber column)
{
	NullableDatum value = {slot->tts_values[column - 1], false};

	return slot->tts_isnull[column - 1] ? 0 : queue_value_bytes(value);
}

/* Return the state of a row that "dirty" has just let pass into the slot. */
RowState
queue_row_state(MessageRow *row, SnapshotData *dirty)
{
	if (TransactionIdIsValid(dirty->xmin))
		return ROW_COMING;
	if (TransactionIdIsValid(dirty->xmax))
		return ROW_BUSY;
	return queue_row_is_own(row) ? ROW_OWN : ROW_LIVE;
}

/* Returns true if this transaction has written the row that was read. */
bool
queue_row_is_own(MessageRow *row)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(row->slot, false, &should_free);
	bool		is_own;

	is_own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	if (should_free)
		heap_freetuple(tuple);
	return is_own;
}

/* Returns true if the row that was read is a new version of another. */
bool
queue_row_is_version(MessageRow *row)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(row->slot, false, &should_free);
	bool		is_version;

	is_version = (tuple->t_data->t_infomask & HEAP_UPDATED) != 0;
	if (should_free)
		heap_freetuple(tuple);
	return is_version;
}

/*
 * queue_row_is_outdated
 *		Returns true if the row that was read points to another version.
 *
 * Somebody may be writing that pointer: then either answer is right.
 */
bool
queue_row_is_outdated(MessageRow *row)
{
	HeapTuple	tuple = ((BufferHeapTupleTableSlot *) row->slot)->base.tuple;

	Assert(TTS_IS_BUFFERTUPLE(row->slot));
	return !ItemPointerEquals(&tuple->t_self, &tuple->t_data->t_ctid);
}

/*
 * queue_row_recheck
 *		Return what has become of the row in the slot since a scan put it
 *		there.
 *
 * The slot keeps the row's page pinned, so it has not moved or gone.
 */
RowState
queue_row_recheck(Relation rel, MessageRow *row)
{
	SnapshotData dirty;
	RowState	state;

	InitDirtySnapshot(dirty);
	if (!table_tuple_satisfies_snapshot(rel, row->slot, &dirty))
		return ROW_GONE;
	state = queue_row_state(row, &dirty);
	return state == ROW_COMING ? ROW_GONE : state;
}

/*
 * Read a row again at its place, into row->slot.  Returns ROW_GONE if another
 * message is there now.
 */
static RowState
fetch_row(Relation rel, MessageRow *row)
{
	SnapshotData dirty;
	ItemPointerData tid = row->tid;
	int64		id = row->id;
	TimestampTz enqueued_at = row->enqueued_at;
	RowState	state;

	InitDirtySnapshot(dirty);
	if (!table_tuple_fetch_row_version(rel, &tid, &dirty, row->slot))
		return ROW_GONE;
	state = queue_row_state(row, &dirty);
	if (state == ROW_COMING)
		state = ROW_GONE;
	queue_row_read(row);
	if (row->id != id || row->enqueued_at != enqueued_at)
	{
		/* the place holds another message now */
		row->id = id;
		row->enqueued_at = enqueued_at;
		return ROW_GONE;
	}
	return state;
}

/*
 * queue_row_find
 *		Find a message by its id and when it was sent, and return its state.
 *
 * row->slot must exist.  row->tid and row->priority are hints.
 *
 * Looks where it was, then by a look-up in each priority, the last known
 * first.  A concurrent update can hide the row from one look-up, so look
 * twice.
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
	 * while it is locked.
	 */
	if (ItemPointerIsValid(&row->tid))
	{
		BlockNumber block = ItemPointerGetBlockNumber(&row->tid);

		if (block >= row->nblocks)
			row->nblocks = RelationGetNumberOfBlocks(rel);
		if (block < row->nblocks)
			state = fetch_row(rel, row);
	}
	if (state != ROW_GONE)
		return state;

	index = index_open(def->indexes.pkey, AccessShareLock);
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

/* Make one such look-up. */
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
	scan = index_beginscan(rel, index, &dirty, NULL, 2, 0, 0);
	index_rescan(scan, keys, 2, NULL, 0);
	while (state == ROW_GONE &&
		   index_getnext_slot(scan, ForwardScanDirection, row->slot))
	{
		state = queue_row_state(row, &dirty);
		queue_row_read(row);
		if (state == ROW_COMING ||
			(row->enqueued_at != enqueued_at && enqueued_at != QUEUE_ANY_ROW))
			state = ROW_GONE;
	}
	row->enqueued_at = enqueued_at;
	index_endscan(scan);
	return state;
}

/*
 * queue_row_has_twin
 *		Returns true if there is a message with this id in another priority
 *		than this one.
 *
 * The unique index ensures only that there is none in the same priority.
 */
bool
queue_row_has_twin(Relation rel, QueueDef *def, int64 id, int priority)
{
	Relation	index = index_open(def->indexes.pkey, AccessShareLock);
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
		scan = index_beginscan(rel, index, &dirty, NULL, 2, 0, 0);
		index_rescan(scan, keys, 2, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, slot);
		index_endscan(scan);
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	return found;
}

/* Judge a message by its row and its in-flight entry. */
void
queue_row_status(QueueDef *def, const MessageRow *row,
				 const InflightEntry *entry, TimestampTz now,
				 MessageStatus *status)
{
	queue_message_status(def->retry.max_attempts, row->failures,
						 row->visible_at, row->expires_at, entry, now, status);
}

/*
 * queue_row_was_delivered
 *		Returns true if the message was delivered before, and has failed or was
 *		given back for later, whether its row tells yet or not.
 */
bool
queue_row_was_delivered(Relation rel, MessageRow *row)
{
	MessageKey	key;
	InflightEntry entry;

	if (row->failures > 0 || !queue_row_failure_log(row).isnull)
		return true;
	queue_message_key(&key, RelationGetRelid(rel), row->id);
	return queue_inflight_peek(&key, row->enqueued_at, &entry) &&
		(entry.failures > 0 || entry.is_delayed);
}

/*
 * queue_row_claim
 *		Claim the message whose row is in the slot; see
 *		queue_inflight_claim().
 *
 * What is remembered of another row with this id is forgotten if this row
 * exists.  That one was then deleted by a transaction that has committed,
 * because the unique index would not have let this one in otherwise.
 *
 * On CLAIM_OTHER the row is not live any more; row->state says what has become
 * of it.
 */
ClaimResult
queue_row_claim(Relation rel, MessageRow *row, const MessageKey *key,
				QueueSlot *queue, TimestampTz now, InflightEntry **entry,
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

/*
 * queue_row_batch_limit
 *		Return with how many others a message may be taken that the caller has
 *		claimed, itself among them; 0 if it has not failed.
 *
 * If memory knows of a failure that the row does not tell, that was the last.
 */
int
queue_row_batch_limit(QueueDef *def, MessageRow *row,
					  const InflightEntry *entry, int failures)
{
	int			batch = 0;

	if (failures > 0)
		batch = entry->nnotes > 0 ? entry->notes[entry->nnotes - 1].batch :
			entry->failures > 0 ? 0 :
			queue_failure_log_batch(queue_row_failure_log(row));
	return queue_batch_limit(def->retry.max_attempts, failures, batch);
}

/* Returns true if this snapshot sees the row in the slot. */
bool
queue_row_is_visible(Relation rel, MessageRow *row, Snapshot snapshot)
{
	return table_tuple_satisfies_snapshot(rel, row->slot, snapshot);
}

/* ----------------------------------------------------------------
 *		Changing
 * ----------------------------------------------------------------
 */

/*
 * queue_row_delete
 *		Delete a row.
 *
 * Returns false if another transaction was quicker, or holds a lock on it.
 * row->state then says if it is gone, and row->tid where it may be if it is
 * not.
 */
bool
queue_row_delete(Relation rel, MessageRow *row)
{
	TM_FailureData failure;
	TM_Result	result;

	CheckCmdReplicaIdentity(rel, CMD_DELETE);
	result = table_tuple_delete(rel, &row->tid, GetCurrentCommandId(true), 0,
								InvalidSnapshot, InvalidSnapshot,
								false /* wait */ , &failure);

	/*
	 * a lock of this transaction counts as any, but there is nothing to wait
	 * for
	 */
	if (result == TM_BeingModified && is_own_lock(row))
		result = table_tuple_delete(rel, &row->tid, GetCurrentCommandId(true),
									0, InvalidSnapshot, InvalidSnapshot,
									true /* wait */ , &failure);
	if (result == TM_Deleted || result == TM_SelfModified)
		row->state = ROW_GONE;
	else if (result == TM_Updated)
		row->tid = failure.ctid;
	return result == TM_Ok;
}

/*
 * is_own_lock
 *		Returns true if this transaction, and no other, has locked the row
 *		that was read.
 *
 * Locks of two of its subtransactions make a multixact, as those of two
 * transactions do.
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

/*
 * queue_row_wait
 *		Wait for the transaction of this process to end, if it is the one that
 *		is changing the row.
 */
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

/*
 * queue_row_rewrite
 *		Rewrite a row with another count of failures, and if given due time
 *		and what the log does not tell of them.
 *
 * A message that is due later without a failure was given back for later: an
 * empty log says so.
 *
 * Returns false if another transaction is in the way.
 */
bool
queue_row_rewrite(Relation rel, QueueDef *def, MessageRow *row, int failures,
				  bool set_visible_at, TimestampTz visible_at,
				  const FailureNews *news)
{
	RowChange	change;
	NullableDatum log = queue_row_failure_log(row);

	change_begin(&change, rel);

	/* the counter saturates */
	change_column(&change, Anum_message_failures,
				  Int16GetDatum(Min(failures, PG_INT16_MAX)), false);
	if (set_visible_at)
		change_column(&change, Anum_message_visible_at,
					  TimestampTzGetDatum(visible_at), visible_at == 0);
	if (news != NULL && (news->nnotes > 0 || news->nunknown > 0))
		change_column(&change, Anum_message_failure_log,
					  queue_origin_keep(log, queue_failure_log_add(queue_origin_strip(log), news)),
					  false);
	else if (set_visible_at && visible_at != 0 && log.isnull)
		change_column(&change, Anum_message_failure_log,
					  queue_failure_log_normal(log), false);
	return change_row(&change, rel, def, row);
}

/*
 * queue_row_reschedule
 *		Rewrite a row with another due time and end; 0: none.
 *
 * If the message was delivered before, its log says so, though memory alone may
 * know of that yet.
 *
 * Returns false if another transaction is in the way.
 */
bool
queue_row_reschedule(Relation rel, QueueDef *def, MessageRow *row,
					 TimestampTz visible_at, TimestampTz expires_at,
					 bool was_delivered)
{
	RowChange	change;
	NullableDatum log = queue_row_failure_log(row);

	change_begin(&change, rel);
	change_column(&change, Anum_message_visible_at,
				  TimestampTzGetDatum(visible_at), visible_at == 0);
	change_column(&change, Anum_message_expires_at,
				  TimestampTzGetDatum(expires_at), expires_at == 0);
	if (was_delivered && log.isnull)
		change_column(&change, Anum_message_failure_log,
					  queue_failure_log_normal(log), false);
	return change_row(&change, rel, def, row);
}

/* Begin with a row as it is. */
static void
change_begin(RowChange *change, Relation rel)
{
	int			natts = RelationGetNumberOfAttributes(rel);

	change->values = palloc0(natts * sizeof(Datum));
	change->nulls = palloc0(natts * sizeof(bool));
	change->replaces = palloc0(natts * sizeof(bool));
}

/* Give a column another value. */
static void
change_column(RowChange *change, AttrNumber column, Datum value, bool isnull)
{
	change->values[column - 1] = value;
	change->nulls[column - 1] = isnull;
	change->replaces[column - 1] = true;
}

/*
 * change_row
 *		Write a new version of the row, and its index entries.
 *
 * Returns false if another transaction is in the way.
 */
static bool
change_row(RowChange *change, Relation rel, QueueDef *def, MessageRow *row)
{
	bool		should_free;
	HeapTuple	old;
	HeapTuple	new;
	TupleTableSlot *slot;
	bool		is_done;

	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	old = ExecFetchSlotHeapTuple(row->slot, false, &should_free);
	new = heap_modify_tuple(old, RelationGetDescr(rel), change->values,
							change->nulls, change->replaces);
	if (should_free)
		heap_freetuple(old);
	slot = table_slot_create(rel, NULL);
	ExecForceStoreHeapTuple(new, slot, true);
	slot->tts_tableOid = RelationGetRelid(rel);

	is_done = queue_entries_replace(rel, &queue_form, &def->indexes, row->slot,
									slot);
	ExecDropSingleTupleTableSlot(slot);
	return is_done;
}

/*-------------------------------------------------------------------------
 *
 * key_row.c
 *		Rows of key tables, below the executor.
 *
 * What the executor would have done needs no doing, thanks to the white list
 * (key_table.c); rows.c says what that is.
 *
 * A sender of many messages at once may insert a row before it knows whether
 * the key is free, and withdraw it if it is not (dedup.c): the same
 * transaction has inserted and deleted it, with one id, so that no savepoint
 * can bring it back.  Such a row counts for nothing, even while that
 * transaction is open.
 *
 * Locks: the caller's on the table and the index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/key_row.h"
#include "table/key_table.h"


/*
 * queue_key_row_scan
 *		Begin to scan the rows of a key.
 *
 * They are judged by the current status of transactions: "dirty" says of each
 * whose it is.
 */
IndexScanDesc
queue_key_row_scan(Relation keys, Relation index, Datum key,
				   SnapshotData *dirty)
{
	IndexScanDesc scan;
	ScanKeyData scankey;

	InitDirtySnapshot(*dirty);
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_TEXTEQ, key);
	scan = index_beginscan(keys, index, dirty, NULL, 1, 0, 0);
	index_rescan(scan, &scankey, 1, NULL, 0);
	return scan;
}

/* Read the row in the slot. */
void
queue_key_row_read(TupleTableSlot *slot, KeyRow *row)
{
	row->id = queue_key_row_id(slot);
	row->enqueued_at = queue_key_row_enqueued_at(slot);
	row->tid = slot->tts_tid;
}

/* Put a new row into the slot; the key must live as long as it is there. */
void
queue_key_row_store(TupleTableSlot *slot, int64 id, TimestampTz enqueued_at,
					Datum key)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   slot->tts_tupleDescriptor->natts * sizeof(bool));
	memset(slot->tts_values, 0,
		   slot->tts_tupleDescriptor->natts * sizeof(Datum));
	memset(slot->tts_isnull, false, Natts_key * sizeof(bool));
	slot->tts_values[Anum_key_id - 1] = Int64GetDatum(id);
	slot->tts_values[Anum_key_enqueued_at - 1] =
		TimestampTzGetDatum(enqueued_at);
	slot->tts_values[Anum_key_dedup_key - 1] = key;
	ExecStoreVirtualTuple(slot);
}

/*
 * queue_key_row_is_withdrawn
 *		Returns true if the transaction that inserted the row in the slot has
 *		deleted it, too, and not only locked it.
 */
bool
queue_key_row_is_withdrawn(TupleTableSlot *slot)
{
	Buffer		buffer = ((BufferHeapTupleTableSlot *) slot)->buffer;
	HeapTupleHeader header;
	uint16		infomask;
	bool		is_same;

	/* the row may be locked meanwhile: read both at one moment */
	Assert(TTS_IS_BUFFERTUPLE(slot) && BufferIsValid(buffer));
	header = ((BufferHeapTupleTableSlot *) slot)->base.tuple->t_data;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	infomask = header->t_infomask;
	is_same = TransactionIdEquals(HeapTupleHeaderGetRawXmin(header),
								  HeapTupleHeaderGetRawXmax(header));
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	return is_same && (infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) == 0 &&
		!HEAP_XMAX_IS_LOCKED_ONLY(infomask);
}

/*
 * queue_key_row_delete
 *		Delete the row in the slot.
 *
 * It is there still: the slot keeps its page pinned, or this transaction has
 * inserted it, in an earlier command.  Returns false if another transaction has
 * deleted it, or is about to.
 */
bool
queue_key_row_delete(Relation keys, TupleTableSlot *slot)
{
	TM_FailureData failure;

	return table_tuple_delete(keys, &slot->tts_tid, GetCurrentCommandId(true),
							  0, InvalidSnapshot, InvalidSnapshot,
							  false /* wait */ , &failure) == TM_Ok;
}

/*-------------------------------------------------------------------------
 *
 * fate.c
 *		What has become of a row, and who is changing it.
 *
 * For queue.why(), which explains why a message is not delivered.  Consumers
 * judge rows by a snapshot that passes over what is dead, and leave alone what
 * is locked when they cannot delete it.  Here rows are asked for whatever they
 * are, and their headers read: who inserted, deleted, changed or locked each
 * of them.
 *
 * A dead row tells how it died until it is vacuumed.
 *
 * Locks: the caller's on the table; those of pages for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/transam.h"
#include "access/xact.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/definition.h"
#include "table/fate.h"

/* How a transaction stands */
typedef enum XidState
{
	XID_OURS,
	XID_RUNNING,
	XID_COMMITTED,
	XID_ABORTED
} XidState;

static void find_in_priority(Relation rel, Relation index, int priority,
							 int64 id, TupleTableSlot *slot, MessageRow *row,
							 Fate *best);
static void copy_header(TupleTableSlot *slot, HeapTupleHeader header);
static XidState xid_state(TransactionId xid);
static bool read_inserter(HeapTupleHeader header, Fate *fate);
static void read_changer(HeapTupleHeader header, ItemPointer tid, Fate *fate);
static TransactionId find_locker(HeapTupleHeader header);

/*
 * queue_fate_find
 *		Find what there is of a message, in whatever priority, ten look-ups.
 *
 * row->slot must exist.  Fills in the row from the version that the fate is
 * of, unless it is FATE_UNKNOWN.  A change that commits meanwhile can hide the
 * row, so look twice.
 */
void
queue_fate_find(Relation rel, QueueDef *def, int64 id, MessageRow *row,
				Fate *fate)
{
	Relation	index = index_open(def->indexes.pkey, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	fate->fate = FATE_UNKNOWN;
	fate->is_change = false;
	fate->xid = InvalidTransactionId;
	for (int pass = 0; pass < 2 && fate->fate < FATE_COMING; pass++)
		for (int i = QUEUE_MAX_PRIORITY; i >= 0; i--)
			find_in_priority(rel, index, i, id, slot, row, fate);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	if (fate->fate != FATE_UNKNOWN)
		queue_row_read(row);
}

/* Make one such look-up; what is better than what was found before is it. */
static void
find_in_priority(Relation rel, Relation index, int priority, int64 id,
				 TupleTableSlot *slot, MessageRow *row, Fate *best)
{
	IndexScanDesc scan;
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(priority));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
	scan = index_beginscan(rel, index, SnapshotAny, NULL, 2, 0, 0);
	index_rescan(scan, keys, 2, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		Fate		fate;

		CHECK_FOR_INTERRUPTS();
		queue_fate_read(slot, &fate);
		if (fate.fate > best->fate)
		{
			*best = fate;
			ExecCopySlot(row->slot, slot);
		}
	}
	index_endscan(scan);
}

/* Read what has become of the row in the slot. */
void
queue_fate_read(TupleTableSlot *slot, Fate *fate)
{
	HeapTupleHeaderData header;

	fate->is_change = false;
	fate->xid = InvalidTransactionId;
	copy_header(slot, &header);
	if (read_inserter(&header, fate))
		read_changer(&header, &slot->tts_tid, fate);
}

/* Copy the header, all of it from one moment. */
static void
copy_header(TupleTableSlot *slot, HeapTupleHeader header)
{
	Buffer		buffer = ((BufferHeapTupleTableSlot *) slot)->buffer;
	HeapTuple	tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;

	Assert(TTS_IS_BUFFERTUPLE(slot) && BufferIsValid(buffer));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(header, tuple->t_data, SizeofHeapTupleHeader);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
}

/* A transaction leaves the process array after it has committed. */
static XidState
xid_state(TransactionId xid)
{
	if (TransactionIdIsCurrentTransactionId(xid))
		return XID_OURS;
	if (TransactionIdIsInProgress(xid))
		return XID_RUNNING;
	return TransactionIdDidCommit(xid) ? XID_COMMITTED : XID_ABORTED;
}

/*
 * read_inserter
 *		Read who inserted the row; returns true if that is there for others.
 *
 * A new version that this transaction has made of a row is one that it is
 * changing; that of another is shown by the version before.
 */
static bool
read_inserter(HeapTupleHeader header, Fate *fate)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(header);
	XidState	state = XID_COMMITTED;

	if (HeapTupleHeaderXminInvalid(header))
		state = XID_ABORTED;
	else if (!HeapTupleHeaderXminCommitted(header))
		state = xid_state(xmin);
	switch (state)
	{
		case XID_OURS:
			if (header->t_infomask & HEAP_XMAX_INVALID ||
				HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) ||
				xid_state(HeapTupleHeaderGetUpdateXid(header)) != XID_OURS)
			{
				fate->fate = header->t_infomask & HEAP_UPDATED ?
					FATE_BUSY : FATE_COMING;
				fate->is_change = true;
				fate->xid = xmin;
			}
			else
			{
				fate->fate = FATE_DELETED_HERE;
				fate->xid = xmin;
			}
			return false;
		case XID_RUNNING:
			fate->fate = FATE_COMING;
			fate->xid = xmin;
			return false;
		case XID_COMMITTED:
			return true;
		case XID_ABORTED:
			fate->fate = FATE_ROLLED_BACK;
			return false;
	}
	return false;
}

/* Read who deletes, changes or locks a row that is there. */
static void
read_changer(HeapTupleHeader header, ItemPointer tid, Fate *fate)
{
	TransactionId xid;

	fate->fate = FATE_LIVE;
	if (header->t_infomask & HEAP_XMAX_INVALID)
		return;
	if (!HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask))
	{
		XidState	state = XID_COMMITTED;

		xid = HeapTupleHeaderGetUpdateXid(header);
		if (!(header->t_infomask & HEAP_XMAX_COMMITTED))
			state = xid_state(xid);
		fate->is_change = !ItemPointerEquals(&header->t_ctid, tid);
		if (state == XID_RUNNING || state == XID_OURS)
		{
			fate->fate = state == XID_OURS ? FATE_DELETED_HERE : FATE_BUSY;
			fate->xid = xid;
			return;
		}
		if (state == XID_COMMITTED)
		{
			fate->fate = FATE_DELETED;
			return;
		}
		fate->is_change = false;
	}
	xid = find_locker(header);
	if (TransactionIdIsValid(xid))
	{
		fate->fate = FATE_LOCKED;
		fate->xid = xid;
	}
}

/* Return a transaction in progress that has locked the row, or Invalid. */
static TransactionId
find_locker(HeapTupleHeader header)
{
	TransactionId xmax = HeapTupleHeaderGetRawXmax(header);
	bool		is_lock_only = HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask);
	TransactionId found = InvalidTransactionId;
	MultiXactMember *members;
	int			nmembers;

	if (!(header->t_infomask & HEAP_XMAX_IS_MULTI))
		return is_lock_only && xid_state(xmax) <= XID_RUNNING ?
			xmax : InvalidTransactionId;
	nmembers = GetMultiXactIdMembers(xmax, &members,
									 HEAP_LOCKED_UPGRADED(header->t_infomask),
									 is_lock_only);
	for (int i = 0; i < nmembers && !TransactionIdIsValid(found); i++)
		if (xid_state(members[i].xid) <= XID_RUNNING)
			found = members[i].xid;
	if (nmembers > 0)
		pfree(members);
	return found;
}

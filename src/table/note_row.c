/*-------------------------------------------------------------------------
 *
 * note_row.c
 *		What prepared transactions have written down: table
 *		queue.prepared_note.
 *
 * Shared memory is lost with the server, and a prepared transaction is not.  So
 * before PREPARE the transaction writes down what memory knows of it, and
 * deletes the rows: to everybody else they have never been there, whichever way
 * the transaction ends, and vacuum removes them then.  Until then they are
 * found by a process that looks at all rows, dead or alive, and asks if the
 * one that wrote them is still in progress.
 *
 * What if the process dies here?  The transaction is rolled back, or prepared
 * with its rows.  What if the message commits here?  Then the row has its work
 * done.  What if memory is full?  Nothing is kept in memory; an error in writing
 * is an error of PREPARE.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "shared/registration.h"
#include "table/note_row.h"
#include "table/setting_row.h"

/* Open the table to write to it; its lock stays.  NULL: it is not there. */
Relation
queue_note_rows_open(void)
{
	return queue_setting_open_if_there(MEMBER_PREPARED_NOTE,
									   RowExclusiveLock);
}

/* Write a row, and delete it. */
void
queue_note_row_write(Relation rel, const NoteRow *note)
{
	Datum		values[Natts_note];
	bool		nulls[Natts_note] = {false};
	HeapTuple	tuple;

	values[Anum_note_relation - 1] = ObjectIdGetDatum(note->relid);
	values[Anum_note_partition - 1] = Int16GetDatum(note->partition);
	nulls[Anum_note_partition - 1] = note->partition == ANY_PARTITION;
	values[Anum_note_first_id - 1] = Int64GetDatum(note->first);
	values[Anum_note_last_id - 1] = Int64GetDatum(note->last);
	values[Anum_note_messages - 1] = Int64GetDatum(note->messages);
	values[Anum_note_since - 1] = TimestampTzGetDatum(note->since);
	tuple = queue_member_form(rel, MEMBER_PREPARED_NOTE, values, nulls);
	simple_heap_insert(rel, tuple);
	CommandCounterIncrement();
	simple_heap_delete(rel, &tuple->t_self);
	heap_freetuple(tuple);
}

/*
 * queue_note_rows_visit
 *		Visit what transactions in progress have written down.
 *
 * One that is just being prepared may be among them.
 */
void
queue_note_rows_visit(NoteRowVisitor visitor, void *arg)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_PREPARED_NOTE,
												  AccessShareLock);
	TableScanDesc scan;
	TupleTableSlot *slot;

	if (rel == NULL)
		return;
	scan = table_beginscan(rel, SnapshotAny, 0, NULL, 0);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		should_free;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
		Datum		values[Natts_note];
		bool		nulls[Natts_note];
		NoteRow		note;

		CHECK_FOR_INTERRUPTS();
		note.xid = HeapTupleHeaderGetXmin(tuple->t_data);
		if (!TransactionIdIsNormal(note.xid) ||
			!TransactionIdIsInProgress(note.xid))
			continue;
		queue_member_deform(rel, MEMBER_PREPARED_NOTE, tuple, values, nulls);
		note.relid = DatumGetObjectId(values[Anum_note_relation - 1]);
		note.partition = nulls[Anum_note_partition - 1] ? ANY_PARTITION :
			DatumGetInt16(values[Anum_note_partition - 1]);
		note.first = DatumGetInt64(values[Anum_note_first_id - 1]);
		note.last = DatumGetInt64(values[Anum_note_last_id - 1]);
		note.messages = DatumGetInt64(values[Anum_note_messages - 1]);
		note.since = DatumGetTimestampTz(values[Anum_note_since - 1]);
		visitor(&note, arg);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

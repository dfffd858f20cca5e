/*-------------------------------------------------------------------------
 *
 * publishing_note.c
 *		What prepared transactions have published, on disk.
 *
 * Shared memory knows who may still publish below which id (topic_slot.c), and
 * is lost with the server.  A prepared transaction is not.  So before PREPARE
 * the transaction writes a row of queue.prepared_note for each registration,
 * and deletes it: to everybody else it has never been there, whichever way the
 * transaction ends, and vacuum removes it then.  Until then it is found by who
 * looks at all rows, dead or alive, and asks if the one that wrote it is still
 * in progress.
 *
 * What if the process dies here?  The transaction is rolled back, or prepared
 * with its rows.  What if the message commits here?  Then the row has its work
 * done.  What if memory is full?  Nothing is kept in memory; an error in writing
 * is an error of PREPARE.
 *
 * Without the table, as the extension is dropped, nobody could look for the
 * rows, and nobody reads topics.
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
#include "table/setting_row.h"
#include "transaction/publishing_note.h"

static void write_note(Relation rel, Oid relid,
					   const Registration *registration);
static bool read_note(Relation rel, HeapTuple tuple, Oid relid,
					  RecoveredPublisher *publisher);

/*
 * queue_publishing_note_write
 *		Write down what this transaction, which is about to be prepared, has
 *		registered.  May throw.
 */
void
queue_publishing_note_write(const Publishing *publishings, int n)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_PREPARED_NOTE,
												  RowExclusiveLock);

	if (rel == NULL)
		return;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < publishings[i].n; j++)
			write_note(rel, publishings[i].relid,
					   publishings[i].registrations[j]);
	table_close(rel, NoLock);
}

/*
 * Write one, and delete it.  Nobody else changes what this transaction has
 * registered.
 */
static void
write_note(Relation rel, Oid relid, const Registration *registration)
{
	Datum		values[Natts_note];
	bool		nulls[Natts_note] = {false};
	HeapTuple	tuple;

	values[Anum_note_relation - 1] = ObjectIdGetDatum(relid);
	values[Anum_note_partition - 1] = Int16GetDatum(registration->partition);
	nulls[Anum_note_partition - 1] = registration->partition == ANY_PARTITION;
	values[Anum_note_first_id - 1] = Int64GetDatum(registration->first);
	values[Anum_note_last_id - 1] = Int64GetDatum(registration->greatest);
	values[Anum_note_messages - 1] = Int64GetDatum(registration->nids);
	values[Anum_note_since - 1] = TimestampTzGetDatum(registration->since);
	tuple = queue_member_form(rel, MEMBER_PREPARED_NOTE, values, nulls);
	simple_heap_insert(rel, tuple);
	CommandCounterIncrement();
	simple_heap_delete(rel, &tuple->t_self);
	heap_freetuple(tuple);
}

/*
 * queue_publishing_note_read
 *		Return what prepared transactions have registered in a topic.
 *
 * Nobody can register there while this looks for them, because the topic's slot
 * is closed.  So they are all of before the server started.
 */
RecoveredPublisher *
queue_publishing_note_read(Oid relid, int *n)
{
	Relation	rel = queue_setting_open_if_there(MEMBER_PREPARED_NOTE,
												  AccessShareLock);
	RecoveredPublisher *publishers;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int			max = 16;

	*n = 0;
	if (rel == NULL)
		return NULL;
	publishers = palloc(max * sizeof(RecoveredPublisher));
	scan = table_beginscan(rel, SnapshotAny, 0, NULL, 0);
	slot = table_slot_create(rel, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		should_free;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);

		CHECK_FOR_INTERRUPTS();
		if (*n == max)
		{
			max *= 2;
			publishers = repalloc(publishers,
								  max * sizeof(RecoveredPublisher));
		}
		if (read_note(rel, tuple, relid, &publishers[*n]))
			(*n)++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return publishers;
}

/* Is it of this topic, and of a transaction in progress?  What does it say? */
static bool
read_note(Relation rel, HeapTuple tuple, Oid relid,
		  RecoveredPublisher *publisher)
{
	TransactionId xid = HeapTupleHeaderGetXmin(tuple->t_data);
	Datum		values[Natts_note];
	bool		nulls[Natts_note];

	queue_member_deform(rel, MEMBER_PREPARED_NOTE, tuple, values, nulls);
	if (DatumGetObjectId(values[Anum_note_relation - 1]) != relid ||
		!TransactionIdIsNormal(xid) || !TransactionIdIsInProgress(xid))
		return false;
	publisher->xid = xid;
	publisher->partition = nulls[Anum_note_partition - 1] ? ANY_PARTITION :
		DatumGetInt16(values[Anum_note_partition - 1]);
	publisher->first = DatumGetInt64(values[Anum_note_first_id - 1]);
	publisher->greatest = DatumGetInt64(values[Anum_note_last_id - 1]);
	publisher->nids = DatumGetInt64(values[Anum_note_messages - 1]);
	publisher->since = DatumGetTimestampTz(values[Anum_note_since - 1]);
	return true;
}

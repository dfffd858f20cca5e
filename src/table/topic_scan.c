/*-------------------------------------------------------------------------
 *
 * topic_scan.c
 *		Messages of a topic, in the order of their ids.
 *
 * The key is by partition, then id.  So ids of each partition are fetched from
 * the index a few at a time, and merged if all are wanted.  One index scan serves for all of them
 * in turn, since one for each would keep as many pages pinned.
 *
 * No page of the index stays pinned until the row of an entry is read, so vacuum
 * may have removed a dead one, and another may have its place.  The id tells.  A row
 * that the snapshot sees is not removed.
 *
 * Locks: the caller's on the table; those of pages for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/topic_column.h"
#include "table/topic_scan.h"

/* Entries of a partition that are fetched at once, if not more are wanted */
#define MIN_ENTRIES			8
#define MAX_ENTRIES			4096

typedef struct TopicEntry
{
	int64		id;
	ItemPointerData tid;
} TopicEntry;

typedef struct PartitionCursor
{
	int			partition;
	int			room;
	int			n;				/* entries that were fetched */
	int			next;			/* ... and the next of them */
	bool		is_begun;		/* some were fetched */
	bool		is_last;		/* the index has no more */
	bool		is_stopped;		/* nothing more of it is wanted */
	int64		begins_after;	/* what was asked for */
	int64		after;			/* fetch those after this one ... */
	int64		below;			/* ... and below this one */
	int64		upcoming;		/* which is the first one that was not fetched */
	TopicEntry *entries;
} PartitionCursor;

struct TopicScan
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	int			max_entries;
	bool		probes;			/* of most partitions only the first is wanted */
	PartitionCursor *cursors;
	binaryheap *heap;			/* of cursors that have a next entry, of a
								 * scan of all */
};

static bool fetch(TopicScan *scan, PartitionCursor *cursor);
static void begin_range(TopicScan *scan, int partition, int64 after,
						int64 below);
static int64 id_of_entry(TopicScan *scan);
static void make_room(TopicScan *scan, PartitionCursor *cursor);
static int	compare_cursors(Datum a, Datum b, void *arg);
static bool read_row(TopicScan *scan, int partition, TopicEntry *entry);
static bool is_deleted_here(HeapTupleHeader tuple);

/*
 * queue_topic_scan_begin
 *		Begin to scan the messages of a topic, of no partition yet.
 *
 * Some "max" of each are likely to be wanted.
 */
TopicScan *
queue_topic_scan_begin(Relation rel, TopicDef *topic, int64 max)
{
	TopicScan  *scan = palloc0(sizeof(TopicScan));

	scan->rel = rel;
	scan->index = index_open(topic->indexes.pkey, AccessShareLock);
	scan->scan = index_beginscan(rel, scan->index, SnapshotAny, NULL, 3, 0, 0);
	scan->scan->xs_want_itup = true;
	scan->slot = table_slot_create(rel, NULL);
	scan->max_entries = (int) Max(MIN_ENTRIES, Min(MAX_ENTRIES, max));
	scan->probes = true;
	scan->cursors = palloc0(topic->partitions * sizeof(PartitionCursor));
	scan->heap = binaryheap_allocate(topic->partitions, compare_cursors, NULL);
	return scan;
}

/*
 * queue_topic_scan_add
 *		Add a partition, or begin anew with it: messages with ids after one and
 *		below another.
 *
 * Returns false if there are none, else *first is the id of the first.
 */
bool
queue_topic_scan_add(TopicScan *scan, int partition, int64 after, int64 below,
					 int64 *first)
{
	PartitionCursor *cursor = &scan->cursors[partition];

	/* it may have been added to find that out, and not been read yet */
	if (cursor->n == 0 || cursor->next > 0 || cursor->begins_after != after ||
		cursor->below != below)
	{
		cursor->partition = partition;
		cursor->begins_after = cursor->after = after;
		cursor->below = below;
		cursor->is_begun = cursor->is_last = false;
		if (!fetch(scan, cursor))
			return false;
	}
	*first = cursor->entries[0].id;
	return true;
}

/*
 * queue_topic_scan_begin_all
 *		Begin to scan all partitions together, after this id.
 */
TopicScan *
queue_topic_scan_begin_all(Relation rel, TopicDef *topic, int64 after,
						   int64 below, int64 max)
{
	int64	   *each = palloc(topic->partitions * sizeof(int64));
	TopicScan  *scan;

	for (int i = 0; i < topic->partitions; i++)
		each[i] = after;
	scan = queue_topic_scan_begin_each(rel, topic, each, below, max);
	pfree(each);
	return scan;
}

/*
 * queue_topic_scan_begin_each
 *		The same, after another id in each partition.
 */
TopicScan *
queue_topic_scan_begin_each(Relation rel, TopicDef *topic, const int64 *after,
							int64 below, int64 max)
{
	TopicScan  *scan = queue_topic_scan_begin(rel, topic,
											  max / topic->partitions * 5 / 4 + 1);

	scan->probes = false;
	for (int i = 0; i < topic->partitions; i++)
	{
		int64		first;

		if (queue_topic_scan_add(scan, i, after[i], below, &first))
			binaryheap_add_unordered(scan->heap,
									 PointerGetDatum(&scan->cursors[i]));
	}
	binaryheap_build(scan->heap);
	return scan;
}

/*
 * fetch
 *		Fetch the next entries of a partition; returns false if there is none.
 *
 * The first few, if most partitions are looked at for their first one alone.
 */
static bool
fetch(TopicScan *scan, PartitionCursor *cursor)
{
	ItemPointer tid;
	int			max = scan->probes && !cursor->is_begun ?
		MIN_ENTRIES : scan->max_entries;

	cursor->n = cursor->next = 0;
	if (cursor->is_last)
		return false;
	CHECK_FOR_INTERRUPTS();
	begin_range(scan, cursor->partition, cursor->after, cursor->below);
	cursor->is_begun = true;
	cursor->is_last = true;
	cursor->upcoming = cursor->below;
	while ((tid = index_getnext_tid(scan->scan, ForwardScanDirection)) != NULL)
	{
		int64		id = id_of_entry(scan);

		/* all entries with one id, most of them dead, come together */
		if (cursor->n >= max && id != cursor->after)
		{
			cursor->is_last = false;
			cursor->upcoming = id;
			break;
		}
		if (cursor->n == cursor->room)
			make_room(scan, cursor);
		cursor->entries[cursor->n].id = cursor->after = id;
		cursor->entries[cursor->n++].tid = *tid;
	}
	return cursor->n > 0;
}

/* Let the index begin with the ids of a partition between these. */
static void
begin_range(TopicScan *scan, int partition, int64 after, int64 below)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(partition));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(after));
	ScanKeyInit(&keys[2], 2, BTLessStrategyNumber, F_INT8LT,
				Int64GetDatum(below));
	index_rescan(scan->scan, keys, 3, NULL, 0);
}

/*
 * queue_topic_scan_count
 *		Count the entries of a partition in the index, at most so many.
 *
 * No row is read, so those of rows that have gone are counted, until they are
 * removed.
 */
int
queue_topic_scan_count(TopicScan *scan, int partition, int64 after,
					   int64 below, int max, int64 *last)
{
	int			n = 0;

	begin_range(scan, partition, after, below);
	while (n < max &&
		   index_getnext_tid(scan->scan, ForwardScanDirection) != NULL)
	{
		*last = id_of_entry(scan);
		n++;
	}
	return n;
}

/* Return the id in the index entry that the scan is at. */
static int64
id_of_entry(TopicScan *scan)
{
	bool		isnull;

	return DatumGetInt64(index_getattr(scan->scan->xs_itup, 2,
									   scan->scan->xs_itupdesc, &isnull));
}

/* Make room for more entries. */
static void
make_room(TopicScan *scan, PartitionCursor *cursor)
{
	cursor->room = cursor->room == 0 ? scan->max_entries : 2 * cursor->room;
	if (cursor->entries == NULL)
		cursor->entries = palloc(cursor->room * sizeof(TopicEntry));
	else
		cursor->entries = repalloc(cursor->entries,
								   cursor->room * sizeof(TopicEntry));
}

/* The next id of one partition comes before that of another: binaryheap's. */
static int
compare_cursors(Datum a, Datum b, void *arg)
{
	PartitionCursor *left = (PartitionCursor *) DatumGetPointer(a);
	PartitionCursor *right = (PartitionCursor *) DatumGetPointer(b);
	int64		left_id = left->entries[left->next].id;
	int64		right_id = right->entries[right->next].id;

	return left_id < right_id ? 1 : left_id > right_id ? -1 : 0;
}

/*
 * queue_topic_scan_next
 *		Return the next row, dead or alive, or NULL.
 */
TupleTableSlot *
queue_topic_scan_next(TopicScan *scan, int64 *id)
{
	while (!binaryheap_empty(scan->heap))
	{
		PartitionCursor *cursor = (PartitionCursor *)
			DatumGetPointer(binaryheap_first(scan->heap));
		TopicEntry	entry;

		if (cursor->is_stopped)
		{
			(void) binaryheap_remove_first(scan->heap);
			continue;
		}
		entry = cursor->entries[cursor->next++];
		if (cursor->next < cursor->n || fetch(scan, cursor))
			binaryheap_replace_first(scan->heap, PointerGetDatum(cursor));
		else
			(void) binaryheap_remove_first(scan->heap);
		if (read_row(scan, cursor->partition, &entry))
		{
			*id = entry.id;
			return scan->slot;
		}
	}
	return NULL;
}

/*
 * queue_topic_scan_next_of
 *		Return the next row of one partition, dead or alive, or NULL.
 */
TupleTableSlot *
queue_topic_scan_next_of(TopicScan *scan, int partition, int64 *id)
{
	PartitionCursor *cursor = &scan->cursors[partition];

	while (cursor->next < cursor->n || fetch(scan, cursor))
	{
		TopicEntry	entry = cursor->entries[cursor->next++];

		if (read_row(scan, partition, &entry))
		{
			*id = entry.id;
			return scan->slot;
		}
	}
	return NULL;
}

/*
 * queue_topic_scan_upcoming
 *		Return the id of the next entry of a partition, or which it cannot be
 *		below.
 *
 * No row is read for that, so it may be a dead one's.
 */
int64
queue_topic_scan_upcoming(TopicScan *scan, int partition)
{
	PartitionCursor *cursor = &scan->cursors[partition];

	return cursor->next < cursor->n ? cursor->entries[cursor->next].id :
		cursor->upcoming;
}

/* Return nothing more of a partition. */
void
queue_topic_scan_stop(TopicScan *scan, int partition)
{
	scan->cursors[partition].is_stopped = true;
}

/* Return true if the next row has this id, too. */
bool
queue_topic_scan_has_twin(TopicScan *scan, int64 id)
{
	PartitionCursor *cursor;

	if (binaryheap_empty(scan->heap))
		return false;
	cursor = (PartitionCursor *) DatumGetPointer(binaryheap_first(scan->heap));
	return cursor->entries[cursor->next].id == id;
}

/* Read the row of an entry; false if it is gone, and another is there. */
static bool
read_row(TopicScan *scan, int partition, TopicEntry *entry)
{
	bool		isnull;

	bool		call_again = false;
	ItemPointerData tid = entry->tid;

	CHECK_FOR_INTERRUPTS();
	if (!table_index_fetch_tuple(scan->scan->xs_heapfetch, &tid, SnapshotAny,
								 scan->slot, &call_again, NULL))
		return false;
	return DatumGetInt64(slot_getattr(scan->slot, Anum_published_id,
									  &isnull)) == entry->id &&
		DatumGetInt16(slot_getattr(scan->slot, Anum_published_partition,
								   &isnull)) == partition;
}

/* Has this transaction deleted the row? */
static bool
is_deleted_here(HeapTupleHeader tuple)
{
	return (tuple->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		!HEAP_XMAX_IS_LOCKED_ONLY(tuple->t_infomask) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(tuple));
}

/*
 * queue_topic_row_state
 *		Judge the row that was returned last by a snapshot and by the present
 *		status of who wrote it.
 */
TopicRowState
queue_topic_row_state(TopicScan *scan, Snapshot snapshot)
{
	HeapTuple	tuple;
	TransactionId xmin;
	bool		should_free;

	if (table_tuple_satisfies_snapshot(scan->rel, scan->slot, snapshot))
		return TOPIC_ROW_SEEN;
	tuple = ExecFetchSlotHeapTuple(scan->slot, false, &should_free);
	xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	if (!TransactionIdIsNormal(xmin) || !XidInMVCCSnapshot(xmin, snapshot))
		return is_deleted_here(tuple->t_data) ? TOPIC_ROW_DELETED :
			TOPIC_ROW_GONE;
	return TransactionIdIsInProgress(xmin) || TransactionIdDidCommit(xmin) ?
		TOPIC_ROW_NEWER : TOPIC_ROW_GONE;
}

/* End the scan, and give back the lock on the index. */
void
queue_topic_scan_end(TopicScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	binaryheap_free(scan->heap);
	pfree(scan);
}

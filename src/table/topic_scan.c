/*-------------------------------------------------------------------------
 *
 * topic_scan.c
 *		Messages of a topic, in the order of their ids.
 *
 * The key is by partition, then id.  So ids of each partition are fetched from
 * the index a few at a time, and merged if all are wanted.  One index scan serves
 * for all of them in turn, since one for each would keep as many pages pinned.
 *
 * No page of the index stays pinned until the row of an entry is read, so vacuum
 * may have removed a dead one, and another may have its place.  The id tells.  A row
 * that the snapshot sees is not removed.
 *
 * Messages that follow each other mostly lie on one page of the table.  So rows
 * are not fetched one by one: all entries that a partition has next on a page are
 * judged while it is locked once, as sequential scans do it.  It stays pinned while
 * its rows are returned, and so they stay where they are.
 *
 * Locks: the caller's on the table; those of pages for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
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

/* So many ids further on its end is rarely on the same page of the index */
#define FAR_AWAY			1024

/* What was found where an entry points */
typedef enum EntryState
{
	ENTRY_SEEN,					/* a row that the snapshot sees */
	ENTRY_UNSEEN,				/* ... that it does not see */
	ENTRY_GONE					/* no row, or another one */
} EntryState;

typedef struct TopicEntry
{
	int64		id;
	ItemPointerData tid;
	OffsetNumber offset;		/* of its row, if it was judged */
	int16		state;			/* EntryState, if it was judged */
} TopicEntry;

typedef struct PartitionCursor
{
	int			partition;
	int			room;
	int			n;				/* entries that were fetched */
	int			next;			/* ... and the next of them */
	int			njudged;		/* up to there they are judged ... */
	uint64		page;			/* ... while this one was pinned */
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
	Snapshot	snapshot;
	Buffer		buffer;			/* the page of the table that is pinned */
	uint64		page;			/* pages that were pinned */
	HeapTupleData tuple;		/* the row that was returned last ... */
	EntryState	state;			/* ... what the snapshot sees of it */
	TupleTableSlot *slot;		/* ... and the row again */
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
static bool read_row(TopicScan *scan, PartitionCursor *cursor);
static void pin_page(TopicScan *scan, BlockNumber block);
static void judge_page(TopicScan *scan, PartitionCursor *cursor);
static EntryState judge(TopicScan *scan, PartitionCursor *cursor,
						TopicEntry *entry);
static bool find_row(TopicScan *scan, const TopicEntry *entry,
					 HeapTuple tuple);
static bool is_deleted_here(HeapTupleHeader tuple);

/*
 * queue_topic_scan_begin
 *		Begin to scan the messages of a topic, of no partition yet.
 *
 * Some "max" of each are likely to be wanted.
 */
TopicScan *
queue_topic_scan_begin(Relation rel, TopicDef *topic, Snapshot snapshot,
					   int64 max)
{
	TopicScan  *scan = palloc0(sizeof(TopicScan));

	scan->rel = rel;
	scan->index = index_open(topic->indexes.pkey, AccessShareLock);
	scan->scan = index_beginscan(rel, scan->index, SnapshotAny, NULL, 3, 0, 0);
	scan->scan->xs_want_itup = true;
	scan->snapshot = snapshot;
	scan->buffer = InvalidBuffer;
	scan->tuple.t_tableOid = RelationGetRelid(rel);
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
	if (cursor->n == 0 || cursor->next > 0 || cursor->begins_after > after ||
		cursor->entries[0].id <= after || cursor->below != below)
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
queue_topic_scan_begin_all(Relation rel, TopicDef *topic, Snapshot snapshot,
						   int64 after, int64 below, int64 max)
{
	int64	   *each = palloc(topic->partitions * sizeof(int64));
	TopicScan  *scan;

	for (int i = 0; i < topic->partitions; i++)
		each[i] = after;
	scan = queue_topic_scan_begin_each(rel, topic, snapshot, each, below, max);
	pfree(each);
	return scan;
}

/*
 * queue_topic_scan_begin_each
 *		The same, after another id in each partition.
 */
TopicScan *
queue_topic_scan_begin_each(Relation rel, TopicDef *topic, Snapshot snapshot,
							const int64 *after, int64 below, int64 max)
{
	TopicScan  *scan = queue_topic_scan_begin(rel, topic, snapshot,
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
 * The first few, if most partitions are looked at for their first one alone.  If
 * all are merged, more each time, since one may have most of what is wanted.
 */
static bool
fetch(TopicScan *scan, PartitionCursor *cursor)
{
	ItemPointer tid;
	int			max = scan->max_entries;

	if (!cursor->is_begun && scan->probes)
		max = MIN_ENTRIES;
	else if (cursor->is_begun && !scan->probes)
		max = Min(2 * cursor->n, MAX_ENTRIES);
	cursor->n = cursor->next = cursor->njudged = 0;
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

		if (id >= cursor->below)
			break;

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

/*
 * begin_range
 *		Let the index begin with the ids of a partition between these.
 *
 * All entries of its page are compared with each key at once, also those that
 * nobody asks for.  So where the end is far, the caller looks out for it.
 */
static void
begin_range(TopicScan *scan, int partition, int64 after, int64 below)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(partition));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(after));
	keys[2] = keys[1];			/* the index drops what it has already */
	if (below - after <= FAR_AWAY)
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
		int64		id = id_of_entry(scan);

		if (id >= below)
			break;
		*last = id;
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
		bool		is_row;

		if (cursor->is_stopped)
		{
			(void) binaryheap_remove_first(scan->heap);
			continue;
		}
		*id = cursor->entries[cursor->next].id;
		is_row = read_row(scan, cursor);
		if (cursor->next < cursor->n || fetch(scan, cursor))
			binaryheap_replace_first(scan->heap, PointerGetDatum(cursor));
		else
			(void) binaryheap_remove_first(scan->heap);
		if (is_row)
			return scan->slot;
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
		*id = cursor->entries[cursor->next].id;
		if (read_row(scan, cursor))
			return scan->slot;
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

/* Read the row of the next entry; false if it is gone, or another is there. */
static bool
read_row(TopicScan *scan, PartitionCursor *cursor)
{
	TopicEntry *entry = &cursor->entries[cursor->next];
	ItemId		item;
	Page		page;

	if (cursor->next >= cursor->njudged || cursor->page != scan->page)
		judge_page(scan, cursor);
	cursor->next++;
	if (entry->state == ENTRY_GONE)
		return false;
	page = BufferGetPage(scan->buffer);
	item = PageGetItemId(page, entry->offset);
	scan->tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
	scan->tuple.t_len = ItemIdGetLength(item);
	ItemPointerSet(&scan->tuple.t_self, BufferGetBlockNumber(scan->buffer),
				   entry->offset);
	scan->state = entry->state;
	ExecStoreBufferHeapTuple(&scan->tuple, scan->slot, scan->buffer);
	return true;
}

/* Judge the next entry of a partition, and those after it on the same page. */
static void
judge_page(TopicScan *scan, PartitionCursor *cursor)
{
	BlockNumber block =
		ItemPointerGetBlockNumber(&cursor->entries[cursor->next].tid);

	CHECK_FOR_INTERRUPTS();
	pin_page(scan, block);
	cursor->page = scan->page;
	cursor->njudged = cursor->next;
	LockBuffer(scan->buffer, BUFFER_LOCK_SHARE);
	while (cursor->njudged < cursor->n)
	{
		TopicEntry *entry = &cursor->entries[cursor->njudged];

		if (ItemPointerGetBlockNumber(&entry->tid) != block)
			break;
		entry->state = judge(scan, cursor, entry);
		cursor->njudged++;
	}
	LockBuffer(scan->buffer, BUFFER_LOCK_UNLOCK);
}

/* Pin a page of the table, and no other one. */
static void
pin_page(TopicScan *scan, BlockNumber block)
{
	Buffer		vmbuffer = InvalidBuffer;

	if (BufferIsValid(scan->buffer) &&
		BufferGetBlockNumber(scan->buffer) == block)
		return;
	scan->buffer = ReleaseAndReadBuffer(scan->buffer, scan->rel, block);
	scan->page++;
	heap_page_prune_opt(scan->rel, scan->buffer, &vmbuffer,
						false /* rel_read_only */ );
	if (BufferIsValid(vmbuffer))
		ReleaseBuffer(vmbuffer);
}

/* Judge an entry; its page is locked. */
static EntryState
judge(TopicScan *scan, PartitionCursor *cursor, TopicEntry *entry)
{
	HeapTupleData tuple;
	PublishedStart *start;

	tuple.t_tableOid = scan->tuple.t_tableOid;
	if (!find_row(scan, entry, &tuple))
		return ENTRY_GONE;
	entry->offset = ItemPointerGetOffsetNumber(&tuple.t_self);
	start = (PublishedStart *) GETSTRUCT(&tuple);
	if (start->id != entry->id || start->partition != cursor->partition)
		return ENTRY_GONE;
	return HeapTupleSatisfiesVisibility(&tuple, scan->snapshot,
										scan->buffer) ?
		ENTRY_SEEN : ENTRY_UNSEEN;
}

/* Find the row of an entry on the page; false if there is none. */
static bool
find_row(TopicScan *scan, const TopicEntry *entry, HeapTuple tuple)
{
	Page		page = BufferGetPage(scan->buffer);
	OffsetNumber offset = ItemPointerGetOffsetNumber(&entry->tid);
	ItemId		item;

	if (offset > PageGetMaxOffsetNumber(page))
		return false;
	item = PageGetItemId(page, offset);

	/* in replica role a row may have been updated, and pruned since */
	if (ItemIdIsRedirected(item))
	{
		offset = ItemIdGetRedirect(item);
		item = PageGetItemId(page, offset);
	}
	if (!ItemIdIsNormal(item))
		return false;
	tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple->t_len = ItemIdGetLength(item);
	ItemPointerSet(&tuple->t_self, ItemPointerGetBlockNumber(&entry->tid),
				   offset);
	return true;
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
 *		Judge the row that was returned last by the snapshot and by the present
 *		status of its writer.
 */
TopicRowState
queue_topic_row_state(TopicScan *scan)
{
	HeapTupleHeader tuple = scan->tuple.t_data;
	TransactionId xmin;

	if (scan->state == ENTRY_SEEN)
		return TOPIC_ROW_SEEN;
	xmin = HeapTupleHeaderGetXmin(tuple);
	if (!TransactionIdIsNormal(xmin) ||
		!XidInMVCCSnapshot(xmin, scan->snapshot))
		return is_deleted_here(tuple) ? TOPIC_ROW_DELETED : TOPIC_ROW_GONE;
	return TransactionIdIsInProgress(xmin) || TransactionIdDidCommit(xmin) ?
		TOPIC_ROW_NEWER : TOPIC_ROW_GONE;
}

/* End the scan, and give back the lock on the index. */
void
queue_topic_scan_end(TopicScan *scan)
{
	if (BufferIsValid(scan->buffer))
		ReleaseBuffer(scan->buffer);
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	binaryheap_free(scan->heap);
	pfree(scan);
}

/*-------------------------------------------------------------------------
 *
 * live_size.c
 *		How much space the live rows of a table take.
 *
 * The files of a table do not say it: what was deleted stays in them until a
 * vacuum, and is then free space in the midst of them, which new rows take.
 * Nor do the server's counts of rows, which a crash clears.  So a number of
 * pages is looked at, spread over the whole table, and the rows on them are
 * added up that nobody has deleted: of the table and of its TOAST table.  A
 * table of no more pages than that is looked at as a whole.
 *
 * Pages of indexes are not looked at: as large a part of them counts as of the
 * table's, since both have the same rows, and lose them at the same time.
 *
 * A row that a transaction in progress inserts does not count yet; one that it
 * deletes does.
 *
 * Locks: the caller's on the table, AccessShareLock on what belongs to it; those
 * of pages for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/live_size.h"

/* The pages that are looked at */
#define SAMPLE_PAGES		512

/* What a page has room for */
#define PAGE_ROOM			(BLCKSZ - SizeOfPageHeaderData)

/* What a chunk takes in a TOAST table beside its data: header, columns, pointer */
#define CHUNK_OVERHEAD		40

/* Live rows of the pages that were looked at, taken for those of all */
typedef struct Sample
{
	double		bytes;
	double		nrows;
} Sample;

static int64 file_bytes(Relation rel);
static int64 index_file_bytes(Relation rel);
static void take_sample(Relation rel, Sample *sample);
static void add_page(Relation rel, BlockNumber block,
					 BufferAccessStrategy strategy, Sample *sample);
static int64 tuple_bytes(Size length);

/* Return how long the files are of a table, its indexes and its TOAST table. */
int64
queue_live_size_of_files(Relation rel)
{
	int64		bytes = file_bytes(rel) + index_file_bytes(rel);

	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid,
									   AccessShareLock);

		bytes += file_bytes(toast) + index_file_bytes(toast);
		table_close(toast, AccessShareLock);
	}
	return bytes;
}

static int64
file_bytes(Relation rel)
{
	return (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
}

static int64
index_file_bytes(Relation rel)
{
	int64		bytes = 0;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		bytes += file_bytes(index);
		index_close(index, AccessShareLock);
	}
	return bytes;
}

/* Find how much of that the live rows take. */
void
queue_live_size(Relation rel, LiveSize *size)
{
	Sample		rows;
	double		part;
	double		index_bytes;

	take_sample(rel, &rows);
	part = rows.bytes / Max(file_bytes(rel), 1);
	index_bytes = Min(part, 1) * index_file_bytes(rel);
	size->bytes = (int64) (rows.bytes + index_bytes);
	size->index_bytes = (int64) (index_bytes / Max(rows.nrows, 1));
	if (OidIsValid(rel->rd_rel->reltoastrelid))
	{
		Relation	toast = table_open(rel->rd_rel->reltoastrelid,
									   AccessShareLock);
		Sample		chunks;

		take_sample(toast, &chunks);
		part = chunks.bytes / Max(file_bytes(toast), 1);
		size->bytes += (int64) (chunks.bytes +
								Min(part, 1) * index_file_bytes(toast));
		table_close(toast, AccessShareLock);
	}
}

/*
 * take_sample
 *		Look at pages of a table.
 *
 * It is cut into as many parts as pages are looked at, and one of each part is,
 * by chance, so that no pattern of the table meets one of the choice.
 */
static void
take_sample(Relation rel, Sample *sample)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber n = Min(nblocks, SAMPLE_PAGES);
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	double		factor;

	sample->bytes = sample->nrows = 0;
	for (BlockNumber i = 0; i < n; i++)
	{
		BlockNumber first = (uint64) i * nblocks / n;
		BlockNumber last = (uint64) (i + 1) * nblocks / n - 1;

		CHECK_FOR_INTERRUPTS();
		add_page(rel, (BlockNumber) pg_prng_uint64_range(&pg_global_prng_state,
														 first, last),
				 strategy, sample);
	}
	FreeAccessStrategy(strategy);

	/* full pages have a header, too */
	factor = (double) nblocks / Max(n, 1);
	sample->bytes *= factor * BLCKSZ / PAGE_ROOM;
	sample->nrows *= factor;
}

/* Add the live rows of a page. */
static void
add_page(Relation rel, BlockNumber block, BufferAccessStrategy strategy,
		 Sample *sample)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block,
											RBM_NORMAL, strategy);
	Page		page = BufferGetPage(buffer);

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	for (OffsetNumber offset = FirstOffsetNumber;
		 offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		ItemId		item = PageGetItemId(page, offset);
		HeapTupleData tuple;
		HTSV_Result state;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(rel);
		ItemPointerSet(&tuple.t_self, block, offset);
		state = HeapTupleSatisfiesVacuum(&tuple, RecentXmin, buffer);
		if (state == HEAPTUPLE_LIVE ||
			state == HEAPTUPLE_DELETE_IN_PROGRESS)
		{
			sample->bytes += tuple_bytes(tuple.t_len);
			sample->nrows++;
		}
	}
	UnlockReleaseBuffer(buffer);
}

/* What a tuple of this length takes on a page */
static int64
tuple_bytes(Size length)
{
	return MAXALIGN(length) + sizeof(ItemIdData);
}

/* Return what a row takes, with what lies in the TOAST table. */
int64
queue_live_size_of_row(Relation rel, HeapTuple tuple, const LiveSize *size)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int64		bytes = tuple_bytes(tuple->t_len) + size->index_bytes;

	for (int i = 1; HeapTupleHasExternal(tuple) && i <= desc->natts; i++)
	{
		bool		isnull;
		Datum		value;
		struct varatt_external pointer;
		int			nchunks;

		if (TupleDescAttr(desc, i - 1)->attlen != -1)
			continue;
		value = heap_getattr(tuple, i, desc, &isnull);
		if (isnull || !VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)))
			continue;
		VARATT_EXTERNAL_GET_POINTER(pointer, DatumGetPointer(value));
		nchunks = VARATT_EXTERNAL_GET_EXTSIZE(pointer) /
			TOAST_MAX_CHUNK_SIZE + 1;
		bytes += VARATT_EXTERNAL_GET_EXTSIZE(pointer) +
			nchunks * CHUNK_OVERHEAD;
	}
	return bytes;
}

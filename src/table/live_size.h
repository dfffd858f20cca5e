/*-------------------------------------------------------------------------
 *
 * live_size.h
 *		How much space the live rows of a table take.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LIVE_SIZE_H
#define QUEUE_LIVE_SIZE_H

#include "access/htup.h"
#include "utils/relcache.h"

typedef struct LiveSize
{
	int64		bytes;			/* of table, TOAST table and indexes */
	int64		index_bytes;	/* ... of indexes, for each row */
} LiveSize;

/* What the files take, as pg_total_relation_size() without the small maps */
extern int64 queue_live_size_of_files(Relation rel);

/* What the live rows take of that; a sample, so some per cent more or less */
extern void queue_live_size(Relation rel, LiveSize *size);

/* What a row takes that is in a table of that size */
extern int64 queue_live_size_of_row(Relation rel, HeapTuple tuple,
									const LiveSize *size);

#endif							/* QUEUE_LIVE_SIZE_H */

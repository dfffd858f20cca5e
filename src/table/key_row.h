/*-------------------------------------------------------------------------
 *
 * key_row.h
 *		Rows of key tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_KEY_ROW_H
#define QUEUE_KEY_ROW_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The first message with a key, as its row names it */
typedef struct KeyRow
{
	int64		id;
	TimestampTz enqueued_at;
	ItemPointerData tid;		/* of that row */
} KeyRow;

/* Scan the rows of a key; "dirty", which is set, must live as long */
extern IndexScanDesc queue_key_row_scan(Relation keys, Relation index,
										Datum key, SnapshotData *dirty);

/* From and to a slot */
extern void queue_key_row_read(TupleTableSlot *slot, KeyRow *row);
extern void queue_key_row_store(TupleTableSlot *slot, int64 id,
								TimestampTz enqueued_at, Datum key);

/* Has the transaction that inserted the row in the slot deleted it, too? */
extern bool queue_key_row_is_withdrawn(TupleTableSlot *slot);

/* Delete the row in the slot, unless another transaction is at it */
extern bool queue_key_row_delete(Relation keys, TupleTableSlot *slot);

#endif							/* QUEUE_KEY_ROW_H */

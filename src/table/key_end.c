/*-------------------------------------------------------------------------
 *
 * key_end.c
 *		The end of dedup keys: when they are over, and how they are forgotten.
 *
 * A key counts for as long as dedup_window says, and also while its message is
 * in the queue; then its row is rubbish, which the next sender of the key
 * (dedup.c), the consumer or the worker (worker/forget.c) deletes.  Whoever
 * purges or cancels a message deletes the row of its key at once.
 *
 * Locks: those of relations, in the order queue, key table, index.  Nothing is
 * waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation_name.h"
#include "shared/availability.h"
#include "table/key_end.h"
#include "table/key_row.h"
#include "table/key_table.h"

static bool forget(Relation keys, QueueDef *def, MessageRow *row, Datum key);


/*
 * queue_dedup_until
 *		Return until when a key counts, whether its message is there or not.
 */
TimestampTz
queue_dedup_until(const QueueDef *def, TimestampTz enqueued_at)
{
	if (def->dedup_window > PG_INT64_MAX - Max(enqueued_at, 0))
		return TIMESTAMP_INFINITY;
	return enqueued_at + def->dedup_window;
}

/*
 * queue_dedup_is_over
 *		Returns true if the message is not in the queue any more, so that its
 *		key keeps nothing away when its time is over.
 *
 * A message that has expired is not there either, though the worker has not
 * removed it yet: nobody will get it.  "row" may be given to save making one.
 */
bool
queue_dedup_is_over(Relation rel, QueueDef *def, MessageRow *row, int64 id,
					TimestampTz enqueued_at)
{
	MessageRow *made = row == NULL ? queue_row_make(rel) : row;
	RowState	state;
	bool		is_over;

	made->id = id;
	made->enqueued_at = enqueued_at;
	made->priority = QUEUE_DEFAULT_PRIORITY;
	ItemPointerSetInvalid(&made->tid);
	state = queue_row_find(rel, def, made);
	is_over = state == ROW_GONE ||
		queue_has_expired(made->expires_at, GetCurrentTimestamp());
	if (row == NULL)
	{
		ExecDropSingleTupleTableSlot(made->slot);
		pfree(made);
	}
	return is_over;
}

/*
 * queue_dedup_left
 *		A message was consumed, or moved: delete the row of its key if its
 *		time is over.
 *
 * Otherwise the worker does, later.  The row is in the slot still.  A key table
 * that has been altered must not keep anybody from consuming; a row that is left
 * there counts for nothing, because its message is gone.
 */
void
queue_dedup_left(QueueDef *def, MessageRow *row)
{
	Relation	keys;
	Datum		key;
	bool		isnull;

	if (def->dedup_window < 0)
		return;
	if (queue_dedup_until(def, row->enqueued_at) > GetCurrentTimestamp())
		return;
	key = slot_getattr(row->slot, Anum_message_dedup_key, &isnull);
	if (isnull)
		return;
	keys = queue_key_table_open(def, true);
	if (keys == NULL)
		return;
	(void) forget(keys, def, row, key);
	table_close(keys, NoLock);
}

/*
 * queue_dedup_forget
 *		A message was purged or cancelled: forget its key.
 *
 * Raises 55P03 if that cannot be done at once.
 */
void
queue_dedup_forget(QueueDef *def, MessageRow *row)
{
	Relation	keys;
	Datum		key;
	bool		isnull;

	if (def->dedup_window < 0)
		return;
	key = slot_getattr(row->slot, Anum_message_dedup_key, &isnull);
	if (isnull)
		return;
	keys = queue_key_table_open(def, false);
	if (keys == NULL)
		return;
	if (!forget(keys, def, row, key))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not forget the dedup_key of message " INT64_FORMAT " of queue \"%s\"",
						row->id, queue_shown_name(def->relid)),
				 errdetail("Another transaction has locked or changed its row in table \"%s\".",
						   queue_shown_name(def->key_table)),
				 errhint("Try again when that transaction has ended.")));
	table_close(keys, NoLock);
}

/*
 * Delete the row that names this message; returns false if another transaction
 * is at it.
 */
static bool
forget(Relation keys, QueueDef *def, MessageRow *row, Datum key)
{
	Relation	index = index_open(def->key_index, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(keys, NULL);
	SnapshotData dirty;
	IndexScanDesc scan;
	bool		done = true;

	key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(key));
	scan = queue_key_row_scan(keys, index, key, &dirty);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		KeyRow		first;

		queue_key_row_read(slot, &first);
		if (!TransactionIdIsValid(dirty.xmin) && first.id == row->id &&
			first.enqueued_at == row->enqueued_at)
			done &= queue_key_row_delete(keys, slot);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	return done;
}

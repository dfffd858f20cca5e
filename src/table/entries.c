/*-------------------------------------------------------------------------
 *
 * entries.c
 *		Index entries of the rows of a queue, or of a topic.
 *
 * A queue table mostly has its own indexes alone, the primary key and those of
 * index.c.  Their entries are made directly, because the executor's machinery
 * costs more than they do.  Of those of index.c a row that has no entry there
 * touches neither index nor lock.  If there is any other index, or a second one
 * of a kind, the executor makes them all.
 *
 * Locks: the caller's on the table, RowExclusiveLock at least, to the end of
 * the transaction; so does each index that is opened keep its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "table/entries.h"

static bool has_own_indexes_only(Relation rel, const TableForm *form,
								 const QueueIndexes *indexes);
static void insert_pkey(QueueEntries *entries, TupleTableSlot *slot,
						bool is_update);
static void insert_own(QueueEntries *entries, TupleTableSlot *slot);
static bool is_being_modified(TupleTableSlot *slot);


/*
 * queue_entries_begin
 *		Begin to insert index entries of a table of this kind, which is open.
 */
void
queue_entries_begin(QueueEntries *entries, Relation rel,
					const TableForm *form, const QueueIndexes *indexes)
{
	memset(entries, 0, sizeof(*entries));
	entries->rel = rel;
	entries->form = form;
	if (has_own_indexes_only(rel, form, indexes))
	{
		entries->pkey = index_open(indexes->pkey, RowExclusiveLock);
		memcpy(entries->oids, indexes->own, sizeof(entries->oids));
	}
	else
	{
		entries->estate = CreateExecutorState();
		entries->info = makeNode(ResultRelInfo);
		InitResultRelInfo(entries->info, rel, 0, NULL, 0);
		ExecOpenIndices(entries->info, false);
	}
}

/*
 * Are those that the definition knows all the indexes of the table?  Others may
 * have come since.
 */
static bool
has_own_indexes_only(Relation rel, const TableForm *form,
					 const QueueIndexes *indexes)
{
	List	   *oids = RelationGetIndexList(rel);
	bool		result = list_length(oids) == 1 + form->nindexes;
	ListCell   *lc;

	foreach(lc, oids)
	{
		bool		is_own = lfirst_oid(lc) == indexes->pkey;

		for (int i = 0; i < form->nindexes; i++)
			is_own |= lfirst_oid(lc) == indexes->own[i];
		result &= is_own;
	}
	list_free(oids);
	return result;
}

/* Insert the entries of a row that was inserted into the table. */
void
queue_entries_insert(QueueEntries *entries, TupleTableSlot *slot)
{
	if (entries->pkey != NULL)
	{
		insert_pkey(entries, slot, false);
		insert_own(entries, slot);
		return;
	}
	ResetPerTupleExprContext(entries->estate);
	ExecInsertIndexTuples(entries->info, entries->estate, 0, slot, NIL, NULL);
}

/* Insert the entries that a new version of a row needs. */
void
queue_entries_update(QueueEntries *entries, TupleTableSlot *slot,
					 TU_UpdateIndexes update_indexes)
{
	if (update_indexes == TU_None)
		return;
	if (entries->pkey != NULL)
	{
		/* no index of a queue's own only summarizes */
		insert_pkey(entries, slot, true);
		insert_own(entries, slot);
		return;
	}
	ResetPerTupleExprContext(entries->estate);
	ExecInsertIndexTuples(entries->info, entries->estate,
						  queue_update_flags(update_indexes), slot, NIL, NULL);
}

/*
 * Insert the entry of the primary key, as (priority, id).  A new version of a row
 * has the key of the one before, which the index is told, because it can then
 * remove what is dead before it splits a page.
 */
static void
insert_pkey(QueueEntries *entries, TupleTableSlot *slot, bool is_update)
{
	Datum		values[MAX_KEY_COLUMNS];
	bool		nulls[MAX_KEY_COLUMNS] = {false};

	for (int i = 0; i < entries->form->nkeys; i++)
		values[i] = slot_getattr(slot, entries->form->key[i], &nulls[i]);
	(void) index_insert(entries->pkey, values, nulls, &slot->tts_tid,
						entries->rel, UNIQUE_CHECK_YES, is_update, NULL);
}

/* Insert the entries that the row has in the other indexes. */
static void
insert_own(QueueEntries *entries, TupleTableSlot *slot)
{
	if (entries->form->nindexes > 0)
		slot_getsomeattrs(slot, Anum_message_correlation_id);
	for (int i = 0; i < entries->form->nindexes; i++)
	{
		const OwnIndexForm *form = &entries->form->indexes[i];
		Datum		values[MAX_INDEX_COLUMNS];
		bool		nulls[MAX_INDEX_COLUMNS] = {false};

		if (slot->tts_isnull[form->wanted - 1])
			continue;
		if (entries->own[i] == NULL)
			entries->own[i] = index_open(entries->oids[i], RowExclusiveLock);
		for (int column = 0; column < form->ncolumns; column++)
			values[column] = slot->tts_values[form->columns[column] - 1];
		(void) index_insert(entries->own[i], values, nulls, &slot->tts_tid,
							entries->rel, UNIQUE_CHECK_NO,
							false /* indexUnchanged */ , NULL);
	}
}

/*
 * Close the indexes, and give their locks back, as the executor does: whatever
 * would change an index also locks the table, or waits for those that have it
 * locked.  So a transaction that sends to many queues keeps half as many.
 */
void
queue_entries_end(QueueEntries *entries)
{
	if (entries->pkey == NULL)
	{
		ExecCloseIndices(entries->info);
		FreeExecutorState(entries->estate);
		return;
	}
	for (int i = 0; i < NUM_OWN_INDEXES; i++)
	{
		if (entries->own[i] != NULL)
			index_close(entries->own[i], RowExclusiveLock);
	}
	index_close(entries->pkey, RowExclusiveLock);
}

/*
 * queue_entries_replace
 *		Write a new version of a row, and its index entries.
 *
 * "old" has the version that is there.  Returns false if another transaction is
 * in the way, or anybody holds a lock on the row.
 *
 * The server can be told not to wait, but asserts that there is nothing to wait
 * for.  So that is looked at before; a lock that is taken in between is noticed
 * by the update.
 */
bool
queue_entries_replace(Relation rel, const TableForm *form,
					  const QueueIndexes *indexes, TupleTableSlot *old,
					  TupleTableSlot *slot)
{
	TM_FailureData failure;
	TU_UpdateIndexes update_indexes;
	LockTupleMode lockmode;
	QueueEntries entries;

	if (is_being_modified(old) ||
		table_tuple_update(rel, &old->tts_tid, slot,
						   GetCurrentCommandId(true), 0,
						   InvalidSnapshot, InvalidSnapshot,
						   false /* wait */ , &failure,
						   &lockmode, &update_indexes) != TM_Ok)
		return false;
	if (update_indexes != TU_None)
	{
		queue_entries_begin(&entries, rel, form, indexes);
		queue_entries_update(&entries, slot, update_indexes);
		queue_entries_end(&entries);
	}
	return true;
}

/* Would an update of the row that was read have to wait? */
static bool
is_being_modified(TupleTableSlot *slot)
{
	BufferHeapTupleTableSlot *row = (BufferHeapTupleTableSlot *) slot;
	TM_Result	result;

	Assert(TTS_IS_BUFFERTUPLE(slot) && BufferIsValid(row->buffer));
	/* exclusively, as for an update: the look may set hint bits */
	LockBuffer(row->buffer, BUFFER_LOCK_EXCLUSIVE);
	result = HeapTupleSatisfiesUpdate(row->base.tuple,
									  GetCurrentCommandId(false),
									  row->buffer);
	LockBuffer(row->buffer, BUFFER_LOCK_UNLOCK);
	return result == TM_BeingModified;
}

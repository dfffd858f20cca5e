/*-------------------------------------------------------------------------
 *
 * insert.c
 *		New rows of a queue table, one or many at a time.
 *
 * Rows gather until there are enough for one multi-insert; their index entries
 * go with them.  A queue table mostly has its primary key alone, which needs
 * no executor state.  rows.c says what this does without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "table/insert.h"

/* Rows and bytes that one multi-insert takes */
#define INSERT_ROWS			1000
#define INSERT_BYTES		(4 * 1024 * 1024)

struct QueueInsert
{
	Relation	rel;
	Relation	pkey;			/* the only index; NULL if there are more */
	EState	   *estate;			/* ... then these */
	ResultRelInfo *info;
	TupleTableSlot **slots;
	int			room;			/* places in "slots" */
	int			nslots;			/* filled */
	int			nmade;			/* created */
	Size		nbytes;
};

static void flush_insert(QueueInsert *insert);
static void insert_key(QueueInsert *insert, TupleTableSlot *slot);

/*
 * queue_insert_begin
 *		Begin to insert rows into a queue, which is open.
 *
 * With no index but the primary key, which is the usual case, its entries are
 * inserted directly, because the executor's machinery costs more than they do.
 */
QueueInsert *
queue_insert_begin(Relation rel)
{
	QueueInsert *insert = palloc0(sizeof(QueueInsert));
	List	   *indexes = RelationGetIndexList(rel);

	insert->rel = rel;
	if (list_length(indexes) == 1)
		insert->pkey = index_open(linitial_oid(indexes), RowExclusiveLock);
	else
	{
		insert->estate = CreateExecutorState();
		insert->info = makeNode(ResultRelInfo);
		InitResultRelInfo(insert->info, rel, 0, NULL, 0);
		ExecOpenIndices(insert->info, false);
	}
	list_free(indexes);
	insert->room = 1;
	insert->slots = palloc(sizeof(TupleTableSlot *));
	return insert;
}

/*
 * queue_insert_row
 *		Insert a row, perhaps later.
 *
 * What the draft points at must live until queue_insert_end().
 */
void
queue_insert_row(QueueInsert *insert, const MessageDraft *draft)
{
	TupleTableSlot *slot;

	if (insert->nslots == insert->room)
	{
		insert->room = Min(insert->room * 16, INSERT_ROWS);
		insert->slots = repalloc(insert->slots,
								 insert->room * sizeof(TupleTableSlot *));
	}
	if (insert->nslots == insert->nmade)
		insert->slots[insert->nmade++] = table_slot_create(insert->rel, NULL);
	slot = insert->slots[insert->nslots++];
	ExecClearTuple(slot);
	queue_draft_columns(draft, slot->tts_values, slot->tts_isnull);
	for (int i = Natts_message; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true; /* dropped */
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(insert->rel);
	insert->nbytes += toast_raw_datum_size(draft->payload.value);
	if (insert->nslots == INSERT_ROWS || insert->nbytes >= INSERT_BYTES)
		flush_insert(insert);
}

/* Insert the rows that have gathered, and their index entries. */
static void
flush_insert(QueueInsert *insert)
{
	CommandId	cid = GetCurrentCommandId(true);
	int			i;

	CHECK_FOR_INTERRUPTS();
	if (insert->nslots == 1)
		table_tuple_insert(insert->rel, insert->slots[0], cid, 0, NULL);
	else if (insert->nslots > 1)
		table_multi_insert(insert->rel, insert->slots, insert->nslots, cid, 0,
						   NULL);
	for (i = 0; i < insert->nslots; i++)
	{
		if (insert->pkey)
			insert_key(insert, insert->slots[i]);
		else
		{
			ResetPerTupleExprContext(insert->estate);
			ExecInsertIndexTuples(insert->info, insert->estate, 0,
								  insert->slots[i], NIL, NULL);
		}
	}
	insert->nslots = 0;
	insert->nbytes = 0;
}

/* Insert the entry of the primary key, (priority, id). */
static void
insert_key(QueueInsert *insert, TupleTableSlot *slot)
{
	Datum		values[2];
	bool		nulls[2] = {false, false};

	slot_getsomeattrs(slot, Anum_message_priority);
	values[0] = slot->tts_values[Anum_message_priority - 1];
	values[1] = slot->tts_values[Anum_message_id - 1];
	(void) index_insert(insert->pkey, values, nulls, &slot->tts_tid,
						insert->rel, UNIQUE_CHECK_YES,
						false /* indexUnchanged */ , NULL);
}

/* Insert what has gathered, and free everything. */
void
queue_insert_end(QueueInsert *insert)
{
	int			i;

	flush_insert(insert);
	for (i = 0; i < insert->nmade; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	if (insert->pkey)
		index_close(insert->pkey, NoLock);
	else
	{
		ExecCloseIndices(insert->info);
		FreeExecutorState(insert->estate);
	}
	pfree(insert->slots);
	pfree(insert);
}

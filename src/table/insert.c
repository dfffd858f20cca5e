/*-------------------------------------------------------------------------
 *
 * insert.c
 *		New rows of a queue or a topic, one or many at a time.
 *
 * Rows gather until there are enough for one multi-insert; their index entries
 * go with them (entries.c).  rows.c says what this does without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "table/entries.h"
#include "table/insert.h"

/* Rows and bytes that one multi-insert takes */
#define INSERT_ROWS			1000
#define INSERT_BYTES		(4 * 1024 * 1024)

struct QueueInsert
{
	Relation	rel;
	int			natts;			/* columns; dropped ones may follow */
	QueueEntries entries;
	TupleDesc	desc;			/* of all slots but the first */
	TupleTableSlot **slots;
	int			room;			/* places in "slots" */
	int			nslots;			/* filled */
	int			nmade;			/* created */
	Size		nbytes;
};

static QueueInsert *begin_insert(Relation rel, const TableForm *form,
								 const QueueIndexes *indexes);
static TupleTableSlot *next_slot(QueueInsert *insert);
static TupleTableSlot *make_slot(QueueInsert *insert);
static void add_row(QueueInsert *insert, TupleTableSlot *slot,
					NullableDatum payload, NullableDatum body);
static void flush_insert(QueueInsert *insert);


/* Begin to insert rows into a queue, which is open. */
QueueInsert *
queue_insert_begin(Relation rel, const QueueDef *def)
{
	return begin_insert(rel, &queue_form, &def->indexes);
}

/* The same for a topic */
QueueInsert *
queue_insert_begin_topic(Relation rel, const TopicDef *topic)
{
	return begin_insert(rel, &queue_topic_form, &topic->indexes);
}

static QueueInsert *
begin_insert(Relation rel, const TableForm *form, const QueueIndexes *indexes)
{
	QueueInsert *insert = palloc0(sizeof(QueueInsert));

	insert->rel = rel;
	insert->natts = form->natts;
	queue_entries_begin(&insert->entries, rel, form, indexes);
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
	TupleTableSlot *slot = next_slot(insert);

	queue_draft_columns(draft, slot->tts_values, slot->tts_isnull);
	add_row(insert, slot, draft->payload, draft->body);
}

/* The same for a topic */
void
queue_insert_published(QueueInsert *insert, const TopicDraft *draft)
{
	TupleTableSlot *slot = next_slot(insert);

	queue_topic_draft_columns(draft, slot->tts_values, slot->tts_isnull);
	add_row(insert, slot, draft->payload, draft->body);
}

/* Return an empty slot for the next row. */
static TupleTableSlot *
next_slot(QueueInsert *insert)
{
	if (insert->nslots == insert->room)
	{
		insert->room = Min(insert->room * 16, INSERT_ROWS);
		insert->slots = repalloc(insert->slots,
								 insert->room * sizeof(TupleTableSlot *));
	}
	if (insert->nslots == insert->nmade)
		insert->slots[insert->nmade++] = make_slot(insert);
	return ExecClearTuple(insert->slots[insert->nslots]);
}

/*
 * make_slot
 *		Make another slot.
 *
 * A slot counts as a reference to the relation's descriptor, which the resource
 * owner has to find again among all the others.  To a copy nobody counts them,
 * and one serves any number of slots.
 */
static TupleTableSlot *
make_slot(QueueInsert *insert)
{
	if (insert->nmade == 0)
		return table_slot_create(insert->rel, NULL);
	if (insert->desc == NULL)
		insert->desc = CreateTupleDescCopy(RelationGetDescr(insert->rel));
	return MakeSingleTupleTableSlot(insert->desc,
									table_slot_callbacks(insert->rel));
}

/* Its columns are filled in: it is one of the rows now. */
static void
add_row(QueueInsert *insert, TupleTableSlot *slot, NullableDatum payload,
		NullableDatum body)
{
	for (int i = insert->natts; i < slot->tts_tupleDescriptor->natts; i++)
	{
		slot->tts_values[i] = (Datum) 0;
		slot->tts_isnull[i] = true; /* dropped */
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(insert->rel);
	insert->nslots++;
	if (!payload.isnull)
		insert->nbytes += toast_raw_datum_size(payload.value);
	if (!body.isnull)
		insert->nbytes += toast_raw_datum_size(body.value);
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
		queue_entries_insert(&insert->entries, insert->slots[i]);
	insert->nslots = 0;
	insert->nbytes = 0;
}

/* Insert what has gathered, and free everything. */
void
queue_insert_end(QueueInsert *insert)
{
	int			i;

	flush_insert(insert);
	for (i = 0; i < insert->nmade; i++)
		ExecDropSingleTupleTableSlot(insert->slots[i]);
	queue_entries_end(&insert->entries);
	if (insert->desc != NULL)
		FreeTupleDesc(insert->desc);
	pfree(insert->slots);
	pfree(insert);
}

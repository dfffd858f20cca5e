/*-------------------------------------------------------------------------
 *
 * dedup_batch.c
 *		Dedup keys of messages that are sent together.
 *
 * Of many messages most are new, and to search the index twice for each costs
 * more than to send it.  So the rows of their keys are inserted together, first
 * into the table only, where nobody finds them.  The insertion of its index
 * entry then says of each whether any other row has its key: it is asked for as
 * in a unique index, but without a wait.  If one has, the row is withdrawn
 * (key_row.c), and the message goes the way of one alone (dedup.c).
 *
 * Each duplicate that is met so leaves a dead row behind.  So nothing is inserted
 * in advance while keys turn out not to be new, as when a batch is sent again;
 * and then a few rows at first.
 *
 * A call takes its keys in the order of the index, for the sake of the cache,
 * and to see which of its messages have the same.
 *
 * Locks: as for one message (dedup.c), one key at a time, so that calls with the
 * same keys in another order do not wait for each other.  The insertion of the
 * index entry and the withdrawal are made under the lock of the key: so a
 * sender that looks under it finds no row that is to be withdrawn.
 *
 * What a call had inserted until an error ends with its transaction, or its
 * savepoint: no row without an index entry remains that is not dead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "table/dedup.h"
#include "table/dedup_batch.h"
#include "table/key_row.h"

/* Rows that are inserted in advance, at first and at most */
#define FEW_ROWS			16
#define MANY_ROWS			1024

/* The key of one of many messages */
typedef struct BatchKey
{
	Datum		key;			/* not compressed */
	int			place;			/* of the message in the call */
	bool		is_again;		/* one before it in the call has the key */
	TupleTableSlot *slot;		/* its row, if inserted in advance */
} BatchKey;

/* The keys of a call, in the order of the index, each at its first place */
typedef struct Batch
{
	const KeyedMessages *messages;
	int64	   *firsts;			/* what came of them, by place */
	BatchKey   *keys;
	int			nkeys;
	TupleTableSlot **slots;		/* made so far, for rows in advance */
	int			nslots;
	TupleDesc	desc;			/* of all of these; NULL: there are none */
} Batch;

static void read_keys(Batch *batch);
static int	compare_keys(const void *a, const void *b);
static int	compare_texts(Datum a, Datum b);
static bool seek_key(QueueDedup *dedup, Batch *batch, BatchKey *key);
static int	insert_in_advance(QueueDedup *dedup, Batch *batch, int from,
							  int nrows, bool *all_new);
static TupleTableSlot *make_slot(QueueDedup *dedup, Batch *batch);
static bool make_entry(QueueDedup *dedup, BatchKey *key);
static void spread_firsts(Batch *batch);


/*
 * queue_dedup_many
 *		Remember the keys of messages that are about to be sent together, but
 *		for those that others have.
 *
 * See the head of the file.  Where the owner has put another index on the key
 * table, nothing is inserted in advance.
 */
void
queue_dedup_many(Relation rel, QueueDef *def, const KeyedMessages *messages,
				 int64 *firsts)
{
	QueueDedup *dedup = queue_dedup_begin(rel, def);
	Batch		batch = {.messages = messages,.firsts = firsts};
	int			nrows = 0;
	int			i = 0;

	(void) GetCurrentTransactionId();
	memset(firsts, 0, messages->n * sizeof(int64));
	read_keys(&batch);
	while (i < batch.nkeys)
	{
		bool		all_new;

		if (nrows == 0 || dedup->estate != NULL)
			all_new = seek_key(dedup, &batch, &batch.keys[i++]);
		else
			i = insert_in_advance(dedup, &batch, i, nrows, &all_new);
		nrows = all_new ? Min(Max(nrows, 1) * FEW_ROWS, MANY_ROWS) : 0;
	}
	spread_firsts(&batch);
	queue_dedup_call_worker(def, messages->enqueued_at);
	for (i = 0; i < batch.nslots; i++)
		ExecDropSingleTupleTableSlot(batch.slots[i]);
	if (batch.desc != NULL)
		FreeTupleDesc(batch.desc);
	queue_dedup_end(dedup);
}

/* Read the keys of the messages that have one. */
static void
read_keys(Batch *batch)
{
	const KeyedMessages *messages = batch->messages;

	batch->keys = MemoryContextAllocHuge(CurrentMemoryContext,
										 messages->n * sizeof(BatchKey));
	batch->slots = palloc(Min(messages->n, MANY_ROWS) * sizeof(TupleTableSlot *));
	for (int i = 0; i < messages->n; i++)
	{
		BatchKey   *key = &batch->keys[batch->nkeys];

		if (messages->nulls[i])
			continue;
		key->key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(messages->keys[i]));
		key->place = i;
		batch->nkeys++;
	}
	qsort(batch->keys, batch->nkeys, sizeof(BatchKey), compare_keys);
	for (int i = 0; i < batch->nkeys; i++)
		batch->keys[i].is_again = i > 0 &&
			compare_texts(batch->keys[i - 1].key, batch->keys[i].key) == 0;
}

/* By key, and of those with the same by place */
static int
compare_keys(const void *a, const void *b)
{
	const BatchKey *left = a;
	const BatchKey *right = b;
	int			result = compare_texts(left->key, right->key);

	return result != 0 ? result : left->place - right->place;
}

/* Byte by byte, as the index does */
static int
compare_texts(Datum a, Datum b)
{
	int			alen = VARSIZE_ANY_EXHDR(DatumGetPointer(a));
	int			blen = VARSIZE_ANY_EXHDR(DatumGetPointer(b));
	int			result = memcmp(VARDATA_ANY(DatumGetPointer(a)),
								VARDATA_ANY(DatumGetPointer(b)),
								Min(alen, blen));

	return result != 0 ? result : alen - blen;
}

/* Remember one key as if the message were alone; is it new? */
static bool
seek_key(QueueDedup *dedup, Batch *batch, BatchKey *key)
{
	KeyRow		message = {
		.id = batch->messages->ids[key->place],
		.enqueued_at = batch->messages->enqueued_at
	};

	if (key->is_again)
		return false;
	batch->firsts[key->place] = queue_dedup_seek(dedup, key->key, &message);
	return batch->firsts[key->place] == 0;
}

/*
 * insert_in_advance
 *		Insert rows of the next keys, so many at most, before it is known which
 *		of them are new.
 *
 * Returns where to go on.  The rows are of an earlier command than what
 * withdraws them, because a command sees nothing of what it inserts.
 */
static int
insert_in_advance(QueueDedup *dedup, Batch *batch, int from, int nrows,
				  bool *all_new)
{
	const KeyedMessages *messages = batch->messages;
	int			n = 0;
	int			to;

	for (to = from; to < batch->nkeys && n < nrows; to++)
	{
		BatchKey   *key = &batch->keys[to];

		if (key->is_again)
			continue;
		if (n == batch->nslots)
			batch->slots[batch->nslots++] = make_slot(dedup, batch);
		key->slot = batch->slots[n++];
		queue_key_row_store(key->slot, messages->ids[key->place],
							messages->enqueued_at, key->key);
		key->slot->tts_tableOid = RelationGetRelid(dedup->keys);
	}
	if (n > 0)
		table_multi_insert(dedup->keys, batch->slots, n,
						   GetCurrentCommandId(true), 0, NULL);
	CommandCounterIncrement();
	*all_new = true;
	for (int i = from; i < to; i++)
	{
		BatchKey   *key = &batch->keys[i];

		if (!key->is_again && !make_entry(dedup, key) &&
			!seek_key(dedup, batch, key))
			*all_new = false;
	}
	return to;
}

/* Make another slot.  They share a copy of the descriptor, as in insert.c. */
static TupleTableSlot *
make_slot(QueueDedup *dedup, Batch *batch)
{
	if (batch->desc == NULL)
		batch->desc = CreateTupleDescCopy(RelationGetDescr(dedup->keys));
	return MakeSingleTupleTableSlot(batch->desc,
									table_slot_callbacks(dedup->keys));
}

/*
 * make_entry
 *		Insert the index entry of a row that is in the table already.
 *
 * Returns false, and has withdrawn the row, if there is another one with its
 * key, which may or may not count.
 */
static bool
make_entry(QueueDedup *dedup, BatchKey *key)
{
	LWLock	   *lock = queue_dedup_lock(dedup->keys, key->key);
	bool		isnull = false;
	bool		is_only;

	CHECK_FOR_INTERRUPTS();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	is_only = index_insert(dedup->index, &key->key, &isnull,
						   &key->slot->tts_tid, dedup->keys,
						   UNIQUE_CHECK_PARTIAL, false /* indexUnchanged */ ,
						   NULL);
	if (!is_only && !queue_key_row_delete(dedup->keys, key->slot))
		elog(ERROR, "could not withdraw a row of table \"%s\"",
			 RelationGetRelationName(dedup->keys));
	LWLockRelease(lock);
	return is_only;
}

/* A message whose key one before it has is a duplicate of that, or with it. */
static void
spread_firsts(Batch *batch)
{
	int			head = 0;

	for (int i = 0; i < batch->nkeys; i++)
	{
		int			place = batch->keys[i].place;

		if (!batch->keys[i].is_again)
			head = place;
		else
			batch->firsts[place] = batch->firsts[head] != 0 ?
				batch->firsts[head] : batch->messages->ids[head];
	}
}

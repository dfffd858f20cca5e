/*-------------------------------------------------------------------------
 *
 * dedup.c
 *		Dedup keys: looked up, remembered, forgotten.
 *
 * A row of the key table says which message was the first with a key.  It is
 * inserted in the transaction that sends the message, so both commit or
 * neither does, with savepoints and PREPARE too, and nothing in memory has to
 * be right.  A key counts for as long as dedup_window says, and also while its
 * message is in the queue; then the row is rubbish, which the next sender of
 * the key, the consumer or the worker (worker/forget.c) deletes.
 *
 * Rows are judged by the current status of transactions, not by a snapshot.  A
 * row whose transaction has committed counts, whoever sees it: so there is no
 * serialization failure, and a duplicate is one under REPEATABLE READ too.  If
 * that transaction is open or prepared, it is not known yet whether there is a
 * first message.  The second sender must not wait, and must not be told that
 * its message is superfluous, so it gets an error (QU005).  A deletion that has
 * not committed counts for nothing: it is as if this sender had come before the
 * one that consumes or purges the message.
 *
 * Locks: two senders of one key must not both find that it is free.  So the
 * look and the insertion are made under a lock in shared memory, one of a few
 * that keys are spread over by a hash.  Under it nothing is waited for but
 * pages: relations are open, the transaction has its id, and the index is not
 * unique, so that no insertion waits for another transaction.  Whether a
 * message is still in the queue is found out without it; then the look is made
 * again.  From the insertion on, the row speaks.  An error releases the lock,
 * as the server does for all of its kind.  Relations: the queue, then its key
 * table, then the index of that.
 *
 * If the process dies, so does its transaction, and the row is dead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/blocker.h"
#include "common/compat.h"
#include "common/errcodes.h"
#include "shared/availability.h"
#include "shared/database.h"
#include "table/dedup.h"
#include "table/key_table.h"
#include "table/settings.h"

/* Keys are spread over so many locks */
#define DEDUP_LOCKS			128

/* What the key table says of a key */
typedef enum KeyState
{
	KEY_FREE,
	KEY_COUNTS,					/* there is a first message */
	KEY_OVER,					/* ... which counts only if it is in the queue */
	KEY_COMING					/* its transaction has not ended */
} KeyState;

/* A first message, as its row in the key table names it */
typedef struct FirstMessage
{
	int64		id;
	TimestampTz enqueued_at;
	ItemPointerData tid;		/* of that row */
} FirstMessage;

struct QueueDedup
{
	Relation	rel;
	QueueDef   *def;
	Relation	keys;
	Relation	index;
	TupleTableSlot *found;
	TupleTableSlot *new;
	EState	   *estate;			/* NULL: there is no index but "index" */
	ResultRelInfo *info;
	List	   *gone;			/* FirstMessages that do not count any more */
};

static LWLockPadded *locks = NULL;

static LWLock *lock_of(Relation keys, Datum key);
static IndexScanDesc begin_scan(Relation keys, Relation index, Datum key,
								SnapshotData *dirty);
static int64 seek(QueueDedup *dedup, Datum key, const MessageDraft *draft,
				  const int64 *unsent, int nunsent);
static KeyState look(QueueDedup *dedup, Datum key, TimestampTz now,
					 FirstMessage *first, TransactionId *xid);
static void read_first(TupleTableSlot *slot, FirstMessage *first);
static void call_worker(const QueueDef *def, const MessageDraft *draft);
static bool is_gone(const QueueDedup *dedup, const FirstMessage *first);
static void insert_key(QueueDedup *dedup, Datum key,
					   const MessageDraft *draft, CommandId cid);
static bool is_unsent(const FirstMessage *first, const MessageDraft *draft,
					  const int64 *unsent, int nunsent);
static void delete_gone(QueueDedup *dedup);
static void report_coming(QueueDedup *dedup, TransactionId xid);
pg_noreturn static void report_no_keys(Relation rel, const QueueDef *def);
static bool forget(Relation keys, QueueDef *def, MessageRow *row, Datum key);

/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

int
queue_dedup_nlocks(void)
{
	return DEDUP_LOCKS;
}

/* There is nothing but the locks. */
Size
queue_dedup_shmem_size(void)
{
	return 0;
}

void
queue_dedup_shmem_init(void)
{
	locks = GetNamedLWLockTranche("queue_dedup");
}

/* Return the lock of a key, which is not compressed. */
static LWLock *
lock_of(Relation keys, Datum key)
{
	uint32		hash = hash_bytes((unsigned char *) VARDATA_ANY(DatumGetPointer(key)),
								  VARSIZE_ANY_EXHDR(DatumGetPointer(key)));

	hash = hash_combine(hash, RelationGetRelid(keys));
	return &locks[hash % DEDUP_LOCKS].lock;
}

/* ----------------------------------------------------------------
 *		Sending
 * ----------------------------------------------------------------
 */

/*
 * queue_dedup_begin
 *		Begin to send messages with keys to a queue, which is open.
 */
QueueDedup *
queue_dedup_begin(Relation rel, QueueDef *def)
{
	QueueDedup *dedup = palloc0(sizeof(QueueDedup));

	dedup->rel = rel;
	dedup->def = def;
	if (def->dedup_window >= 0)
		dedup->keys = queue_key_table_open(def, false);
	if (dedup->keys == NULL)
		report_no_keys(rel, def);
	dedup->index = index_open(def->key_index, RowExclusiveLock);
	dedup->found = table_slot_create(dedup->keys, NULL);
	dedup->new = table_slot_create(dedup->keys, NULL);
	if (list_length(RelationGetIndexList(dedup->keys)) != 1)
	{
		dedup->estate = CreateExecutorState();
		dedup->info = makeNode(ResultRelInfo);
		InitResultRelInfo(dedup->info, dedup->keys, 0, NULL, 0);
		ExecOpenIndices(dedup->info, false);
	}
	return dedup;
}

/* Raise 55000 for a queue that remembers no keys. */
static void
report_no_keys(Relation rel, const QueueDef *def)
{
	if (def->dedup_window < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" has no dedup_window",
						queue_qualified_name(RelationGetRelid(rel))),
				 errdetail("So it remembers no keys, and a dedup_key would do nothing."),
				 errhint("Its owner can set one with queue.alter_queue().")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("queue \"%s\" has lost the table of its keys",
					queue_qualified_name(RelationGetRelid(rel))),
			 errdetail("That table was dropped, or not restored."),
			 errhint("Its owner can give it a new one by setting dedup_window once more with queue.alter_queue().")));
}

/*
 * queue_dedup_remember
 *		Remember the key of a message that is about to be sent, unless another
 *		has it.
 *
 * See the head of the file.  The transaction gets its id before the lock is
 * taken, because that can wait for a place in the lock table.
 */
int64
queue_dedup_remember(QueueDedup *dedup, const MessageDraft *draft,
					 const int64 *unsent, int nunsent)
{
	(void) GetCurrentTransactionId();
	return seek(dedup, draft->dedup_key.value, draft, unsent, nunsent);
}

/*
 * queue_dedup_find
 *		Look for the message that has a key, and remember nothing.
 *
 * For a sender that may have to wait: it holds no lock afterwards.
 */
int64
queue_dedup_find(Relation rel, QueueDef *def, Datum key)
{
	QueueDedup *dedup = queue_dedup_begin(rel, def);
	Oid			keys = RelationGetRelid(dedup->keys);
	Oid			index = RelationGetRelid(dedup->index);
	int64		first = seek(dedup, key, NULL, NULL, 0);

	queue_dedup_end(dedup);
	UnlockRelationOid(index, RowExclusiveLock);
	UnlockRelationOid(keys, RowExclusiveLock);
	return first;
}

/* Do so, and if there is none, remember the key for this message, if any. */
static int64
seek(QueueDedup *dedup, Datum key, const MessageDraft *draft,
	 const int64 *unsent, int nunsent)
{
	LWLock	   *lock;
	CommandId	cid = GetCurrentCommandId(draft != NULL);
	TimestampTz now = GetCurrentTimestamp();

	key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(key));
	lock = lock_of(dedup->keys, key);
	dedup->gone = NIL;
	for (;;)
	{
		FirstMessage first;
		TransactionId xid = InvalidTransactionId;
		KeyState	state;

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(lock, LW_EXCLUSIVE);
		state = look(dedup, key, now, &first, &xid);
		if (state == KEY_FREE && draft != NULL)
			insert_key(dedup, key, draft, cid);
		LWLockRelease(lock);

		switch (state)
		{
			case KEY_FREE:
				if (draft != NULL)
				{
					delete_gone(dedup);
					call_worker(dedup->def, draft);
				}
				return 0;
			case KEY_COUNTS:
				return first.id;
			case KEY_COMING:
				report_coming(dedup, xid);
				break;			/* it has just ended */
			case KEY_OVER:
				if ((draft != NULL &&
					 is_unsent(&first, draft, unsent, nunsent)) ||
					!queue_dedup_is_over(dedup->rel, dedup->def, NULL,
										 first.id, first.enqueued_at))
					return first.id;
				dedup->gone = lappend(dedup->gone,
									  memcpy(palloc(sizeof(first)), &first,
											 sizeof(first)));
				break;
		}
	}
}

/*
 * look
 *		Look for the first message with a key, but for those in dedup->gone.
 *
 * The lock of the key is held.
 */
static KeyState
look(QueueDedup *dedup, Datum key, TimestampTz now, FirstMessage *first,
	 TransactionId *xid)
{
	SnapshotData dirty;
	IndexScanDesc scan = begin_scan(dedup->keys, dedup->index, key, &dirty);
	KeyState	state = KEY_FREE;

	while ((state == KEY_FREE || state == KEY_OVER) &&
		   index_getnext_slot(scan, ForwardScanDirection, dedup->found))
	{
		FirstMessage next;

		read_first(dedup->found, &next);
		if (TransactionIdIsValid(dirty.xmin))
		{
			*xid = dirty.xmin;
			state = KEY_COMING;
		}
		else if (queue_dedup_until(dedup->def, next.enqueued_at) > now)
		{
			*first = next;
			state = KEY_COUNTS;
		}
		else if (state == KEY_FREE && !is_gone(dedup, &next))
		{
			*first = next;
			state = KEY_OVER;
		}
	}
	index_endscan(scan);
	ExecClearTuple(dedup->found);
	return state;
}

/* Scan the rows of a key; "dirty" must live as long as the scan. */
static IndexScanDesc
begin_scan(Relation keys, Relation index, Datum key, SnapshotData *dirty)
{
	IndexScanDesc scan;
	ScanKeyData scankey;

	InitDirtySnapshot(*dirty);
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_TEXTEQ, key);
	scan = index_beginscan(keys, index, dirty, NULL, 1, 0, 0);
	index_rescan(scan, &scankey, 1, NULL, 0);
	return scan;
}

static void
read_first(TupleTableSlot *slot, FirstMessage *first)
{
	first->id = queue_key_row_id(slot);
	first->enqueued_at = queue_key_row_enqueued_at(slot);
	first->tid = slot->tts_tid;
}

/* Let the worker come when the key is over, if it can delete the row then. */
static void
call_worker(const QueueDef *def, const MessageDraft *draft)
{
	if (def->dedup_window > 0 && def->dedup_window != PG_INT64_MAX)
		queue_database_wake_by(MyDatabaseId,
							   queue_dedup_until(def, draft->enqueued_at));
}

/* Is it known not to count any more? */
static bool
is_gone(const QueueDedup *dedup, const FirstMessage *first)
{
	ListCell   *lc;

	foreach(lc, dedup->gone)
	{
		FirstMessage *gone = lfirst(lc);

		if (gone->id == first->id && gone->enqueued_at == first->enqueued_at)
			return true;
	}
	return false;
}

/* Insert the row of a key, and its index entries. */
static void
insert_key(QueueDedup *dedup, Datum key, const MessageDraft *draft,
		   CommandId cid)
{
	TupleTableSlot *slot = dedup->new;
	bool		isnull = false;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true,
		   slot->tts_tupleDescriptor->natts * sizeof(bool));
	memset(slot->tts_values, 0,
		   slot->tts_tupleDescriptor->natts * sizeof(Datum));
	memset(slot->tts_isnull, false, Natts_key * sizeof(bool));
	slot->tts_values[Anum_key_id - 1] = Int64GetDatum(draft->id);
	slot->tts_values[Anum_key_enqueued_at - 1] =
		TimestampTzGetDatum(draft->enqueued_at);
	slot->tts_values[Anum_key_dedup_key - 1] = key;
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(dedup->keys);
	table_tuple_insert(dedup->keys, slot, cid, 0, NULL);
	if (dedup->estate == NULL)
		(void) index_insert(dedup->index, &key, &isnull, &slot->tts_tid,
							dedup->keys, UNIQUE_CHECK_NO,
							false /* indexUnchanged */ , NULL);
	else
	{
		ResetPerTupleExprContext(dedup->estate);
		ExecInsertIndexTuples(dedup->info, dedup->estate, 0, slot, NIL, NULL);
	}
}

/* Is it a message of the same call, whose row may not be there yet? */
static bool
is_unsent(const FirstMessage *first, const MessageDraft *draft,
		  const int64 *unsent, int nunsent)
{
	if (first->enqueued_at != draft->enqueued_at)
		return false;
	for (int i = 0; i < nunsent; i++)
	{
		if (unsent[i] == first->id)
			return true;
	}
	return false;
}

/* Delete rows of the key that do not count any more. */
static void
delete_gone(QueueDedup *dedup)
{
	ListCell   *lc;

	foreach(lc, dedup->gone)
	{
		FirstMessage *gone = lfirst(lc);
		FirstMessage there;
		SnapshotData dirty;

		/* the place may hold another row by now */
		InitDirtySnapshot(dirty);
		if (!table_tuple_fetch_row_version(dedup->keys, &gone->tid, &dirty,
										   dedup->found))
			continue;
		read_first(dedup->found, &there);
		if (there.id == gone->id && there.enqueued_at == gone->enqueued_at)
			(void) queue_dedup_delete_row(dedup->keys, dedup->found);
		ExecClearTuple(dedup->found);
	}
	list_free_deep(dedup->gone);
	dedup->gone = NIL;
}

/*
 * report_coming
 *		Raise QU005: this transaction, which has not ended, has sent the first
 *		message.
 *
 * Returns if it has ended meanwhile.
 */
static void
report_coming(QueueDedup *dedup, TransactionId xid)
{
	char	   *gid;
	int			pid;

	if (!TransactionIdIsInProgress(xid))
		return;
	xid = SubTransGetTopmostTransaction(xid);
	gid = queue_blocker_gid(xid);
	pid = gid == NULL ? BackendXidGetPid(xid) : 0;

	/* it may be being prepared, or on its way out */
	if (gid == NULL && pid == 0 && !TransactionIdIsInProgress(xid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_QUEUE_DUPLICATE_IN_PROGRESS),
			 errmsg("a message with this dedup_key is being sent to queue \"%s\"",
					queue_qualified_name(RelationGetRelid(dedup->rel))),
			 gid != NULL ?
			 errdetail("Prepared transaction \"%s\" has sent it, and nobody has ended that.",
					   gid) :
			 pid != 0 ?
			 errdetail("Process %d has sent it, in a transaction that has not ended.",
					   pid) :
			 errdetail("Transaction %u has sent it, and has not ended.", xid),
			 errhint("Try again when that transaction has ended: if it commits, this message is a duplicate of that one, otherwise it is sent.")));
}

/*
 * queue_dedup_restore
 *		Remember the key of a message that is there, in a key table that was
 *		just made.
 */
void
queue_dedup_restore(Relation keys, Oid index, MessageRow *row)
{
	QueueDedup	dedup = {0};
	MessageDraft draft;
	bool		isnull;
	Datum		key = slot_getattr(row->slot, Anum_message_dedup_key, &isnull);

	if (isnull)
		return;
	queue_draft_init(&draft, row->id, row->enqueued_at);
	dedup.keys = keys;
	dedup.index = index_open(index, RowExclusiveLock);
	dedup.new = table_slot_create(keys, NULL);
	insert_key(&dedup, key, &draft, GetCurrentCommandId(true));
	ExecDropSingleTupleTableSlot(dedup.new);
	index_close(dedup.index, NoLock);
}

/* Close everything; locks on tables stay. */
void
queue_dedup_end(QueueDedup *dedup)
{
	if (dedup->estate != NULL)
	{
		ExecCloseIndices(dedup->info);
		FreeExecutorState(dedup->estate);
	}
	ExecDropSingleTupleTableSlot(dedup->found);
	ExecDropSingleTupleTableSlot(dedup->new);
	index_close(dedup->index, NoLock);
	table_close(dedup->keys, NoLock);
	pfree(dedup);
}

/* All of that for one message. */
int64
queue_dedup_one(Relation rel, QueueDef *def, const MessageDraft *draft)
{
	QueueDedup *dedup = queue_dedup_begin(rel, def);
	int64		first = queue_dedup_remember(dedup, draft, NULL, 0);

	queue_dedup_end(dedup);
	return first;
}

/* ----------------------------------------------------------------
 *		Forgetting
 * ----------------------------------------------------------------
 */

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
 * queue_dedup_delete_row
 *		Delete the row of the key table that is in the slot.
 *
 * The slot keeps its page pinned, so the row is still there.  Returns false if
 * another transaction has deleted it, or is about to.
 */
bool
queue_dedup_delete_row(Relation keys, TupleTableSlot *slot)
{
	TM_FailureData failure;

	return table_tuple_delete(keys, &slot->tts_tid, GetCurrentCommandId(true),
							  0, InvalidSnapshot, InvalidSnapshot,
							  false /* wait */ , &failure) == TM_Ok;
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
						row->id, queue_qualified_name(def->relid)),
				 errdetail("Another transaction has locked or changed its row in table \"%s\".",
						   queue_qualified_name(def->key_table)),
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
	scan = begin_scan(keys, index, key, &dirty);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		FirstMessage first;

		read_first(slot, &first);
		if (!TransactionIdIsValid(dirty.xmin) && first.id == row->id &&
			first.enqueued_at == row->enqueued_at)
			done &= queue_dedup_delete_row(keys, slot);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	return done;
}

/*-------------------------------------------------------------------------
 *
 * dedup.c
 *		Dedup keys: looked up, remembered, forgotten.
 *
 * A row of the key table says which message was the first with a key.  It is
 * inserted in the transaction that sends the message, so both commit or
 * neither does, with savepoints and PREPARE too, and nothing in memory has to
 * be right.  key_end.c says how long it counts.
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
 * A message alone is looked up, and then its row is inserted; dedup_batch.c does
 * it the other way round for many.
 *
 * Locks: two senders of one key must not both find that it is free.  So the
 * look and the insertion, or the insertion of an index entry and the withdrawal,
 * are made under a lock in shared memory, one of some that keys are spread over
 * by a hash.  Nobody has two of them.  Under it nothing is waited for but pages:
 * relations are open, the transaction has its id, and the index is not unique,
 * so that no insertion waits for another transaction.  Whether a message is
 * still in the queue is found out without it; then the look is made again.  From
 * the insertion on, the row speaks.  An error releases the lock, as the server
 * does for all of its kind, and what a call had inserted until then ends with
 * the transaction, or the savepoint.  Relations: the queue, then its key table,
 * then the index of that.
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
#include "common/relation_name.h"
#include "shared/database.h"
#include "table/dedup.h"
#include "table/key_end.h"
#include "table/key_row.h"
#include "table/key_table.h"

/* Keys are spread over so many locks */
#define DEDUP_LOCKS			1024

/* What the key table says of a key */
typedef enum KeyState
{
	KEY_FREE,
	KEY_COUNTS,					/* there is a first message */
	KEY_OVER,					/* ... which counts only if it is in the queue */
	KEY_COMING					/* its transaction has not ended */
} KeyState;

static LWLockPadded *locks = NULL;

static KeyState look(QueueDedup *dedup, Datum key, TimestampTz now,
					 KeyRow *first, TransactionId *xid);
static bool is_gone(const QueueDedup *dedup, const KeyRow *first);
static void insert_key(QueueDedup *dedup, Datum key, const KeyRow *message);
static void delete_gone(QueueDedup *dedup);
static void report_coming(QueueDedup *dedup, TransactionId xid);
pg_noreturn static void report_no_keys(Relation rel, const QueueDef *def);

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
LWLock *
queue_dedup_lock(Relation keys, Datum key)
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
						queue_shown_name(RelationGetRelid(rel))),
				 errdetail("So it remembers no keys, and a dedup_key would do nothing."),
				 errhint("Its owner can set one with queue.alter_queue().")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("queue \"%s\" has lost the table of its keys",
					queue_shown_name(RelationGetRelid(rel))),
			 errdetail("That table was dropped, or not restored."),
			 errhint("Its owner can give it a new one by setting dedup_window once more with queue.alter_queue().")));
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

/*
 * queue_dedup_one
 *		Remember the key of a message that is about to be sent, unless another
 *		has it.
 *
 * The transaction gets its id before the lock is taken, because that can wait
 * for a place in the lock table.
 */
int64
queue_dedup_one(Relation rel, QueueDef *def, const MessageDraft *draft)
{
	QueueDedup *dedup = queue_dedup_begin(rel, def);
	KeyRow		message = {.id = draft->id,.enqueued_at = draft->enqueued_at};
	int64		first;

	(void) GetCurrentTransactionId();
	first = queue_dedup_seek(dedup, draft->dedup_key.value, &message);
	if (first == 0)
		queue_dedup_call_worker(def, draft->enqueued_at);
	queue_dedup_end(dedup);
	return first;
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
	int64		first = queue_dedup_seek(dedup, key, NULL);

	queue_dedup_end(dedup);
	UnlockRelationOid(index, RowExclusiveLock);
	UnlockRelationOid(keys, RowExclusiveLock);
	return first;
}

/*
 * queue_dedup_seek
 *		Look for the message that has a key, and if there is none, remember the
 *		key for this one, if any.
 *
 * The transaction has an id, if there is one.
 */
int64
queue_dedup_seek(QueueDedup *dedup, Datum key, const KeyRow *message)
{
	LWLock	   *lock;
	TimestampTz now = GetCurrentTimestamp();

	key = PointerGetDatum(PG_DETOAST_DATUM_PACKED(key));
	lock = queue_dedup_lock(dedup->keys, key);
	dedup->gone = NIL;
	for (;;)
	{
		KeyRow		first;
		TransactionId xid = InvalidTransactionId;
		KeyState	state;

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(lock, LW_EXCLUSIVE);
		state = look(dedup, key, now, &first, &xid);
		if (state == KEY_FREE && message != NULL)
			insert_key(dedup, key, message);
		LWLockRelease(lock);

		switch (state)
		{
			case KEY_FREE:
				if (message != NULL)
					delete_gone(dedup);
				return 0;
			case KEY_COUNTS:
				return first.id;
			case KEY_COMING:
				report_coming(dedup, xid);
				break;			/* it has just ended */
			case KEY_OVER:
				if (!queue_dedup_is_over(dedup->rel, dedup->def, NULL,
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
look(QueueDedup *dedup, Datum key, TimestampTz now, KeyRow *first,
	 TransactionId *xid)
{
	SnapshotData dirty;
	IndexScanDesc scan = queue_key_row_scan(dedup->keys, dedup->index, key, &dirty);
	KeyState	state = KEY_FREE;

	while ((state == KEY_FREE || state == KEY_OVER) &&
		   index_getnext_slot(scan, ForwardScanDirection, dedup->found))
	{
		KeyRow		next;

		if (TransactionIdIsValid(dirty.xmin) &&
			queue_key_row_is_withdrawn(dedup->found))
			continue;
		queue_key_row_read(dedup->found, &next);
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

/* Is it known not to count any more? */
static bool
is_gone(const QueueDedup *dedup, const KeyRow *first)
{
	ListCell   *lc;

	foreach(lc, dedup->gone)
	{
		KeyRow	   *gone = lfirst(lc);

		if (gone->id == first->id && gone->enqueued_at == first->enqueued_at)
			return true;
	}
	return false;
}

/* Insert the row of a key, and its index entries. */
static void
insert_key(QueueDedup *dedup, Datum key, const KeyRow *message)
{
	TupleTableSlot *slot = dedup->new;
	bool		isnull = false;

	queue_key_row_store(slot, message->id, message->enqueued_at, key);
	slot->tts_tableOid = RelationGetRelid(dedup->keys);
	table_tuple_insert(dedup->keys, slot, GetCurrentCommandId(true), 0, NULL);
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

/* Delete rows of the key that do not count any more. */
static void
delete_gone(QueueDedup *dedup)
{
	ListCell   *lc;

	foreach(lc, dedup->gone)
	{
		KeyRow	   *gone = lfirst(lc);
		KeyRow		there;
		SnapshotData dirty;

		/* the place may hold another row by now */
		InitDirtySnapshot(dirty);
		if (!table_tuple_fetch_row_version(dedup->keys, &gone->tid, &dirty,
										   dedup->found))
			continue;
		queue_key_row_read(dedup->found, &there);
		if (there.id == gone->id && there.enqueued_at == gone->enqueued_at)
			(void) queue_key_row_delete(dedup->keys, dedup->found);
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
					queue_shown_name(RelationGetRelid(dedup->rel))),
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
	KeyRow		message = {.id = row->id,.enqueued_at = row->enqueued_at};
	bool		isnull;
	Datum		key = slot_getattr(row->slot, Anum_message_dedup_key, &isnull);

	if (isnull)
		return;
	dedup.keys = keys;
	dedup.index = index_open(index, RowExclusiveLock);
	dedup.new = table_slot_create(keys, NULL);
	insert_key(&dedup, key, &message);
	ExecDropSingleTupleTableSlot(dedup.new);
	index_close(dedup.index, NoLock);
}

/* Let the worker come when a key is over, if it can delete the row then. */
void
queue_dedup_call_worker(const QueueDef *def, TimestampTz enqueued_at)
{
	if (def->dedup_window > 0 && def->dedup_window != PG_INT64_MAX)
		queue_database_wake_by(MyDatabaseId,
							   queue_dedup_until(def, enqueued_at));
}

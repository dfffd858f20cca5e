/*-------------------------------------------------------------------------
 *
 * ids.c
 *		Ids of messages: from the queue's sequence, in blocks.
 *
 * The sequence counts in blocks (its INCREMENT says how long they are), so
 * one call of nextval() serves for many messages.  The block in use is in
 * shared memory, for all sessions to draw from, so that ids rise with time.
 * What is left of it when the server stops is lost; no id is given twice,
 * since the sequence has moved beyond the block before it is used.
 *
 * A queue that has no state in shared memory takes a block for each call.  So
 * does who finds that another has been quicker with the next block; ids that
 * he does not need are lost then.
 *
 * Whoever restarts a sequence (TRUNCATE ... RESTART IDENTITY, ALTER SEQUENCE)
 * gives it a new file, which becomes the sequence's when his transaction
 * commits.  So a block belongs to a file.  It is drawn from by those to whom
 * that file is the sequence's, and what a transaction draws from a file that
 * nobody else can see yet, it keeps to itself.  Thus nothing has to be undone:
 * after a rollback, that of a prepared transaction too, ids go on where they
 * were, and after a commit the first one to draw finds that the block is of a
 * file that is the sequence's no more.
 *
 * setval() changes a sequence in its file, and a restart may be by mistake.
 * So ids stay beyond all blocks that there were while memory lives, unless
 * the table has got a new file, too, and was emptied by that, or unless none are
 * beyond, since the last one was given by hand.  Then, or if memory was lost
 * since, an id may come again; what is remembered of a message does not go by
 * the id alone (inflight.c).
 *
 * Locks: that of the queue's state, for a few instructions; the sequence is
 * asked without it, and stays locked to the end of the transaction, so that
 * its file does not change.  Those who give ids by hand wait for each other
 * for a moment.
 *
 * What if this process dies?  What it has not yet kept of a block is lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "common/mutant.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/scan.h"

/* an allocator this near to a given id is moved there step by step */
#define NEAR_IDS			1000

/* lock "subobject" by which movers of an allocator exclude each other */
#define LOCK_ADVANCE		1

/* Ids drawn from a sequence */
typedef struct IdBlock
{
	Oid			sequence;
	Oid			file;			/* of the sequence */
	bool		is_ours;		/* the file: nobody else can see it */
	int64		next;
	int64		last;			/* less than next: none left */
} IdBlock;

/* of a file that is this transaction's */
static IdBlock own_block = {0};

static int	draw(QueueDef *def, int n, int64 *ids);
static bool has_own_block(QueueDef *def);
static void next_block(QueueDef *def, IdBlock *block);
static int64 draw_from_sequence(QueueDef *def);
static void explain_end(void *arg);
static void find_file(IdBlock *block);
static bool is_behind(QueueDef *def, const IdBlock *block);
static bool is_emptied(QueueDef *def, const IdBlock *block);
static bool starts_over(QueueDef *def, QueueState *state,
						const IdBlock *block);
static bool is_after_end(QueueDef *def, QueueState *state,
						 const IdBlock *block);
static int64 catch_up(QueueDef *def, QueueState *state);
static void keep_block(QueueDef *def, const IdBlock *block);
static bool advance_in_memory(QueueDef *def, int64 id);
static int64 last_value(Oid sequence);
static void move_sequence(Oid sequence, int64 id);

/* The right to enqueue is INSERT on the table; the sequence is part of it. */
void
queue_next_ids(QueueDef *def, int n, int64 *ids)
{
	while (n > 0)
	{
		int			ndrawn = draw(def, n, ids);
		IdBlock		block;

		ids += ndrawn;
		n -= ndrawn;
		if (n == 0)
			break;
		for (next_block(def, &block); n > 0 && block.next <= block.last; n--)
			*ids++ = block.next++;
		keep_block(def, &block);
	}
}

/* From the block in memory; how many it had */
static int
draw(QueueDef *def, int n, int64 *ids)
{
	QueueState *state;
	int			i = 0;

	state = queue_state_lock(queue_def_state(def), MyDatabaseId, def->relid);
	if (state != NULL)
	{
		if (state->ids.file == def->sequence_file ||
			(MUTANT(BLOCK_SURVIVES) && state->ids.file > def->sequence_file))
		{
			while (i < n && state->ids.next <= state->ids.last)
				ids[i++] = state->ids.next++;
			state->ids.table_file = def->table_file;
			if (MUTANT_SOMETIMES(ID_TWICE, 500) && i > 0)
				state->ids.next--;
			LWLockRelease(state->lock);
			return i;
		}
		LWLockRelease(state->lock);
	}

	while (i < n && has_own_block(def) && own_block.next <= own_block.last)
		ids[i++] = own_block.next++;
	return i;
}

/*
 * Did this process draw a block from the file of the sequence when nobody else
 * could see that?
 */
static bool
has_own_block(QueueDef *def)
{
	return OidIsValid(def->sequence) &&
		own_block.sequence == def->sequence &&
		own_block.file == def->sequence_file;
}

/*
 * Another block of the sequence.  Somebody may have set that back; the ids that
 * were given since then are behind us all the same.
 */
static void
next_block(QueueDef *def, IdBlock *block)
{
	block->sequence = def->sequence;
	block->next = draw_from_sequence(def);
	find_file(block);
	if (is_behind(def, block))
		block->next = catch_up(def, queue_def_state(def));
	block->last = block->next <= PG_INT64_MAX - def->id_block ?
		block->next + def->id_block - 1 : PG_INT64_MAX;
}

/* The file that nextval() has just drawn from, and locked. */
static void
find_file(IdBlock *block)
{
	Relation	sequence = relation_open(block->sequence, NoLock);

	block->file = sequence->rd_rel->relfilenode;

	/* a queue of this transaction is nobody else's either, and will not be */
	block->is_ours =
		sequence->rd_firstRelfilelocatorSubid != InvalidSubTransactionId &&
		sequence->rd_createSubid == InvalidSubTransactionId &&
		!MUTANT(BLOCK_SURVIVES);
	relation_close(sequence, NoLock);
}

/* nextval(), with a word on the way out when ids have come to their end */
static int64
draw_from_sequence(QueueDef *def)
{
	ErrorContextCallback callback;
	int64		value;

	callback.callback = explain_end;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	value = nextval_internal(def->sequence, false);
	error_context_stack = callback.previous;
	return value;
}

/* The page of the sequence is locked: no look into the catalogs. */
static void
explain_end(void *arg)
{
	if (geterrcode() != ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED)
		return;
	errdetail("The queue has no more ids, since one at the end of their range was given or set by hand.");
	errhint("Set the sequence back to the highest of the other ids, with setval().");
}

/* Has the sequence been set back since a block was kept? */
static bool
is_behind(QueueDef *def, const IdBlock *block)
{
	QueueState *state = queue_state_lock(queue_def_state(def), MyDatabaseId,
										 def->relid);
	bool		is_set_back;
	bool		is_new;

	if (state == NULL)
		return false;
	is_set_back = block->next <= state->ids.highest &&
		!is_after_end(def, state, block);
	is_new = starts_over(def, state, block);
	LWLockRelease(state->lock);
	return is_set_back && !(is_new && is_emptied(def, block));
}

/*
 * A table with a new file was emptied, by TRUNCATE, or rewritten, by VACUUM FULL
 * and the like: has it rows that the block would meet?  A table that is being
 * restored may have no key yet; then nobody can tell.
 */
static bool
is_emptied(QueueDef *def, const IdBlock *block)
{
	Relation	rel;
	QueueScan  *scan;
	int64		last;

	if (!OidIsValid(def->pkey))
		return true;
	rel = table_open(def->relid, NoLock);
	scan = queue_scan_begin(rel, def);
	last = queue_scan_last_id(scan);
	queue_scan_end(scan);
	table_close(rel, NoLock);
	return last < block->next;
}

/*
 * Are ids to be given again, since sequence and table are new?  The state is
 * locked.
 */
static bool
starts_over(QueueDef *def, QueueState *state, const IdBlock *block)
{
	return state->ids.file != block->file &&
		state->ids.table_file != def->table_file;
}

/*
 * Had ids come to their end, so that who has set the sequence back since meant
 * it?  The state is locked.
 */
static bool
is_after_end(QueueDef *def, QueueState *state, const IdBlock *block)
{
	return state->ids.highest > PG_INT64_MAX - def->id_block &&
		block->next <= state->ids.highest;
}

/*
 * Another may have been quicker with a higher block, so what looks as if the
 * sequence was set back is looked at again.  Was it, then whoever draws comes
 * by here, and setval() cannot take a block back from anybody.
 */
static int64
catch_up(QueueDef *def, QueueState *state)
{
	int64		first;
	int			tries = 0;

	LockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
					   ExclusiveLock);
	do
	{
		first = draw_from_sequence(def);
	} while (first <= state->ids.highest && ++tries < 3);
	if (first <= state->ids.highest)
	{
		move_sequence(def->sequence, state->ids.highest);
		first = draw_from_sequence(def);
	}
	UnlockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
						 ExclusiveLock);
	return first;
}

/* What is left of a block is for all, unless there is another already. */
static void
keep_block(QueueDef *def, const IdBlock *block)
{
	QueueState *state;

	if (block->is_ours)
	{
		own_block = *block;
		return;
	}
	state = queue_state_lock(queue_def_state(def), MyDatabaseId, def->relid);
	if (state == NULL)
		return;
	if (starts_over(def, state, block) || is_after_end(def, state, block))
		state->ids.highest = 0;
	if (state->ids.file != block->file)
	{
		state->ids.file = block->file;
		state->ids.next = 0;
		state->ids.last = -1;
	}
	state->ids.table_file = def->table_file;
	state->ids.highest = Max(state->ids.highest, block->last);
	if (block->next <= block->last && state->ids.next > state->ids.last)
	{
		state->ids.next = block->next;
		state->ids.last = block->last;
	}
	LWLockRelease(state->lock);
}

void
queue_forget_ids(Oid relid)
{
	QueueState *state = queue_state_find(relid);

	if (state != NULL)
		state = queue_state_lock(state, MyDatabaseId, relid);
	if (state == NULL)
		return;
	state->ids.last = state->ids.next - 1;
	LWLockRelease(state->lock);
}

/*
 * What the block in memory has left was not drawn by anybody, and an id that
 * was given by hand has moved the block beyond it.
 */
bool
queue_id_is_new(QueueDef *def, int64 id)
{
	QueueState *state = queue_state_lock(queue_def_state(def), MyDatabaseId,
										 def->relid);
	bool		is_new = false;

	if (state != NULL && state->ids.file == def->sequence_file)
		is_new = (state->ids.next <= id && id <= state->ids.last) ||
			id > state->ids.highest;
	else if (has_own_block(def))
		is_new = own_block.next <= id;
	if (state != NULL)
		LWLockRelease(state->lock);
	return is_new;
}

/*
 * Move the allocator beyond an id that the owner gave.  Those who move it
 * exclude each other by a lock held for a moment.  Those who only draw ids do
 * not take it, so near ids are reached by drawing, which cannot go backwards;
 * for setval() to do that, others would have to draw NEAR_IDS ids between the
 * two calls.
 *
 * The table may be no queue yet, since it is being restored.  Then there is no
 * block in memory, and who restores notes how far he has come.
 */
void
queue_advance_id(QueueDef *def, int64 id)
{
	if (advance_in_memory(def, id) || !OidIsValid(def->sequence))
		return;
	LockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
					   ExclusiveLock);
	if (!advance_in_memory(def, id))
	{
		IdBlock		block;

		do
		{
			next_block(def, &block);
		} while (block.last < id && id - block.last < NEAR_IDS);
		if (!def->is_queue)
			def->moved_to = Max(block.last, id);
		if (block.last < id)
		{
			move_sequence(def->sequence, id);
			block.last = id;
		}
		block.next = Max(block.next, id < PG_INT64_MAX ? id + 1 : id);
		if (id == PG_INT64_MAX)
			block.last = id - 1;	/* the last one there can be */
		keep_block(def, &block);
	}
	UnlockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
						 ExclusiveLock);
}

/*
 * Is the block in memory beyond the id, or can it be?  If not, its ids are not
 * to be used any more.
 */
static bool
advance_in_memory(QueueDef *def, int64 id)
{
	QueueState *state = queue_state_lock(queue_def_state(def), MyDatabaseId,
										 def->relid);
	bool		is_beyond = false;

	if (state != NULL && state->ids.file == def->sequence_file)
	{
		is_beyond = id <= state->ids.last;
		if (is_beyond)
			state->ids.next = Max(state->ids.next, id + 1);
		else
			state->ids.last = state->ids.next - 1;
	}
	else if (has_own_block(def))
	{
		is_beyond = id <= own_block.last;
		if (is_beyond)
			own_block.next = Max(own_block.next, id + 1);
		else
			own_block.last = own_block.next - 1;
	}
	else
		is_beyond = !def->is_queue && id <= def->moved_to;
	if (state != NULL)
		LWLockRelease(state->lock);
	return is_beyond;
}

void
queue_sequence_pass(Oid sequence, int64 id)
{
	if (id > 0 && id >= last_value(sequence))
		move_sequence(sequence, id);
}

/*
 * As SELECT last_value would say it, without its privilege: the last id that
 * was drawn, or the one that will be the first.
 */
static int64
last_value(Oid sequence)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		isnull;
	int64		result;

	if (!table_scan_getnextslot(scan, ForwardScanDirection, slot))
		elog(ERROR, "sequence %u has no row", sequence);
	result = DatumGetInt64(slot_getattr(slot, SEQ_COL_LASTVAL, &isnull));
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	relation_close(rel, NoLock);
	return result;
}

/*
 * setval() without regard to the privileges on the sequence: those on the table
 * have decided, as for nextval_internal() above, and the owner may have lost
 * his own.  It runs no code of anybody, and whoever is served here cannot
 * choose where the sequence goes: beyond ids that were given, or to one that
 * the owner himself gives, or has in his table.  An error gives the user back with the end of the
 * (sub)transaction.
 */
static void
move_sequence(Oid sequence, int64 id)
{
	Oid			save_userid;
	int			save_sec_context;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, save_sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
						Int64GetDatum(id));
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

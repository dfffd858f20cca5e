/*-------------------------------------------------------------------------
 *
 * ids.c
 *		Ids of messages: from the queue's sequence, in blocks.
 *
 * The sequence counts in blocks (its INCREMENT says how long they are), so one
 * call of nextval() serves for many messages.  The block in use is in shared
 * memory, for all sessions to draw from, so that ids rise with time.  What is
 * left of it when the server stops is lost.  No id is given twice, because the
 * sequence has moved beyond the block before it is used.
 *
 * A queue that has no slot in shared memory takes a block for each call.  So
 * does a session that finds that another has been quicker with the next block;
 * ids that it does not need are lost then.
 *
 * A restart of a sequence (TRUNCATE ... RESTART IDENTITY, ALTER SEQUENCE)
 * gives it a new file, which becomes the sequence's when that transaction
 * commits.  So a block belongs to a file.  Sessions draw from it to which that
 * file is the sequence's.  What a transaction draws from a file that no other
 * can see yet, it keeps to itself.  Thus nothing has to be undone.  After a
 * rollback, that of a prepared transaction too, ids go on where they were.
 * After a commit the first session to draw finds that the block is of a file
 * that is not the sequence's any more.
 *
 * setval() changes a sequence in its file, and a restart may be by mistake.
 * So ids stay beyond all blocks that there were while memory lives.  There are
 * two exceptions: the table has got a new file, too, and was emptied by that,
 * or no ids are beyond, because the last one was given by hand.  Then, or if
 * memory was lost since, an id may be used again; what is remembered of a
 * message does not go by the id alone (inflight.c).
 *
 * Locks: that of the queue's slot, for a few instructions.  The sequence is
 * asked without it, and stays locked to the end of the transaction, so that
 * its file does not change.  Sessions that give ids by hand wait for each
 * other for a moment.
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
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/scan.h"
#include "table/sequence.h"

/* Ids drawn from a sequence */
typedef struct IdBlock
{
	Oid			sequence;
	Oid			file;			/* of the sequence */
	bool		is_ours;		/* the file: no other transaction can see it */
	int64		next;
	int64		last;			/* less than next: none left */
} IdBlock;

/* Of a file that only this transaction can see */
static IdBlock own_block = {0};

static int	draw(QueueDef *def, int n, int64 *ids);
static bool has_own_block(QueueDef *def);
static void next_block(QueueDef *def, IdBlock *block);
static void find_file(IdBlock *block);
static bool is_behind(QueueDef *def, const IdBlock *block);
static bool is_emptied(QueueDef *def, const IdBlock *block);
static bool starts_over(QueueDef *def, QueueSlot *slot,
						const IdBlock *block);
static bool is_after_end(QueueDef *def, QueueSlot *slot,
						 const IdBlock *block);
static int64 catch_up(QueueDef *def, QueueSlot *slot);
static void keep_block(QueueDef *def, const IdBlock *block);
static bool advance_in_memory(QueueDef *def, int64 id);

/*
 * queue_next_ids
 *		Draw the next n ids of a queue, rising.
 *
 * The right to enqueue is INSERT on the table; the sequence is part of that.
 */
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

/* Draw from the block in memory; returns how many ids it had. */
static int
draw(QueueDef *def, int n, int64 *ids)
{
	QueueSlot  *slot;
	int			i = 0;

	slot = queue_slot_lock(queue_def_slot(def), MyDatabaseId, def->relid);
	if (slot != NULL)
	{
		if (slot->ids.file == def->sequence_file)
		{
			while (i < n && slot->ids.next <= slot->ids.last)
				ids[i++] = slot->ids.next++;
			slot->ids.table_file = def->table_file;
			LWLockRelease(slot->lock);
			return i;
		}
		LWLockRelease(slot->lock);
	}

	while (i < n && has_own_block(def) && own_block.next <= own_block.last)
		ids[i++] = own_block.next++;
	return i;
}

/*
 * has_own_block
 *		Returns true if this process drew a block from the file of the
 *		sequence when no other could see that file.
 */
static bool
has_own_block(QueueDef *def)
{
	return OidIsValid(def->sequence) &&
		own_block.sequence == def->sequence &&
		own_block.file == def->sequence_file;
}

/*
 * next_block
 *		Take another block of the sequence.
 *
 * If the sequence has been set back, it is moved beyond the ids that were
 * given since all the same.
 */
static void
next_block(QueueDef *def, IdBlock *block)
{
	block->sequence = def->sequence;
	block->next = queue_sequence_next(def->sequence, "queue");
	find_file(block);
	if (is_behind(def, block))
		block->next = catch_up(def, queue_def_slot(def));
	block->last = block->next <= PG_INT64_MAX - def->id_block ?
		block->next + def->id_block - 1 : PG_INT64_MAX;
}

/* Note the file that nextval() has just drawn from, and locked. */
static void
find_file(IdBlock *block)
{
	Relation	sequence = relation_open(block->sequence, NoLock);

	block->file = sequence->rd_rel->relfilenode;

	/*
	 * not of a queue that this transaction makes: none other can draw from it
	 * before the commit
	 */
	block->is_ours =
		sequence->rd_firstRelfilelocatorSubid != InvalidSubTransactionId &&
		sequence->rd_createSubid == InvalidSubTransactionId;
	relation_close(sequence, NoLock);
}

/*
 * is_behind
 *		Returns true if the sequence has been set back since a block was kept.
 */
static bool
is_behind(QueueDef *def, const IdBlock *block)
{
	QueueSlot  *slot = queue_slot_lock(queue_def_slot(def), MyDatabaseId,
									   def->relid);
	bool		is_set_back;
	bool		is_new;

	if (slot == NULL)
		return false;
	is_set_back = block->next <= slot->ids.highest &&
		!is_after_end(def, slot, block);
	is_new = starts_over(def, slot, block);
	LWLockRelease(slot->lock);
	return is_set_back && !(is_new && is_emptied(def, block));
}

/*
 * is_emptied
 *		Returns true if the table has no row that the block would meet.
 *
 * A table with a new file was emptied, by TRUNCATE, or rewritten, by VACUUM
 * FULL and the like.  A table that is being restored may have no key yet; then
 * that cannot be told, and it counts as empty.
 */
static bool
is_emptied(QueueDef *def, const IdBlock *block)
{
	Relation	rel;
	QueueScan  *scan;
	int64		last;

	if (!OidIsValid(def->indexes.pkey))
		return true;
	rel = table_open(def->relid, NoLock);
	scan = queue_scan_begin(rel, def);
	last = queue_scan_last_id(scan);
	queue_scan_end(scan);
	table_close(rel, NoLock);
	return last < block->next;
}

/*
 * starts_over
 *		Returns true if ids are to be given again, because sequence and table
 *		are new.
 *
 * The slot is locked.
 */
static bool
starts_over(QueueDef *def, QueueSlot *slot, const IdBlock *block)
{
	return slot->ids.file != block->file &&
		slot->ids.table_file != def->table_file;
}

/*
 * is_after_end
 *		Returns true if ids had come to their end, so that the sequence was
 *		set back since on purpose.
 *
 * The slot is locked.
 */
static bool
is_after_end(QueueDef *def, QueueSlot *slot, const IdBlock *block)
{
	return slot->ids.highest > PG_INT64_MAX - def->id_block &&
		block->next <= slot->ids.highest;
}

/*
 * catch_up
 *		Move a sequence that was set back beyond all blocks, and return the
 *		first id of a new one.
 *
 * Another session may have been quicker with a higher block, so what looks as
 * if the sequence was set back is looked at again.  If it was, every session
 * that draws ids gets here, so no block that is in use can be handed out
 * again.
 */
static int64
catch_up(QueueDef *def, QueueSlot *slot)
{
	int64		first;
	int			tries = 0;

	queue_sequence_lock(def->sequence);
	do
	{
		first = queue_sequence_next(def->sequence, "queue");
	} while (first <= slot->ids.highest && ++tries < 3);
	if (first <= slot->ids.highest)
	{
		queue_sequence_move(def->sequence, slot->ids.highest);
		first = queue_sequence_next(def->sequence, "queue");
	}
	queue_sequence_unlock(def->sequence);
	return first;
}

/*
 * keep_block
 *		Let all sessions use what is left of a block, unless there is a higher
 *		one already.
 *
 * What is left of a lower one is lost: its ids would come after that of this
 * session.
 *
 * A block of a file that only this transaction can see is kept to itself.
 */
static void
keep_block(QueueDef *def, const IdBlock *block)
{
	QueueSlot  *slot;

	if (block->is_ours)
	{
		own_block = *block;
		return;
	}
	slot = queue_slot_lock(queue_def_slot(def), MyDatabaseId, def->relid);
	if (slot == NULL)
		return;
	if (starts_over(def, slot, block) || is_after_end(def, slot, block))
		slot->ids.highest = 0;
	if (slot->ids.file != block->file)
	{
		slot->ids.file = block->file;
		slot->ids.next = 0;
		slot->ids.last = -1;
	}
	slot->ids.table_file = def->table_file;
	slot->ids.highest = Max(slot->ids.highest, block->last);
	if (slot->ids.next > slot->ids.last || slot->ids.last < block->last)
	{
		slot->ids.next = block->next;
		slot->ids.last = block->last;
	}
	LWLockRelease(slot->lock);
}

/*
 * queue_forget_ids
 *		Draw no more from the block in use, because rows may have come with
 *		ids that it does not know of.
 *
 * Costs nothing but a gap.
 */
void
queue_forget_ids(Oid relid)
{
	QueueSlot  *slot = queue_slot_find(relid);

	if (slot != NULL)
		slot = queue_slot_lock(slot, MyDatabaseId, relid);
	if (slot == NULL)
		return;
	slot->ids.last = slot->ids.next - 1;
	LWLockRelease(slot->lock);
}

/*
 * queue_id_is_new
 *		Returns true if this id is beyond all ids that were drawn or given, as
 *		far as is known.
 *
 * What the block in memory has left was not drawn by any session, and an id
 * that was given by hand has moved the block beyond it.
 */
bool
queue_id_is_new(QueueDef *def, int64 id)
{
	QueueSlot  *slot = queue_slot_lock(queue_def_slot(def), MyDatabaseId,
									   def->relid);
	bool		is_new = false;

	if (slot != NULL && slot->ids.file == def->sequence_file)
		is_new = (slot->ids.next <= id && id <= slot->ids.last) ||
			id > slot->ids.highest;
	else if (has_own_block(def))
		is_new = own_block.next <= id;
	if (slot != NULL)
		LWLockRelease(slot->lock);
	return is_new;
}

/*
 * queue_advance_id
 *		Move the allocator beyond an id that the owner gave.
 *
 * Sessions that move it exclude each other by a lock held for a moment.  Those
 * that only draw ids do not take it, so near ids are reached by drawing, which
 * cannot go backwards.  For setval() to go backwards, others would have to
 * draw SEQUENCE_NEAR ids between the two calls.
 *
 * The table may be no queue yet, because it is being restored.  Then there is
 * no block in memory, and the restoring session notes how far it has come.
 */
void
queue_advance_id(QueueDef *def, int64 id)
{
	if (advance_in_memory(def, id) || !OidIsValid(def->sequence))
		return;
	queue_sequence_lock(def->sequence);
	if (!advance_in_memory(def, id))
	{
		IdBlock		block;

		do
		{
			next_block(def, &block);
		} while (block.last < id && id - block.last < SEQUENCE_NEAR);
		if (!def->is_queue)
			def->moved_to = Max(block.last, id);
		if (block.last < id)
		{
			queue_sequence_move(def->sequence, id);
			block.last = id;
		}
		block.next = Max(block.next, id < PG_INT64_MAX ? id + 1 : id);
		if (id == PG_INT64_MAX)
			block.last = id - 1;	/* the last possible id */
		keep_block(def, &block);
	}
	queue_sequence_unlock(def->sequence);
}

/*
 * advance_in_memory
 *		Returns true if the block in memory is beyond the id, or has been
 *		moved there.
 *
 * If it cannot be, its ids are not used any more.
 */
static bool
advance_in_memory(QueueDef *def, int64 id)
{
	QueueSlot  *slot = queue_slot_lock(queue_def_slot(def), MyDatabaseId,
									   def->relid);
	bool		is_beyond = false;

	if (slot != NULL && slot->ids.file == def->sequence_file)
	{
		is_beyond = id <= slot->ids.last;
		if (is_beyond)
			slot->ids.next = Max(slot->ids.next, id + 1);
		else
			slot->ids.last = slot->ids.next - 1;
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
	if (slot != NULL)
		LWLockRelease(slot->lock);
	return is_beyond;
}

/*-------------------------------------------------------------------------
 *
 * topic_ids.c
 *		Ids of messages of topics: what the table and its sequence say of them.
 *
 * The sequence counts in blocks, as that of a queue (ids.c).  Which block is in
 * use, and which ids were handed out, shared memory knows (topic_slot.c).  When
 * that is new, the highest id that may have been handed out is found here: the
 * end of the sequence's last block, or the highest id in a partition or below
 * the stable id that was written down, if somebody has set the sequence back.
 *
 * Locks: sessions that move a sequence by hand exclude each other, for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/sequence.h"
#include "table/stable_id.h"
#include "table/topic_ids.h"

static int64 block_end(TopicDef *topic, int64 first);
static Oid	file_of(Oid sequence);

/*
 * queue_topic_next_block
 *		Take the next block of the sequence.
 *
 * It stays locked to the end of the transaction, so its file does not change.
 */
void
queue_topic_next_block(TopicDef *topic, TopicBlock *block)
{
	block->first = queue_sequence_next(topic->sequence, "topic");
	block->last = block_end(topic, block->first);
	block->file = file_of(topic->sequence);
}

/* The last id of a block; there is one after it. */
static int64
block_end(TopicDef *topic, int64 first)
{
	return first < PG_INT64_MAX - topic->id_block ?
		first + topic->id_block - 1 : PG_INT64_MAX - 1;
}

/* The file of a sequence that is locked */
static Oid
file_of(Oid sequence)
{
	Relation	rel = relation_open(sequence, NoLock);
	Oid			file = rel->rd_rel->relfilenode;

	relation_close(rel, NoLock);
	return file;
}

/*
 * queue_topic_pass_id
 *		Let the sequence go on beyond an id.
 *
 * Near ids are reached by drawing, which cannot go backwards whatever others
 * do; for setval() to go backwards they would have to draw SEQUENCE_NEAR ids
 * between the two calls.
 */
void
queue_topic_pass_id(TopicDef *topic, int64 id, TopicBlock *block)
{
	bool		is_called;

	queue_sequence_lock(topic->sequence);
	LockRelationOid(topic->sequence, RowExclusiveLock);
	block->first = queue_sequence_last(topic->sequence, &is_called);
	block->last = is_called ? block_end(topic, block->first) :
		block->first - 1;
	while (block->last < id && id - block->last < SEQUENCE_NEAR)
	{
		block->first = queue_sequence_next(topic->sequence, "topic");
		block->last = block_end(topic, block->first);
	}
	if (block->last < id)
	{
		queue_sequence_move(topic->sequence, id);
		block->last = block_end(topic, id);
	}
	block->file = file_of(topic->sequence);
	queue_sequence_unlock(topic->sequence);
}

/*
 * queue_topic_highest_id
 *		Return an id beyond which none was ever handed out.  The topic is
 *		locked.
 */
int64
queue_topic_highest_id(TopicDef *topic)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		highest;
	bool		is_called;

	highest = queue_sequence_last(topic->sequence, &is_called);
	highest = is_called ? block_end(topic, highest) : highest - 1;
	highest = Max(highest, queue_stable_id_read(topic->relid, snapshot) - 1);
	UnregisterSnapshot(snapshot);
	return Max(highest, queue_topic_last_in_table(topic));
}

/*
 * queue_topic_last_in_table
 *		Return the highest id that the index has an entry of, dead or alive; 0
 *		if none.
 *
 * The last id that there could be is left out.  Nobody may give it, and nobody
 * reads that far, but a row that no trigger has seen may have it.
 */
int64
queue_topic_last_in_table(TopicDef *topic)
{
	Relation	rel = table_open(topic->relid, NoLock);
	Relation	index = index_open(topic->indexes.pkey, AccessShareLock);
	IndexScanDesc scan = index_beginscan(rel, index, SnapshotAny, NULL, 2, 0, 0);
	int64		last = 0;

	scan->xs_want_itup = true;
	for (int partition = 0; partition < topic->partitions; partition++)
	{
		ScanKeyData keys[2];
		bool		isnull;

		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ,
					Int16GetDatum(partition));
		ScanKeyInit(&keys[1], 2, BTLessStrategyNumber, F_INT8LT,
					Int64GetDatum(PG_INT64_MAX));
		index_rescan(scan, keys, 2, NULL, 0);
		if (index_getnext_tid(scan, BackwardScanDirection) != NULL)
			last = Max(last,
					   DatumGetInt64(index_getattr(scan->xs_itup,
												   2, scan->xs_itupdesc,
												   &isnull)));
	}
	index_endscan(scan);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return last;
}

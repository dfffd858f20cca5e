/*-------------------------------------------------------------------------
 *
 * oldest.c
 *		The oldest messages of a topic: deleted, some at a time.
 *
 * A step goes over the messages in the order of their ids, each partition from
 * where the last step has come to.  A partition ends at the first message that
 * is to stay, whatever follows it: what is left of a partition is its end, and
 * one id says what is gone.  By age that is the first one that is not old
 * enough, or that is kept for a subscription (unread.c).  To save bytes, the
 * oldest of all partitions go, read or not.
 *
 * What is deleted is below the limit of its partition, so nothing can appear
 * below it any more.  The limit is asked for only if something is to go: what is
 * told of it holds for ever, and should not hinder a session that is restoring
 * a topic.
 *
 * Rows are deleted as by DELETE, so older snapshots go on seeing them.
 * A row that somebody has locked is left, and the next pass from the beginning
 * comes back for it (retain.c).  So a walk never waits, and what it costs is
 * bounded: by rows, dead ones included, and by time.
 *
 * What the executor would have done needs no doing: rows.c.
 *
 * Locks: the caller's on the table, AccessShareLock on its index; those of rows
 * and pages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "table/removed_id.h"
#include "table/topic_column.h"
#include "table/topic_scan.h"
#include "transaction/publishing.h"
#include "worker/oldest.h"
#include "worker/unread.h"

/* What a step does at most, and how often it looks at the clock */
#define STEP_ROWS			10000
#define STEP_TIME			(50 * INT64CONST(1000))
#define CLOCK_ROWS			64

/* Rows that are looked for at first */
#define FIRST_ROWS			256

/* One partition, in a step */
typedef struct PartitionStep
{
	int64		limit;			/* 0: not asked for yet */
	int64		passed;			/* all up to this id was looked at; 0: none */
} PartitionStep;

typedef struct Deletion
{
	Relation	rel;
	TopicDef   *topic;
	OldestStep *step;
	TopicScan  *scan;
	PartitionStep *partitions;
	int64	   *unread;			/* from where on; NULL: not asked for yet */
	int64	   *removed;		/* up to which id rows were deleted; 0: none */
} Deletion;

static void note_removed(Deletion *deletion);
static void go_over(Deletion *deletion, Snapshot snapshot);
static bool may_go(Deletion *deletion, TupleTableSlot *slot, int partition,
				   int64 id);
static int64 limit_of(Deletion *deletion, int partition);
static bool is_unread(Deletion *deletion, int partition, int64 id);
static void delete_row(Deletion *deletion, TupleTableSlot *slot,
					   int partition, int64 id);
static void move_on(Deletion *deletion);


/*
 * queue_oldest_delete
 *		Delete messages of a topic that are to go, from the oldest on.
 */
void
queue_oldest_delete(Relation rel, TopicDef *topic, OldestStep *step)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Deletion	deletion = {.rel = rel,.topic = topic,.step = step};

	deletion.partitions = palloc0(topic->partitions * sizeof(PartitionStep));
	deletion.removed = palloc0(topic->partitions * sizeof(int64));
	deletion.scan = queue_topic_scan_begin_each(rel, topic, snapshot,
												step->after, PG_INT64_MAX,
												step->is_full ? STEP_ROWS :
												FIRST_ROWS);
	step->ndeleted = 0;
	step->is_full = step->is_held = step->has_left = false;
	step->first_kept = TIMESTAMP_INFINITY;
	go_over(&deletion, snapshot);
	queue_topic_scan_end(deletion.scan);
	UnregisterSnapshot(snapshot);
	if (step->ndeleted > 0)
	{
		note_removed(&deletion);
		queue_removed_ids_write(topic->relid, topic->partitions,
								deletion.removed, step->tids);
	}
	if (step->ndeleted > 0 || step->is_full)
		move_on(&deletion);
}

/*
 * note_removed
 *		Tell readers how far this goes, before it is committed.
 *
 * If memory did not know yet, what was deleted before counts, too.
 */
static void
note_removed(Deletion *deletion)
{
	Oid			relid = deletion->topic->relid;
	int			npartitions = deletion->topic->partitions;
	int64		highest = 0;

	if (queue_topic_slot_removed(relid) < 0)
		highest = queue_removed_id_highest(relid, npartitions);
	for (int i = 0; i < npartitions; i++)
		highest = Max(highest, deletion->removed[i]);
	queue_topic_slot_note_removed(relid, highest, false /* if unknown */ );
}

/*
 * go_over
 *		Look at rows, and delete those that are to go.
 *
 * What the snapshot sees is committed.  What it will never see is passed over,
 * and what it does not see yet is new.
 */
static void
go_over(Deletion *deletion, Snapshot snapshot)
{
	OldestStep *step = deletion->step;
	TimestampTz end_at = GetCurrentTimestamp() + STEP_TIME;
	TupleTableSlot *slot;
	int64		id;
	int			n = 0;

	while ((slot = queue_topic_scan_next(deletion->scan, &id)) != NULL)
	{
		bool		isnull;
		int			partition =
			DatumGetInt16(slot_getattr(slot, Anum_published_partition,
									   &isnull));
		TopicRowState state = queue_topic_row_state(deletion->scan);

		if (state == TOPIC_ROW_NEWER ||
			(state == TOPIC_ROW_SEEN &&
			 !may_go(deletion, slot, partition, id)))
		{
			queue_topic_scan_stop(deletion->scan, partition);
			continue;
		}
		if (state == TOPIC_ROW_SEEN)
			delete_row(deletion, slot, partition, id);
		deletion->partitions[partition].passed = id;
		if (++n >= STEP_ROWS ||
			(n % CLOCK_ROWS == 0 && GetCurrentTimestamp() >= end_at))
		{
			step->is_full = true;
			break;
		}
	}
}

/* Is this message to go?  If not, nothing that follows it in its partition is. */
static bool
may_go(Deletion *deletion, TupleTableSlot *slot, int partition, int64 id)
{
	OldestStep *step = deletion->step;
	bool		isnull;
	TimestampTz published_at =
		DatumGetTimestampTz(slot_getattr(slot, Anum_published_at, &isnull));

	if (published_at > step->cutoff && step->excess <= 0)
	{
		step->first_kept = Min(step->first_kept, published_at);
		return false;
	}
	if (id >= limit_of(deletion, partition) ||
		(step->excess <= 0 && is_unread(deletion, partition, id)))
	{
		step->is_held = true;
		return false;
	}
	return true;
}

/* Return the limit of a partition, 1 if it has no place in memory. */
static int64
limit_of(Deletion *deletion, int partition)
{
	PartitionStep *part = &deletion->partitions[partition];
	TopicLimit	limit;

	if (part->limit == 0)
		part->limit = queue_publishing_limit(deletion->topic, partition,
											 &limit, true /* missing_ok */ ) ?
			limit.stable_id : 1;
	return part->limit;
}

/* Is it to be kept for a subscription that has not passed it? */
static bool
is_unread(Deletion *deletion, int partition, int64 id)
{
	TopicDef   *topic = deletion->topic;

	if (!topic->keep_unread)
		return false;
	if (deletion->unread == NULL)
	{
		deletion->unread = palloc(topic->partitions * sizeof(int64));
		queue_unread_from(topic, deletion->unread);
	}
	return id >= deletion->unread[partition];
}

/* Delete a message, unless somebody has locked it. */
static void
delete_row(Deletion *deletion, TupleTableSlot *slot, int partition, int64 id)
{
	OldestStep *step = deletion->step;
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
	int64		bytes = step->excess <= 0 ? 0 :
		queue_live_size_of_row(deletion->rel, tuple, &step->size);
	TM_FailureData failure;

	switch (table_tuple_delete(deletion->rel, &slot->tts_tid,
							   GetCurrentCommandId(true), 0, InvalidSnapshot,
							   InvalidSnapshot, false /* wait */ , &failure))
	{
		case TM_Ok:
			step->excess -= bytes;
			step->ndeleted++;
			deletion->removed[partition] = id;
			break;
		case TM_Deleted:
			break;				/* somebody else was quicker */
		default:
			step->has_left = true;
			break;
	}
}

/*
 * move_on
 *		Say where the next step is to begin.
 *
 * Beyond the limit a lower id may yet appear.  The last row that was looked at
 * is looked at again, because another may have its id.
 */
static void
move_on(Deletion *deletion)
{
	OldestStep *step = deletion->step;
	bool		has_moved = step->ndeleted > 0;

	for (int i = 0; i < deletion->topic->partitions; i++)
	{
		int64		passed = deletion->partitions[i].passed;

		if (passed == 0)
			continue;
		passed = Min(passed, limit_of(deletion, i)) - 1;
		if (step->after[i] < passed)
		{
			step->after[i] = passed;
			has_moved = true;
		}
	}
	if (step->is_full && !has_moved)
	{
		step->is_full = false;
		step->is_held = true;
	}
}

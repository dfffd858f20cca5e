/*-------------------------------------------------------------------------
 *
 * reading.c
 *		What a subscription reads of its topic.
 *
 * A subscription has a position in each partition, and gets the messages after
 * it, in the order of their ids, below the stable id of the partition: nothing
 * below that can appear any more.  Rows are judged by the statement's snapshot,
 * which was taken before, and by the present status of transactions: one that
 * is committed, and that the snapshot does not see, ends the batch.  So nothing
 * is passed that was not returned, or is not wanted.
 *
 * What the filter does not want is passed over once: how far is noted in memory
 * (shared/place.c), and the worker moves the position there in time.  One call
 * looks at so many rows, or for so long, and no more.
 *
 * A batch that failed comes again in halves, until what fails is alone.  So half
 * of those come that are left of the batch, whether the last half of them failed
 * or was consumed.
 *
 * Locks: on the topic's table, as for a read.  Nothing here changes anything but
 * hints.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/clock.h"
#include "common/errcodes.h"
#include "common/relation_name.h"
#include "shared/availability.h"
#include "shared/counters.h"
#include "shared/place.h"
#include "table/removed_id.h"
#include "table/setting_row.h"
#include "topic/reading.h"
#include "transaction/publishing.h"

/* What one call may look at */
#define MAX_LOOKED_AT			100000
#define MAX_LOOK_TIME			(100 * INT64CONST(1000))	/* usec */

/* Rows between two looks at the clock */
#define ROWS_A_LOOK				256

/* A partition that may have something */
typedef struct Candidate
{
	int			partition;
	bool		is_preferred;
	bool		is_sure;		/* "first" is there, or is gone */
	int64		after;			/* after which id there may be something */
	int64		first;			/* the least id that it may have */
} Candidate;

static int64 look_after(Reading *reading, int partition, int64 position);
static int64 removed_up_to(TopicDef *topic);
static int64 gap_after(Reading *reading, int partition, int64 after);
static int64 end_of(const TopicLimit *limit);
static int64 known_end(Reading *reading, int partition);
static int	compare_candidates(Datum a, Datum b, void *arg);
static bool read_rows(Reading *reading, int partition, int max,
					  ReadBatch *batch, int64 *passed);
static void count_batch(Reading *reading, const Position *position,
						int64 until, int max, ReadBatch *batch);
static void add_row(Reading *reading, ReadBatch *batch, TupleTableSlot *slot,
					int64 id);

/* Begin to look. */
void
queue_reading_begin(Reading *reading, Relation rel, SubscriptionDef *def,
					Snapshot snapshot, int64 max)
{
	memset(reading, 0, sizeof(Reading));
	reading->rel = rel;
	reading->def = def;
	reading->snapshot = snapshot;
	reading->topic_rel = queue_topic_open(def->topic, TOPIC_READ,
										  &reading->topic);
	reading->filter.pattern = def->pattern;
	reading->filter.selector = def->selector;
	reading->filter.context = AllocSetContextCreate(CurrentMemoryContext,
													"queue message",
													ALLOCSET_DEFAULT_SIZES);
	reading->position = queue_position_make(rel);
	reading->below = palloc0(reading->topic->partitions * sizeof(int64));
	reading->gaps = palloc0(reading->topic->partitions * sizeof(int64));
	reading->removed = removed_up_to(reading->topic);
	reading->scan = queue_topic_scan_begin(reading->topic_rel, reading->topic,
										   snapshot, max);
	reading->began_at = queue_clock();
}

/* The look is over. */
void
queue_reading_end(Reading *reading, bool keeps_topic)
{
	queue_topic_scan_end(reading->scan);
	queue_position_free(reading->position);
	MemoryContextDelete(reading->filter.context);
	table_close(reading->topic_rel, keeps_topic ? NoLock :
				queue_topic_lockmode(TOPIC_READ));
}

/*
 * queue_reading_find
 *		Find the partitions that may have something.
 *
 * By what memory knows of positions: a take reads its row.
 */
void
queue_reading_find(Reading *reading)
{
	int			npartitions = reading->topic->partitions;
	Candidate  *candidates = palloc(npartitions * sizeof(Candidate));
	TopicLimit *limits = palloc(npartitions * sizeof(TopicLimit));

	reading->candidates = binaryheap_allocate(npartitions, compare_candidates,
											  NULL);
	queue_publishing_limits(reading->topic, limits);
	for (int i = 0; i < npartitions; i++)
	{
		int64		after = known_end(reading, i);

		reading->below[i] = end_of(&limits[i]);
		if (after + 1 >= reading->below[i])
			continue;
		if (after < reading->removed)
			reading->gaps[i] = gap_after(reading, i, after);
		candidates[i].partition = i;
		candidates[i].after = after;
		candidates[i].first = after + 1;
		candidates[i].is_sure = reading->gaps[i] > 0;
		candidates[i].is_preferred = reading->preferred != NULL &&
			reading->preferred[i];
		binaryheap_add_unordered(reading->candidates,
								 PointerGetDatum(&candidates[i]));
	}
	binaryheap_build(reading->candidates);
}

/*
 * queue_reading_prefer
 *		Let a partition come before those that are not preferred.
 *
 * To be told before they are found.
 */
void
queue_reading_prefer(Reading *reading, int partition)
{
	if (reading->preferred == NULL)
		reading->preferred = palloc0(reading->topic->partitions * sizeof(bool));
	reading->preferred[partition] = true;
}

/*
 * queue_reading_next
 *		Return the partition with the oldest next message of those that have not
 *		been returned, or -1.
 *
 * The index is asked for the next message only of those partitions that may have
 * an older one than others.  The answer is noted in memory, also by those that
 * read a batch, so mostly it is asked for that of one partition alone.  That
 * hides no gap: what retention deletes is noted before, and stays in the
 * index while the snapshot sees it.
 */
int
queue_reading_next(Reading *reading)
{
	while (!binaryheap_empty(reading->candidates))
	{
		Candidate  *candidate = (Candidate *)
			DatumGetPointer(binaryheap_first(reading->candidates));
		int			partition = candidate->partition;
		int64		least = candidate->first;
		bool		found = candidate->is_sure ||
			queue_topic_scan_add(reading->scan, partition, candidate->after,
								 reading->below[partition],
								 &candidate->first);

		candidate->is_sure = true;
		if (!found)
			candidate->first = reading->below[partition];
		if (candidate->first > least)
			queue_place_pass(RelationGetRelid(reading->rel), partition,
							 reading->def->filter, candidate->after,
							 candidate->first - 1, 0);

		/* others may come before it now */
		if (found && candidate->first > least)
		{
			binaryheap_replace_first(reading->candidates,
									 PointerGetDatum(candidate));
			continue;
		}
		(void) binaryheap_remove_first(reading->candidates);
		if (found)
			return partition;
	}
	return -1;
}

/* After which id has retention deleted nothing?  After a start, disk tells. */
static int64
removed_up_to(TopicDef *topic)
{
	int64		removed = queue_topic_slot_removed(topic->relid);

	if (removed < 0)
	{
		removed = queue_removed_id_highest(topic->relid, topic->partitions);
		queue_topic_slot_note_removed(topic->relid, removed,
									  true /* if unknown */ );
	}
	return removed;
}

/* Up to which id has retention deleted messages after this one?  0: none */
static int64
gap_after(Reading *reading, int partition, int64 after)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		removed = queue_removed_id_read(reading->topic->relid,
												partition, snapshot);

	UnregisterSnapshot(snapshot);
	return removed > after ? removed : 0;
}

/*
 * queue_reading_check_gap
 *		Raise QU006 if retention has deleted messages after the position, which
 *		was read.
 *
 * The partition is held, so nobody else is about to move the position past them.
 * A subscription that skips them goes on after them, and counts them as far as
 * ids tell: each partition has its share of them.
 */
void
queue_reading_check_gap(Reading *reading, int partition)
{
	int64		position = reading->position->id;
	int64		after = look_after(reading, partition, position);
	int64		gap = reading->gaps[partition];

	if (gap <= after)
		return;
	if (reading->def->on_gap == ON_GAP_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_MESSAGES_GONE),
				 errmsg("messages of topic \"%s\" are gone before subscription \"%s\" has read them",
						queue_shown_name(reading->topic->relid),
						queue_shown_name(reading->def->relid)),
				 errdetail("Of partition %d, ids " INT64_FORMAT " to " INT64_FORMAT " were deleted because of the retention of the topic.",
						   partition, after + 1, gap),
				 errhint("Go on without them by queue.seek(), or let the subscription skip such a gap.")));
	ereport(WARNING,
			(errcode(ERRCODE_QUEUE_MESSAGES_GONE),
			 errmsg("subscription \"%s\" skips messages of topic \"%s\" that are gone",
					queue_shown_name(reading->def->relid),
					queue_shown_name(reading->topic->relid)),
			 errdetail("Of partition %d, ids " INT64_FORMAT " to " INT64_FORMAT " were deleted because of the retention of the topic.",
					   partition, after + 1, gap)));
	queue_place_pass(reading->def->relid, partition, reading->def->filter,
					 after, gap, gap);
	queue_counters_overtake(queue_subscription_slot(reading->def),
							reading->def->relid,
							(gap - after - 1) / reading->topic->partitions + 1);
}

/* Find out how far a partition can be read. */
void
queue_reading_look_at(Reading *reading, int partition)
{
	TopicLimit	limit;

	(void) queue_publishing_limit(reading->topic, partition, &limit,
								  false /* raises */ );
	reading->below[partition] = end_of(&limit);
}

/* Below which id can messages be read, and is there any? */
static int64
end_of(const TopicLimit *limit)
{
	return Min(limit->stable_id, limit->greatest + 1);
}

/*
 * known_end
 *		After which id is there something to look at, as memory knows, or as the
 *		position's row says?
 *
 * Memory has what was committed.  Where this transaction holds a partition, which
 * it prefers then, it may have set the position back.
 */
static int64
known_end(Reading *reading, int partition)
{
	bool		may_be_own = reading->preferred != NULL &&
		reading->preferred[partition];
	Place		place;

	if (!may_be_own &&
		queue_place_get(RelationGetRelid(reading->rel), partition, &place) &&
		place.position >= 0)
		return queue_place_look_after(&place, reading->def->filter,
									  place.position);
	if (queue_position_read(reading->rel, reading->def, partition,
							reading->position) == POSITION_MISSING)
		return look_after(reading, partition, 0);
	return look_after(reading, partition, reading->position->id);
}

/* After which id is there something to look at? */
static int64
look_after(Reading *reading, int partition, int64 position)
{
	Place		place;

	if (!queue_place_get(RelationGetRelid(reading->rel), partition, &place))
		return position;
	return queue_place_look_after(&place, reading->def->filter, position);
}

/* Those that are preferred, then by the id that comes first: binaryheap's. */
static int
compare_candidates(Datum a, Datum b, void *arg)
{
	const Candidate *left = (const Candidate *) DatumGetPointer(a);
	const Candidate *right = (const Candidate *) DatumGetPointer(b);

	if (left->is_preferred != right->is_preferred)
		return left->is_preferred ? 1 : -1;
	return left->first < right->first ? 1 : left->first > right->first ? -1 : 0;
}

/*
 * queue_reading_batch
 *		Read wanted messages of a partition, in order.
 *
 * The receiver gets each as soon as it is read: to keep copies of all of
 * them until the end would cost as much again.  How far the partition was read with
 * nothing in it that is wanted, is noted.
 */
void
queue_reading_batch(Reading *reading, int partition, int64 after, int64 until,
					int max, ReadBatch *batch)
{
	Oid			relid = RelationGetRelid(reading->rel);
	int64		below = reading->below[partition];
	int64		from = look_after(reading, partition, after);
	int64		passed = from;
	bool		is_at_end = true;
	int64		first;

	Assert(!batch->counts_only || until > 0);

	if (until > 0)
		below = Min(below, until + 1);
	batch->n = 0;
	batch->looked = from;
	batch->unwanted = 0;
	batch->is_undecided = false;
	if (from + 1 < below &&
		queue_topic_scan_add(reading->scan, partition, from, below, &first))
		is_at_end = read_rows(reading, partition, max, batch, &passed);
	if (is_at_end)
		passed = Max(passed, below - 1);

	/* nothing is wanted after the last one of the batch, up to where it ended */
	if (batch->n > 0)
		after = batch->last;
	batch->passed = Max(passed, after);
	if (passed > after && !batch->counts_only)
		queue_place_pass(relid, partition, reading->def->filter, after,
						 passed, batch->unwanted > after ? batch->unwanted : 0);
}

/*
 * read_rows
 *		Read up to "max" wanted messages of a partition that was added to the
 *		scan, and return whether there are no others.
 *
 * *passed becomes the id of the last row that need not be looked at again.  That
 * is for everybody, so one that this transaction has deleted is not passed: it
 * may come back.
 */
static bool
read_rows(Reading *reading, int partition, int max, ReadBatch *batch,
		  int64 *passed)
{
	bool		may_pass = true;

	while (batch->n < max && !queue_reading_is_enough(reading))
	{
		int64		id;
		TupleTableSlot *slot = queue_topic_scan_next_of(reading->scan,
														partition, &id);
		TopicRowState state;

		if (slot == NULL)
			return may_pass;
		state = queue_topic_row_state(reading->scan);
		reading->nlooked++;
		batch->looked = id;
		if (state == TOPIC_ROW_NEWER)
			return false;
		if (state == TOPIC_ROW_SEEN &&
			queue_published_is_wanted(&reading->filter, slot, id))
			add_row(reading, batch, slot, id);
		else if (state == TOPIC_ROW_SEEN && may_pass)
			batch->unwanted = id;
		if (state == TOPIC_ROW_DELETED)
		{
			may_pass = false;
			batch->is_undecided |= batch->n == 0;
		}
		if (may_pass)
			*passed = id;
	}

	/* to the next entry, so that nobody asks the index for it */
	if (may_pass)
		*passed = queue_topic_scan_upcoming(reading->scan, partition) - 1;
	return false;
}

/*
 * add_row
 *		Add the row in the slot to a batch.
 *
 * How long a large message takes to be received does not count as looking.  That
 * of others is no more than it takes to look at them, and two looks at the clock
 * are a good part of it.  The receiver may keep a message until it gets the next.
 */
static void
add_row(Reading *reading, ReadBatch *batch, TupleTableSlot *slot, int64 id)
{
	TimestampTz received_at;
	bool		is_toasted;

	if (batch->n++ == 0)
		batch->first = id;
	batch->last = id;
	batch->slot = slot;
	if (batch->receiver == NULL)
		return;
	is_toasted = queue_published_is_toasted(slot);
	if (!is_toasted && !batch->was_toasted)
	{
		batch->receiver(slot, id, batch->arg);
		return;
	}
	batch->was_toasted = is_toasted;
	received_at = queue_clock();
	batch->receiver(slot, id, batch->arg);
	reading->began_at += queue_clock() - received_at;
}

/* Read a batch that is just counted, which is not what the call is to look at. */
static void
count_batch(Reading *reading, const Position *position, int64 until, int max,
			ReadBatch *batch)
{
	int64		nlooked = reading->nlooked;
	TimestampTz began_at = queue_clock();

	batch->counts_only = true;
	queue_reading_batch(reading, position->partition, position->id, until, max,
						batch);
	reading->nlooked = nlooked;
	reading->began_at += queue_clock() - began_at;
}

/*
 * queue_reading_first
 *		Read the next message that is wanted, however far away it is.
 */
bool
queue_reading_first(Reading *reading, const Position *position,
					ReadBatch *batch)
{
	int64		after = position->id;

	for (;;)
	{
		queue_reading_batch(reading, position->partition, after, 0, 1, batch);
		if (batch->n > 0 || !queue_reading_is_enough(reading))
			return batch->n > 0;

		/* rows that this transaction has deleted are not passed, but behind */
		after = Max(batch->passed, batch->looked);
		reading->nlooked = 0;
		reading->began_at = queue_clock();
	}
}

/*
 * queue_reading_next_id
 *		Return the id of the message that is next; if there is none up to "until",
 *		an id after that; 0 if it is not known whether there is.
 *
 * *is_undecided tells that this transaction has deleted one before that, which a
 * rollback brings back.
 */
int64
queue_reading_next_id(Reading *reading, const Position *position, int64 until,
					  bool *is_undecided)
{
	ReadBatch	batch = {0};

	*is_undecided = false;
	if (until <= position->id)
		return 0;
	count_batch(reading, position, until, 1, &batch);
	*is_undecided = batch.is_undecided;
	return batch.n > 0 ? batch.first : batch.passed >= until ? until + 1 : 0;
}

/*
 * queue_reading_limit
 *		Return how many may come together of those that failed together.
 *
 * The last attempt is made alone, so that nobody is dead-lettered for another.
 * What is counted here is read again as a batch, and this must leave the call
 * something to do that with.
 */
int
queue_reading_limit(Reading *reading, const Position *position, int failures,
					int64 alone_until, int max)
{
	ReadBatch	batch = {0};

	if (failures > 0 && (alone_until <= position->id ||
						 queue_is_at_limit(reading->def->retry.max_attempts,
										   failures + 1)))
		return 1;
	if (alone_until <= position->id)
		return max;
	count_batch(reading, position, alone_until, Min(max, PG_INT32_MAX / 2) * 2,
				&batch);
	return Max(Min(batch.n / 2, max), 1);
}

/*
 * queue_reading_is_enough
 *		Returns true if this call is to look at no more.
 */
bool
queue_reading_is_enough(const Reading *reading)
{
	if (reading->nlooked >= MAX_LOOKED_AT)
		return true;
	return reading->nlooked > 0 && reading->nlooked % ROWS_A_LOOK == 0 &&
		queue_clock() - reading->began_at > MAX_LOOK_TIME;
}

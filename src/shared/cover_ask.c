/*-------------------------------------------------------------------------
 *
 * cover_ask.c
 *		What is covered?  Questions about the cover of a queue.
 *
 * For calls that look at an empty queue, check the cover, or look for certain
 * messages, which take nothing out of it.
 *
 * Locks: that of the queue's slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/cover.h"

/*
 * queue_cover_is_empty
 *		Returns true if the cover has nothing to scan now.
 *
 * *due is set to the time when something will be due, TIMESTAMP_INFINITY if
 * nothing is.  A queue without a slot is never known to be empty.  If
 * "also_out", it is not while a window of it is out.
 */
bool
queue_cover_is_empty(QueueSlot *hint, Oid relid, bool also_out,
					 TimestampTz now, TimestampTz *due)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	bool		is_empty;

	*due = TIMESTAMP_INFINITY;
	if (slot == NULL)
		return false;
	is_empty = !queue_slot_has_cover(slot) && slot->cover.first_due > now &&
		!(also_out && queue_slot_has_window(slot));
	*due = slot->cover.first_due;
	LWLockRelease(slot->lock);
	return is_empty;
}

/*
 * queue_cover_survey
 *		Add to a set where messages may be, as far as the cover knows.
 *
 * *number is that of the last addition to the cover; returns false if nobody
 * will know what is added from now on.  The slot is locked.
 */
bool
queue_cover_survey(QueueSlot *slot, RangeSet *set, uint64 *number)
{
	if (slot->cover.news == NULL)
		slot->cover.news = queue_news_make();
	if (queue_slot_has_waited(slot) || queue_slot_is_sorting(slot))
		queue_ranges_add_all(set);
	else
	{
		queue_ranges_add_set(set, &slot->cover.set);
		queue_ranges_add_set(set, &slot->cover.busy);
	}
	if (slot->cover.news == NULL)
		return false;
	*number = queue_news_number(slot->cover.news);
	return true;
}

/*
 * queue_cover_read_news
 *		Add to a set what was added to the cover after addition *number, which
 *		becomes that of the last one.
 *
 * "then" is where the queue was then; numbers of another slot tell nothing.
 * Returns false if that is not known, or if messages may be added untold.
 */
bool
queue_cover_read_news(QueueSlot *then, Oid relid, uint64 *number,
					  RangeSet *set)
{
	QueueSlot  *slot = queue_slot_lock(then, MyDatabaseId, relid);
	bool		is_known;

	if (slot == NULL)
		return false;
	is_known = slot == then && queue_cover_add_news(slot, number, set);
	LWLockRelease(slot->lock);
	return is_known;
}

/* The same for the queue that is there; the slot is locked. */
bool
queue_cover_add_news(QueueSlot *slot, uint64 *number, RangeSet *set)
{
	if (slot->cover.news == NULL || queue_slot_is_deaf(slot) ||
		!queue_news_read(slot->cover.news, *number, set))
		return false;
	*number = queue_news_number(slot->cover.news);
	return true;
}

/*
 * queue_cover_note_news
 *		Note a message that has become available, and is not in the cover: it
 *		waits with its group.
 */
void
queue_cover_note_news(QueueSlot *hint, const MessageKey *key, int rank)
{
	QueueSlot  *slot = queue_slot_lock(hint, key->dbid, key->relid);

	if (slot == NULL)
		return;
	if (slot->cover.priorities_vary)
		for (rank = 0; rank < NUM_RANKS; rank++)
			queue_news_add(slot->cover.news, rank, key->id, key->id);
	else
		queue_news_add(slot->cover.news, rank, key->id, key->id);
	LWLockRelease(slot->lock);
}

/*
 * queue_cover_has
 *		Returns true if the message is covered, busy, or will be found by the
 *		due time in its row (0: none).
 *
 * *is_window_out is set if a window of the queue is out, or somebody is adding
 * what is overdue, which may include it.
 */
bool
queue_cover_has(QueueSlot *slot, int rank, int64 id, TimestampTz visible_at,
				bool *is_window_out)
{
	bool		has;

	LWLockAcquire(slot->lock, LW_SHARED);
	has = queue_ranges_contain(&slot->cover.set, rank, id) ||
		queue_slot_is_sorting_id(slot, rank, id) ||
		queue_ranges_contain(&slot->cover.busy, rank, id) ||
		(visible_at != 0 && slot->cover.delayed_from[rank] <= visible_at);
	*is_window_out = queue_slot_has_window(slot) || slot->cover.noverdue > 0;
	LWLockRelease(slot->lock);
	return has;
}

/*
 * queue_cover_add_below
 *		Add to a set, as ids of rank 0, what is covered or busy of all
 *		priorities, and comes before this id.
 *
 * The slot is locked.
 */
void
queue_cover_add_below(const QueueSlot *slot, int64 id, RangeSet *set)
{
	const RangeSet *parts[] = {&slot->cover.set, &slot->cover.busy};
	int			i;
	int			j;

	for (i = 0; i < lengthof(parts); i++)
		for (j = 0; j < parts[i]->nranges; j++)
			if (parts[i]->ranges[j].low < id)
				queue_ranges_add(set, 0, parts[i]->ranges[j].low,
								 Min(parts[i]->ranges[j].high, id - 1));

	/* somebody is adding messages of which only the index knows which */
	if (slot->cover.noverdue > 0)
		queue_ranges_add(set, 0, PG_INT64_MIN, id - 1);
}

/*
 * queue_cover_gap
 *		Return the first id, from this one on, that the cover does not have,
 *		or PG_INT64_MAX.
 */
int64
queue_cover_gap(QueueSlot *slot, int rank, int64 id)
{
	int64		gap = id;
	int			i;

	LWLockAcquire(slot->lock, LW_SHARED);
	for (i = 0; i < slot->cover.set.nranges; i++)
	{
		const QueueRange *range = &slot->cover.set.ranges[i];

		if (range->rank == rank && range->low <= id && range->high >= id)
			gap = range->high < PG_INT64_MAX ? range->high + 1 : PG_INT64_MAX;
	}
	LWLockRelease(slot->lock);
	return gap;
}

/*
 * queue_cover_first
 *		Return the first covered ids of a priority from this one on; false:
 *		there are none.
 */
bool
queue_cover_first(QueueSlot *slot, int rank, int64 id, QueueRange *range)
{
	bool		found = false;

	LWLockAcquire(slot->lock, LW_SHARED);
	for (int i = 0; i < slot->cover.set.nranges; i++)
	{
		const QueueRange *other = &slot->cover.set.ranges[i];

		if (other->rank != rank || other->high < id ||
			(found && other->low >= range->low))
			continue;
		*range = *other;
		range->low = Max(range->low, id);
		found = true;
	}
	LWLockRelease(slot->lock);
	return found;
}

/*
 * queue_cover_count
 *		Counts for view queue.cover.  The slot is locked.
 */
void
queue_cover_count(const QueueSlot *slot, CoverCounts *counts)
{
	counts->nranges = slot->cover.set.nranges;
	counts->ndelayed = 0;
	for (int rank = 0; rank < NUM_RANKS; rank++)
		if (slot->cover.delayed_from[rank] != TIMESTAMP_INFINITY)
			counts->ndelayed++;
	counts->nbusy = slot->cover.busy.nranges;
	counts->nwindows = queue_slot_nwindows(slot);
	counts->due = slot->cover.first_due;
}

#ifdef USE_ASSERT_CHECKING
/*
 * queue_cover_clear
 *		For tests: cover nothing.  The slot is locked.
 */
void
queue_cover_clear(QueueSlot *slot)
{
	slot->cover.set.nranges = 0;
	slot->cover.busy.nranges = 0;
	for (int rank = 0; rank < NUM_RANKS; rank++)
		slot->cover.delayed_from[rank] = TIMESTAMP_INFINITY;
}
#endif

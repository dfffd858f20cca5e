/*-------------------------------------------------------------------------
 *
 * sort.c
 *		A part of the cover that is on its way into groups.
 *
 * In a queue whose groups take turns a wide range of the cover is gone over
 * group by group.  If there are many, a consumer goes over some of them and
 * puts the rest off for the next one.  A slot has one place for that.
 *
 * The consumer that goes on has the range as its window (window.c), so an
 * error covers it again, and it is gone over anew.
 *
 * Locks: that of the queue's slot.  What if the process dies?  As in cover.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "shared/cover.h"
#include "shared/sort.h"
#include "shared/window.h"

/*
 * queue_sort_rank
 *		Return the rank of what has been put off; NUM_RANKS: nothing has.
 */
int
queue_sort_rank(QueueSlot *hint, Oid relid)
{
	QueueSlot  *slot;
	int			rank = NUM_RANKS;

	if (!queue_slot_is_sorting(hint))
		return NUM_RANKS;
	slot = queue_slot_lock(hint, MyDatabaseId, relid);
	if (slot == NULL)
		return NUM_RANKS;
	if (slot->sort.is_used)
		rank = slot->sort.place.range.rank;
	LWLockRelease(slot->lock);
	return rank;
}

/*
 * queue_sort_put_off
 *		Leave the rest to the next consumer.
 *
 * Returns false, with nothing done, if something else has been put off.
 */
bool
queue_sort_put_off(QueueSlot *hint, Oid relid, const SortPlace *place)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	bool		is_free;

	if (slot == NULL)
		return false;
	is_free = !slot->sort.is_used;
	if (is_free)
	{
		slot->sort.is_used = true;
		slot->sort.place = *place;
	}
	LWLockRelease(slot->lock);
	return is_free;
}

/*
 * queue_sort_resume
 *		Go on with what has been put off: it becomes the window of this
 *		process.
 *
 * Returns false if there is nothing, because another consumer goes on with it.
 */
bool
queue_sort_resume(QueueSlot *hint, Oid relid, SortPlace *place)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	bool		is_there;

	if (slot == NULL)
		return false;
	is_there = slot->sort.is_used;
	if (is_there)
	{
		*place = slot->sort.place;
		slot->sort.is_used = false;
	}
	LWLockRelease(slot->lock);
	return is_there && queue_window_open(slot, relid, &place->range);
}

/*
 * queue_sort_forget
 *		Groups of this queue take no turns any more: cover what has been put
 *		off.
 */
void
queue_sort_forget(QueueSlot *hint, Oid relid)
{
	QueueSlot  *slot = queue_cover_lock(hint, MyDatabaseId, relid);

	if (slot == NULL)
		return;
	if (slot->sort.is_used)
	{
		const QueueRange *range = &slot->sort.place.range;

		queue_cover_put_range_back(slot, range->rank, range->low, range->high);
	}
	slot->sort.is_used = false;
	LWLockRelease(slot->lock);
}

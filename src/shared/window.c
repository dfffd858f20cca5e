/*-------------------------------------------------------------------------
 *
 * window.c
 *		Windows: parts of the cover that consumers take out to scan.
 *
 * A consumer removes its window under the lock and scans it without, so no two
 * consumers scan the same ids.  What it did not take and may be available it
 * gives back; an error on the way gives back the whole window.
 *
 * A process has one window out at a time, and remembers it in its own memory:
 * should it die by kill -9, the server restarts with a cover of everything.
 *
 * Locks: that of the queue's slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/waiter.h"
#include "shared/window.h"

/* Ranges wider than this are probed for their first row, unless it is near */
#define PROBE_WIDTH			1024

#define NO_PLACE			(-1)

/* The window that this process has out */
static bool is_out = false;
static QueueSlot *out_state = NULL;
static Oid	out_relid = InvalidOid;
static QueueRange out;
static uint64 out_number;
static int	out_place;			/* in the slot, or NO_PLACE */

static void take_out(QueueSlot *slot, const QueueRange *range);
static void note_out(QueueSlot *slot);
static void forget_out(QueueSlot *slot);

/*
 * queue_window_begin
 *		Begin to go through the cover of a queue.
 *
 * "state" is NULL if the queue has none; then the windows are all rows, one
 * priority after the other.
 */
void
queue_window_begin(CoverCursor *look, QueueSlot *slot, Oid relid,
				   TimestampTz now)
{
	/* no window is out, unless an error did not run the abort callback */
	queue_window_return();
	look->slot = slot;
	look->relid = relid;
	look->now = now;
	look->rank = 0;
	look->id = PG_INT64_MIN;
	look->found_nothing = false;
	look->probed_rank = -1;
}

/*
 * queue_window_take
 *		Remove the next window, about "want" ids, from the cover.
 *
 * The window has about "first" ids if it is of another priority than the last
 * one.  Returns false if nothing is left.  The caller scans the window and
 * must call queue_window_give_back(); until then an error returns it as a
 * whole.
 *
 * If *needs_probe is set, nothing was removed: the last window had no rows and
 * the range is wide, so the caller first reports where its rows begin
 * (queue_window_probed()).
 *
 * A queue without a slot has nothing to remove from: the windows are its
 * priorities, and none is out.
 */
bool
queue_window_take(CoverCursor *look, int64 want, int64 first,
				  QueueRange *window, bool *needs_probe)
{
	QueueSlot  *slot = NULL;
	QueueRange	range;
	int			i;

	*needs_probe = false;
	if (look->slot != NULL)
		slot = queue_slot_lock(look->slot, MyDatabaseId, look->relid);
	if (slot == NULL)
	{
		/* all rows, a priority at a time */
		if (look->rank > 0 || look->id != PG_INT64_MIN)
			look->rank++;
		if (look->rank >= NUM_RANKS)
			return false;
		look->id = PG_INT64_MAX;
		window->rank = look->rank;
		window->low = PG_INT64_MIN;
		window->high = PG_INT64_MAX;
		return true;
	}

	i = queue_cover_find(slot, look->rank, look->id, look->now, &range);
	if (i < 0)
	{
		LWLockRelease(slot->lock);
		return false;
	}
	if (range.rank != look->rank)
		want = first;
	if (range.rank == look->rank && range.low <= look->id &&
		look->id != PG_INT64_MIN)
		range.low = look->id + 1;
	if ((uint64) range.high - (uint64) range.low >= (uint64) want)
	{
		int64		begin = range.low;

		if ((uint64) range.high - (uint64) range.low > PROBE_WIDTH &&
			look->found_nothing)
		{
			if (look->probed_rank != range.rank ||
				look->probed_low != range.low)
			{
				LWLockRelease(slot->lock);
				*needs_probe = true;
				*window = range;
				return true;
			}
			begin = Max(range.low, look->probed_first);
		}
		if (begin <= range.high &&
			(uint64) range.high - (uint64) begin >= (uint64) want)
			range.high = begin + want - 1;
	}
	queue_cover_cut(slot, i, &range);
	take_out(slot, &range);
	LWLockRelease(slot->lock);

	*window = range;
	return true;
}

/*
 * queue_window_open
 *		Make these ids the window of this process, which has just taken them
 *		out of another part of the slot.
 *
 * No window is out.  Returns false if the queue has no slot any more.
 */
bool
queue_window_open(QueueSlot *hint, Oid relid, const QueueRange *range)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);

	Assert(!is_out);
	if (slot == NULL)
		return false;
	take_out(slot, range);
	LWLockRelease(slot->lock);
	return true;
}

/* Note that this process has a window out.  The slot is locked. */
static void
take_out(QueueSlot *slot, const QueueRange *range)
{
	slot->window.nwindows++;
	is_out = true;
	out = *range;
	out_state = slot;
	out_relid = slot->relid;
	out_number = ++slot->window.nremoved;
	note_out(slot);
}

/*
 * queue_window_peek
 *		Tell of what the next window would be a part; returns false if there is
 *		none.
 *
 * No window is out.
 */
bool
queue_window_peek(CoverCursor *look, QueueRange *range)
{
	QueueSlot  *slot = queue_slot_lock(look->slot, MyDatabaseId, look->relid);
	bool		found;

	if (slot == NULL)
		return false;
	found = queue_cover_find(slot, look->rank, look->id, look->now,
							 range) >= 0;
	LWLockRelease(slot->lock);
	if (found && range->rank == look->rank && look->id != PG_INT64_MIN)
		range->low = Max(range->low, look->id + 1);
	return found;
}

/*
 * note_out
 *		Let others know which ids are out.  The slot is locked, here and below.
 *
 * Without a place the window is one of those of which only the least and the
 * greatest id are known, for as long as there are any.
 */
static void
note_out(QueueSlot *slot)
{
	for (out_place = 0; out_place < OUT_ROOM; out_place++)
	{
		OutWindow  *place = &slot->window.out[out_place];

		if (place->is_used)
			continue;
		place->is_used = true;
		place->rank = out.rank;
		place->low = out.low;
		place->high = out.high;
		return;
	}
	out_place = NO_PLACE;
	if (slot->window.nothers++ == 0)
	{
		slot->window.others_low = out.low;
		slot->window.others_high = out.high;
	}
	slot->window.others_low = Min(slot->window.others_low, out.low);
	slot->window.others_high = Max(slot->window.others_high, out.high);
}

/* It is not out any more. */
static void
forget_out(QueueSlot *slot)
{
	slot->window.nwindows = Max(slot->window.nwindows - 1, 0);
	if (out_place != NO_PLACE)
		slot->window.out[out_place].is_used = false;
	else
		slot->window.nothers = Max(slot->window.nothers - 1, 0);
}

/*
 * queue_window_below
 *		Return in "set", as ids of rank 0, where messages may be that are not
 *		known to be taken, gone, or passed over, and come before this id.
 *
 * That is in the cover, among busy rows, and in windows of other processes.
 */
void
queue_window_below(QueueSlot *hint, Oid relid, int64 id, RangeSet *set)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	int			i;

	if (slot == NULL)
	{
		queue_ranges_add(set, 0, PG_INT64_MIN, id - 1);
		return;
	}
	queue_cover_add_below(slot, id, set);
	for (i = 0; i < OUT_ROOM; i++)
	{
		const OutWindow *place = &slot->window.out[i];

		if (place->is_used && place->low < id &&
			!(is_out && out_state == slot && out_place == i))
			queue_ranges_add(set, 0, place->low, Min(place->high, id - 1));
	}
	if (slot->window.nothers > 0 && slot->window.others_low < id)
		queue_ranges_add(set, 0, slot->window.others_low,
						 Min(slot->window.others_high, id - 1));
	LWLockRelease(slot->lock);
}

/*
 * queue_window_survey
 *		Make a set of where messages may be, for a look that takes no window
 *		out.
 *
 * That is what is covered, and what consumers have out of it; without a slot,
 * everything.  *number is that of the last addition.  Returns the slot, or NULL
 * if nobody will know what is added from now on.
 */
QueueSlot *
queue_window_survey(QueueSlot *hint, Oid relid, RangeSet *set, uint64 *number)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	bool		is_known;

	set->nranges = 0;
	if (slot == NULL)
	{
		queue_ranges_add_all(set);
		return NULL;
	}
	is_known = queue_cover_survey(slot, set, number);
	for (int i = 0; i < OUT_ROOM; i++)
	{
		const OutWindow *place = &slot->window.out[i];

		if (place->is_used)
			queue_ranges_add(set, place->rank, place->low, place->high);
	}
	for (int rank = 0; rank < NUM_RANKS && slot->window.nothers > 0; rank++)
		queue_ranges_add(set, rank, slot->window.others_low,
						 slot->window.others_high);
	LWLockRelease(slot->lock);
	return is_known ? slot : NULL;
}

/*
 * queue_window_probed
 *		Report the first row of a wide range, as queue_window_take() asked for.
 */
void
queue_window_probed(CoverCursor *look, const QueueRange *window, int64 first)
{
	look->probed_rank = window->rank;
	look->probed_low = window->low;
	look->probed_first = first;
}

/*
 * queue_window_narrow
 *		Give back the part of the window beyond "high", because the scan ends
 *		there.
 *
 * Wakes waiters for it that have looked while it was out.  Returns false if no
 * window is out.
 */
bool
queue_window_narrow(int64 high)
{
	QueueSlot  *slot;
	WakeList	wakes;
	uint64		width;

	if (!is_out)
		return false;
	Assert(out.low <= high && high < out.high);
	slot = queue_cover_lock(out_state, MyDatabaseId, out_relid);
	if (slot != NULL)
	{
		width = (uint64) out.high - (uint64) high;
		queue_waiter_start_wakes(&wakes, MyDatabaseId);
		queue_cover_put_range_back(slot, out.rank, high + 1, out.high);
		if (out_place != NO_PLACE)
			slot->window.out[out_place].high = high;
		(void) queue_waiter_pick(slot, (int) Min(width, MAX_WAKES),
								 out_number, &wakes);
		queue_cover_unlock(slot, &wakes);
	}
	out.high = high;
	return true;
}

/*
 * queue_window_give_back
 *		End the scan of a window.
 *
 * The ids "kept" are covered again.  Those "busy" are looked at again later,
 * because they belong to rows that a transaction is changing whose end may go
 * unannounced.  If "wakes", waiters that have looked while the window was out
 * are woken for what was kept.
 */
void
queue_window_give_back(CoverCursor *look, const RangeSet *kept,
					   const RangeSet *busy, bool wakes)
{
	QueueSlot  *slot;
	WakeList	list;

	if (!is_out)
		return;
	look->rank = out.rank;
	look->id = out.high;
	is_out = false;
	slot = queue_cover_lock(out_state, MyDatabaseId, out_relid);
	if (slot == NULL)
		return;
	queue_waiter_start_wakes(&list, MyDatabaseId);
	forget_out(slot);
	queue_cover_put_back(slot, kept);
	if (busy->nranges > 0)
	{
		queue_cover_add_busy(slot, busy, look->now);
		queue_waiter_pick_guardian(slot, &list);
	}
	if (wakes && kept->nranges > 0)
		(void) queue_waiter_pick(slot, queue_ranges_count(kept, MAX_WAKES),
								 out_number, &list);
	queue_cover_unlock(slot, &list);
	queue_cover_request_repair();
}

/*
 * queue_window_return
 *		Give the whole window back, because its (sub)transaction is rolled
 *		back.
 *
 * No allocation, no error: called from callbacks.
 */
void
queue_window_return(void)
{
	QueueSlot  *slot;
	WakeList	list;

	if (!is_out)
		return;
	is_out = false;
	slot = queue_cover_lock(out_state, MyDatabaseId, out_relid);
	if (slot == NULL)
		return;
	queue_waiter_start_wakes(&list, MyDatabaseId);
	forget_out(slot);
	queue_cover_put_range_back(slot, out.rank, out.low, out.high);
	(void) queue_waiter_pick(slot, MAX_WAKES, out_number, &list);
	queue_cover_unlock(slot, &list);
}

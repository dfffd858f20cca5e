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
 * Consumers that want certain messages take windows of what is left to be
 * looked at by their selector (sought.c) in the same way.  What the cover has
 * stays there.
 *
 * Locks: that of the queue's slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/sought.h"
#include "shared/waiter.h"
#include "shared/window.h"

/* Ranges wider than this are probed for their first row, unless it is near */
#define PROBE_WIDTH			1024

#define NO_PLACE			(-1)

/* The window that this process has out */
static bool is_out = false;
static QueueSlot *out_slot = NULL;
static Oid	out_relid = InvalidOid;
static QueueRange out;
static uint64 out_number;
static int	out_place;			/* in the slot, or NO_PLACE */
static bool is_sought;			/* it is not of the cover, but ... */
static SoughtKey out_sought;	/* ... of what is left by this selector */

static int	find_next(CoverCursor *look, QueueSlot *slot, QueueRange *range);
static void cut_out(const CoverCursor *look, QueueSlot *slot, int i,
					const QueueRange *range);
static void take_out(QueueSlot *slot, const QueueRange *range,
					 const SoughtKey *sought);
static void note_out(QueueSlot *slot);
static void forget_out(QueueSlot *slot);
static QueueSlot *lock_out(void);
static void put_back(QueueSlot *slot, const RangeSet *kept,
					 const RangeSet *busy, TimestampTz now, WakeList *wakes);
static void put_range_back(QueueSlot *slot, int64 low, int64 high);
static void unlock_out(QueueSlot *slot, int nwakes, WakeList *wakes);
static bool survey(QueueSlot *slot, RangeSet *set, uint64 *number);

/*
 * queue_window_begin
 *		Begin to go through the cover of a queue.
 *
 * "slot" is NULL if the queue has none; then the windows are all rows, one
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
	look->sought = NULL;
	look->is_sought_elsewhere = false;
}

/*
 * queue_window_seek
 *		Go through what is left to be looked at by a selector.
 *
 * That is brought up to date first.  Returns false, with nothing done, if
 * nobody knows what it is.
 */
bool
queue_window_seek(CoverCursor *look, const SoughtKey *key)
{
	QueueSlot  *slot = NULL;
	Sought	   *sought;
	bool		is_new;

	if (look->slot != NULL)
		slot = queue_slot_lock(look->slot, MyDatabaseId, look->relid);
	if (slot == NULL)
		return false;
	sought = queue_sought_open(slot, key, look->now, &is_new);
	if (sought != NULL &&
		(is_new ||
		 !queue_cover_add_news(slot, &sought->number, &sought->left)) &&
		!survey(slot, &sought->left, &sought->number))
	{
		queue_sought_forget(sought);
		sought = NULL;
	}
	LWLockRelease(slot->lock);
	if (sought != NULL)
		look->sought = key;
	return sought != NULL;
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

	i = find_next(look, slot, &range);
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
	cut_out(look, slot, i, &range);
	take_out(slot, &range, look->sought);
	LWLockRelease(slot->lock);

	*window = range;
	return true;
}

/*
 * find_next
 *		Find the range that the next window is of.
 *
 * Returns its number, or -1 if there is none.  The set of a selector is gone
 * if nobody has looked by it for a while, or if the place was another queue's
 * meanwhile: then the caller looks again.
 */
static int
find_next(CoverCursor *look, QueueSlot *slot, QueueRange *range)
{
	Sought	   *sought;
	int			i = -1;

	if (look->sought == NULL)
		return queue_cover_find(slot, look->rank, look->id, look->now, range);
	sought = queue_sought_find(slot, look->sought);
	if (sought != NULL)
	{
		sought->used_at = GetCurrentTimestamp();
		i = queue_ranges_find(&sought->left, look->rank, look->id);
	}
	if (i >= 0)
		*range = sought->left.ranges[i];
	else
		look->is_sought_elsewhere = sought == NULL || sought->nout > 0;
	return i;
}

/* Remove the window from that range.  The slot is locked. */
static void
cut_out(const CoverCursor *look, QueueSlot *slot, int i,
		const QueueRange *range)
{
	Sought	   *sought;

	if (look->sought == NULL)
	{
		queue_cover_cut(slot, i, range);
		return;
	}
	sought = queue_sought_find(slot, look->sought);
	sought->nout++;
	queue_ranges_cut(&sought->left, i, range->low, range->high);
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
	take_out(slot, range, NULL);
	LWLockRelease(slot->lock);
	return true;
}

/*
 * Note that this process has a window out, of the cover or of what is left by a
 * selector.  The slot is locked.
 */
static void
take_out(QueueSlot *slot, const QueueRange *range, const SoughtKey *sought)
{
	is_out = true;
	out = *range;
	out_slot = slot;
	out_relid = slot->relid;
	out_number = ++slot->window.nremoved;
	out_place = NO_PLACE;
	is_sought = sought != NULL;
	if (is_sought)
		out_sought = *sought;
	else
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
	slot->window.nwindows++;
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
	if (is_sought)
	{
		Sought	   *sought = queue_sought_find(slot, &out_sought);

		if (sought != NULL)
			sought->nout = Max(sought->nout - 1, 0);
		return;
	}
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
			!(is_out && out_slot == slot && out_place == i))
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

	if (slot == NULL)
	{
		queue_ranges_add_all(set);
		return NULL;
	}
	is_known = survey(slot, set, number);
	LWLockRelease(slot->lock);
	return is_known ? slot : NULL;
}

/* The same, with the slot locked */
static bool
survey(QueueSlot *slot, RangeSet *set, uint64 *number)
{
	bool		is_known;

	set->nranges = 0;
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
	return is_known;
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
	slot = lock_out();
	if (slot != NULL)
	{
		width = (uint64) out.high - (uint64) high;
		queue_waiter_start_wakes(&wakes, MyDatabaseId);
		put_range_back(slot, high + 1, out.high);
		if (out_place != NO_PLACE)
			slot->window.out[out_place].high = high;
		unlock_out(slot, (int) Min(width, MAX_WAKES), &wakes);
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
	slot = lock_out();
	if (slot == NULL)
		return;
	queue_waiter_start_wakes(&list, MyDatabaseId);
	forget_out(slot);
	put_back(slot, kept, busy, look->now, &list);
	unlock_out(slot, wakes ? queue_ranges_count(kept, MAX_WAKES) : 0, &list);
	queue_cover_request_repair();
}

/* Lock the slot that the window is of; NULL: it has none any more. */
static QueueSlot *
lock_out(void)
{
	if (is_sought)
		return queue_slot_lock(out_slot, MyDatabaseId, out_relid);
	return queue_cover_lock(out_slot, MyDatabaseId, out_relid);
}

/*
 * put_back
 *		Put ids back where the window was taken from.
 *
 * A look by a selector looks at busy rows again by itself.
 */
static void
put_back(QueueSlot *slot, const RangeSet *kept, const RangeSet *busy,
		 TimestampTz now, WakeList *wakes)
{
	if (is_sought)
	{
		Sought	   *sought = queue_sought_find(slot, &out_sought);

		if (sought == NULL)
			return;
		queue_ranges_add_set(&sought->left, kept);
		queue_ranges_add_set(&sought->left, busy);
		return;
	}
	queue_cover_put_back(slot, kept);
	if (busy->nranges > 0)
	{
		queue_cover_add_busy(slot, busy, now);
		queue_waiter_pick_guardian(slot, wakes);
	}
}

/* The same for some of its ids */
static void
put_range_back(QueueSlot *slot, int64 low, int64 high)
{
	Sought	   *sought;

	if (!is_sought)
	{
		queue_cover_put_range_back(slot, out.rank, low, high);
		return;
	}
	sought = queue_sought_find(slot, &out_sought);
	if (sought != NULL)
		queue_ranges_add(&sought->left, out.rank, low, high);
}

/*
 * unlock_out
 *		Release the slot; wake up to so many waiters that have looked while the
 *		window was out.
 *
 * Of those that want certain messages it is not known how many want these.
 */
static void
unlock_out(QueueSlot *slot, int nwakes, WakeList *wakes)
{
	if (nwakes > 0 && is_sought)
	{
		queue_waiter_unlock_sought(slot, out_number, wakes);
		return;
	}
	(void) queue_waiter_pick(slot, nwakes, out_number, wakes);
	queue_cover_unlock(slot, wakes);
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
	slot = lock_out();
	if (slot == NULL)
		return;
	queue_waiter_start_wakes(&list, MyDatabaseId);
	forget_out(slot);
	put_range_back(slot, out.low, out.high);
	unlock_out(slot, MAX_WAKES, &list);
}

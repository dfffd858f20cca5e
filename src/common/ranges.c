/*-------------------------------------------------------------------------
 *
 * ranges.c
 *		Sets of message ids that take a fixed amount of memory.
 *
 * A set says where to look, so it may say too much, and never too little.
 * That is why a fixed size is enough: when there is no room for another range,
 * the two neighbours with the smallest gap between them become one.  Nothing
 * here allocates or fails.
 *
 * The sets are small, and new ids come at the end, so they are sorted arrays.
 * The callers do the locking.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/ranges.h"

static bool is_before(const QueueRange *a, const QueueRange *b);
static void close_smallest_gap(RangeSet *set);
static void remove_range(RangeSet *set, int i);

/*
 * queue_ranges_init
 *		Make an empty set; "ranges" has RANGE_PLACES(room) places.
 */
void
queue_ranges_init(RangeSet *set, QueueRange *ranges, int room)
{
	Assert(room > NUM_RANKS);
	set->nranges = 0;
	set->room = room;
	set->ranges = ranges;
}

/* Is there room for an id between them, or another priority? */
static bool
is_before(const QueueRange *a, const QueueRange *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank;
	return a->high < b->low && a->high + 1 < b->low;
}

/*
 * queue_ranges_add
 *		Add the ids from "low" to "high" of one priority.
 *
 * Never fails: if there is no room, two neighbours of one priority become one
 * range that covers what is between them, too.
 */
void
queue_ranges_add(RangeSet *set, int rank, int64 low, int64 high)
{
	QueueRange	added = {rank, low, high};
	int			first;
	int			next;

	Assert(low <= high);

	/* ranges from "first" up to "next" overlap or touch it */
	for (first = set->nranges; first > 0; first--)
		if (is_before(&set->ranges[first - 1], &added))
			break;
	for (next = first; next < set->nranges; next++)
	{
		const QueueRange *range = &set->ranges[next];

		if (is_before(&added, range))
			break;
		added.low = Min(added.low, range->low);
		added.high = Max(added.high, range->high);
	}
	memmove(&set->ranges[first + 1], &set->ranges[next],
			(set->nranges - next) * sizeof(QueueRange));
	set->ranges[first] = added;
	set->nranges += first + 1 - next;
	if (set->nranges > set->room)
		close_smallest_gap(set);
}

/* Merge the two neighbours of one priority with the smallest gap. */
static void
close_smallest_gap(RangeSet *set)
{
	uint64		smallest = PG_UINT64_MAX;
	int			best = -1;
	int			i;

	for (i = 0; i < set->nranges - 1; i++)
	{
		uint64		gap;

		if (set->ranges[i].rank != set->ranges[i + 1].rank)
			continue;
		gap = (uint64) set->ranges[i + 1].low - (uint64) set->ranges[i].high;
		if (best < 0 || gap < smallest)
		{
			best = i;
			smallest = gap;
		}
	}
	/* more ranges than priorities: two of them have the same */
	Assert(best >= 0);
	set->ranges[best].high = set->ranges[best + 1].high;
	remove_range(set, best + 1);
}

/* Remove the i-th range. */
static void
remove_range(RangeSet *set, int i)
{
	memmove(&set->ranges[i], &set->ranges[i + 1],
			(set->nranges - i - 1) * sizeof(QueueRange));
	set->nranges--;
}

/* Add all ids of another set. */
void
queue_ranges_add_set(RangeSet *set, const RangeSet *added)
{
	int			i;

	for (i = 0; i < added->nranges; i++)
		queue_ranges_add(set, added->ranges[i].rank, added->ranges[i].low,
						 added->ranges[i].high);
}

/* Make it the set of every possible id. */
void
queue_ranges_add_all(RangeSet *set)
{
	int			rank;

	set->nranges = 0;
	for (rank = 0; rank < NUM_RANKS; rank++)
		queue_ranges_add(set, rank, PG_INT64_MIN, PG_INT64_MAX);
}

/* Returns true if the set has this id of this priority. */
bool
queue_ranges_contain(const RangeSet *set, int rank, int64 id)
{
	int			i;

	for (i = 0; i < set->nranges; i++)
		if (set->ranges[i].rank == rank && set->ranges[i].low <= id &&
			set->ranges[i].high >= id)
			return true;
	return false;
}

/*
 * queue_ranges_find
 *		Return the first range that has something beyond (rank, id), or -1.
 */
int
queue_ranges_find(const RangeSet *set, int rank, int64 id)
{
	int			i;

	for (i = 0; i < set->nranges; i++)
		if (set->ranges[i].rank > rank ||
			(set->ranges[i].rank == rank && set->ranges[i].high > id))
			return i;
	return -1;
}

/*
 * queue_ranges_cut
 *		Take the ids from "low" to "high" out of the i-th range, which
 *		includes them.
 *
 * What is left of it may be two ranges, so neighbours may have to merge as in
 * queue_ranges_add().
 */
void
queue_ranges_cut(RangeSet *set, int i, int64 low, int64 high)
{
	QueueRange	range = set->ranges[i];

	Assert(range.low <= low && low <= high && high <= range.high);
	if (low > range.low)
	{
		set->ranges[i].high = low - 1;
		if (high < range.high)
			queue_ranges_add(set, range.rank, high + 1, range.high);
	}
	else if (high < range.high)
		set->ranges[i].low = high + 1;
	else
		remove_range(set, i);
}

/* Return the number of ids, or "limit" if that is less. */
int
queue_ranges_count(const RangeSet *set, int limit)
{
	int64		n = 0;
	int			i;

	for (i = 0; i < set->nranges && n < limit; i++)
	{
		uint64		width = (uint64) set->ranges[i].high -
			(uint64) set->ranges[i].low;

		n += width < (uint64) limit ? (int64) width + 1 : limit;
	}
	return (int) Min(n, limit);
}

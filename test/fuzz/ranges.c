/*-------------------------------------------------------------------------
 *
 * ranges.c
 *		Any sequence of operations on a set of ranges.
 *
 * A set never lacks an id that was added and not cut out.  It has no other as
 * long as there was room.  Its ranges are in order and do not touch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/ranges.h"
#include "fuzz.h"

#define ROOM	(NUM_RANKS + 2)

/* ids of which each is in the set or not: the ends of all and some between */
#define NUM_IDS	48
#define THIRD	(NUM_IDS / 3)

#define MAX_OPERATIONS	40

static QueueRange ranges[RANGE_PLACES(ROOM)];
static RangeSet set;
static bool has[NUM_RANKS][NUM_IDS];

/* is it certain that there is nothing else in the set? */
static bool is_exact;

static int64
id_of(int i)
{
	if (i < THIRD)
		return PG_INT64_MIN + i;
	if (i < 2 * THIRD)
		return i - THIRD - 3;
	return PG_INT64_MAX - (NUM_IDS - 1 - i);
}

/* Look at the ranges, and at the ids of one priority; return how many. */
static int
check(int rank)
{
	int			n = 0;
	int			i;

	REQUIRE(set.nranges >= 0 && set.nranges <= ROOM);
	for (i = 0; i < set.nranges; i++)
	{
		const QueueRange *range = &ranges[i];

		REQUIRE(range->low <= range->high);
		if (i > 0)
			REQUIRE(range->rank > range[-1].rank ||
					(range->rank == range[-1].rank &&
					 range[-1].high < range->low - 1));
	}
	for (i = 0; i < NUM_IDS; i++)
	{
		bool		found = queue_ranges_contain(&set, rank, id_of(i));

		REQUIRE(found || !has[rank][i]);
		REQUIRE(!found || has[rank][i] || !is_exact);
		n += has[rank][i] ? 1 : 0;
	}
	return n;
}

/* Add or cut out what is between two of the ids. */
static void
add(int rank, int from, int to)
{
	int			i;

	if (set.nranges >= ROOM)
		is_exact = false;
	queue_ranges_add(&set, rank, id_of(from), id_of(to));
	for (i = from; i <= to; i++)
		has[rank][i] = true;
}

static void
cut(int rank, int from, int to)
{
	int			i = queue_ranges_find(&set, rank, id_of(from));
	int64		low;
	int64		high;

	if (i < 0)
	{
		for (i = 0; i < set.nranges; i++)
			REQUIRE(ranges[i].rank < rank || (ranges[i].rank == rank &&
											  ranges[i].high <= id_of(from)));
		return;
	}
	if (ranges[i].rank != rank)
		return;
	low = Max(ranges[i].low, id_of(from));
	high = Min(ranges[i].high, id_of(to));
	if (low > high)
		return;
	if (set.nranges >= ROOM)
		is_exact = false;
	queue_ranges_cut(&set, i, low, high);
	for (i = from; i <= to; i++)
		if (id_of(i) >= low && id_of(i) <= high)
			has[rank][i] = false;
}

/*
 * Three bytes an operation: which, on what priority, and two ids.  So many as
 * fill a set some times over.
 */
int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	int			n = 0;
	int			i;

	queue_ranges_init(&set, ranges, ROOM);
	memset(has, false, sizeof(has));
	is_exact = true;
	size = Min(size, 3 * MAX_OPERATIONS);
	for (; size >= 3; data += 3, size -= 3)
	{
		int			rank = (data[0] >> 2) % NUM_RANKS;
		int			from = Min(data[1] % NUM_IDS, data[2] % NUM_IDS);
		int			to = Max(data[1] % NUM_IDS, data[2] % NUM_IDS);

		if ((data[0] & 3) == 3 && data[1] == 255)
		{
			queue_ranges_add_all(&set);
			memset(has, true, sizeof(has));
		}
		else if ((data[0] & 3) == 3)
			cut(rank, from, to);
		else
			add(rank, from, (data[0] & 1) ? from : to);
		(void) check(rank);
	}
	for (i = 0; i < NUM_RANKS; i++)
		n += check(i);
	REQUIRE(queue_ranges_count(&set, 10) >= Min(n, 10));
	return 0;
}

/*-------------------------------------------------------------------------
 *
 * news.c
 *		Asks src/shared/news.c at every point for what was added since.
 *
 * Ids are added at random, most of them rising, as messages are sent, some of
 * them old ones, as messages come back.  Whoever asks must be told of each
 * addition that came after the point that he names, and, as long as ids rise,
 * not of many more than twice as many ids.  Only the sets of ids are linked
 * with it.  The last line of the output is "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <assert.h>

#include "storage/shmem.h"

#include "common/guc.h"
#include "shared/news.h"

#undef Assert
#define Assert(condition)	assert(condition)
#include "common/ranges.c"

/* no server, no library of its: the C library's will do */
#undef printf
#undef fprintf

#define NADDITIONS		6000
#define ROOM			256

int			queue_max_queues = 16;

typedef struct Addition
{
	int			rank;
	int64		low;
	int64		high;
	uint64		number;
} Addition;

static Addition additions[NADDITIONS];
static QueueRange ranges[RANGE_PLACES(ROOM)];
static int	npassed = 0;
static int	nfailed = 0;

/* What news.c and ranges.c want of the server */
void *
ShmemInitStruct(const char *name, Size size, bool *foundPtr)
{
	*foundPtr = false;
	return malloc(size);
}

Size
add_size(Size s1, Size s2)
{
	return s1 + s2;
}

Size
mul_size(Size s1, Size s2)
{
	return s1 * s2;
}

/* Assertions of news.c; the server's function for them differs by release */
void		assertion_failed(void) __asm__("ExceptionalCondition");

void
assertion_failed(void)
{
	abort();
}

static void
check(bool is_right, const char *name)
{
	if (is_right)
		npassed++;
	else
	{
		nfailed++;
		printf("FAILED: %s\n", name);
	}
}

static void
add(NewsLog *log, int i, int rank, int64 low, int64 high)
{
	additions[i] = (Addition)
	{
		rank, low, high, 0
	};
	queue_news_add(log, rank, low, high);
	additions[i].number = queue_news_number(log);
}

/* Are all that came after the i-th told, and not much more? */
static bool
is_told(const NewsLog *log, int i, int n, bool is_tight)
{
	RangeSet	set;
	int64		width = 0;

	queue_ranges_init(&set, ranges, ROOM);
	if (!queue_news_read(log, additions[i].number, &set))
		return false;
	for (int j = i + 1; j < n; j++)
		if (!queue_ranges_contain(&set, additions[j].rank, additions[j].low) ||
			!queue_ranges_contain(&set, additions[j].rank, additions[j].high))
			return false;
	for (int j = 0; j < set.nranges; j++)
		width += set.ranges[j].high - set.ranges[j].low + 1;
	return !is_tight || width <= 3 * (n - 1 - i) + 4;
}

static void
play(NewsLog *log, bool comes_back, const char *name)
{
	bool		is_right = true;

	queue_news_restart(log);
	for (int i = 0; i < NADDITIONS; i++)
	{
		int			rank = comes_back ? rand() % NUM_RANKS : 5;
		int64		id = 1000 + i;

		if (comes_back && rand() % 4 == 0)
			add(log, i, rank, rand() % id, id + rand() % 3);
		else
			add(log, i, rank, id, id);
		if (rand() % 50 == 0)
			is_right = is_right && is_told(log, rand() % (i + 1), i + 1, false);
		if (i > 0)
			is_right = is_right &&
				is_told(log, i - 1 - rand() % Min(i, 1000), i + 1, !comes_back);
	}
	check(is_right, name);
}

int
main(void)
{
	NewsLog    *log;
	RangeSet	set;
	uint64		number;
	int			nlogs = 1;

	queue_news_shmem_init();
	log = queue_news_make();
	check(log != NULL, "there is a log");
	play(log, false, "ids that rise");
	play(log, true, "ids that come back");

	number = queue_news_number(log);
	queue_ranges_init(&set, ranges, ROOM);
	check(queue_news_read(log, number, &set) && set.nranges == 0,
		  "nothing is new");
	queue_news_add(log, 3, PG_INT64_MIN, PG_INT64_MAX);
	check(queue_news_read(log, number, &set) && set.nranges == 1 &&
		  set.ranges[0].low == PG_INT64_MIN &&
		  set.ranges[0].high == PG_INT64_MAX, "everything is");
	queue_news_restart(log);
	check(!queue_news_read(log, number, &set), "that of another queue");
	queue_news_add(NULL, 0, 1, 1);
	while (queue_news_make() != NULL)
		nlogs++;
	check(nlogs == 64, "so many logs, and no more");
	printf("%d passed, %d failed\n", npassed, nfailed);
	return nfailed == 0 ? 0 : 1;
}

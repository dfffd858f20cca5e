/*-------------------------------------------------------------------------
 *
 * news.c
 *		What has been added to the cover of a queue lately.
 *
 * A session that takes messages by a selector remembers what it has passed
 * over, and looks at that again only if it is news: added to the cover since.
 * So it needs not what is covered, but what was added after a point in time of
 * its own.  This log tells, of any point, in a fixed amount of memory.
 *
 * The log has two entries of each level.  A new addition is one of level 0; if
 * a level has a third, its two oldest become one of the next level, that is, a
 * range around both.  So a look that has missed n additions reads ranges
 * around 2n of them at most.  Too much is never wrong: it is looked at again.
 *
 * Ids mostly rise, and then such ranges are tight.  What comes back (a failure,
 * the end of a lease) has an old id, and goes into a part of its own, or it
 * would make one wide range of everything.
 *
 * The slot of a queue (queue_slot.c) gets a log with the first look by a
 * selector and keeps it, whatever queue it is given to later.  Others have
 * none, and additions cost them nothing.  There is room for one in sixteen.
 *
 * Locks: that of the queue's slot.  What if the process dies?  Nothing is
 * pending here.  What if memory is full?  Without a log sessions remember
 * nothing, and pass over everything in each look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/news.h"

/* Entries of a part: two a level, and a third while it is added to */
#define NUM_LEVELS			12
#define PART_ROOM			(2 * NUM_LEVELS + 1)

/* How far below the highest id an addition may be and count as new */
#define NEAR_HIGHEST		4096

#define QUEUES_A_LOG		16
#define MIN_LOGS			64

typedef struct NewsEntry
{
	uint64		number;			/* of the last addition in it */
	int64		low;
	int64		high;
	int16		ranks;			/* a bit for each */
	int16		level;
} NewsEntry;

/* In order of time */
typedef struct NewsPart
{
	int			n;
	NewsEntry	entries[PART_ROOM];
} NewsPart;

struct NewsLog
{
	uint64		number;			/* of the last addition; never starts anew */
	uint64		first;			/* of what was added after this the log knows */
	int64		highest;		/* id that was added */
	NewsPart	rising;
	NewsPart	others;
};

typedef struct NewsShared
{
	pg_atomic_uint32 nused;
	NewsLog		logs[FLEXIBLE_ARRAY_MEMBER];
} NewsShared;

static NewsShared *shared = NULL;

static void add(NewsPart *part, const NewsEntry *entry);
static void merge(NewsPart *part, int i);
static void read_part(const NewsPart *part, uint64 number, RangeSet *set);

/* Places for queues that can have a log */
int
queue_news_num_logs(void)
{
	return Max(queue_max_queues / QUEUES_A_LOG, MIN_LOGS);
}

/* Shared memory needed */
Size
queue_news_shmem_size(void)
{
	return add_size(offsetof(NewsShared, logs),
					mul_size(queue_news_num_logs(), sizeof(NewsLog)));
}

/* Create or attach to the logs.  The caller holds AddinShmemInitLock. */
void
queue_news_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue news", queue_news_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, queue_news_shmem_size());
		pg_atomic_init_u32(&shared->nused, 0);
	}
}

/*
 * queue_news_make
 *		Return a log that no slot has, which is that of the caller's from now
 *		on, or NULL.
 */
NewsLog *
queue_news_make(void)
{
	uint32		i = pg_atomic_read_u32(&shared->nused);

	while (i < queue_news_num_logs())
		if (pg_atomic_compare_exchange_u32(&shared->nused, &i, i + 1))
		{
			queue_news_restart(&shared->logs[i]);
			return &shared->logs[i];
		}
	return NULL;
}

/*
 * queue_news_restart
 *		The slot is another queue's now.
 *
 * What a session remembers of the one before is older than what this log
 * knows.  NULL is no log.
 */
void
queue_news_restart(NewsLog *log)
{
	if (log == NULL)
		return;
	log->first = ++log->number;
	log->highest = PG_INT64_MIN;
	log->rising.n = 0;
	log->others.n = 0;
}

/* Note ids that are added to the cover.  NULL is no log. */
void
queue_news_add(NewsLog *log, int rank, int64 low, int64 high)
{
	NewsEntry	entry = {0};

	if (log == NULL)
		return;
	entry.number = ++log->number;
	entry.low = low;
	entry.high = high;
	entry.ranks = 1 << rank;
	if (high == PG_INT64_MAX || (log->highest > PG_INT64_MIN + NEAR_HIGHEST &&
								 low < log->highest - NEAR_HIGHEST))
		add(&log->others, &entry);
	else
	{
		log->highest = Max(log->highest, high);
		add(&log->rising, &entry);
	}
}

/* The same for all of a set */
void
queue_news_add_set(NewsLog *log, const RangeSet *set)
{
	for (int i = 0; log != NULL && i < set->nranges; i++)
		queue_news_add(log, set->ranges[i].rank, set->ranges[i].low,
					   set->ranges[i].high);
}

/* Add an entry, and merge as long as a level has three. */
static void
add(NewsPart *part, const NewsEntry *entry)
{
	int			end = part->n;	/* of a level's entries */

	part->entries[part->n++] = *entry;
	end = part->n;
	for (int level = 0; level < NUM_LEVELS; level++)
	{
		int			first = end;

		while (first > 0 && part->entries[first - 1].level == level)
			first--;
		if (end - first < 3)
			break;
		merge(part, first);
		part->entries[first].level = Min(level + 1, NUM_LEVELS - 1);
		end = first + 1;
	}
}

/* Make one entry of the i-th and the next one. */
static void
merge(NewsPart *part, int i)
{
	NewsEntry  *entry = &part->entries[i];
	const NewsEntry *next = &part->entries[i + 1];

	entry->number = next->number;
	entry->low = Min(entry->low, next->low);
	entry->high = Max(entry->high, next->high);
	entry->ranks |= next->ranks;
	memmove(&part->entries[i + 1], &part->entries[i + 2],
			(part->n - i - 2) * sizeof(NewsEntry));
	part->n--;
}

/* Return the number of the last addition. */
uint64
queue_news_number(const NewsLog *log)
{
	return log->number;
}

/*
 * queue_news_read
 *		Add to a set what was added after the addition of this number.
 *
 * Returns false if the log does not reach back to it.
 */
bool
queue_news_read(const NewsLog *log, uint64 number, RangeSet *set)
{
	if (number < log->first)
		return false;
	read_part(&log->rising, number, set);
	read_part(&log->others, number, set);
	return true;
}

static void
read_part(const NewsPart *part, uint64 number, RangeSet *set)
{
	for (int i = part->n - 1; i >= 0; i--)
	{
		const NewsEntry *entry = &part->entries[i];

		if (entry->number <= number)
			break;
		for (int rank = 0; rank < NUM_RANKS; rank++)
			if ((entry->ranks & (1 << rank)) != 0)
				queue_ranges_add(set, rank, entry->low, entry->high);
	}
}

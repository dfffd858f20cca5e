/*-------------------------------------------------------------------------
 *
 * counter_rows.c
 *		Plays counts of a queue's rows against what src/shared/counter_rows.c makes
 *		of them.
 *
 * Whatever may have made the numbers wrong must have the rows counted at once,
 * until a count that began after it is finished; neither one that began before,
 * nor one that was given up, nor the taking off of what has fallen due may end
 * that.  Only the counters are linked with it.  The last line of the output is
 * "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <assert.h>

#include "storage/lwlock.h"
#include "utils/timestamp.h"

#undef Assert
#define Assert(condition)	assert(condition)
#include "shared/counters.c"

/* no server, no library of its: the C library's will do */
#undef printf
#undef fprintf

#define DATABASE		1
#define QUEUE			4711

static QueueSlot queue;
static LWLock lock;
static TimestampTz clock_now = 1000 * USECS_PER_SEC;
static int	npassed = 0;
static int	nfailed = 0;

/* What the counters want of the server */
bool
LWLockAcquire(LWLock *it, LWLockMode mode)
{
	return true;
}

void
LWLockRelease(LWLock *it)
{
}

TimestampTz
GetCurrentTimestamp(void)
{
	return clock_now;
}

const SavedCounters *
queue_saved_take(Oid dbid, Oid relid)
{
	return NULL;
}

/* Assertions of counter_rows.c; the server's function differs by release */
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

/* Is it to be counted, as soon as the last count allows? */
static bool
is_wanted(void)
{
	clock_now += 2 * USECS_PER_SEC;
	return queue_counters_count_at(&queue) <= clock_now;
}

/* Count, and find this. */
static void
finish(const CounterStart *start, int64 nrows, int64 ndelayed)
{
	CounterRows rows = {.rows = nrows,.later = {ndelayed, 0}};

	queue_counters_set(&queue, QUEUE, start, &rows, 0);
}

static void
count(int64 nrows, int64 ndelayed)
{
	CounterStart start;

	queue_counters_start(&queue, clock_now, &start);
	finish(&start, nrows, ndelayed);
}

static CounterValues
shown(void)
{
	CounterValues values;

	queue_counters_read(&queue, clock_now, false, &values);
	return values;
}

/* So many messages are sent, that are due in ten seconds. */
static void
send_delayed(int n)
{
	CounterChange change = {.sent = n};

	queue_counters_note_later(&change.come[LATER_DELAYED], n,
							  clock_now + 10 * USECS_PER_SEC);
	queue_counters_commit(&queue, DATABASE, QUEUE, &change);
}

/* A count that took long, after which the next one rests */
static void
play_rest(void)
{
	CounterStart start;
	CounterRows rows = {.rows = 10};

	queue_counters_start(&queue, clock_now, &start);
	queue_counters_set(&queue, QUEUE, &start, &rows, 5 * USECS_PER_SEC);
	queue_counters_doubt(&queue);
	check(!is_wanted(), "a doubt after a count that took long");
	queue_counters_doubt_all(&queue);
	check(is_wanted(), "one of everything");
	queue_counters_start(&queue, clock_now, &start);
	queue_counters_set(&queue, QUEUE, &start, &rows, 5 * USECS_PER_SEC);
	queue_counters_forget(&queue);
	check(is_wanted(), "TRUNCATE after a count that took long");
	count(10, 0);
}

/* Doubts while a count is under way, and one that is given up */
static void
play_counts(void)
{
	CounterStart start;

	queue_counters_doubt(&queue);
	check(is_wanted(), "a doubt");
	queue_counters_start(&queue, clock_now, &start);
	check(is_wanted(), "a count that has begun ends no doubt");
	queue_counters_doubt(&queue);
	finish(&start, 11, 0);
	check(shown().rows == 11, "what it found is said");
	check(is_wanted(), "the doubt that was raised meanwhile is left");
	count(12, 0);
	check(!is_wanted(), "... and ended by the next one");

	/* one that is given up has moved the time on */
	send_delayed(2);
	check(shown().rows == 14 && shown().later[LATER_DELAYED] == 2,
		  "two are delayed");
	clock_now += 11 * USECS_PER_SEC;
	queue_counters_start(&queue, clock_now, &start);
	check(queue_counters_next_due(&queue) == DT_NOEND, "nobody takes them off");
	check(is_wanted(), "so a count that is given up is made again");
	count(14, 0);
	check(shown().later[LATER_DELAYED] == 0, "... and finds that they are due");
	check(!is_wanted(), "... which is all");
}

/* What has fallen due is taken off, which ends no doubt of others. */
static void
play_due(void)
{
	const int64 two[NUM_LATER] = {2, 0};
	const int64 none[NUM_LATER] = {0};
	uint64		doubt;

	send_delayed(2);
	clock_now += 11 * USECS_PER_SEC;
	(void) queue_counters_begin_due(&queue, clock_now, &doubt);
	check(is_wanted(), "what has fallen due is about to be taken off");
	queue_counters_end_due(&queue, doubt, two);
	check(shown().later[LATER_DELAYED] == 0, "they are taken off");
	check(!is_wanted(), "... and nothing is in doubt");

	queue_counters_doubt(&queue);
	(void) queue_counters_begin_due(&queue, clock_now, &doubt);
	queue_counters_end_due(&queue, doubt, none);
	check(is_wanted(), "a doubt that was there before stays");
	count(16, 0);
	(void) queue_counters_begin_due(&queue, clock_now, &doubt);
	queue_counters_doubt(&queue);
	queue_counters_end_due(&queue, doubt, none);
	check(is_wanted(), "... and one that came meanwhile");
	count(16, 0);
	check(!is_wanted(), "until they are counted");
}

/* Two at once: the second knows less of what the first has set; TRUNCATE. */
static void
play_others(void)
{
	CounterStart start;
	CounterStart other;

	queue_counters_start(&queue, clock_now, &start);
	queue_counters_doubt(&queue);
	queue_counters_start(&queue, clock_now, &other);
	finish(&start, 17, 0);
	finish(&other, 18, 0);
	check(shown().rows == 17, "the first count holds");
	check(is_wanted(), "... and ends no doubt that it did not know");

	queue_counters_start(&queue, clock_now, &start);
	queue_counters_forget(&queue);
	finish(&start, 18, 0);
	check(!shown().is_counted && is_wanted(), "a truncated table is counted");
}

int
main(void)
{
	queue.lock = &lock;
	queue.dbid = DATABASE;
	queue.relid = QUEUE;
	queue_counters_init(&queue);
	queue_counters_begin(&queue, DATABASE, QUEUE);
	check(is_wanted(), "a queue that was never counted");
	check(!shown().is_counted, "nothing is said of it");
	count(10, 0);
	check(!is_wanted(), "it is counted");
	check(shown().rows == 10, "there are so many");

	play_counts();
	play_due();
	play_others();
	play_rest();
	printf("%d passed, %d failed\n", npassed, nfailed);
	return nfailed == 0 ? 0 : 1;
}

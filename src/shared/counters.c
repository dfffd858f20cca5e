/*-------------------------------------------------------------------------
 *
 * counters.c
 *		What has happened to the messages of a queue, and how many there are.
 *
 * Each transaction notes what it does to a queue (charge.c), and its commit adds
 * that here, with a few atomic additions: no lock, nothing looked up, nothing
 * allocated.  What is delivered is added by the call that delivers, for all of
 * its messages together.  Senders, consumers that take and consumers that commit
 * add on cache lines of their own.
 *
 * How many messages there are is what was counted last, and what was sent since,
 * less what has gone.  Plain DELETE, TRUNCATE, replica role and triggers that
 * are disabled pass this by; so the worker counts the rows now and then
 * (worker/tally.c), and sets the difference.
 *
 * What is not due is counted when it is sent.  There is one time a queue up to
 * which what has fallen due has been taken off; the worker moves it on, and
 * takes off what lies between.  A message whose due time is before is never
 * counted, and never taken off.
 *
 * What if this process dies here?  After an error nothing was added, because
 * only the end of a transaction does.  A crash loses all numbers: they begin
 * with zero, and how many messages there are is not known until the worker has
 * counted them.  A clean stop of the server keeps them (saved_counters.c).
 *
 * What if the message commits here?  What a transaction did is visible before
 * it is added; a count of the rows says how it deals with that.
 *
 * What if memory is full?  A queue without a slot is not counted.
 *
 * The slot may have been given to another queue, so a process that adds
 * compares the table first.  That is unlocked: at worst one number is wrong by
 * what one transaction did to a table that was just dropped.
 *
 * Locks: none for the numbers, which are atomic; the slot's for the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/counters.h"
#include "shared/saved_counters.h"

/* Rates are of at least the last minute, and at most one interval more */
#define RATE_TIME			(60 * USECS_PER_SEC)
#define SAMPLE_INTERVAL		(10 * USECS_PER_SEC)

/* Times of one queue, which are to be added */
typedef struct Noted
{
	QueueSlot  *slot;			/* NULL: none */
	Oid			relid;
	Counter		first;
	uint32		is_used;		/* a bit for each bucket that is not 0 */
	int64		n[NUM_BUCKETS];
} Noted;

static Noted noted;

static void merge_later(LaterChange *to, const LaterChange *change);
static int	bucket_of(int64 usec);
static bool is_shown(int i, bool with_processing);
static void rate_totals(const int64 *n, int64 *totals);
static void add_sample(CounterPart *counters, TimestampTz now,
					   const int64 *totals);
static void compute_rates(const CounterPart *counters, TimestampTz now,
						  const int64 *totals, double *rates);

/* ----------------------------------------------------------------
 *		A slot is given to a queue.  It is locked
 * ----------------------------------------------------------------
 */

/* Make the numbers of a slot. */
void
queue_counters_init(QueueSlot *slot)
{
	for (int i = 0; i < NUM_COUNTERS; i++)
		pg_atomic_init_u64(&slot->counters.n[i], 0);
	pg_atomic_init_u64(&slot->counters.due_until, 0);
	pg_atomic_init_u64(&slot->counters.next_due, 0);
	pg_atomic_init_u64(&slot->counters.ndoubts, 0);
}

/*
 * queue_counters_begin
 *		Begin with what is kept of the queue since the last stop of the server,
 *		or with nothing.
 *
 * What was prepared before that ends untold: the next count sees it.
 */
void
queue_counters_begin(QueueSlot *slot, Oid dbid, Oid relid)
{
	CounterPart *counters = &slot->counters;
	TimestampTz now = GetCurrentTimestamp();
	const SavedCounters *saved = queue_saved_take(dbid, relid);
	int64		totals[NUM_RATES];

	for (int i = 0; i < NUM_COUNTERS; i++)
	{
		pg_atomic_write_u64(&counters->n[i], saved ? saved->n[i] : 0);
		counters->base[i] = saved ? saved->base[i] : 0;
	}
	pg_atomic_write_u64(&counters->due_until, saved ? saved->due_until : now);
	pg_atomic_write_u64(&counters->next_due, 0);	/* not known */
	counters->reset_at = saved ? saved->reset_at : now;
	counters->rows = saved ? saved->rows : 0;
	counters->bytes = saved ? saved->bytes : 0;
	counters->exhausted = saved ? saved->exhausted : 0;
	counters->recovered = 0;
	counters->is_recovered = false;
	counters->counted_at = saved ? saved->counted_at : 0;
	counters->oldest_at = saved ? saved->oldest_at : 0;
	counters->count_at = 0;
	counters->ncounts++;

	/* without what was saved the rows are counted anyway */
	counters->counted_doubts = pg_atomic_read_u64(&counters->ndoubts) -
		(saved && saved->is_doubtful ? 1 : 0);
	counters->is_long = false;
	counters->oldest_events = PG_UINT64_MAX;
	counters->topic = NULL;

	/* what was published since a subscription was counted is not kept */
	counters->counted_events = saved && slot->kind == SLOT_QUEUE ?
		queue_counters_nevents(slot) : 0;
	memset(counters->samples, 0, sizeof(counters->samples));
	if (saved != NULL)
		rate_totals(saved->n, totals);
	else
		memset(totals, 0, sizeof(totals));
	add_sample(counters, now, totals);
}

/* ----------------------------------------------------------------
 *		Adding
 * ----------------------------------------------------------------
 */

/* Note messages that are not due before "due". */
void
queue_counters_note_later(LaterChange *change, int64 n, TimestampTz due)
{
	change->first = change->n == 0 ? due : Min(change->first, due);
	change->last = Max(change->last, due);
	change->n += n;
}

/* Add one to another. */
static void
merge_later(LaterChange *to, const LaterChange *change)
{
	if (change->n == 0)
		return;
	queue_counters_note_later(to, change->n, change->first);
	to->last = Max(to->last, change->last);
}

/* Add one change to another. */
void
queue_counters_merge(CounterChange *to, const CounterChange *change)
{
	to->sent += change->sent;
	to->sent_bytes += change->sent_bytes;
	for (int i = 0; i < NUM_GONE; i++)
		to->gone[i] += change->gone[i];
	to->gone_bytes += change->gone_bytes;
	for (int i = 0; i < NUM_LATER; i++)
	{
		merge_later(&to->come[i], &change->come[i]);
		merge_later(&to->leave[i], &change->leave[i]);
	}
}

/*
 * queue_counters_commit
 *		A transaction is committed: add what it did.
 *
 * Messages that it sent may have fallen due meanwhile.  If it sent some that
 * have, and others that have not, all of them count as not due until the rows
 * are counted.
 */
void
queue_counters_commit(QueueSlot *slot, Oid dbid, Oid relid,
					  const CounterChange *change)
{
	if (slot == NULL || slot->relid != relid || slot->dbid != dbid)
		return;
	queue_counter_add(slot, COUNTER_SENT, change->sent);
	queue_counter_add(slot, COUNTER_SENT_BYTES, change->sent_bytes);
	for (int i = 0; i < NUM_GONE; i++)
		queue_counter_add(slot, COUNTER_ACKED + i, change->gone[i]);
	queue_counter_add(slot, COUNTER_GONE_BYTES, change->gone_bytes);
	for (int i = 0; i < NUM_LATER; i++)
	{
		TimestampTz until;

		if (change->come[i].n == 0 && change->leave[i].n == 0)
			continue;
		until = (TimestampTz) pg_atomic_read_u64(&slot->counters.due_until);
		if (change->come[i].last > until)
		{
			queue_counter_add(slot, COUNTER_DELAYED + i, change->come[i].n);
			queue_counters_note_due(slot, Max(change->come[i].first, until));
		}
		if (change->leave[i].last > until)
			queue_counter_add(slot, COUNTER_DELAYED + i, -change->leave[i].n);
	}
}

/* A message has failed, or has not: its lease had run out, and is good. */
void
queue_counters_fail(QueueSlot *slot, Oid relid, int n)
{
	if (slot != NULL && slot->relid == relid)
		queue_counter_add(slot, COUNTER_FAILED, n);
}

/* A subscription skips what retention has deleted before it was read. */
void
queue_counters_overtake(QueueSlot *slot, Oid relid, int64 n)
{
	if (slot != NULL && slot->relid == relid)
		queue_counter_add(slot, COUNTER_OVERTAKEN, n);
}

/* Return the first bucket that is wide enough. */
static int
bucket_of(int64 usec)
{
	if (usec <= FIRST_BUCKET)
		return 0;
	return Min(pg_leftmost_one_pos64((usec - 1) / FIRST_BUCKET) + 1,
			   NUM_BUCKETS - 1);
}

/*
 * queue_counters_note
 *		Note for how long so many messages waited, or were processed.
 *
 * The clock may have been set back meanwhile; that is as no time.
 */
void
queue_counters_note(QueueSlot *slot, Oid relid, Counter first, int64 usec,
					int n)
{
	int			bucket;

	if (slot == NULL)
		return;
	if (noted.slot != slot || noted.relid != relid || noted.first != first)
	{
		queue_counters_flush();
		noted.slot = slot;
		noted.relid = relid;
		noted.first = first;
		noted.is_used = 0;
	}
	bucket = bucket_of(usec);
	noted.is_used |= (uint32) 1 << bucket;
	noted.n[bucket] += n;
}

/* Count what was noted. */
void
queue_counters_flush(void)
{
	if (noted.slot == NULL)
		return;
	while (noted.is_used != 0)
	{
		int			bucket = pg_rightmost_one_pos32(noted.is_used);

		if (noted.slot->relid == noted.relid)
			queue_counter_add(noted.slot, noted.first + bucket,
							  noted.n[bucket]);
		noted.n[bucket] = 0;
		noted.is_used &= noted.is_used - 1;
	}
	noted.slot = NULL;
}

/* Forget it: the call that delivered has failed. */
void
queue_counters_discard(void)
{
	if (noted.slot == NULL)
		return;
	memset(noted.n, 0, sizeof(noted.n));
	noted.slot = NULL;
}

/* The table is truncated: it is not known what is in it. */
void
queue_counters_forget(QueueSlot *slot)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->counters.counted_at = 0;
	slot->counters.ncounts++;
	queue_counters_doubt_all(slot);
	LWLockRelease(slot->lock);
}

/*
 * queue_counters_doubt
 *		What is known may be wrong: the settings have changed, or messages came.
 *
 * A count that has begun before does not end the doubt.  No allocation, no error,
 * no lock.
 */
void
queue_counters_doubt(QueueSlot *slot)
{
	pg_atomic_fetch_add_u64(&slot->counters.ndoubts, 1);
}

/*
 * queue_counters_doubt_all
 *		The same where nothing of what is known may be right: the rows are counted
 *		at once, however long the last count took.
 */
void
queue_counters_doubt_all(QueueSlot *slot)
{
	queue_counters_doubt(slot);
	slot->counters.count_at = 0;
}

/* ----------------------------------------------------------------
 *		Rates
 * ----------------------------------------------------------------
 */

/* The numbers that rates are shown of. */
static void
rate_totals(const int64 *n, int64 *totals)
{
	totals[0] = n[COUNTER_SENT];
	totals[1] = queue_counter_sum(n, COUNTER_WAIT, NUM_BUCKETS);
	totals[2] = n[COUNTER_ACKED];
	totals[3] = n[COUNTER_FAILED];
}

static void
add_sample(CounterPart *counters, TimestampTz now, const int64 *totals)
{
	memmove(&counters->samples[1], &counters->samples[0],
			(NUM_SAMPLES - 1) * sizeof(CounterSample));
	counters->samples[0].at = now;
	memcpy(counters->samples[0].n, totals, sizeof(counters->samples[0].n));
}

/*
 * queue_counters_sample
 *		Remember the numbers, if they have changed, and it is time.
 *
 * Returns when to come again; DT_NOEND: when something has happened.
 */
TimestampTz
queue_counters_sample(QueueSlot *slot, TimestampTz now)
{
	CounterPart *counters = &slot->counters;
	TimestampTz next = DT_NOEND;
	int64		n[NUM_COUNTERS];
	int64		totals[NUM_RATES];

	queue_counters_copy(slot, n);
	rate_totals(n, totals);
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (counters->samples[0].at > now)
		memset(counters->samples, 0, sizeof(counters->samples));	/* the clock was set */
	if (memcmp(totals, counters->samples[0].n, sizeof(totals)) != 0 ||
		counters->samples[0].at == 0)
	{
		next = counters->samples[0].at + SAMPLE_INTERVAL;
		if (next <= now)
		{
			add_sample(counters, now, totals);
			next = DT_NOEND;
		}
	}
	LWLockRelease(slot->lock);
	return next;
}

/*
 * compute_rates
 *		How much has happened in the last minute, a second?
 *
 * Numbers that have not changed were not remembered again.  So what has changed
 * since the newest that are a minute old did so in the interval before the next
 * ones at the earliest.
 */
static void
compute_rates(const CounterPart *counters, TimestampTz now,
			  const int64 *totals, double *rates)
{
	const CounterSample *sample = &counters->samples[0];
	int64		elapsed;

	for (int i = 1; i < NUM_SAMPLES; i++)
	{
		if (sample->at <= now - RATE_TIME || counters->samples[i].at == 0)
			break;
		sample = &counters->samples[i];
	}
	elapsed = Min(now - sample->at, RATE_TIME + SAMPLE_INTERVAL);
	elapsed = Max(elapsed, USECS_PER_SEC);
	for (int i = 0; i < NUM_RATES; i++)
		rates[i] = (double) (totals[i] - sample->n[i]) * USECS_PER_SEC / elapsed;
}

/* ----------------------------------------------------------------
 *		Views, and what outlives a restart
 * ----------------------------------------------------------------
 */

/*
 * queue_counters_read
 *		Read all numbers, at one moment as far as that goes.
 *
 * With a thousand queues, each cache line that is left out is felt.
 */
void
queue_counters_read(QueueSlot *slot, TimestampTz now, bool with_processing,
					CounterValues *values)
{
	CounterPart *counters = &slot->counters;
	int64		totals[NUM_RATES];

	LWLockAcquire(slot->lock, LW_SHARED);
	values->dbid = slot->dbid;
	values->relid = slot->relid;
	values->kind = slot->kind;
	for (int i = 0; i < NUM_COUNTERS; i++)
		values->n[i] = is_shown(i, with_processing) ?
			queue_counter_get(slot, i) : 0;
	rate_totals(values->n, totals);
	compute_rates(counters, now, totals, values->rates);
	values->is_counted = counters->counted_at != 0;
	values->rows = counters->rows + values->n[COUNTER_SENT] -
		queue_counter_sum(values->n, COUNTER_ACKED, NUM_GONE);
	values->bytes = counters->bytes + values->n[COUNTER_SENT_BYTES] -
		values->n[COUNTER_GONE_BYTES];
	for (int i = 0; i < NUM_LATER; i++)
		values->later[i] = values->n[COUNTER_DELAYED + i];
	values->exhausted = counters->exhausted;
	values->recovered = counters->recovered;
	values->counted_at = counters->counted_at;
	values->oldest_at = counters->oldest_at;
	values->reset_at = counters->reset_at;
	for (int i = 0; i < NUM_COUNTERS; i++)
	{
		if (is_shown(i, with_processing))
			values->n[i] -= counters->base[i];
	}
	LWLockRelease(slot->lock);
}

/* Is there such a counter, and is it wanted? */
static bool
is_shown(int i, bool with_processing)
{
	if (i >= COUNTER_PROCESSING && i < COUNTER_PROCESSING + NUM_BUCKETS)
		return with_processing;
	return i <= COUNTER_SENT_BYTES || i >= COUNTER_WAIT ||
		(i >= COUNTER_ACKED && i <= COUNTER_GONE_BYTES) ||
		(i >= COUNTER_FAILED && i <= COUNTER_OVERTAKEN);
}

/*
 * queue_counters_reset
 *		Let the numbers begin anew, as they are shown.
 */
void
queue_counters_reset(QueueSlot *slot, Oid relid)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->relid == relid)
	{
		queue_counters_copy(slot, slot->counters.base);
		slot->counters.reset_at = GetCurrentTimestamp();
	}
	LWLockRelease(slot->lock);
}

/*
 * queue_counters_save
 *		Copy what is kept of a queue when the server stops; false: nothing.
 *
 * Takes no lock, because nobody else is there.
 */
bool
queue_counters_save(QueueSlot *slot, SavedCounters *saved)
{
	CounterPart *counters = &slot->counters;

	if (!OidIsValid(slot->dbid) || slot->kind == SLOT_TOPIC)
		return false;
	memset(saved, 0, sizeof(SavedCounters));
	saved->dbid = slot->dbid;
	saved->relid = slot->relid;
	saved->is_doubtful = queue_counters_is_doubtful(slot);
	queue_counters_copy(slot, saved->n);
	memcpy(saved->base, counters->base, sizeof(saved->base));
	saved->rows = counters->rows;
	saved->bytes = counters->bytes;
	saved->exhausted = counters->exhausted;
	saved->due_until = (TimestampTz) pg_atomic_read_u64(&counters->due_until);
	saved->counted_at = counters->counted_at;
	saved->oldest_at = counters->oldest_at;
	saved->reset_at = counters->reset_at;
	return true;
}

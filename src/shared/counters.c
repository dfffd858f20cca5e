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
 * What if memory is full?  A queue without a place is not counted.
 *
 * The place may have been given to another queue, so whoever adds compares the
 * table first.  That is unlocked: at worst one number is wrong by what one
 * transaction did to a table that was just dropped.
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

/*
 * How often to count what seems to be in order: a queue that is used, and one
 * that is not
 */
#define COUNT_INTERVAL		(60 * USECS_PER_SEC)
#define IDLE_INTERVAL		(10 * 60 * USECS_PER_SEC)
#define MIN_COUNT_INTERVAL	USECS_PER_SEC

/* Counting a queue may take a part of the time: 1 in n */
#define COUNT_SHARE			100

/* Rates are of at least the last minute, and at most one interval more */
#define RATE_TIME			(60 * USECS_PER_SEC)
#define SAMPLE_INTERVAL		(10 * USECS_PER_SEC)

/* Times of one queue, which are to be added */
typedef struct Noted
{
	QueueSlot  *slot;			/* NULL: none */
	Oid			relid;
	Counter		first;
	int			low;			/* buckets that are not 0 */
	int			high;
	int64		n[NUM_BUCKETS];
} Noted;

static Noted noted;

static int64 get(QueueSlot *slot, int counter);
static void add(QueueSlot *slot, int counter, int64 n);
static int	bucket_of(int64 usec);
static int64 sum(const int64 *n, int first, int count);
static void copy_all(QueueSlot *slot, int64 *n);
static void rate_totals(const int64 *n, int64 *totals);
static void add_sample(CounterPart *counters, TimestampTz now,
					   const int64 *totals);
static void compute_rates(const CounterPart *counters, TimestampTz now,
						  const int64 *totals, double *rates);

static int64
get(QueueSlot *slot, int counter)
{
	return (int64) pg_atomic_read_u64(&slot->counters.n[counter]);
}

static void
add(QueueSlot *slot, int counter, int64 n)
{
	if (n != 0)
		pg_atomic_fetch_add_u64(&slot->counters.n[counter], n);
}

/* Return the sum of some numbers, one after the other. */
static int64
sum(const int64 *n, int first, int count)
{
	int64		result = 0;

	for (int i = first; i < first + count; i++)
		result += n[i];
	return result;
}

static void
copy_all(QueueSlot *slot, int64 *n)
{
	for (int i = 0; i < NUM_COUNTERS; i++)
		n[i] = get(slot, i);
}

/* ----------------------------------------------------------------
 *		A place is given to a queue.  It is locked
 * ----------------------------------------------------------------
 */

/* Make the numbers of a place. */
void
queue_counters_init(QueueSlot *slot)
{
	for (int i = 0; i < NUM_COUNTERS; i++)
		pg_atomic_init_u64(&slot->counters.n[i], 0);
	pg_atomic_init_u64(&slot->counters.due_until, 0);
	pg_atomic_init_u64(&slot->counters.next_due, 0);
}

/*
 * queue_counters_begin
 *		Begin with what is kept of the queue since the last stop of the server,
 *		or with nothing.
 *
 * What was prepared before that ends untold, so it is counted all the same.
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
	counters->counted_at = saved ? saved->counted_at : 0;
	counters->oldest_at = saved ? saved->oldest_at : 0;
	counters->cost = saved ? saved->cost : 0;
	counters->count_at = 0;
	counters->ncounts++;
	counters->is_doubtful = true;
	counters->is_long = false;
	counters->counted_events = 0;
	counters->oldest_events = PG_UINT64_MAX;
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
void
queue_counters_merge_later(LaterChange *to, const LaterChange *change)
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
		queue_counters_merge_later(&to->come[i], &change->come[i]);
		queue_counters_merge_later(&to->leave[i], &change->leave[i]);
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
	add(slot, COUNTER_SENT, change->sent);
	add(slot, COUNTER_SENT_BYTES, change->sent_bytes);
	for (int i = 0; i < NUM_GONE; i++)
		add(slot, COUNTER_ACKED + i, change->gone[i]);
	add(slot, COUNTER_GONE_BYTES, change->gone_bytes);
	for (int i = 0; i < NUM_LATER; i++)
	{
		TimestampTz until;

		if (change->come[i].n == 0 && change->leave[i].n == 0)
			continue;
		until = (TimestampTz) pg_atomic_read_u64(&slot->counters.due_until);
		if (change->come[i].last > until)
		{
			add(slot, COUNTER_DELAYED + i, change->come[i].n);
			queue_counters_note_due(slot, Max(change->come[i].first, until));
		}
		if (change->leave[i].last > until)
			add(slot, COUNTER_DELAYED + i, -change->leave[i].n);
	}
}

/* A message has failed, or has not: its lease had run out, and is good. */
void
queue_counters_fail(QueueSlot *slot, Oid relid, int n)
{
	if (slot != NULL && slot->relid == relid)
		add(slot, COUNTER_FAILED, n);
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
 *		Note for how long a message waited, or was processed.
 *
 * The clock may have been set back meanwhile; that is as no time.
 */
void
queue_counters_note(QueueSlot *slot, Oid relid, Counter first, int64 usec)
{
	int			bucket = bucket_of(usec);

	if (slot == NULL)
		return;
	if (noted.slot != slot || noted.relid != relid || noted.first != first)
	{
		queue_counters_flush();
		noted.slot = slot;
		noted.relid = relid;
		noted.first = first;
		noted.low = noted.high = bucket;
	}
	noted.low = Min(noted.low, bucket);
	noted.high = Max(noted.high, bucket);
	noted.n[bucket]++;
}

/* Count what was noted. */
void
queue_counters_flush(void)
{
	if (noted.slot == NULL)
		return;
	for (int i = noted.low; i <= noted.high; i++)
	{
		if (noted.slot->relid == noted.relid)
			add(noted.slot, noted.first + i, noted.n[i]);
		noted.n[i] = 0;
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
	slot->counters.is_doubtful = true;
	LWLockRelease(slot->lock);
}

/* What is known may be wrong: the settings have changed, or messages came. */
void
queue_counters_doubt(QueueSlot *slot)
{
	slot->counters.is_doubtful = true;
}

/* ----------------------------------------------------------------
 *		Counting the rows
 * ----------------------------------------------------------------
 */

/*
 * queue_counters_start
 *		Begin to count: what is due by "now" counts as due from here on.
 */
void
queue_counters_start(QueueSlot *slot, TimestampTz now, CounterStart *start)
{
	int64		n[NUM_COUNTERS];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->counters.is_doubtful = false;
	pg_atomic_write_u64(&slot->counters.due_until, now);
	pg_atomic_write_u64(&slot->counters.next_due, (uint64) DT_NOEND);
	start->ncounts = slot->counters.ncounts;
	LWLockRelease(slot->lock);
	start->at = now;
	copy_all(slot, n);
	start->sent = n[COUNTER_SENT];
	start->gone = sum(n, COUNTER_ACKED, NUM_GONE);
	start->rows = start->sent - start->gone;
	start->bytes = n[COUNTER_SENT_BYTES] - n[COUNTER_GONE_BYTES];
	for (int i = 0; i < NUM_LATER; i++)
		start->later[i] = n[COUNTER_DELAYED + i];
}

/*
 * queue_counters_have_moved
 *		Returns true if a transaction has added something since.
 *
 * Neither number ever falls.
 */
bool
queue_counters_have_moved(QueueSlot *slot, const CounterStart *start)
{
	int64		gone = 0;

	for (int i = 0; i < NUM_GONE; i++)
		gone += get(slot, COUNTER_ACKED + i);
	return get(slot, COUNTER_SENT) != start->sent || gone != start->gone;
}

/*
 * queue_counters_set
 *		So many rows were seen by a snapshot that was taken when that began.
 *
 * If somebody else has counted meanwhile, or the table was truncated, that has
 * to do.
 */
void
queue_counters_set(QueueSlot *slot, Oid relid, const CounterStart *start,
				   const CounterRows *rows, int64 cost)
{
	CounterPart *counters = &slot->counters;
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->relid == relid && counters->ncounts == start->ncounts)
	{
		counters->ncounts++;
		counters->rows = rows->rows - start->rows;
		counters->bytes = rows->bytes - start->bytes;
		counters->exhausted = rows->exhausted;
		for (int i = 0; i < NUM_LATER; i++)
			add(slot, COUNTER_DELAYED + i, rows->later[i] - start->later[i]);
		counters->counted_at = now;
		counters->cost = cost;
		counters->count_at = now + Max(MIN_COUNT_INTERVAL, cost * COUNT_SHARE);
		counters->counted_events = queue_counters_nevents(slot);
		counters->oldest_events = PG_UINT64_MAX;
	}
	LWLockRelease(slot->lock);
}

/*
 * queue_counters_count_at
 *		Return when the rows are to be counted.
 *
 * Unlocked; the clock may have been set back.
 */
TimestampTz
queue_counters_count_at(QueueSlot *slot)
{
	const CounterPart *counters = &slot->counters;
	int64		interval = IDLE_INTERVAL;

	if (counters->counted_at == 0 || counters->is_doubtful)
		return counters->count_at;
	if (counters->counted_events != queue_counters_nevents(slot))
		interval = COUNT_INTERVAL;
	return Max(counters->counted_at + interval, counters->count_at);
}

/* Not before then. */
void
queue_counters_put_off(QueueSlot *slot, TimestampTz until)
{
	slot->counters.count_at = until;
}

/* It takes long, and is left to another process; or that has counted it. */
void
queue_counters_set_long(QueueSlot *slot, bool is_long)
{
	slot->counters.is_long = is_long;
}

/* Is it left to that? */
bool
queue_counters_is_long(QueueSlot *slot)
{
	return slot->counters.is_long;
}

/* Has it been counted? */
bool
queue_counters_is_known(QueueSlot *slot)
{
	return slot->counters.counted_at != 0;
}

/* Return when the next one falls due that counts as not due. */
TimestampTz
queue_counters_next_due(QueueSlot *slot)
{
	return (TimestampTz) pg_atomic_read_u64(&slot->counters.next_due);
}

/* One falls due then. */
void
queue_counters_note_due(QueueSlot *slot, TimestampTz due)
{
	uint64		next = pg_atomic_read_u64(&slot->counters.next_due);

	while (due < (TimestampTz) next &&
		   !pg_atomic_compare_exchange_u64(&slot->counters.next_due, &next,
										   (uint64) due))
		;
}

/*
 * queue_counters_begin_due
 *		What is due by "now" is to be taken off: return from when on.
 *
 * From here on nobody counts it any more.  Without the worker's next step, it
 * counts as not due until the rows are counted.
 */
TimestampTz
queue_counters_begin_due(QueueSlot *slot, TimestampTz now)
{
	TimestampTz from;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	from = (TimestampTz) pg_atomic_read_u64(&slot->counters.due_until);
	if (now > from)
		pg_atomic_write_u64(&slot->counters.due_until, now);
	pg_atomic_write_u64(&slot->counters.next_due, (uint64) DT_NOEND);
	slot->counters.is_doubtful = true;	/* if this fails */
	LWLockRelease(slot->lock);
	return from;
}

/* So many have fallen due. */
void
queue_counters_end_due(QueueSlot *slot, const int64 *n)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	for (int i = 0; i < NUM_LATER; i++)
		add(slot, COUNTER_DELAYED + i, -n[i]);
	slot->counters.is_doubtful = slot->counters.counted_at == 0;
	slot->counters.oldest_events = PG_UINT64_MAX;
	LWLockRelease(slot->lock);
}

/* Has anything happened since the oldest message was looked for? */
bool
queue_counters_want_oldest(QueueSlot *slot)
{
	return slot->counters.oldest_events != queue_counters_nevents(slot);
}

/* This one is the oldest (0: none); so much had happened before. */
void
queue_counters_set_oldest(QueueSlot *slot, Oid relid, uint64 nevents,
						  TimestampTz oldest)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->relid == relid)
	{
		slot->counters.oldest_at = oldest;
		slot->counters.oldest_events = nevents;
	}
	LWLockRelease(slot->lock);
}

/* A number that changes whenever something happens to a message. */
uint64
queue_counters_nevents(QueueSlot *slot)
{
	int64		n[NUM_COUNTERS];

	copy_all(slot, n);
	return (uint64) n[COUNTER_SENT] + sum(n, COUNTER_ACKED, NUM_GONE) +
		n[COUNTER_FAILED] + sum(n, COUNTER_WAIT, NUM_BUCKETS);
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
	totals[1] = sum(n, COUNTER_WAIT, NUM_BUCKETS);
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

	copy_all(slot, n);
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
 */
void
queue_counters_read(QueueSlot *slot, TimestampTz now, CounterValues *values)
{
	CounterPart *counters = &slot->counters;
	int64		totals[NUM_RATES];

	LWLockAcquire(slot->lock, LW_SHARED);
	values->dbid = slot->dbid;
	values->relid = slot->relid;
	copy_all(slot, values->n);
	rate_totals(values->n, totals);
	compute_rates(counters, now, totals, values->rates);
	values->is_counted = counters->counted_at != 0;
	values->rows = counters->rows + values->n[COUNTER_SENT] -
		sum(values->n, COUNTER_ACKED, NUM_GONE);
	values->bytes = counters->bytes + values->n[COUNTER_SENT_BYTES] -
		values->n[COUNTER_GONE_BYTES];
	for (int i = 0; i < NUM_LATER; i++)
		values->later[i] = values->n[COUNTER_DELAYED + i];
	values->exhausted = counters->exhausted;
	values->counted_at = counters->counted_at;
	values->oldest_at = counters->oldest_at;
	values->reset_at = counters->reset_at;
	for (int i = 0; i < NUM_COUNTERS; i++)
		values->n[i] -= counters->base[i];
	LWLockRelease(slot->lock);
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
		copy_all(slot, slot->counters.base);
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

	if (!OidIsValid(slot->dbid) || slot->kind != SLOT_QUEUE)
		return false;
	memset(saved, 0, sizeof(SavedCounters));
	saved->dbid = slot->dbid;
	saved->relid = slot->relid;
	copy_all(slot, saved->n);
	memcpy(saved->base, counters->base, sizeof(saved->base));
	saved->rows = counters->rows;
	saved->bytes = counters->bytes;
	saved->exhausted = counters->exhausted;
	saved->due_until = (TimestampTz) pg_atomic_read_u64(&counters->due_until);
	saved->counted_at = counters->counted_at;
	saved->oldest_at = counters->oldest_at;
	saved->reset_at = counters->reset_at;
	saved->cost = counters->cost;
	return true;
}

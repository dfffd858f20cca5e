/*-------------------------------------------------------------------------
 *
 * counter_rows.c
 *		Setting how many messages there are, when the rows were counted.
 *
 * For the worker, which says when (worker/tally.c), and how (tally_rows.c).  What
 * is counted is set as a difference to what was known when that began.
 *
 * Whatever may have made the number wrong is a doubt, and only a count that began
 * after it, and is finished, ends it.  What moves the time on up to which what has
 * fallen due is taken off raises one itself.  So if the process dies on the way,
 * or gives up, the next one counts.
 *
 * Locks: none for the numbers, which are atomic; the slot's for the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/counters.h"
#include "shared/topic_slot.h"

/*
 * How often to count what seems to be in order: a queue that is used, and one
 * that is not
 */
#define COUNT_INTERVAL		(60 * USECS_PER_SEC)
#define IDLE_INTERVAL		(10 * 60 * USECS_PER_SEC)
#define MIN_COUNT_INTERVAL	USECS_PER_SEC

/* Counting a queue may take a part of the time: 1 in n */
#define COUNT_SHARE			100

/* ... but it rests no longer than this, as the clock may have been set back */
#define MAX_COUNT_REST		(15 * 60 * USECS_PER_SEC)

static uint64 raise_doubt(QueueSlot *slot, TimestampTz now);

/*
 * raise_doubt
 *		What is due by "now" counts as due from here on, and what was counted
 *		as not due is wrong until it is taken off.
 *
 * Returns the number of this doubt.  The slot is locked.
 */
static uint64
raise_doubt(QueueSlot *slot, TimestampTz now)
{
	pg_atomic_write_u64(&slot->counters.due_until, now);
	pg_atomic_write_u64(&slot->counters.next_due, (uint64) DT_NOEND);
	return pg_atomic_add_fetch_u64(&slot->counters.ndoubts, 1);
}

/* Is there a doubt that no count has ended?  Unlocked. */
bool
queue_counters_is_doubtful(QueueSlot *slot)
{
	return pg_atomic_read_u64(&slot->counters.ndoubts) !=
		slot->counters.counted_doubts;
}

/*
 * queue_counters_start
 *		Begin to count: what is due by "now" counts as due from here on.
 */
void
queue_counters_start(QueueSlot *slot, TimestampTz now, CounterStart *start)
{
	int64		n[NUM_COUNTERS];

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	start->ndoubts = raise_doubt(slot, now);
	start->ncounts = slot->counters.ncounts;
	LWLockRelease(slot->lock);
	start->at = now;
	queue_counters_copy(slot, n);
	start->sent = n[COUNTER_SENT];
	start->gone = queue_counter_sum(n, COUNTER_ACKED, NUM_GONE);
	start->rows = start->sent - start->gone;
	start->bytes = n[COUNTER_SENT_BYTES] - n[COUNTER_GONE_BYTES];
	for (int i = 0; i < NUM_LATER; i++)
		start->later[i] = n[COUNTER_DELAYED + i];
}

/*
 * queue_counters_have_moved
 *		Returns true if a transaction has added something since.
 *
 * What was sent and has gone never falls.  What is not due may fall and rise by
 * as much again, in the milliseconds that this is about.
 */
bool
queue_counters_have_moved(QueueSlot *slot, const CounterStart *start)
{
	int64		gone = 0;

	for (int i = 0; i < NUM_GONE; i++)
		gone += queue_counter_get(slot, COUNTER_ACKED + i);
	for (int i = 0; i < NUM_LATER; i++)
		if (queue_counter_get(slot, COUNTER_DELAYED + i) != start->later[i])
			return true;
	return queue_counter_get(slot, COUNTER_SENT) != start->sent || gone != start->gone;
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
		counters->counted_doubts = start->ndoubts;
		counters->rows = rows->rows - start->rows;
		counters->bytes = rows->bytes - start->bytes;
		counters->exhausted = rows->exhausted;
		counters->recovered = rows->recovered;
		counters->is_recovered = rows->is_recovered;
		for (int i = 0; i < NUM_LATER; i++)
			queue_counter_add(slot, COUNTER_DELAYED + i, rows->later[i] - start->later[i]);
		counters->counted_at = now;
		counters->count_at = now +
			Min(Max(MIN_COUNT_INTERVAL, cost * COUNT_SHARE), MAX_COUNT_REST);
		counters->is_long = false;	/* it was wanted while this went on */
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

	if (counters->counted_at == 0 || queue_counters_is_doubtful(slot))
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

/* Had transactions used it then that were prepared before the start? */
bool
queue_counters_are_recovered(QueueSlot *slot)
{
	return slot->counters.is_recovered;
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
 * From here on nobody counts it any more.  Without the worker's next step, the
 * rows are to be counted.
 */
TimestampTz
queue_counters_begin_due(QueueSlot *slot, TimestampTz now, uint64 *doubt)
{
	TimestampTz from;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	from = (TimestampTz) pg_atomic_read_u64(&slot->counters.due_until);
	*doubt = raise_doubt(slot, Max(now, from));
	LWLockRelease(slot->lock);
	return from;
}

/*
 * queue_counters_end_due
 *		So many have fallen due, which ends the doubt that this began with.
 *
 * Only if it was the first one since the last count: those of others stay.
 */
void
queue_counters_end_due(QueueSlot *slot, uint64 doubt, const int64 *n)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	for (int i = 0; i < NUM_LATER; i++)
		queue_counter_add(slot, COUNTER_DELAYED + i, -n[i]);
	if (slot->counters.counted_doubts == doubt - 1)
		slot->counters.counted_doubts = doubt;
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

/* Whose publishers tell whether there is more.  A hint, unlocked. */
void
queue_counters_set_topic(QueueSlot *slot, TopicSlot *topic)
{
	slot->counters.topic = topic;
}

/*
 * queue_counters_nevents
 *		Return a number that changes whenever something happens to a message.
 *
 * For a subscription that is the end of a publisher, too.  The topic may be another
 * one by now, which makes no more than one look too many.
 */
uint64
queue_counters_nevents(QueueSlot *slot)
{
	TopicSlot  *topic = slot->counters.topic;
	int64		n[NUM_COUNTERS];

	queue_counters_copy(slot, n);
	return (uint64) n[COUNTER_SENT] + queue_counter_sum(n, COUNTER_ACKED, NUM_GONE) +
		n[COUNTER_FAILED] + queue_counter_sum(n, COUNTER_WAIT, NUM_BUCKETS) +
		(topic != NULL ? topic->nends : 0);
}

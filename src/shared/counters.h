/*-------------------------------------------------------------------------
 *
 * counters.h
 *		What has happened to the messages of a queue, and how many there are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COUNTERS_H
#define QUEUE_COUNTERS_H

#include "shared/queue_slot.h"

/* Why a row is deleted: COUNTER_ACKED and those that follow it */
typedef enum GoneKind
{
	GONE_ACKED,
	GONE_DEAD,					/* to the dead letters */
	GONE_EXPIRED_DEAD,			/* ... because it has expired */
	GONE_EXPIRED,				/* it has, and is discarded */
	GONE_REMOVED				/* purged, cancelled, sent back */
} GoneKind;

#define NUM_GONE			(GONE_REMOVED + 1)

/* What is not due: COUNTER_DELAYED and the one that follows it */
typedef enum LaterKind
{
	LATER_DELAYED,
	LATER_RETRYING				/* it has failed before */
} LaterKind;

#define NUM_LATER			(LATER_RETRYING + 1)

/* Messages that are not due, from the first to the last of these times */
typedef struct LaterChange
{
	int64		n;
	TimestampTz first;
	TimestampTz last;
} LaterChange;

/* What a transaction does to one queue */
typedef struct CounterChange
{
	int64		sent;
	int64		sent_bytes;
	int64		gone[NUM_GONE];
	int64		gone_bytes;
	LaterChange come[NUM_LATER];
	LaterChange leave[NUM_LATER];
} CounterChange;

/* Of what kind is one that is not due? */
static inline LaterKind
queue_later_kind(int failures)
{
	return failures > 0 ? LATER_RETRYING : LATER_DELAYED;
}

static inline int64
queue_counter_get(QueueSlot *slot, int counter)
{
	return (int64) pg_atomic_read_u64(&slot->counters.n[counter]);
}

static inline void
queue_counter_add(QueueSlot *slot, int counter, int64 n)
{
	if (n != 0)
		pg_atomic_fetch_add_u64(&slot->counters.n[counter], n);
}

static inline void
queue_counters_copy(QueueSlot *slot, int64 *n)
{
	for (int i = 0; i < NUM_COUNTERS; i++)
		n[i] = queue_counter_get(slot, i);
}

/* The sum of some numbers, one after the other */
static inline int64
queue_counter_sum(const int64 *n, int first, int count)
{
	int64		result = 0;

	for (int i = first; i < first + count; i++)
		result += n[i];
	return result;
}

/* Is a message that is due then counted as not due?  Unlocked. */
static inline bool
queue_counters_is_later(QueueSlot *slot, TimestampTz due)
{
	return due > (TimestampTz) pg_atomic_read_u64(&slot->counters.due_until);
}

extern void queue_counters_note_later(LaterChange *change, int64 n,
									  TimestampTz due);
extern void queue_counters_merge(CounterChange *to,
								 const CounterChange *change);

/* queue_slot.c: make the numbers of a slot; a queue gets it */
extern void queue_counters_init(QueueSlot *slot);
extern void queue_counters_begin(QueueSlot *slot, Oid dbid, Oid relid);

/* The transaction is committed.  No allocation, no error, no lock */
extern void queue_counters_commit(QueueSlot *slot, Oid dbid, Oid relid,
								  const CounterChange *change);

/* A message has failed so often, or less often than was thought */
extern void queue_counters_fail(QueueSlot *slot, Oid relid, int n);

/* A subscription skips so many messages that retention has deleted unread */
extern void queue_counters_overtake(QueueSlot *slot, Oid relid, int64 n);

/*
 * How long messages waited, or were processed: noted one by one, or some that
 * took as long, and counted together.  No allocation, no error, no lock
 */
extern void queue_counters_note(QueueSlot *slot, Oid relid, Counter first,
								int64 usec, int n);
extern void queue_counters_flush(void);
extern void queue_counters_discard(void);

/* The rows are not what was counted; they may not be */
extern void queue_counters_forget(QueueSlot *slot);
extern void queue_counters_doubt(QueueSlot *slot);
extern void queue_counters_doubt_all(QueueSlot *slot);

/* ----------------------------------------------------------------
 *		counter_rows.c, for the worker: counting the rows (worker/tally.c)
 * ----------------------------------------------------------------
 */

/* What was known when a count began */
typedef struct CounterStart
{
	TimestampTz at;				/* what is due by then counts as due */
	int64		sent;
	int64		gone;
	int64		rows;			/* these two without what was counted before */
	int64		bytes;
	int64		later[NUM_LATER];
	uint64		ncounts;
	uint64		ndoubts;		/* doubts that it will end */
} CounterStart;

/* What there is */
typedef struct CounterRows
{
	int64		rows;
	int64		bytes;
	int64		later[NUM_LATER];
	int64		exhausted;
	int64		recovered;		/* held since before the start */
	bool		is_recovered;	/* by transactions that may end */
} CounterRows;

extern void queue_counters_start(QueueSlot *slot, TimestampTz now,
								 CounterStart *start);

/* Is there a doubt that no count has ended? */
extern bool queue_counters_is_doubtful(QueueSlot *slot);

extern bool queue_counters_have_moved(QueueSlot *slot,
									  const CounterStart *start);
extern void queue_counters_set(QueueSlot *slot, Oid relid,
							   const CounterStart *start,
							   const CounterRows *rows, int64 cost);

/* When to count next: DT_NOEND if there is no need */
extern TimestampTz queue_counters_count_at(QueueSlot *slot);
extern void queue_counters_put_off(QueueSlot *slot, TimestampTz until);

/* It takes long, and is left to another process; was it? */
extern void queue_counters_set_long(QueueSlot *slot, bool is_long);
extern bool queue_counters_is_long(QueueSlot *slot);
extern bool queue_counters_is_known(QueueSlot *slot);

/* When it was counted, were there transactions of before the start? */
extern bool queue_counters_are_recovered(QueueSlot *slot);

/* What has fallen due: from when on to look, and how much it was */
extern TimestampTz queue_counters_next_due(QueueSlot *slot);
extern void queue_counters_note_due(QueueSlot *slot, TimestampTz due);
extern TimestampTz queue_counters_begin_due(QueueSlot *slot, TimestampTz now,
											uint64 *doubt);
extern void queue_counters_end_due(QueueSlot *slot, uint64 doubt,
								   const int64 *n);

/* The oldest message that is ready: is it to be looked for?  It is that one */
extern bool queue_counters_want_oldest(QueueSlot *slot);
extern void queue_counters_set_oldest(QueueSlot *slot, Oid relid,
									  uint64 nevents, TimestampTz oldest);

/* Publishers to this topic add to what is ready for a subscription */
extern void queue_counters_set_topic(QueueSlot *slot, struct TopicSlot *topic);

/* How much has happened; remember the numbers for the rates; when to again */
extern uint64 queue_counters_nevents(QueueSlot *slot);
extern TimestampTz queue_counters_sample(QueueSlot *slot, TimestampTz now);

/* ----------------------------------------------------------------
 *		Views, and what outlives a restart
 * ----------------------------------------------------------------
 */

/* Numbers as they are shown */
typedef struct CounterValues
{
	Oid			dbid;
	Oid			relid;
	SlotKind	kind;
	int64		n[NUM_COUNTERS];	/* since they were reset */
	bool		is_counted;
	int64		rows;
	int64		bytes;
	int64		later[NUM_LATER];
	int64		exhausted;
	int64		recovered;
	TimestampTz counted_at;
	TimestampTz oldest_at;		/* 0: none */
	TimestampTz reset_at;
	double		rates[NUM_RATES];	/* a second */
	int64		in_flight;
} CounterValues;

/* With or without how long messages were processed */
extern void queue_counters_read(QueueSlot *slot, TimestampTz now,
								bool with_processing, CounterValues *values);
extern void queue_counters_reset(QueueSlot *slot, Oid relid);

/* The upper bound of a bucket, in microseconds */
static inline int64
queue_bucket_bound(int bucket)
{
	return FIRST_BUCKET << bucket;
}

/* All that is kept of a queue over a restart */
typedef struct SavedCounters
{
	Oid			dbid;
	Oid			relid;
	bool		is_doubtful;	/* the rows were to be counted */
	int64		n[NUM_COUNTERS];
	int64		base[NUM_COUNTERS];
	int64		rows;
	int64		bytes;
	int64		exhausted;
	TimestampTz due_until;
	TimestampTz counted_at;
	TimestampTz oldest_at;
	TimestampTz reset_at;
} SavedCounters;

extern bool queue_counters_save(QueueSlot *slot, SavedCounters *saved);

#endif							/* QUEUE_COUNTERS_H */

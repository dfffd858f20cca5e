/*-------------------------------------------------------------------------
 *
 * usage.h
 *		How many messages and bytes a queue with limits has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_USAGE_H
#define QUEUE_USAGE_H

#include "shared/queue_slot.h"

/* Messages, and their bytes */
typedef struct Amount
{
	int64		messages;
	int64		bytes;
} Amount;

static inline void
queue_amount_add(Amount *to, const Amount *amount)
{
	to->messages += amount->messages;
	to->bytes += amount->bytes;
}

/* What a transaction changes */
typedef struct UsageChange
{
	Amount		sent;			/* counted already, as coming */
	Amount		gone;			/* to be counted when it commits */
} UsageChange;

/*
 * Count messages as coming; false: that would exceed a limit (0: none).  Would
 * it?  Count them all the same
 */
extern bool queue_usage_take(QueueSlot *slot, const Amount *amount,
							 const Amount *limit);
extern bool queue_usage_fits(QueueSlot *slot, const Amount *amount,
							 const Amount *limit);
extern void queue_usage_add(QueueSlot *slot, const Amount *amount);

/* Both kinds, as they are known at the moment */
extern Amount queue_usage_now(QueueSlot *slot);

/*
 * The transaction has ended.  Wakes senders that wait for room.  No
 * allocation, no error
 */
extern void queue_usage_end(QueueSlot *hint, Oid dbid, Oid relid,
							const UsageChange *change, bool committed);

/* What is known of a queue is not so any more */
extern void queue_usage_forget(QueueSlot *hint, Oid dbid, Oid relid);

/* Are the rows to be counted now?  And now that a message finds no room? */
extern bool queue_usage_wants_count(QueueSlot *slot, TransactionId xmin);
extern bool queue_usage_may_be_wrong(QueueSlot *slot);

/* What was known when a count began */
typedef struct UsageCount
{
	Amount		start;			/* committed */
	uint64		number;			/* counts that were made before */
} UsageCount;

/*
 * Count: nobody changes what is committed between the first two, for as long as
 * it takes to take a snapshot; then, when the rows are counted
 */
extern void queue_usage_lock(QueueSlot *slot, UsageCount *count);
extern void queue_usage_unlock(QueueSlot *slot);
extern void queue_usage_set_count(QueueSlot *slot, const UsageCount *count,
								  const Amount *rows, TransactionId unsettled,
								  TimestampTz begun_at);

/* Wait for room: begin, then look, then sleep, until room or an error */
extern void queue_usage_begin_wait(QueueSlot *slot);
extern void queue_usage_sleep(QueueSlot *slot, TimestampTz until);
extern void queue_usage_end_wait(void);

#endif							/* QUEUE_USAGE_H */

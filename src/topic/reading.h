/*-------------------------------------------------------------------------
 *
 * reading.h
 *		What a subscription reads of its topic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_READING_H
#define QUEUE_READING_H

#include "executor/tuptable.h"
#include "lib/binaryheap.h"
#include "utils/snapshot.h"

#include "table/position.h"
#include "table/published.h"
#include "table/topic.h"
#include "table/topic_scan.h"

/* One look of a subscription at its topic */
typedef struct Reading
{
	Relation	rel;			/* the subscription, opened by the caller */
	SubscriptionDef *def;
	Relation	topic_rel;
	TopicDef   *topic;
	Snapshot	snapshot;
	TopicFilter filter;
	TopicScan  *scan;
	Position   *position;		/* for a caller that reads one */
	int64	   *below;			/* how far each partition can be read */
	int64		removed;		/* retention has deleted nothing after it */
	int64	   *gaps;			/* up to which id retention has deleted what
								 * was not read, as far as memory knows; 0:
								 * none */
	bool	   *preferred;		/* partitions; NULL: none */
	binaryheap *candidates;		/* partitions that were not returned yet */
	int64		nlooked;		/* rows that were looked at */
	TimestampTz began_at;		/* by clock.h */
} Reading;

/* Gets one message after the other, which is in the slot until the next one */
typedef void (*MessageReceiver) (TupleTableSlot *slot, int64 id, void *arg);

/* Messages of one partition, in order; or just how many they are */
typedef struct ReadBatch
{
	bool		counts_only;
	MessageReceiver receiver;	/* who gets them, or NULL */
	void	   *arg;
	bool		was_toasted;	/* some of the last one is in TOAST */
	int			n;
	int64		first;			/* the id of the first one */
	int64		last;			/* ... of the last one */
	TupleTableSlot *slot;		/* ... which is in there */
	int64		looked;			/* the last row that was looked at */
	int64		passed;			/* up to this id the partition was looked at */
	int64		unwanted;		/* the last one that the filter passed over,
								 * or 0 */
	bool		is_undecided;	/* this transaction has deleted one before the
								 * first one */
} ReadBatch;

/*
 * Begin, with the topic opened for the current user, or by the server itself;
 * some "max" messages are likely to be wanted
 */
extern void queue_reading_begin(Reading *reading, Relation rel,
								SubscriptionDef *def, Snapshot snapshot,
								int64 max);

/* The end; a topic that is kept stays locked as tables that were read do */
extern void queue_reading_end(Reading *reading, bool keeps_topic);

/*
 * Find partitions that may have something, as memory knows.  Then get them one
 * after the other, that with the oldest next message first, -1 after the last.
 * Those that are preferred, which is told before, come before the others
 */
extern void queue_reading_prefer(Reading *reading, int partition);
extern void queue_reading_find(Reading *reading);
extern int	queue_reading_next(Reading *reading);

/* Find out how far one partition can be read */
extern void queue_reading_look_at(Reading *reading, int partition);

/*
 * Up to "max" wanted messages after this id, and not beyond "until" (0: any).
 * Where the call has looked at enough, it may be less than there is
 */
extern void queue_reading_batch(Reading *reading, int partition, int64 after,
								int64 until, int max, ReadBatch *batch);

/* The next one, however far away it is; false: there is none */
extern bool queue_reading_first(Reading *reading, const Position *position,
								ReadBatch *batch);

/*
 * The position was read, and the partition is held: QU006 if messages after it
 * are gone, unless the subscription skips such a gap
 */
extern void queue_reading_check_gap(Reading *reading, int partition);

/*
 * The id of the message that is next, or one before that, after until; 0: that is
 * not known, because somebody else may see one before it
 */
extern int64 queue_reading_next_id(Reading *reading, const Position *position,
								   int64 until, bool *is_undecided);

/*
 * How many may come together of those after the position, if what is next has
 * failed so often, together with those up to this id (0: alone)
 */
extern int	queue_reading_limit(Reading *reading, const Position *position,
								int failures, int64 alone_until, int max);

/* Has it looked at as much as one call may? */
extern bool queue_reading_is_enough(const Reading *reading);

#endif							/* QUEUE_READING_H */

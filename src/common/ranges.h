/*-------------------------------------------------------------------------
 *
 * ranges.h
 *		Sets of message ids that take a fixed amount of memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RANGES_H
#define QUEUE_RANGES_H

#define QUEUE_DEFAULT_PRIORITY	4
#define QUEUE_MAX_PRIORITY		9

/* Ids of one priority, both ends included */
typedef struct QueueRange
{
	int			rank;			/* of the priority, see queue_rank() */
	int64		low;
	int64		high;
} QueueRange;

/*
 * Ranges in order of delivery, which neither overlap nor touch.  The array has
 * one place more than "room": RANGE_PLACES(room).  There must be room for at
 * least one range a priority, and one more.
 */
typedef struct RangeSet
{
	int			nranges;
	int			room;
	QueueRange *ranges;
} RangeSet;

#define RANGE_PLACES(room)	((room) + 1)

/* Ranks count from the highest priority, which is delivered first. */
#define NUM_RANKS				(QUEUE_MAX_PRIORITY + 1)
#define queue_rank(priority)	(QUEUE_MAX_PRIORITY - (priority))
#define queue_rank_priority(rank)	(QUEUE_MAX_PRIORITY - (rank))

/* An empty set; "ranges" has RANGE_PLACES(room) places */
extern void queue_ranges_init(RangeSet *set, QueueRange *ranges, int room);

/* Add ids.  Never fails: without room, neighbours of one priority merge */
extern void queue_ranges_add(RangeSet *set, int rank, int64 low, int64 high);
extern void queue_ranges_add_set(RangeSet *set, const RangeSet *added);
extern void queue_ranges_add_all(RangeSet *set);	/* every possible id */

extern bool queue_ranges_contain(const RangeSet *set, int rank, int64 id);

/* The first range that has something beyond (rank, id), or -1 */
extern int	queue_ranges_find(const RangeSet *set, int rank, int64 id);

/* Take the ids from "low" to "high" out of one range, which includes them */
extern void queue_ranges_cut(RangeSet *set, int i, int64 low, int64 high);

/* Number of ids, or "limit" if that is less */
extern int	queue_ranges_count(const RangeSet *set, int limit);

#endif							/* QUEUE_RANGES_H */

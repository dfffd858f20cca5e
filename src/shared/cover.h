/*-------------------------------------------------------------------------
 *
 * cover.h
 *		Where to look for messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COVER_H
#define QUEUE_COVER_H

#include "shared/queue_slot.h"
#include "shared/waiter.h"

/* What view queue.cover shows of one queue */
typedef struct CoverCounts
{
	int			nranges;
	int			ndelayed;		/* priorities with messages not due */
	int			nbusy;
	int			nwindows;
	TimestampTz due;
} CoverCounts;

/* Messages may be available now.  No allocation, no error */
extern void queue_cover_add(QueueSlot *hint, const MessageKey *key,
							int priority, bool wakes);
extern void queue_cover_add_set(QueueSlot *hint, Oid dbid, Oid relid,
								const RangeSet *set, int nwakes,
								const WakeKeys *keys);

/* Any message may be: of a queue, of all queues of a database */
extern void queue_cover_add_all(Oid dbid, Oid relid);
extern void queue_cover_add_everything(Oid dbid);

/* Ask the worker to check the queues changed; with no lock held */
extern void queue_cover_request_repair(void);

/* The priority noted for a message may be wrong from now on */
extern void queue_cover_priorities_vary(QueueSlot *hint, Oid relid);

/* The row says that it is not due before "due"; rows of some priorities do */
extern void queue_cover_add_delayed(QueueSlot *hint, const MessageKey *key,
									int priority, TimestampTz due);
extern void queue_cover_add_delayed_set(QueueSlot *hint, Oid dbid, Oid relid,
										int ranks, TimestampTz due);

/* overdue.c: what is due by now is added by this process */
extern bool queue_cover_take_overdue(QueueSlot *slot, TimestampTz now,
									 TimestampTz *from);
extern void queue_cover_end_overdue(QueueSlot *slot, const TimestampTz *from);

/* Look again at once at busy rows, of all queues of a database */
extern void queue_cover_recheck_busy(Oid dbid);

/* Lock a queue's slot for a change; release it, and set latches */
extern QueueSlot *queue_cover_lock(QueueSlot *hint, Oid dbid, Oid relid);
extern void queue_cover_unlock(QueueSlot *slot, WakeList *wakes);

/* window.c: find a range, cut a window, cover what is given back */
extern int	queue_cover_find(QueueSlot *slot, int rank, int64 id,
							 TimestampTz now, QueueRange *range);
extern void queue_cover_cut(QueueSlot *slot, int i, const QueueRange *window);
extern void queue_cover_put_back(QueueSlot *slot, const RangeSet *set);
extern void queue_cover_put_range_back(QueueSlot *slot, int rank, int64 low,
									   int64 high);
extern void queue_cover_add_busy(QueueSlot *slot, const RangeSet *busy,
								 TimestampTz now);

/*
 * Returns true if there is nothing to scan before *due, by others neither if
 * "also_out"
 */
extern bool queue_cover_is_empty(QueueSlot *hint, Oid relid, bool also_out,
								 TimestampTz now, TimestampTz *due);

/*
 * Looks by a selector: where messages may be (window.c), and what has been
 * added since an addition of this number
 */
extern bool queue_cover_survey(QueueSlot *slot, RangeSet *set,
							   uint64 *number);
extern bool queue_cover_read_news(QueueSlot *then, Oid relid, uint64 *number,
								  RangeSet *set);

extern bool queue_cover_add_news(QueueSlot *slot, uint64 *number,
								 RangeSet *set);

/* ... a message that waits with its group */
extern void queue_cover_note_news(QueueSlot *hint, const MessageKey *key,
								  int rank);

/* repair.c: is this message covered; may it be in a window? */
extern bool queue_cover_has(QueueSlot *slot, int rank, int64 id,
							TimestampTz visible_at, bool *is_window_out);

/* repair.c: first id from this one on that is not covered */
extern int64 queue_cover_gap(QueueSlot *slot, int rank, int64 id);

/* tally.c: the first ids from this one on that are */
extern bool queue_cover_first(QueueSlot *slot, int rank, int64 id,
							  QueueRange *range);

/* window.c: ids below this one, of all priorities, that may have messages */
extern void queue_cover_add_below(const QueueSlot *slot, int64 id,
								  RangeSet *set);

extern void queue_cover_count(const QueueSlot *slot, CoverCounts *counts);

/* deadline.c: something is due, or is no longer */
extern bool queue_cover_is_due_first(QueueSlot *slot, TimestampTz due);
extern void queue_cover_compute_due(QueueSlot *slot);

#ifdef USE_ASSERT_CHECKING
/* For tests */
extern void queue_cover_clear(QueueSlot *slot);
#endif

#endif							/* QUEUE_COVER_H */

/*-------------------------------------------------------------------------
 *
 * cover.h
 *		Where to look for messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COVER_H
#define QUEUE_COVER_H

#include "shared/state.h"
#include "shared/waiter.h"

/* What view queue.cover shows of one queue */
typedef struct CoverCounts
{
	int			nranges;
	int			nlater;
	int			nbusy;
	int			nwindows;
	TimestampTz due;
} CoverCounts;

/* Messages may be available now.  No allocation, no error */
extern void queue_cover_add(QueueState *hint, const MessageKey *key,
							int priority, bool wakes);
extern void queue_cover_add_set(QueueState *hint, Oid dbid, Oid relid,
								const RangeSet *set, int nwakes);

/* Any message may be: of a queue, of all queues of a database */
extern void queue_cover_add_all(Oid dbid, Oid relid);
extern void queue_cover_add_everything(Oid dbid);

/* Ask the worker to check the queues changed; with no lock held */
extern void queue_cover_tell_worker(void);

/* The priority noted for a message may be wrong from now on */
extern void queue_cover_priorities_vary(QueueState *hint, Oid relid);

/* The row says that it is not due before "due" */
extern void queue_cover_add_later(QueueState *hint, const MessageKey *key,
								  int priority, TimestampTz due,
								  bool is_read);

/* Look again at once at busy rows, of all queues of a database */
extern void queue_cover_hurry(Oid dbid);

/* Lock a queue's state for a change; release it, and set latches */
extern QueueState *queue_cover_lock(QueueState *hint, Oid dbid, Oid relid);
extern void queue_cover_unlock(QueueState *state, WakeList *wakes);

/* window.c: find a range, cut a window, cover what is given back */
extern int	queue_cover_find(QueueState *state, int rank, int64 id,
							 TimestampTz now, QueueRange *range);
extern void queue_cover_cut(QueueState *state, int i, const QueueRange *window);
extern void queue_cover_put_back(QueueState *state, const RangeSet *set);
extern void queue_cover_put_range_back(QueueState *state, int rank, int64 low,
									   int64 high);
extern void queue_cover_add_busy(QueueState *state, const RangeSet *busy,
								 TimestampTz now);

/* Returns true if there is nothing to scan before *due */
extern bool queue_cover_is_empty(QueueState *hint, Oid relid, TimestampTz now,
								 TimestampTz *due);

/* heal.c: is this message covered; may it be in a window? */
extern bool queue_cover_has(QueueState *state, int rank, int64 id,
							bool *is_window_out);

/* heal.c: first id from this one on that is not covered */
extern int64 queue_cover_gap(QueueState *state, int rank, int64 id);

extern void queue_cover_count(const QueueState *state, CoverCounts *counts);

/* deadline.c: something is due, or is no longer */
extern bool queue_cover_is_due_first(QueueState *state, TimestampTz due);
extern void queue_cover_compute_due(QueueState *state);

#ifdef USE_ASSERT_CHECKING
/* For tests */
extern void queue_cover_clear(QueueState *state);
#endif

#endif							/* QUEUE_COVER_H */

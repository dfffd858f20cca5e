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

/* What view queue.cover shows of one queue */
typedef struct CoverCounts
{
	int			nranges;
	int			nlater;
	int			nbusy;
	int			nwindows;
	TimestampTz due;
} CoverCounts;

/* One process's way through the cover of a queue */
typedef struct CoverLook
{
	QueueState *state;			/* NULL: none, so all rows are scanned */
	Oid			relid;
	TimestampTz now;
	int			rank;			/* the position reached so far */
	int64		id;
	bool		found_nothing;	/* set by the caller: no row in the last
								 * window */
	int			probed_rank;	/* first row of a wide range */
	int64		probed_low;
	int64		probed_first;
} CoverLook;

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

/* An entry of the in-flight table gets a due time, or loses it */
extern void queue_cover_set_due(QueueState *hint, const MessageKey *key,
								DueNode *node, TimestampTz due);
extern void queue_cover_clear_due(DueNode *node);

/* Due time of the first entry, or TIMESTAMP_INFINITY */
extern TimestampTz queue_cover_first_due(QueueState *state);

/* Unlink up to "max" entries that are due, and return their keys */
extern int	queue_cover_pop_due(QueueState *hint, Oid relid, TimestampTz now,
								MessageKey *keys, int max);

/* Look again at once at busy rows, of all queues of a database */
extern void queue_cover_hurry(Oid dbid);

/* ----------------------------------------------------------------
 *		Looking
 * ----------------------------------------------------------------
 */

/* Start at the beginning; "now" decides what is due */
extern void queue_cover_begin(CoverLook *look, QueueState *state, Oid relid,
							  TimestampTz now);

/* Next window; false: no more */
extern bool queue_cover_take(CoverLook *look, int64 want, int64 first,
							 QueueRange *window, bool *needs_probe);

/* Where the rows of a wide range begin */
extern void queue_cover_probed(CoverLook *look, const QueueRange *window,
							   int64 first);

/* Give back what lies beyond "high"; false: no window is out */
extern bool queue_cover_narrow(int64 high);

/* End the scan of a window; kept and busy ids return to the cover */
extern void queue_cover_give_back(CoverLook *look, const RangeSet *kept,
								  const RangeSet *busy, bool wakes);

/* Give the whole window back, after an error */
extern void queue_cover_abandon(void);

/* Returns true if there is nothing to scan before *due */
extern bool queue_cover_is_empty(QueueState *hint, Oid relid, TimestampTz now,
								 TimestampTz *due);

/* heal.c: is this message covered; may it be in a window? */
extern bool queue_cover_has(QueueState *state, int rank, int64 id,
							bool *is_window_out);

/* heal.c: first id from this one on that is not covered */
extern int64 queue_cover_gap(QueueState *state, int rank, int64 id);

extern void queue_cover_count(const QueueState *state, CoverCounts *counts);

#ifdef USE_ASSERT_CHECKING
/* For tests: forget the cover and the due times of a queue */
extern void queue_cover_forget(Oid relid);
#endif

#endif							/* QUEUE_COVER_H */

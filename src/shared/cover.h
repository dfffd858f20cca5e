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

/* A pass over the cover of one queue, by one process */
typedef struct CoverLook
{
	QueueState *state;			/* NULL: it has none, look at all rows */
	Oid			relid;
	TimestampTz now;
	int			rank;			/* how far we have come */
	int64		id;
	bool		found_nothing;	/* the caller: no row in the last window */
	int			probed_rank;	/* first row of a wide range */
	int64		probed_low;
	int64		probed_first;
} CoverLook;

/*
 * Messages may be available now.  "hint" is where the queue's state was when
 * last seen.  Wakes one waiter, or "nwakes" of them.  No allocation, no error:
 * callable from callbacks.
 */
extern void queue_cover_add(QueueState *hint, const MessageKey *key,
							int priority, bool wakes);
extern void queue_cover_add_set(QueueState *hint, Oid dbid, Oid relid,
								const RangeSet *set, int nwakes);

/* Any message of the queue may be: look everywhere, and wake everybody */
extern void queue_cover_add_all(Oid dbid, Oid relid);
extern void queue_cover_add_everything(Oid dbid);	/* of any queue */

/*
 * Pass on what additions had no lock to say: that the worker is to see whether
 * all is well.  With no lock held.
 */
extern void queue_cover_tell_worker(void);

/* A message of this database's queue has another priority than noted */
extern void queue_cover_priorities_vary(QueueState *hint, Oid relid);

/* The row says that it is not due before that; it has just been read, or only
 * its priority was noted earlier */
extern void queue_cover_add_later(QueueState *hint, const MessageKey *key,
								  int priority, TimestampTz due,
								  bool is_read);

/* An entry of the in-flight table has a due time, or another one, or none */
extern void queue_cover_set_due(QueueState *hint, const MessageKey *key,
								DueNode *node, TimestampTz due);
extern void queue_cover_clear_due(DueNode *node);

/* When the first of them is due, TIMESTAMP_INFINITY if there is none */
extern TimestampTz queue_cover_first_due(QueueState *state);

/* Take up to "max" that are due out; their keys */
extern int	queue_cover_pop_due(QueueState *hint, Oid relid, TimestampTz now,
								MessageKey *keys, int max);

/* Something has ended in this database that nobody announced: look now at
 * what was to be looked at again later */
extern void queue_cover_hurry(Oid dbid);

/* ----------------------------------------------------------------
 *		Looking
 * ----------------------------------------------------------------
 */

/* "now" decides what is due */
extern void queue_cover_begin(CoverLook *look, QueueState *state, Oid relid,
							  TimestampTz now);

/*
 * Take the next window out of the cover, of about "want" ids, or "first" if it
 * is of another priority than the last one; false if there is nothing more.
 * With "needs_probe" nothing is taken out: the last window had no rows, and the
 * range is so wide that the caller is to say first where its rows begin.
 *
 * While it is out, an error gives it back.  The caller scans it, and gives
 * back what he did not take.
 */
extern bool queue_cover_take(CoverLook *look, int64 want, int64 first,
							 QueueRange *window, bool *needs_probe);
extern void queue_cover_probed(CoverLook *look, const QueueRange *window,
							   int64 first);

/* Give back what is beyond "high" of the window; false if none is out */
extern bool queue_cover_narrow(int64 high);

/*
 * Give back what is "kept" of the window, and what is "busy": rows that
 * somebody changes of whom nobody knows when he ends.  If "wakes", who looked
 * while the window was out is woken.
 */
extern void queue_cover_give_back(CoverLook *look, const RangeSet *kept,
								  const RangeSet *busy, bool wakes);

/* The (sub)transaction is rolled back: give back what is out */
extern void queue_cover_abandon(void);

/* Is there nothing to look at, and when is the next message due? */
extern bool queue_cover_is_empty(QueueState *hint, Oid relid, TimestampTz now,
								 TimestampTz *due);

/* heal.c: is this message covered, or may somebody be looking at it? */
extern bool queue_cover_has(QueueState *state, int rank, int64 id,
							bool *is_out);

/* heal.c: the first id from this one on that the cover does not have, or
 * PG_INT64_MAX */
extern int64 queue_cover_gap(QueueState *state, int rank, int64 id);

extern void queue_cover_count(const QueueState *state, CoverCounts *counts);

#ifdef USE_ASSERT_CHECKING
/* For tests: lose everything that is known of where to look */
extern void queue_cover_forget(Oid relid);
#endif

#endif							/* QUEUE_COVER_H */

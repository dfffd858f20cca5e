/*-------------------------------------------------------------------------
 *
 * look.h
 *		A look for messages: over the cover of a queue, and the rows in it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LOOK_H
#define QUEUE_LOOK_H

#include "shared/cover.h"
#include "table/scan.h"

/* When to look again, if nothing was found */
typedef struct NextLook
{
	TimestampTz due;			/* the first message that is not due */
	bool		is_busy;		/* some row may become free unannounced */
	bool		saw_exhausted;	/* some message is the worker's to move */
} NextLook;

/* A look; the window is a part of the cover that nobody else has meanwhile */
typedef struct QueueLook
{
	Relation	rel;
	QueueDef   *def;
	QueueState *state;			/* NULL: the queue has none */
	TimestampTz now;
	NextLook   *next;
	int64		wanted;			/* messages */
	int64		want;			/* width of the next window */
	bool		is_writer;		/* by a transaction that has written */
	QueueScan  *scan;
	CoverLook	cover;

	/* the window in hand, and what is to go back of it */
	QueueRange	window;
	RangeSet	kept;
	RangeSet	busy;
	bool		has_rows;
	bool		wakes;			/* "kept" is of use to others right now */
	QueueRange	kept_ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];
} QueueLook;

/*
 * Windows are taken and given back one after another; in between, rows are
 * fetched until there are no more, or the caller has had enough.  Those that
 * are not ROW_LIVE have been dealt with already, and are not returned.
 */
extern void queue_look_begin(QueueLook *look, Relation rel, QueueDef *def,
							 int64 want, NextLook *next);
extern bool queue_look_window(QueueLook *look);
extern MessageRow *queue_look_row(QueueLook *look);
extern void queue_look_narrow(QueueLook *look, int64 id, int64 want);
extern void queue_look_give_back(QueueLook *look, int64 want);
extern void queue_look_end(QueueLook *look);

/*
 * What the caller says of a row that he does not take, and which nobody else
 * takes care of: others may want it (and all that follow); it is for whoever
 * looks next, but of no use to those who wait; somebody is judging it; somebody
 * is changing it, and nobody knows when that ends.
 */
extern void queue_look_keep(QueueLook *look, int64 id);
extern void queue_look_keep_from(QueueLook *look, int64 id);
extern void queue_look_keep_quietly(QueueLook *look, int64 id);
extern void queue_look_keep_judged(QueueLook *look, int64 id);
extern void queue_look_keep_busy(QueueLook *look, int64 id);

/*
 * Is it known, without a look at the table, that the current user may take
 * messages from this queue, and that there is none?  If not, the long way is
 * to find out, with all errors there may be.
 */
extern bool queue_look_is_needless(Oid relid, NextLook *next);

/* When to look again, by clock.h, as "end" is, unless woken, or something is
 * due; *delay is 0 first */
extern TimestampTz queue_look_again_at(const NextLook *next, int64 *delay,
									   TimestampTz end);

#endif							/* QUEUE_LOOK_H */

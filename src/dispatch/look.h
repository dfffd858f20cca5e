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
#include "shared/group.h"
#include "shared/window.h"
#include "table/scan.h"

/* When to look again, if nothing was found */
typedef struct RetryHint
{
	TimestampTz due;			/* the first message that is not due */
	bool		is_busy;		/* a row may become free unannounced */
	bool		saw_exhausted;	/* the worker is to move a message */
} RetryHint;

/* What is wanted in particular (selection.h) */
typedef struct Selection Selection;

/*
 * A look.  Its window is a part of the cover that no other consumer has
 * meanwhile
 */
typedef struct CandidateScan
{
	Relation	rel;
	QueueDef   *def;
	QueueSlot  *slot;			/* NULL: the queue has none */
	TimestampTz now;
	RetryHint  *next;
	Selection  *selection;		/* NULL: any message, by windows of the cover */
	int64		wanted;			/* messages */
	int64		want;			/* width of the next window */
	bool		is_writer;		/* by a transaction that has written */
	QueueScan  *scan;
	QueueScan  *rows;			/* the scan of the window */
	CoverCursor cover;

	/* the present window, and what is to go back of it */
	QueueRange	window;
	TimestampTz delayed;		/* the first due time of rows that are not due */
	TimestampTz expired;		/* ... and time of those that have expired */
	RangeSet	kept;
	RangeSet	busy;
	bool		has_rows;
	bool		wakes;			/* what is kept may be taken by waiters now */
	QueueRange	kept_ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];

	/* groups that keep an order: turn.c */
	bool		is_ordered;		/* they do, in this queue */
	uint64		number;			/* that no other look has */
	uint64		call;			/* who may take more of a group that is held:
								 * see GroupEntry */
	GroupEntry *group;			/* the one that is out, or NULL */
	GroupWait	left;			/* what of it is to be put back */
	int			turn_rank;		/* of the message whose turn it is */
	bool		turn_is_in_window;	/* it began with a row of the window */
	MessageRow *turn_row;		/* the only one, or NULL: they are scanned */
	Datum		turn_key;		/* the key of the group; NULL: none is scanned */
	int64		turn_others;	/* to be scanned then, from this id on */
	bool		is_first;		/* no row has been judged yet */
	int64		turn_last;		/* else the last one that was */
	bool		is_second_scan;
	QueueScan  *turn_scan;
	int64		last_seen;		/* the last id that was met in the window */
	QueueRange	gaps;			/* ids of it that were not, from the first to
								 * the last */
	QueueScan  *below_scan;

	/* groups that take turns: fair.c */
	bool		is_fair;		/* they do, in this queue */
	bool		is_crowded;		/* there is no room for more groups */
	int			nsorted;		/* rows that this call has sorted */
	int			nwalking;		/* groups that stay out because it takes long
								 * to find their next message */
	int			nunseen;		/* ... because that is not seen */
	QueueScan  *key_scan;
	QueueScan  *keyless_scan;
	MessageRow *first_row;		/* already fetched */
	bool		is_of_group;	/* the window is of this group, and rank */
	uint64		group_hash;
	int			group_rank;
	bool		has_key;		/* no: messages without a group */
	CoverCursor before;			/* where the look was in the cover */
} CandidateScan;

/*
 * Windows are taken and given back one after another; in between, rows are
 * fetched until there are no more, or the caller has enough
 */
extern void queue_look_begin(CandidateScan *look, Relation rel, QueueDef *def,
							 int64 want, RetryHint *next);
extern bool queue_look_window(CandidateScan *look);
extern MessageRow *queue_look_row(CandidateScan *look);
extern void queue_look_want(CandidateScan *look, int64 want);
extern void queue_look_narrow(CandidateScan *look, int64 id, int64 want);
extern void queue_look_give_back(CandidateScan *look, int64 want);
extern void queue_look_end(CandidateScan *look);

/*
 * For windows that are not of the cover: begin with one that is out, of which
 * the first row has been fetched; would this row be passed over, in it?  Note
 * those that were
 */
extern void queue_look_start(CandidateScan *look, QueueScan *rows,
							 MessageRow *first_row);
extern void queue_look_start_passing(CandidateScan *look);
extern bool queue_look_is_of_group(const CandidateScan *look,
								   const MessageRow *row);
extern bool queue_look_passes_over(CandidateScan *look, QueueScan *rows);
extern void queue_look_note_passed(CandidateScan *look, int rank);

/*
 * What becomes of a row that the caller does not take: it stays in the cover,
 * for other consumers; with all ids above it; for the next look, waking none;
 * because another consumer is examining it; or it is busy
 */
extern void queue_look_keep(CandidateScan *look, int64 id);
extern void queue_look_keep_from(CandidateScan *look, int64 id);
extern void queue_look_keep_quietly(CandidateScan *look, int64 id);
extern void queue_look_keep_examined(CandidateScan *look, int64 id);
extern void queue_look_keep_busy(CandidateScan *look, int64 id);

/*
 * Is it known that the user may take messages here, and that there is none;
 * if "also_out", in no window of others either?
 */
extern bool queue_is_known_empty(Oid relid, bool also_out, RetryHint *next);

/* When to look again unless woken, by clock.h; *delay is 0 at first */
extern TimestampTz queue_look_again_at(const RetryHint *next, int64 *delay,
									   TimestampTz end);

#endif							/* QUEUE_LOOK_H */

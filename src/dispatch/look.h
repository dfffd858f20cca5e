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
	bool		goes_on;		/* there is more than one look goes over */
} RetryHint;

/*
 * Who had to end a look (MAX_LOOK_TIME of topic/reading.c) looks on after this:
 * half of the time is for others, should the look not get on.
 */
#define LOOK_ON_DELAY		(USECS_PER_SEC / 10)

/* What is wanted in particular (selection.h) */
typedef struct Selection Selection;

/* What is wanted from here on */
typedef struct LookWants
{
	int64		messages;
	int64		width;			/* ids of the next window */
} LookWants;

/* Rows that are not to be taken now: when the first of them is */
typedef struct PassedRows
{
	TimestampTz delayed;		/* the first due time of those not due */
	TimestampTz expired;		/* ... and time of those that have expired */
} PassedRows;

/*
 * The present window, a part of the cover that no other consumer has meanwhile;
 * its rows, and what of it is to go back
 */
typedef struct LookWindow
{
	QueueRange	ids;
	QueueScan  *rows;
	MessageRow *first_row;		/* already fetched, or NULL */
	bool		has_rows;
	RangeSet	kept;
	RangeSet	busy;
	bool		wakes;			/* what is kept may be taken by waiters now */
	int64		last_seen;		/* the last id that was met */
	QueueRange	gaps;			/* ids that were not, from the first to the
								 * last */
	QueueRange	kept_ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];
} LookWindow;

/* The group that this look has out */
typedef struct LookGroup
{
	GroupEntry *entry;			/* NULL: none */
	GroupWait	left;			/* what of it is to be put back */
	Datum		key;			/* NULL: not known, as it is not scanned */
} LookGroup;

/* How far the turn of a group that keeps an order has come: turn.c */
typedef struct LookTurn
{
	uint64		call;			/* who may take more of a group that is held:
								 * see GroupEntry */
	int			rank;			/* of the message whose turn it is */
	bool		is_in_window;	/* it began with a row of the window */
	MessageRow *only_row;		/* NULL: they are scanned */
	int64		others;			/* those are scanned from this id on */
	bool		is_first;		/* no row has been judged yet */
	int64		last;			/* else the last one that was */
	bool		is_second_scan;
} LookTurn;

/* What a look at groups that take turns has done so far: fair.c */
typedef struct FairProgress
{
	bool		is_crowded;		/* there is no room for more groups */
	int			nsorted;		/* rows that were sorted */
	int			nwalking;		/* groups that stay out because it takes long
								 * to find their next message */
	int			nunseen;		/* ... because that is not seen */
} FairProgress;

/* The one of them that was found to be next, and perhaps its window: fair.c */
typedef struct LookTenant
{
	uint64		hash;
	int			rank;
	bool		has_key;		/* no: messages without a group */
	bool		has_window;		/* the window is of this group, and rank */
	CoverCursor before;			/* where the look was in the cover */
} LookTenant;

/* Scans that are begun when they are needed, and end with the look */
typedef struct LookScans
{
	QueueScan  *pkey;			/* windows */
	QueueScan  *group;			/* the group that is out */
	QueueScan  *below;			/* what comes before, or behind, in a group */
	QueueScan  *keys;			/* fair.c: which groups there are */
	QueueScan  *keyless;		/* fair.c: messages without a group */
	QueueScan  *correlated;		/* selection.c: those with a correlation_id */
} LookScans;

/*
 * A look.  What comes first is set in the beginning; the rest belongs
 * to look.c, but for what others are named for.
 */
typedef struct CandidateScan
{
	Relation	rel;
	QueueDef   *def;
	QueueSlot  *slot;			/* NULL: the queue has none */
	TimestampTz now;
	uint64		number;			/* that no other look has */
	bool		is_writer;		/* by a transaction that has written */
	bool		is_ordered;		/* groups keep an order in this queue */
	bool		is_fair;		/* ... or take turns */
	Selection  *selection;		/* NULL: any message, by windows of the cover */
	RetryHint  *next;			/* when to look again */

	LookWants	wants;
	CoverCursor cover;
	LookWindow	window;
	PassedRows	passed;
	LookGroup	group;
	LookTurn	turn;
	FairProgress fair;
	LookTenant	tenant;
	LookScans	scans;
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

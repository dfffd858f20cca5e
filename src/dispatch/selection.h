/*-------------------------------------------------------------------------
 *
 * selection.h
 *		A look for certain messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SELECTION_H
#define QUEUE_SELECTION_H

#include "utils/hsearch.h"

#include "dispatch/look.h"
#include "table/selector.h"

/* What is wanted: all that is given must hold */
struct Selection
{
	bool		has_id;
	int64		id;
	text	   *correlation_id; /* NULL: any */
	uint32		key;			/* its hash, by which to wait; 0: any */
	QueueSelector *selector;	/* NULL: none */
	Datum		path;			/* of the selector */

	/* a look, private to selection.c */
	SoughtKey	sought;			/* the selector */
	bool		is_shared;		/* what is left by it is in shared memory */
	RangeSet   *left;			/* ... else here; NULL: no selector */
	int			range;			/* of these, the one that the window is of */
	int			rank;			/* the position reached so far */
	int64		position;
	int			ranks;			/* correlation_id: priorities to be looked at */
	HTAB	   *blocked;		/* groups that are of no use to this look */
};

/* Is nothing wanted in particular? */
extern bool queue_selection_is_any(const Selection *selection);

/* Begin to look for that; after queue_look_begin() */
extern void queue_selection_begin(CandidateScan *look, Selection *selection);

/*
 * Windows that are not out of the cover, one after another, as
 * queue_look_window() and queue_look_give_back() have them
 */
extern bool queue_selection_window(CandidateScan *look);
extern void queue_selection_give_back(CandidateScan *look, int64 want);

/* Is this row, not claimed yet, what is wanted? */
extern bool queue_selection_wants(const CandidateScan *look, MessageRow *row);

/* ... and as this attempt? */
extern bool queue_selection_wants_attempt(const CandidateScan *look,
										  MessageRow *row, int attempt);

/* Nothing of the group of this row is to be had in this look */
extern void queue_selection_block(CandidateScan *look, const MessageRow *row);
extern bool queue_selection_is_blocked(const CandidateScan *look,
									   const MessageRow *row);

#endif							/* QUEUE_SELECTION_H */

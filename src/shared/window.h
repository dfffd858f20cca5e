/*-------------------------------------------------------------------------
 *
 * window.h
 *		Windows: parts of the cover that consumers take out to scan.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WINDOW_H
#define QUEUE_WINDOW_H

#include "shared/queue_slot.h"

/* One process's way through the cover of a queue */
typedef struct CoverCursor
{
	QueueSlot  *slot;			/* NULL: none, so all rows are scanned */
	Oid			relid;
	TimestampTz now;
	int			rank;			/* the position reached so far */
	int64		id;
	bool		found_nothing;	/* set by the caller: no row in the last
								 * window */
	int			probed_rank;	/* first row of a wide range */
	int64		probed_low;
	int64		probed_first;
	const SoughtKey *sought;	/* NULL: windows of the cover; else of what is
								 * left to be looked at by this selector */
	bool		is_sought_elsewhere;	/* at the end: others have some of it
										 * out */
} CoverCursor;

/* Start at the beginning; "now" decides what is due */
extern void queue_window_begin(CoverCursor *look, QueueSlot *slot, Oid relid,
							   TimestampTz now);

/*
 * Take windows of what is left by a selector, which others take, too; false:
 * nothing is known of it.  The key must live as long as the look
 */
extern bool queue_window_seek(CoverCursor *look, const SoughtKey *key);

/* Next window; false: no more */
extern bool queue_window_take(CoverCursor *look, int64 want, int64 first,
							  QueueRange *window, bool *needs_probe);

/* What the next window would be a part of; false: there is none */
extern bool queue_window_peek(CoverCursor *look, QueueRange *range);

/*
 * Make ids the window of this process that are not in the cover, because it
 * has just taken them out of another part of the slot; false: no slot
 */
extern bool queue_window_open(QueueSlot *hint, Oid relid,
							  const QueueRange *range);

/* Where the rows of a wide range begin */
extern void queue_window_probed(CoverCursor *look, const QueueRange *window,
								int64 first);

/* Give back what lies beyond "high"; false: no window is out */
extern bool queue_window_narrow(int64 high);

/* End the scan of a window; kept and busy ids return to the cover */
extern void queue_window_give_back(CoverCursor *look, const RangeSet *kept,
								   const RangeSet *busy, bool wakes);

/* Ids below this one of which others, or none, may have messages in hand */
extern void queue_window_below(QueueSlot *slot, Oid relid, int64 id,
							   RangeSet *set);

/* Where messages may be, for a look that takes no window out (cover.h) */
extern QueueSlot *queue_window_survey(QueueSlot *hint, Oid relid,
									  RangeSet *set, uint64 *number);

/* Give the whole window back, after an error */
extern void queue_window_return(void);

#endif							/* QUEUE_WINDOW_H */

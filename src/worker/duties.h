/*-------------------------------------------------------------------------
 *
 * duties.h
 *		What a database's worker does from time to time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DUTIES_H
#define QUEUE_DUTIES_H

#include "utils/timestamp.h"

/*
 * Returned by a duty that is to be called again at once, in another
 * transaction
 */
#define DUTY_AGAIN			DT_NOBEGIN

typedef struct Duty
{
	const char *activity;		/* for pg_stat_activity */

	/*
	 * Called in a transaction, with a snapshot unless lacks_snapshot is set.
	 * It returns when to be called again; TIMESTAMP_INFINITY if there is no
	 * need.  An error is reported, and does not come out.
	 */
	TimestampTz (*work) (void);
	int64		interval;		/* usec: called again after that at the
								 * latest; 0: as it says */
	bool		is_lazy;		/* if it says TIMESTAMP_INFINITY, the interval
								 * is not worth a round of its own */
	bool		lacks_snapshot;
	bool		(*is_wanted) (void);	/* NULL: always */
	bool		(*is_urgent) (void);	/* due whatever its time?  NULL: no */
	TimestampTz (*due) (void);	/* when others have made it due; NULL: they do
								 * not */
	void		(*failed) (void);	/* called after an error, or NULL */

	TimestampTz at;				/* when it is due; by the time of day */
} Duty;

/* The table; set when the library is loaded */
extern void queue_duties_set(Duty *duties, int n);

/* Do what is due; returns when to come again */
extern TimestampTz queue_duties_do(TimestampTz now);

/* The clock has been set: move all times along */
extern void queue_duties_move(TimestampTz change);

#endif							/* QUEUE_DUTIES_H */

/*-------------------------------------------------------------------------
 *
 * gone.h
 *		Leases of messages that are gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_GONE_H
#define QUEUE_GONE_H

/* Is it time to look for them, or a pass under way? */
extern bool queue_gone_is_needed(void);

/* Go on with the pass, in a transaction with a snapshot; true if there is more */
extern bool queue_gone(void);

/* After an error: begin anew, some other time */
extern void queue_gone_skip(void);

#endif							/* QUEUE_GONE_H */

/*-------------------------------------------------------------------------
 *
 * gone.h
 *		Leases of messages that are gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_GONE_H
#define QUEUE_GONE_H

#include "datatype/timestamp.h"

/* Is a pass under way, or is it time for one? */
extern bool queue_gone_is_needed(void);

/* Go on with the pass: a duty of the worker */
extern TimestampTz queue_gone(void);

/* After an error: begin anew some other time */
extern void queue_gone_skip(void);

#endif							/* QUEUE_GONE_H */

/*-------------------------------------------------------------------------
 *
 * forget.h
 *		Dedup keys whose time is over: deleted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FORGET_H
#define QUEUE_FORGET_H

#include "datatype/timestamp.h"

/* A duty of the worker; returns when to be called again */
extern TimestampTz queue_forget(void);

/* Is it time to see which queues there are?  Then at once; else never */
extern TimestampTz queue_forget_due(void);

/* After an error: leave that queue for a while */
extern void queue_forget_failed(void);

#endif							/* QUEUE_FORGET_H */

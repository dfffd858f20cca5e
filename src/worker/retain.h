/*-------------------------------------------------------------------------
 *
 * retain.h
 *		Retention of topics: when messages are deleted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RETAIN_H
#define QUEUE_RETAIN_H

#include "datatype/timestamp.h"

/* A duty of the worker: when is it due; what follows an error of it */
extern TimestampTz queue_retain(void);
extern TimestampTz queue_retain_due(void);
extern void queue_retain_failed(void);

#endif							/* QUEUE_RETAIN_H */

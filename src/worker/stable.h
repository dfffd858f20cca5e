/*-------------------------------------------------------------------------
 *
 * stable.h
 *		Stable ids of topics: written down.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_STABLE_H
#define QUEUE_STABLE_H

#include "datatype/timestamp.h"

/* A duty of the worker: when is it due; what follows an error of it */
extern TimestampTz queue_stable_write(void);
extern TimestampTz queue_stable_due(void);
extern void queue_stable_failed(void);

#endif							/* QUEUE_STABLE_H */

/*-------------------------------------------------------------------------
 *
 * expire.h
 *		Messages that have expired: found, and marked to be moved.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_EXPIRE_H
#define QUEUE_EXPIRE_H

#include "datatype/timestamp.h"

/* A duty of the worker: when is it due; what follows an error of it */
extern TimestampTz queue_expire(void);
extern TimestampTz queue_expire_due(void);
extern void queue_expire_failed(void);

#endif							/* QUEUE_EXPIRE_H */

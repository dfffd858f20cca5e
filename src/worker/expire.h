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

/* A duty of the worker: is it urgent; what follows an error of it */
extern TimestampTz queue_expire(void);
extern bool queue_expire_is_urgent(void);
extern void queue_expire_failed(void);

#endif							/* QUEUE_EXPIRE_H */

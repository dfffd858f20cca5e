/*-------------------------------------------------------------------------
 *
 * repair.h
 *		The safety net under the cover.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_REPAIR_H
#define QUEUE_REPAIR_H

#include "datatype/timestamp.h"

/* Has a queue of this database changed since the last pass? */
extern bool queue_repair_is_needed(void);

/* A duty of the worker; and what follows an error of it */
extern TimestampTz queue_repair(void);
extern void queue_repair_failed(void);

#endif							/* QUEUE_REPAIR_H */

/*-------------------------------------------------------------------------
 *
 * heal.h
 *		The safety net under the cover.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_HEAL_H
#define QUEUE_HEAL_H

#include "datatype/timestamp.h"

/* Has a queue of this database changed since the last pass? */
extern bool queue_heal_is_needed(void);

/* A duty of the worker; and what follows an error of it */
extern TimestampTz queue_heal(void);
extern void queue_heal_failed(void);

#endif							/* QUEUE_HEAL_H */

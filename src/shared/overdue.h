/*-------------------------------------------------------------------------
 *
 * overdue.h
 *		Delayed messages whose time has come, on their way into the cover.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_OVERDUE_H
#define QUEUE_OVERDUE_H

#include "shared/queue_slot.h"

/* From when on to add what is due now, by rank; false: nothing is */
extern bool queue_overdue_begin(QueueSlot *hint, Oid relid, TimestampTz now,
								TimestampTz *from);

/* All of it is in the cover; "next" is due next, by rank */
extern void queue_overdue_end(const TimestampTz *next);

/* It is not, after an error */
extern void queue_overdue_return(void);

#endif							/* QUEUE_OVERDUE_H */

/*-------------------------------------------------------------------------
 *
 * deadline.h
 *		When entries of the in-flight table are due: leases and back-offs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEADLINE_H
#define QUEUE_DEADLINE_H

#include "shared/queue_slot.h"

/* An entry of the in-flight table gets a due time, or loses it */
extern void queue_deadline_set(QueueSlot *hint, const MessageKey *key,
							   DueNode *node, TimestampTz due);
extern void queue_deadline_clear(DueNode *node);

/* Due time of the first entry, or TIMESTAMP_INFINITY */
extern TimestampTz queue_deadline_first(QueueSlot *slot);

/* Unlink up to "max" entries that are due, and return their keys */
extern int	queue_deadline_pop(QueueSlot *hint, Oid relid, TimestampTz now,
							   MessageKey *keys, int max);

#ifdef USE_ASSERT_CHECKING
/* For tests: forget the cover and the due times of a queue */
extern void queue_deadline_forget(Oid relid);
#endif

#endif							/* QUEUE_DEADLINE_H */

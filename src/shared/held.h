/*-------------------------------------------------------------------------
 *
 * held.h
 *		How many messages of a queue are held: dequeued or leased.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_HELD_H
#define QUEUE_HELD_H

#include "shared/queue_slot.h"

/*
 * A call is about to take up to "want" messages of a queue that lets "limit" be
 * held: reserve places, and return how many there are
 */
extern int	queue_held_reserve(QueueSlot *slot, int want, int limit);

/* Give back those that were not used; also from callbacks */
extern void queue_held_unreserve(void);

/* Is there no place left? */
extern bool queue_held_is_at_limit(QueueSlot *slot, int limit);

/* How many are held, and places reserved */
extern int	queue_held_count(QueueSlot *slot);

/* Has it counted the leases that were loaded before it had a slot? */
extern bool queue_held_is_complete(const QueueSlot *slot);
extern void queue_held_set_complete(QueueSlot *slot);

/* The in-flight table: one more is held, or one less; false: it is not counted */
extern bool queue_held_add(QueueSlot *slot);
extern void queue_held_remove(QueueSlot *slot, Oid relid);

#endif							/* QUEUE_HELD_H */

/*-------------------------------------------------------------------------
 *
 * sought.h
 *		What is left of a queue to be looked at by a selector.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SOUGHT_H
#define QUEUE_SOUGHT_H

#include "shared/queue_slot.h"

/* A set is begun anew at times, lest a row of which nobody was told be lost */
#define SOUGHT_LIFETIME		(5 * 60 * USECS_PER_SEC)

extern Size queue_sought_shmem_size(void);
extern void queue_sought_shmem_init(void);

/*
 * The set of a selector, which says whether it is to be begun with a survey;
 * NULL: none is to be had.  The slot is locked, as in all below
 */
extern Sought *queue_sought_open(QueueSlot *slot, const SoughtKey *key,
								 TimestampTz now, bool *is_new);

/* The same if there is one */
extern Sought *queue_sought_find(QueueSlot *slot, const SoughtKey *key);

/* It is not to be relied on; none is, because the place is another queue's */
extern void queue_sought_forget(Sought *sought);
extern void queue_sought_restart(QueueSlot *slot);

#endif							/* QUEUE_SOUGHT_H */

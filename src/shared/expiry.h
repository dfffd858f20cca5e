/*-------------------------------------------------------------------------
 *
 * expiry.h
 *		When the worker looks for expired messages of a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_EXPIRY_H
#define QUEUE_EXPIRY_H

#include "shared/queue_slot.h"

/* expires_at: any message may have expired */
#define QUEUE_EXPIRY_UNKNOWN	DT_NOBEGIN

/*
 * A message expires then.  Wakes the worker.  No allocation, no error.  False:
 * there is no slot to note it
 */
extern bool queue_expiry_note(QueueSlot *hint, Oid dbid, Oid relid,
							  TimestampTz expires_at);

/* The worker: when to look; from when on; what is left, to be looked at then */
extern TimestampTz queue_expiry_look_at(const QueueSlot *slot);
extern bool queue_expiry_take(QueueSlot *slot, Oid relid, TimestampTz now,
							  TimestampTz *from);

/* It has moved or deleted so many; how many it has, with the slot locked */
extern void queue_expiry_note_done(Oid relid, int n);
extern uint64 queue_expiry_count(const QueueSlot *slot);
extern void queue_expiry_put_back(QueueSlot *slot, Oid relid,
								  TimestampTz from, TimestampTz look_at);

#endif							/* QUEUE_EXPIRY_H */

/*-------------------------------------------------------------------------
 *
 * schedule.h
 *		What falls due: delayed messages become part of the cover.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H

#include "shared/queue_slot.h"
#include "table/definition.h"

/* Add what is due by now to the cover of a queue, which is open */
extern void queue_schedule_add_due(Relation rel, QueueDef *def,
								   QueueSlot *slot, TimestampTz now);

#endif							/* QUEUE_SCHEDULE_H */

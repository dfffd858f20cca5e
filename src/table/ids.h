/*-------------------------------------------------------------------------
 *
 * ids.h
 *		Ids of messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_IDS_H
#define QUEUE_IDS_H

#include "table/definition.h"

/* The next n ids of a queue, rising */
extern void queue_next_ids(QueueDef *def, int n, int64 *ids);

/* Draw no more from the block in use */
extern void queue_forget_ids(Oid relid);

/* Is it beyond all ids that were drawn or given, as far as is known? */
extern bool queue_id_is_new(QueueDef *def, int64 id);

/* Move the allocator beyond an id that was given */
extern void queue_advance_id(QueueDef *def, int64 id);

#endif							/* QUEUE_IDS_H */

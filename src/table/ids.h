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

/* Draw no more from the block in use: rows may have come that it does not know
 * of.  Costs nothing but a gap */
extern void queue_forget_ids(Oid relid);

/* Is it beyond all ids that were drawn or given, for all we know? */
extern bool queue_id_is_new(QueueDef *def, int64 id);

/* Move the allocator beyond an id that was given */
extern void queue_advance_id(QueueDef *def, int64 id);

/* Let a sequence go on beyond an id that its table has, which is no queue yet
 * and is locked against writers */
extern void queue_sequence_pass(Oid sequence, int64 id);

#endif							/* QUEUE_IDS_H */

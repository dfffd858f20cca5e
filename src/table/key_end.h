/*-------------------------------------------------------------------------
 *
 * key_end.h
 *		The end of dedup keys: when they are over, and how they are forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_KEY_END_H
#define QUEUE_KEY_END_H

#include "table/rows.h"

/* A message leaves the queue, and its key goes with it when its time is over */
extern void queue_dedup_left(QueueDef *def, MessageRow *row);

/* A message is removed as if it had never been sent: forget its key */
extern void queue_dedup_forget(QueueDef *def, MessageRow *row);

/* May the row be deleted, because the key keeps nothing away any more? */
extern bool queue_dedup_is_over(Relation rel, QueueDef *def,
								MessageRow *row, int64 id,
								TimestampTz enqueued_at);

/* Until when does a key count, whether its message is there or not? */
extern TimestampTz queue_dedup_until(const QueueDef *def,
									 TimestampTz enqueued_at);

#endif							/* QUEUE_KEY_END_H */

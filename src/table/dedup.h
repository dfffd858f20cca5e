/*-------------------------------------------------------------------------
 *
 * dedup.h
 *		Dedup keys: looked up, remembered, forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEDUP_H
#define QUEUE_DEDUP_H

#include "table/draft.h"
#include "table/rows.h"

/* Messages with keys that one call sends, one after the other */
typedef struct QueueDedup QueueDedup;

/* 55000 if the queue has no dedup_window, 42809 for an altered key table */
extern QueueDedup *queue_dedup_begin(Relation rel, QueueDef *def);

/*
 * Remember the key of a message that is about to be sent.  Returns zero; or the
 * id of the message that has it, and then this one must not be sent.  QU005 if
 * that is not known yet.  "unsent" are messages of the same call that may have
 * no row yet.
 */
extern int64 queue_dedup_remember(QueueDedup *dedup,
								  const MessageDraft *draft,
								  const int64 *unsent, int nunsent);
extern void queue_dedup_end(QueueDedup *dedup);

/* Would it return an id?  Remembers nothing, and gives its locks back */
extern int64 queue_dedup_find(Relation rel, QueueDef *def, Datum key);

/* The same for a message that is sent alone */
extern int64 queue_dedup_one(Relation rel, QueueDef *def,
							 const MessageDraft *draft);

/* A message leaves the queue, and its key goes with it when its time is over */
extern void queue_dedup_left(QueueDef *def, MessageRow *row);

/* A message is removed as if it had never been sent: forget its key */
extern void queue_dedup_forget(QueueDef *def, MessageRow *row);

/* Remember the key of a message that is there, in a table nobody else uses */
extern void queue_dedup_restore(Relation keys, Oid index, MessageRow *row);

/* Delete a row of the key table, unless another transaction is at it */
extern bool queue_dedup_delete_row(Relation keys, TupleTableSlot *slot);

/* May the row be deleted, because the key keeps nothing away any more? */
extern bool queue_dedup_is_over(Relation rel, QueueDef *def,
								MessageRow *row, int64 id,
								TimestampTz enqueued_at);

/* Until when does a key count, whether its message is there or not? */
extern TimestampTz queue_dedup_until(const QueueDef *def,
									 TimestampTz enqueued_at);

/* Locks in shared memory; for queue.c */
extern int	queue_dedup_nlocks(void);
extern Size queue_dedup_shmem_size(void);
extern void queue_dedup_shmem_init(void);

#endif							/* QUEUE_DEDUP_H */

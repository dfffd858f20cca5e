/*-------------------------------------------------------------------------
 *
 * dedup.h
 *		Dedup keys: looked up, remembered, forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEDUP_H
#define QUEUE_DEDUP_H

#include "nodes/execnodes.h"
#include "storage/lwlock.h"

#include "table/draft.h"
#include "table/key_row.h"
#include "table/rows.h"

/*
 * Remember the key of a message that is about to be sent.  Returns zero; or the
 * id of the message that has it, and then this one must not be sent.  QU005 if
 * that is not known yet, 55000 if the queue has no dedup_window, 42809 for an
 * altered key table
 */
extern int64 queue_dedup_one(Relation rel, QueueDef *def,
							 const MessageDraft *draft);

/* Would it return an id?  Remembers nothing, and gives its locks back */
extern int64 queue_dedup_find(Relation rel, QueueDef *def, Datum key);

/* Remember the key of a message that is there, in a table nobody else uses */
extern void queue_dedup_restore(Relation keys, Oid index, MessageRow *row);

/* Locks in shared memory; for queue.c */
extern int	queue_dedup_nlocks(void);
extern Size queue_dedup_shmem_size(void);
extern void queue_dedup_shmem_init(void);

/* One call that sends messages with keys; for dedup_batch.c, like all below */
typedef struct QueueDedup
{
	Relation	rel;
	QueueDef   *def;
	Relation	keys;
	Relation	index;
	TupleTableSlot *found;
	TupleTableSlot *new;
	EState	   *estate;			/* NULL: there is no index but "index" */
	ResultRelInfo *info;
	List	   *gone;			/* KeyRows that do not count any more */
} QueueDedup;

extern QueueDedup *queue_dedup_begin(Relation rel, QueueDef *def);
extern int64 queue_dedup_seek(QueueDedup *dedup, Datum key,
							  const KeyRow *message);
extern void queue_dedup_end(QueueDedup *dedup);

/* For the moment of look and insertion */
extern LWLock *queue_dedup_lock(Relation keys, Datum key);

/* The worker is to come when keys of that time are over */
extern void queue_dedup_call_worker(const QueueDef *def,
									TimestampTz enqueued_at);

#endif							/* QUEUE_DEDUP_H */

/*-------------------------------------------------------------------------
 *
 * vacuum.h
 *		Vacuum of queue tables, by a process of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_VACUUM_H
#define QUEUE_VACUUM_H

#include "shared/queue_slot.h"

/* Until a vacuum that has failed is tried again */
#define VACUUM_RETRY_DELAY	(60 * USECS_PER_SEC)

/* A duty of the worker: find queues that are worth a vacuum */
extern TimestampTz queue_vacuum_check(void);

/* After an error: that queue is not to fail the next look */
extern void queue_vacuum_skip(void);

/* Are there "factor" times enough dead rows in the table? */
extern bool queue_vacuum_has_dead_rows(Oid relid, int factor);

/* Can all rows be removed that were dead when the mark was set? */
extern bool queue_vacuum_is_removable(Oid relid, FullTransactionId mark,
									  TransactionId *latest, bool *is_held);

/* The TOAST table of a table; InvalidOid if it has none, or is gone */
extern Oid	queue_vacuum_toast_of(Oid relid);

/* The key table of a queue if it is worth a vacuum itself, or InvalidOid */
extern Oid	queue_vacuum_keys_due(Oid relid);

/* vacuum_worker.c: its entry point */
PGDLLEXPORT extern void queue_vacuum_main(Datum arg);

#endif							/* QUEUE_VACUUM_H */

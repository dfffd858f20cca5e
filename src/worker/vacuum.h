/*-------------------------------------------------------------------------
 *
 * vacuum.h
 *		Vacuum of queue tables, by a process of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_VACUUM_H
#define QUEUE_VACUUM_H

#include "shared/state.h"

/* until a vacuum that has failed is tried again */
#define VACUUM_RETRY_DELAY	(60 * USECS_PER_SEC)

/*
 * Find the queues that are worth a vacuum now, and see that there is a process
 * that does it.  Called by the database's worker, in a transaction without a
 * snapshot; waits for nobody.  Returns when to look again, TIMESTAMP_INFINITY
 * if that has time until somebody uses a queue.
 */
extern TimestampTz queue_vacuum_look(void);

/* The last look has failed: the same queue is not to fail the next one. */
extern void queue_vacuum_skip(void);

/* Are there so many times enough dead rows, in the table or in its TOAST table? */
extern bool queue_vacuum_has_dead_rows(Oid relid, int factor);

/*
 * Can all be removed that was dead when the mark was set?  Not if the table is
 * locked, or is not in order.  *latest is the latest horizon that a table has
 * had, Invalid at first: it saves looks at others.
 */
extern bool queue_vacuum_is_removable(Oid relid, FullTransactionId mark,
									  TransactionId *latest);

/* The TOAST table of a table; InvalidOid if it has none, or is gone */
extern Oid	queue_vacuum_toast_of(Oid relid);

/* vacuum_worker.c: its entry point */
PGDLLEXPORT extern void queue_vacuum_main(Datum arg);

#endif							/* QUEUE_VACUUM_H */

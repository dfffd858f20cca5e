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

/*
 * Find the queues that are worth a vacuum now, and see that there is a process
 * that does it.  Called by the database's worker, in a transaction without a
 * snapshot; waits for nobody.  Returns when to look again, TIMESTAMP_INFINITY
 * if that has time until somebody uses a queue.
 */
extern TimestampTz queue_vacuum_look(void);

/* The last look has failed: the same queue is not to fail the next one. */
extern void queue_vacuum_skip(void);

PGDLLEXPORT extern void queue_vacuum_main(Datum arg);

#endif							/* QUEUE_VACUUM_H */

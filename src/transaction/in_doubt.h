/*-------------------------------------------------------------------------
 *
 * in_doubt.h
 *		Prepared transactions, for those who would have to wait for one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_IN_DOUBT_H
#define QUEUE_IN_DOUBT_H

#include "nodes/nodes.h"
#include "storage/lock.h"

/* Raise an error if a prepared transaction holds a conflicting lock. */
extern void queue_in_doubt_refuse(Oid relid, LOCKMODE mode);

/*
 * Warn of those that are older than queue.in_doubt_warning, each once.  In a
 * transaction of the worker.  Returns when to come again.
 */
extern TimestampTz queue_in_doubt_warn(void);

#endif							/* QUEUE_IN_DOUBT_H */

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
 * A duty of the worker: warn of those that are older than
 * queue.in_doubt_warning, each once.  Does anybody want it, and has that
 * setting been changed?
 */
extern TimestampTz queue_in_doubt_warn(void);
extern bool queue_in_doubt_is_wanted(void);
extern bool queue_in_doubt_is_urgent(void);

#endif							/* QUEUE_IN_DOUBT_H */

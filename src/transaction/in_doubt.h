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

/* ... on this, which the queue of this name is made under */
extern void queue_in_doubt_refuse_lock(const LOCKTAG *tag, LOCKMODE mode,
									   const char *name);

/* ... if this transaction, or the one that it is a part of, is prepared. */
extern void queue_in_doubt_refuse_xid(Oid relid, TransactionId xid);

/* ... if the statement drops, empties or changes a queue which such a
 * transaction holds. */
extern void queue_in_doubt_refuse_ddl(Node *stmt);

/*
 * Warn of those that are older than queue.in_doubt_warning, each once.  In a
 * transaction of the worker.  Returns when to come again.
 */
extern TimestampTz queue_in_doubt_warn(void);

#endif							/* QUEUE_IN_DOUBT_H */

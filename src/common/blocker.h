/*-------------------------------------------------------------------------
 *
 * blocker.h
 *		Prepared transactions, for those who would have to wait for one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BLOCKER_H
#define QUEUE_BLOCKER_H

#include "storage/lock.h"

/* Raise an error (55006) if a prepared transaction holds a conflicting lock;
 * "name" is that of the queue which is to be locked. */
extern void queue_blocker_refuse_lock(const LOCKTAG *tag, LOCKMODE mode,
									  const char *name);

/* ... if this transaction, or the one that it is a part of, is prepared. */
extern void queue_blocker_refuse_xid(const char *name, TransactionId xid);

#endif							/* QUEUE_BLOCKER_H */

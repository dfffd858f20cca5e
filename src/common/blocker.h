/*-------------------------------------------------------------------------
 *
 * blocker.h
 *		Prepared transactions that a statement would have to wait for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BLOCKER_H
#define QUEUE_BLOCKER_H

#include "datatype/timestamp.h"
#include "storage/lock.h"

/* 55006 if a prepared transaction holds a lock that conflicts with this one */
extern void queue_blocker_refuse_lock(const LOCKTAG *tag, LOCKMODE mode,
									  const char *noun, const char *name);

/* ... if this transaction, or the one that it is a part of, is prepared */
extern void queue_blocker_refuse_xid(const char *noun, const char *name,
									 TransactionId xid);

/* Its gid if it is prepared, or NULL; and when it was, unless that is NULL */
extern char *queue_blocker_gid(TransactionId xid);
extern char *queue_blocker_prepared(TransactionId xid,
									TimestampTz *prepared_at);

#endif							/* QUEUE_BLOCKER_H */

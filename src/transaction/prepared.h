/*-------------------------------------------------------------------------
 *
 * prepared.h
 *		What prepared transactions hold and have sent: a registry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PREPARED_H
#define QUEUE_PREPARED_H

#include "utils/timestamp.h"

/* What a prepared transaction has done to a message */
typedef enum PreparedHold
{
	PREPARED_SENT,
	PREPARED_DEQUEUED,
	PREPARED_SETTLED,
	PREPARED_RECEIVED
} PreparedHold;

#define NPREPARED_HOLDS		4

extern Size queue_prepared_shmem_size(void);
extern void queue_prepared_shmem_init(void);

/* Is there one that has ended, and may still have to announce? */
extern bool queue_xact_is_announcing(void);
extern bool queue_prepared_is_ending(void);

/* Will this transaction, which is in progress, announce what it sends? */
extern bool queue_xact_will_announce(TransactionId xid);

/* The transaction that has a slot of it, or Invalid */
extern TransactionId queue_prepared_xid(int slot);

/* All of the registry, and how many there may be */
extern int	queue_prepared_max(void);
extern int	queue_prepared_xids(TransactionId *xids);

/* Finish what ended ones of this database held; true if there were any */
extern bool queue_xact_resolve_prepared(int *remaining);

/*
 * What each prepared transaction, of all databases, has done.  It is called
 * once for each without a queue, with n > 0 if the registry does not know what
 * was sent.  It is called again for each queue and kind, any number of times.
 * Messages sent that a savepoint rolled back are counted.
 */
typedef void (*PreparedVisitor) (TransactionId xid, Oid dbid, Oid relid,
								 PreparedHold kind, int64 n, void *arg);
extern void queue_xact_visit_prepared(PreparedVisitor visitor, void *arg);

/* PREPARE: reserve a slot, which may fail; pass everything on; or it failed */
extern void queue_prepared_reserve(void);
extern void queue_prepared_pass(void);
extern void queue_prepared_give_up(void);

#endif							/* QUEUE_PREPARED_H */

/*-------------------------------------------------------------------------
 *
 * recovered.h
 *		Transactions that were prepared before the server started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RECOVERED_H
#define QUEUE_RECOVERED_H

extern Size queue_recovered_shmem_size(void);
extern void queue_recovered_shmem_init(void);

/* May there be one that holds messages of this queue? */
extern bool queue_recovered_holds(Oid relid);

/* Did this transaction begin before anybody asked, after the start? */
extern bool queue_recovered_is_old(TransactionId xid);

#endif							/* QUEUE_RECOVERED_H */

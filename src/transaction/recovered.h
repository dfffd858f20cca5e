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

/* Around the end of a prepared transaction: are there any?  It has ended */
extern bool queue_recovered_are_there(void);
extern void queue_recovered_note_end(bool were_there);

/* How often one may have ended: messages that it has acked may be gone */
extern uint32 queue_recovered_ends(void);

#endif							/* QUEUE_RECOVERED_H */

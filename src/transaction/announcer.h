/*-------------------------------------------------------------------------
 *
 * announcer.h
 *		Transactions that will announce what they send.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ANNOUNCER_H
#define QUEUE_ANNOUNCER_H

#include "common/ranges.h"

extern Size queue_announcer_shmem_size(void);
extern void queue_announcer_shmem_init(void);

/*
 * This transaction, before it writes its first row: it sends these ids; it
 * will announce what it sends; it has
 */
extern void queue_announcer_publish(Oid relid, int64 low, int64 high);
extern void queue_announcer_register(void);
extern void queue_announcer_unregister(void);

/* Will this transaction announce; does one that has ended still have to? */
extern bool queue_announcer_is_registered(TransactionId xid);
extern bool queue_announcer_is_under_way(void);

/* Add to a set what is sent to this queue, and not announced yet */
extern void queue_announcer_add_below(Oid relid, int64 id, RangeSet *set);

#endif							/* QUEUE_ANNOUNCER_H */

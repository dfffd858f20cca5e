/*-------------------------------------------------------------------------
 *
 * waiter.h
 *		Sessions that sleep until a queue may have a message for them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WAITER_H
#define QUEUE_WAITER_H

#include "utils/timestamp.h"

extern Size queue_waiter_shmem_size(void);
extern void queue_waiter_shmem_init(void);

/*
 * Enter the list.  Look at the queue after that, with a snapshot taken after
 * that, and only then sleep: whatever commits later finds us in the list.
 */
extern void queue_waiter_enter(const Oid *relids, int nrelids);
extern void queue_waiter_leave(void);	/* also from callbacks */

/* Sleep until woken, at most until "until"; FATAL if the client has gone. */
extern void queue_waiter_sleep(TimestampTz until);

/* Wake who waits for one of these queues.  No allocation, no error. */
extern void queue_waiter_wake(const Oid *relids, int nrelids);

/* Wake everybody who waits in this database. */
extern void queue_waiter_wake_all(void);

#endif							/* QUEUE_WAITER_H */

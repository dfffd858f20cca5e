/*-------------------------------------------------------------------------
 *
 * sweep.h
 *		One round of a database's worker over its messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SWEEP_H
#define QUEUE_SWEEP_H

#include "utils/timestamp.h"

/*
 * Do what is due: end leases, write leases behind, count failures, move dead
 * letters, settle what finished prepared transactions held.  Called outside
 * a transaction; runs its own.  Returns the time by which it wants to be
 * called again (TIMESTAMP_INFINITY: only when poked).  Errors of one queue
 * are reported and do not come out.
 */
extern TimestampTz queue_sweep(void);

/*
 * Starts the process that finishes branches of global transactions, if there
 * may be any; false if that is to be tried again.  In a transaction.  It is the
 * duty of a higher folder, so queue.c sets it.
 */
extern bool (*queue_sweep_look_for_branches) (void);

/* Last act before a worker leaves on a request to shut down: write leases */
extern void queue_sweep_leases(void);

#endif							/* QUEUE_SWEEP_H */

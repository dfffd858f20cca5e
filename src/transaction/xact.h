/*-------------------------------------------------------------------------
 *
 * xact.h
 *		Ends of transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_XACT_H
#define QUEUE_XACT_H

#include "access/xact.h"

/* Register the callbacks; from _PG_init(), in every backend */
extern void queue_xact_init(void);

/* Has the block that has failed, and is not yet ended, used a queue? */
extern bool queue_xact_failed_used_queue(void);

#endif							/* QUEUE_XACT_H */

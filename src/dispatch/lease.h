/*-------------------------------------------------------------------------
 *
 * lease.h
 *		Leases on disk: table queue.lease_log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LEASE_H
#define QUEUE_LEASE_H

#include "shared/inflight.h"

/* Load this database's leases, unless that is done; throws */
extern void queue_lease_load(void);
extern bool queue_lease_is_loaded(void);

/* The same for functions that only show messages; no error on a standby */
extern void queue_lease_load_to_look(void);

/* A message, and the fence of its last lease; number 0: none */
typedef struct LeaseFence
{
	MessageKey	key;
	uint64		epoch;
	uint64		number;
} LeaseFence;

/*
 * End these leases, and what else the log says of these messages, in the caller's
 * transaction
 */
extern void queue_lease_log_end(const LeaseFence *leases, int n);

/*
 * Has a transaction that was prepared before the start ended it in the log?  The
 * worker: none has that memory does not know
 */
extern bool queue_lease_is_ended(const LeaseFence *lease);
extern void queue_lease_set_certain(void);

/* For the worker, in its own transactions */
extern void queue_lease_log(const MessageKey *ended, int nended,
							const LeaseRecord *records, int nrecords);
extern bool queue_lease_is_long(void);
extern TimestampTz queue_lease_compact(void);
extern void queue_lease_compact_failed(void);

#endif							/* QUEUE_LEASE_H */

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

/* End what the log says of these partitions, in the caller's transaction */
extern void queue_lease_log_end(const MessageKey *keys, int nkeys);

/* For the worker, in its own transactions */
extern void queue_lease_log(const MessageKey *ended, int nended,
							const LeaseRecord *records, int nrecords);
extern bool queue_lease_is_long(void);
extern TimestampTz queue_lease_compact(void);
extern void queue_lease_compact_failed(void);

#endif							/* QUEUE_LEASE_H */

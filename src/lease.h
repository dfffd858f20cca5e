/*-------------------------------------------------------------------------
 *
 * lease.h
 *		Leases on disk: table queue.lease.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LEASE_H
#define QUEUE_LEASE_H

#include "inflight.h"

/*
 * What is to be written: a lease, or, with number zero, that the message is
 * dequeued by a transaction in progress
 */
typedef struct LeaseRecord
{
	MessageKey	key;
	uint64		epoch;
	uint64		number;
	TimestampTz deadline;
} LeaseRecord;

/*
 * Load this database's leases after a start, if nobody has.  To be called
 * before a message is judged or a receipt is looked at.
 */
extern void queue_lease_load(void);

/* For the worker, in its own transaction */
extern void queue_lease_write(const LeaseRecord *records, int nrecords);
extern void queue_lease_remove(const MessageKey *keys, int nkeys);

#endif							/* QUEUE_LEASE_H */

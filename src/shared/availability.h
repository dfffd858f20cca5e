/*-------------------------------------------------------------------------
 *
 * availability.h
 *		Can a message be taken, and if not, why not?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_AVAILABILITY_H
#define QUEUE_AVAILABILITY_H

#include "datatype/timestamp.h"

#include "shared/inflight.h"

/* Why a message is withheld, the first reason that holds */
typedef enum Availability
{
	MESSAGE_AVAILABLE,
	MESSAGE_HELD,				/* dequeued, leased, or being settled */
	MESSAGE_EXHAUSTED,			/* at the limit of attempts */
	MESSAGE_EXPIRED,			/* beyond its time */
	MESSAGE_NOT_DUE				/* delayed, or backing off */
} Availability;

typedef struct MessageStatus
{
	Availability availability;
	bool		is_claimed;		/* a consumer is examining it, or the worker
								 * is counting or moving it: for that moment
								 * nothing else can have it, whatever
								 * "availability" says */
	int			failures;		/* in the row, in memory, and a lease that has
								 * run out */
	TimestampTz due;			/* HELD: end of the lease; NOT_DUE: its due
								 * time; 0: unknown or now */
} MessageStatus;

extern bool queue_lease_has_run_out(const InflightEntry *entry,
									TimestampTz now);
extern bool queue_is_at_limit(int max_attempts, int failures);
extern bool queue_has_expired(TimestampTz expires_at, TimestampTz now);

/* In how large a batch may a message come that has failed?  0: any */
extern int	queue_batch_limit(int max_attempts, int failures, int batch);

/* By the in-flight table alone; and together with the row */
extern void queue_entry_status(const InflightEntry *entry, TimestampTz now,
							   MessageStatus *status);
extern void queue_message_status(int max_attempts, int counted,
								 TimestampTz visible_at,
								 TimestampTz expires_at,
								 const InflightEntry *entry, TimestampTz now,
								 MessageStatus *status);

#endif							/* QUEUE_AVAILABILITY_H */

/*-------------------------------------------------------------------------
 *
 * availability.h
 *		Can a message be taken, and if not, why not?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_AVAILABILITY_H
#define QUEUE_AVAILABILITY_H

#include "shared/inflight.h"
#include "table/catalog.h"
#include "table/storage.h"

/* Why a message is withheld, the first reason that holds */
typedef enum Availability
{
	MESSAGE_AVAILABLE,
	MESSAGE_HELD,				/* dequeued, leased, or being settled */
	MESSAGE_EXHAUSTED,			/* at the limit of attempts */
	MESSAGE_NOT_DUE				/* delayed, or backing off */
} Availability;

typedef struct MessageStatus
{
	Availability availability;
	bool		is_claimed;		/* a consumer is just judging it, or the
								 * worker is counting or moving it: for that
								 * moment nobody else can have it, whatever
								 * the above says */
	int			failures;		/* in the row, in memory, and a lease that has
								 * run out */
	TimestampTz due;			/* HELD: end of the lease; NOT_DUE: when it
								 * is; 0: unknown or now */
} MessageStatus;

extern void queue_message_status(const QueueDef *def, const MessageRow *row,
								 const InflightEntry *entry, TimestampTz now,
								 MessageStatus *status);

#endif							/* QUEUE_AVAILABILITY_H */

/*-------------------------------------------------------------------------
 *
 * change.h
 *		A message that is claimed for the moment in which a call changes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CHANGE_H
#define QUEUE_CHANGE_H

#include "table/rows.h"
#include "transaction/holds.h"

/* A message that is claimed, to be changed */
typedef struct Change
{
	Relation	rel;
	QueueDef   *def;
	MessageKey	key;
	MessageRow *row;
	TimestampTz now;
	Hold	   *hold;
	int			nuntold;		/* milliseconds waited for the worker to tell
								 * a back-off */
	bool		was_delivered;	/* it backs off, or was given back for later */
	bool		is_done;		/* it is deleted, or has another due time */
} Change;

/*
 * Find and claim the message of this key, sent then; false: it is not there, or
 * not to be changed now.  Waits for a step of the worker on it
 */
extern bool queue_change_begin(Change *change, TimestampTz enqueued_at);

/* Give the claim back, if there is one */
extern void queue_change_unclaim(Change *change);

#endif							/* QUEUE_CHANGE_H */

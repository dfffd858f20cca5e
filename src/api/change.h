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
	bool		is_gone;		/* it is deleted */
} Change;

/* Claim it, though it may not be due; false: it is held */
extern bool queue_change_claim(Change *change);

/* Is the row, now that it is claimed, still what was read? */
extern bool queue_change_is_possible(Change *change);

/* Give the claim back, if there is one */
extern void queue_change_unclaim(Change *change);

#endif							/* QUEUE_CHANGE_H */

/*-------------------------------------------------------------------------
 *
 * round.h
 *		One round of a database's worker over its messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ROUND_H
#define QUEUE_ROUND_H

#include "shared/inflight.h"

/* Of each kind of work, what one round takes on */
#define ROUND_SIZE			1000

/* After an error, and if something was locked */
#define ROUND_RETRY_DELAY	(10 * USECS_PER_SEC)
#define ROUND_LOCKED_DELAY	USECS_PER_SEC

/*
 * What is to be done.  Filled while a partition of the in-flight table is
 * locked, so there is room from the beginning.
 */
typedef struct Round
{
	TimestampTz now;
	TimestampTz next;			/* when there is more to do */
	bool		is_last;		/* the worker is about to leave */
	bool		takes_all;		/* ... and has written the log: takes all
								 * steps, due or not */

	/* leases that have run out, and are not linked to their queue */
	int			nexpired;
	MessageKey	expired[ROUND_SIZE];

	/* for the log (lease_writer.c) */
	int64		write_delay;
	TimestampTz write_at;		/* nothing goes there before */
	int			nwrites;
	LeaseRecord writes[ROUND_SIZE];
	int			nremovals;
	MessageKey	removals[ROUND_SIZE];

	/* failures to be counted, messages to be moved (count.c) */
	int			nsteps;
	MessageKey	steps[ROUND_SIZE];
} Round;

/* Come again by then */
static inline void
round_comes_again(Round *round, TimestampTz at)
{
	round->next = Min(round->next, at);
}

/* Note a key; without room it is left to the next round, which is at once */
static inline void
round_add_key(Round *round, MessageKey *keys, int *n, const MessageKey *key)
{
	if (*n < ROUND_SIZE)
		keys[(*n)++] = *key;
	else
		round->next = round->now;
}

/* Do what is due; returns when to be called again */
extern TimestampTz queue_round(void);

/* Last act before a worker leaves on a request to shut down */
extern void queue_round_last(void);

#endif							/* QUEUE_ROUND_H */

/*-------------------------------------------------------------------------
 *
 * sleeper.h
 *		Sessions that wait for messages, as a view shows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SLEEPER_H
#define QUEUE_SLEEPER_H

#include "shared/wait_node.h"

/* A session that waits */
typedef struct Sleeper
{
	WaitSign	sign;
	int			nrelids;		/* 0: it is not known what it waits for */
	Oid		   *relids;			/* those that it has named, each once,
								 * palloc'd */
} Sleeper;

/* This session waits from now on, on these terms; or does not any more */
extern void queue_sleeper_begin(Waiter *waiter, int nnodes,
								const WaitTerms *terms);
extern void queue_sleeper_end(Waiter *waiter);

/* A copy of the i-th waiter of this database; false: it does not wait */
extern int	queue_sleeper_count(void);
extern bool queue_sleeper_copy(int i, Sleeper *copy);

#endif							/* QUEUE_SLEEPER_H */

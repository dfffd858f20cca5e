/*-------------------------------------------------------------------------
 *
 * heal.h
 *		The safety net under the cover.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_HEAL_H
#define QUEUE_HEAL_H

/* Is there a queue of this database that has changed since the last pass? */
extern bool queue_heal_is_needed(void);

/*
 * Go over a part of one such queue, *budget rows at most, and lower that.
 * False if there is nothing more to do.  In a transaction of the worker, with
 * a snapshot.
 */
extern bool queue_heal(int *budget);

/* Go on with another queue */
extern void queue_heal_skip(void);

#endif							/* QUEUE_HEAL_H */

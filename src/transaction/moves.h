/*-------------------------------------------------------------------------
 *
 * moves.h
 *		Partitions of subscriptions that this transaction holds, and how it
 *		moves their positions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MOVES_H
#define QUEUE_MOVES_H

#include "transaction/holds.h"

/* Has this transaction dequeued of that, or set its position? */
extern bool queue_xact_holds_partition(const MessageKey *key);

/* The hold of one of which this transaction can dequeue, or NULL */
extern Hold *queue_xact_find_taken(const MessageKey *key);

/* One that is held is moved again */
extern Hold *queue_xact_push_move(Hold *hold);

/* How many messages the transaction has consumed of that so far */
extern int	queue_xact_nconsumed(const Hold *hold);

#endif							/* QUEUE_MOVES_H */

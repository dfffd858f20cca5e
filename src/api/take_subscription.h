/*-------------------------------------------------------------------------
 *
 * take_subscription.h
 *		Getting messages of a subscription, in one look.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TAKE_SUBSCRIPTION_H
#define QUEUE_TAKE_SUBSCRIPTION_H

#include "api/taking.h"
#include "table/subscription.h"

/* One look: take messages, up to the number that is wanted */
extern void queue_take_partitions(Take *take, Relation rel,
								  SubscriptionDef *def, Snapshot snapshot,
								  RetryHint *next);

/* ... is there one that could be taken? */
extern bool queue_has_for_take(Relation rel, SubscriptionDef *def,
							   RetryHint *next);

#endif							/* QUEUE_TAKE_SUBSCRIPTION_H */

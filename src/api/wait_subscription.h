/*-------------------------------------------------------------------------
 *
 * wait_subscription.h
 *		Consumers of a subscription, which look and wait.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WAIT_SUBSCRIPTION_H
#define QUEUE_WAIT_SUBSCRIPTION_H

#include "api/taking.h"

/* What dequeue() and receive() do; wait until then, by clock.h */
extern void queue_take_subscription(Take *take, bool waits, TimestampTz end);

/*
 * For wait(): may the caller take messages?  The topic, whose list is to be
 * entered, too.  Is there a message that a consumer could take?  If not, *next
 * tells when to look again
 */
extern Oid	queue_subscription_check_waiter(Oid relid);
extern bool queue_subscription_has_message(Oid relid, RetryHint *next,
										   bool *is_paused);

#endif							/* QUEUE_WAIT_SUBSCRIPTION_H */

/*-------------------------------------------------------------------------
 *
 * subscription_ddl.h
 *		What follows for subscriptions from tables that are dropped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_DDL_H
#define QUEUE_SUBSCRIPTION_DDL_H

/* A table is about to be dropped: a subscription, a topic, dead letters */
extern void queue_subscription_on_drop(Oid relid);

/* Settings were written that name this topic, perhaps by hand */
extern void queue_subscription_on_write(Oid relid, Oid topic);

/* The worker: the same for what went unnoticed, and ties that are missing */
extern void queue_subscription_mend(void);

#endif							/* QUEUE_SUBSCRIPTION_DDL_H */

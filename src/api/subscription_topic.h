/*-------------------------------------------------------------------------
 *
 * subscription_topic.h
 *		What ties a subscription to its topic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_TOPIC_H
#define QUEUE_SUBSCRIPTION_TOPIC_H

/* Let DROP TABLE of this topic, and of no other, see the subscription */
extern void queue_subscription_tie(Oid relid, Oid topic);

/* 55000 if the rows of a topic come from another server */
extern void queue_subscription_check_topic(Oid topic);

/* 2BP01 if a topic that is to be dropped has subscriptions */
extern void queue_subscription_refuse_drop(Oid topic);

#endif							/* QUEUE_SUBSCRIPTION_TOPIC_H */

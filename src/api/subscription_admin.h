/*-------------------------------------------------------------------------
 *
 * subscription_admin.h
 *		Subscriptions made and altered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_ADMIN_H
#define QUEUE_SUBSCRIPTION_ADMIN_H

/* What pause() and resume() do to one */
extern void queue_subscription_set_paused(Oid relid, bool is_paused);

#endif							/* QUEUE_SUBSCRIPTION_ADMIN_H */

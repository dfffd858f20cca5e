/*-------------------------------------------------------------------------
 *
 * settle_subscription.h
 *		The end of leases that a subscription has given.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SETTLE_SUBSCRIPTION_H
#define QUEUE_SETTLE_SUBSCRIPTION_H

#include "dispatch/receipt.h"
#include "transaction/holds.h"

/*
 * Receipts of subscriptions, in the order of leases, then of messages, each
 * once.  is_array: what is covered already is no error
 */
typedef struct SubscriptionReceipts
{
	Receipt    *receipts;
	int			n;
	bool		is_array;
} SubscriptionReceipts;

/* In the caller's transaction; how many messages were settled */
extern int	queue_subscription_ack(const SubscriptionReceipts *given);
extern int	queue_subscription_reject(const SubscriptionReceipts *given,
									  const char *reason);

/*
 * At once, in two steps, of which only the first throws: n leases are marked, of
 * which so many messages are given back; then what becomes of them
 */
typedef struct MarkedLease MarkedLease;

extern MarkedLease *queue_subscription_mark(const SubscriptionReceipts *given,
											int *n, int *nmessages);
extern void queue_subscription_nack(MarkedLease *leases, int n, int64 delay,
									const FailureNote *failure);
extern void queue_subscription_release(MarkedLease *leases, int n,
									   int64 delay);

/*
 * Let a lease end at another time.  False, if missing_ok: it is lost; raises
 * otherwise
 */
extern bool queue_subscription_extend(const Receipt *receipt, int64 lease,
									  bool missing_ok, TimestampTz *deadline);

#endif							/* QUEUE_SETTLE_SUBSCRIPTION_H */

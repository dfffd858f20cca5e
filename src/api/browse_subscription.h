/*-------------------------------------------------------------------------
 *
 * browse_subscription.h
 *		Looking at what a subscription gets next.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BROWSE_SUBSCRIPTION_H
#define QUEUE_BROWSE_SUBSCRIPTION_H

#include "nodes/execnodes.h"

#include "table/selector.h"

/* What browse() does, after its arguments are read; selector: NULL: all */
extern void queue_subscription_browse(ReturnSetInfo *rsinfo, Oid relid,
									  int max, QueueSelector *selector);

/* What get() does: one message, unless the subscription is done with it */
extern void queue_subscription_get(ReturnSetInfo *rsinfo, Oid relid, int64 id);

#endif							/* QUEUE_BROWSE_SUBSCRIPTION_H */

/*-------------------------------------------------------------------------
 *
 * subscription.h
 *		What each session knows of a subscription, and what users may do with
 *		it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_H
#define QUEUE_SUBSCRIPTION_H

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "shared/failure.h"
#include "shared/queue_slot.h"
#include "table/index.h"
#include "table/pattern.h"
#include "table/selector.h"

/* on_failure: what becomes of a message that failed max_attempts times */
typedef enum FailureAction
{
	ON_FAILURE_DEAD_LETTER,		/* it goes, its partition goes on */
	ON_FAILURE_HOLD				/* the partition stops */
} FailureAction;

/* on_gap: what a reader meets whose next messages were removed */
typedef enum GapAction
{
	ON_GAP_ERROR,
	ON_GAP_SKIP
} GapAction;

/* One subscription as this backend knows it; see DefHead */
typedef struct SubscriptionDef
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_stale;		/* invalidated while it was being built */
	bool		is_subscription;	/* has a row in queue.subscription */
	char	   *problem;		/* why it cannot be (used as) one, or NULL */
	QueueIndexes indexes;
	QueueSlot  *slot;			/* hint: see queue_subscription_slot() */
	Oid			topic;
	MemoryContext context;		/* of the next two, or NULL */
	QueuePattern *pattern;		/* which routing keys it wants */
	QueueSelector *selector;	/* ... and which messages; NULL: all */
	uint32		filter;			/* a hash of both */
	FailureAction on_failure;
	GapAction	on_gap;
	int64		idle_after;		/* usec; 0: none */
	int64		lease;			/* usec */
	int64		max_lease;		/* usec */
	RetryPolicy retry;
	Oid			dead_letter;	/* InvalidOid: none */
	bool		paused;
} SubscriptionDef;

/* What an open needs to have checked */
typedef enum SubscriptionAccess
{
	SUBSCRIPTION_TAKE,			/* SELECT + UPDATE; refused while paused */
	SUBSCRIPTION_SETTLE,		/* SELECT + UPDATE */
	SUBSCRIPTION_BROWSE,		/* SELECT */
	SUBSCRIPTION_OWN,			/* ownership */
	SUBSCRIPTION_SYSTEM			/* the worker: no privilege is needed, and a
								 * pause is ignored */
} SubscriptionAccess;

/*
 * Open a subscription for the current user, with all checks; may throw much.
 * What the user may do with the topic is asked for by the caller that opens
 * that.
 */
extern Relation queue_subscription_open(Oid relid, SubscriptionAccess access,
										SubscriptionDef **def);

/* The lock that this takes */
extern LOCKMODE queue_subscription_lockmode(SubscriptionAccess access);

/* Look a definition up; throws nothing for a table that is no subscription */
extern SubscriptionDef *queue_subscription_def(Relation rel);

/* Is it one, by its settings?  Cheap, and without a lock */
extern bool queue_is_subscription(Oid relid);

/* 42809 if it is no subscription, or one beyond the white list */
extern void queue_subscription_check(SubscriptionDef *def);

/* 22023 if a lease is longer than there may be */
extern void queue_subscription_check_lease(SubscriptionDef *def, int64 lease);

/* What shared memory knows of it, made if need be; or NULL */
extern QueueSlot *queue_subscription_slot(SubscriptionDef *def);

/*
 * Make that of a queue or a subscription, as far as there is room; false: it is
 * locked, and may be on its way out
 */
extern bool queue_make_slot(Oid relid);

/* The subscriptions to a topic, a List of Oid */
extern List *queue_subscriptions_of(Oid topic);

/* ... and all of this database */
extern List *queue_subscriptions_all(void);

/* Register the relcache callback; from _PG_init(), in every backend */
extern void queue_subscription_init(void);

#endif							/* QUEUE_SUBSCRIPTION_H */

/*-------------------------------------------------------------------------
 *
 * wait_node.h
 *		The lists of sessions that sleep, for waiter.c and wake.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WAIT_NODE_H
#define QUEUE_WAIT_NODE_H

#include "port/atomics.h"

#include "common/client.h"
#include "shared/queue_slot.h"
#include "shared/waiter.h"

/* Nodes that each backend has, and nodes in the pool for each backend */
#define OWN_NODES			8
#define POOL_NODES			32

/* One process in the list of one queue */
typedef struct WaitNode
{
	dlist_node	link;			/* in the list of a queue, or a free one */
	int			procno;			/* of the pool: NO_PROC if it is free */
	int			place;			/* among the nodes of the process */
	Oid			relid;
	QueueSlot  *slot;			/* whose list it is, or was, in */
	bool		is_linked;
	bool		selects;		/* it is that of those that want certain
								 * messages */
	uint32		key;			/* ... with this hash of their key; 0: any */
	bool		was_woken;		/* taken off the list, and has not looked
								 * since */
	bool		is_paused;		/* the queue was, when last looked at: to be
								 * woken by its settings only */
	uint64		number;			/* windows taken out before it fell asleep;
								 * during a look: any number */
} WaitNode;

/* What a view shows of a wait (sleeper.c) */
typedef struct WaitSign
{
	Client		client;			/* pid 0: it does not wait */
	TimestampTz since;
	TimestampTz until;
	WaitWants	wants;
	int			nnodes;			/* it has so many */
	int			nqueues;		/* ... of which these are its queues */
} WaitSign;

typedef struct Waiter
{
	dlist_node	any_link;
	Oid			dbid;
	bool		waits_for_any;
	volatile bool is_woken;		/* since the last sleep */
	WaitNode	nodes[OWN_NODES];
	volatile uint32 changes;	/* of the sign, odd: it is being changed */
	WaitSign	sign;
} Waiter;

typedef struct WaiterShared
{
	pg_atomic_uint32 nany;
	dlist_head	any;			/* waiters for any queue */
	dlist_head	pool;			/* free nodes */
	Waiter		waiters[FLEXIBLE_ARRAY_MEMBER]; /* by proc number */
} WaiterShared;

extern WaiterShared *queue_waiters;

/* The nodes of the pool, POOL_NODES for each backend */
extern WaitNode *queue_waiter_pool(void);

/* Guards the list of waiters for any queue, and the pool */
extern LWLock *queue_waiters_lock;

#endif							/* QUEUE_WAIT_NODE_H */

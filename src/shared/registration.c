/*-------------------------------------------------------------------------
 *
 * registration.c
 *		Transactions that may still publish ids in a topic: lists of them.
 *
 * A registration says that a transaction may have drawn ids from its first one
 * on, and may draw more.  Each partition has a list, in the order of first ids,
 * and one more is of those that publish to any partition.  So the least id that
 * may still appear in a partition is that of the heads of two lists.  Ids only
 * rise, so a publisher goes to the end of its list, but for two: one that
 * gives an id by hand, and one that was prepared before the server started.
 *
 * Registrations come from a pool for all topics, under a spinlock held for a
 * few instructions.  A part of it is kept for those of any partition, of which
 * a transaction needs no more than one a topic.
 *
 * What if memory is full?  None is taken, and the one that wanted to publish
 * gets an error, because to publish without one would let a reader pass the
 * message.
 *
 * What if the process dies?  By an error or an exit, its callbacks give back
 * what it has (publishing.c).  By kill -9 memory is new.
 *
 * Locks: the lists have that of the topic (topic_slot.c); the pool's comes
 * last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/registration.h"

/* Registrations for each transaction that there may be: of partitions, ... */
#define OWN_REGISTRATIONS		8

/* ... and topics of which each can publish to any partition, if all do so */
#define ANY_REGISTRATIONS		16

typedef struct RegistrationPool
{
	slock_t		lock;
	int			n;
	int			nfree;
	int			nkept;			/* for those of any partition */
	dlist_head	free;
	Registration registrations[FLEXIBLE_ARRAY_MEMBER];
} RegistrationPool;

static RegistrationPool *pool = NULL;

static int	max_transactions(void);
static int	max_any(void);
static void insert(dlist_head *list, dlist_node *node, Size offset);
static int64 first_of(dlist_node *node, Size offset);

/* Transactions that there may be; prepared ones may have ended unnoticed. */
static int
max_transactions(void)
{
	return MaxBackends + 2 * max_prepared_xacts;
}

/* How many topics each can publish to, if all others do as much */
static int
max_any(void)
{
	return Min(queue_max_topics, ANY_REGISTRATIONS);
}

/* How many there are */
static int
size_of_pool(void)
{
	return max_transactions() * (OWN_REGISTRATIONS + max_any());
}

/* Shared memory needed for the pool */
Size
queue_registration_shmem_size(void)
{
	return add_size(offsetof(RegistrationPool, registrations),
					mul_size(size_of_pool(), sizeof(Registration)));
}

/* Create or attach to the pool.  The caller holds AddinShmemInitLock. */
void
queue_registration_shmem_init(void)
{
	bool		found;

	pool = ShmemInitStruct("queue registrations",
						   queue_registration_shmem_size(), &found);
	if (found)
		return;
	memset(pool, 0, queue_registration_shmem_size());
	SpinLockInit(&pool->lock);
	pool->n = pool->nfree = size_of_pool();
	pool->nkept = max_transactions() * max_any();
	dlist_init(&pool->free);
	for (int i = 0; i < pool->n; i++)
	{
		pool->registrations[i].topic = NO_TOPIC;
		dlist_push_tail(&pool->free, &pool->registrations[i].link);
	}
}

/* Return how many there are, free or not. */
int
queue_registration_count(void)
{
	return pool->n;
}

/* Return one of them.  It is not locked, so it may change at any time. */
Registration *
queue_registration_at(int i)
{
	return &pool->registrations[i];
}

/*
 * queue_registration_take
 *		Take a registration from the pool, or return NULL.
 *
 * NULL for a partition means that one for any partition may still be had.
 */
Registration *
queue_registration_take(int partition)
{
	int			nkept = partition == ANY_PARTITION ? 0 : pool->nkept;
	Registration *registration = NULL;

	SpinLockAcquire(&pool->lock);
	if (pool->nfree > nkept)
	{
		registration = dlist_container(Registration, link,
									   dlist_pop_head_node(&pool->free));
		pool->nfree--;
	}
	SpinLockRelease(&pool->lock);
	if (registration == NULL)
		return NULL;
	registration->partition = partition;
	registration->least = PG_INT64_MAX;
	registration->greatest = 0;
	registration->nids = 0;
	registration->drawn_from = PG_INT64_MAX;
	registration->drawn_to = 0;
	registration->xid = InvalidTransactionId;
	registration->procno = NO_PROC;
	return registration;
}

/* Give one back that is in no list. */
void
queue_registration_free(Registration *registration)
{
	registration->topic = NO_TOPIC;
	registration->xid = InvalidTransactionId;
	SpinLockAcquire(&pool->lock);
	dlist_push_head(&pool->free, &registration->link);
	pool->nfree++;
	SpinLockRelease(&pool->lock);
}

/* A topic begins, with nobody registered. */
void
queue_registrations_init(RegistrationLists *lists)
{
	dlist_init(&lists->all);
	dlist_init(&lists->any);
	for (int i = 0; i < TOPIC_MAX_PARTITIONS; i++)
		dlist_init(&lists->partitions[i]);
}

/* Put a registration, whose first id is set, into the lists. */
void
queue_registration_link(RegistrationLists *lists, Registration *registration)
{
	insert(registration->partition == ANY_PARTITION ? &lists->any :
		   &lists->partitions[registration->partition],
		   &registration->link, offsetof(Registration, link));
	insert(&lists->all, &registration->all_link,
		   offsetof(Registration, all_link));
}

/* Take it off them. */
void
queue_registration_unlink(RegistrationLists *lists,
						  Registration *registration)
{
	dlist_delete(&registration->link);
	dlist_delete(&registration->all_link);
}

/*
 * queue_registration_first
 *		Return the one that can draw the least id in a partition, or in all.
 */
Registration *
queue_registration_first(RegistrationLists *lists, int partition)
{
	Registration *any = NULL;
	Registration *own = NULL;

	if (partition == ANY_PARTITION)
		return dlist_is_empty(&lists->all) ? NULL :
			dlist_head_element(Registration, all_link, &lists->all);
	if (!dlist_is_empty(&lists->any))
		any = dlist_head_element(Registration, link, &lists->any);
	if (!dlist_is_empty(&lists->partitions[partition]))
		own = dlist_head_element(Registration, link,
								 &lists->partitions[partition]);
	if (any == NULL || (own != NULL && own->first < any->first))
		return own;
	return any;
}

/* Insert into a list, nearly always at its end. */
static void
insert(dlist_head *list, dlist_node *node, Size offset)
{
	int64		first = first_of(node, offset);
	dlist_node *before;

	if (dlist_is_empty(list))
	{
		dlist_push_tail(list, node);
		return;
	}
	before = dlist_tail_node(list);
	while (first_of(before, offset) > first)
	{
		if (!dlist_has_prev(list, before))
		{
			dlist_push_head(list, node);
			return;
		}
		before = dlist_prev_node(list, before);
	}
	dlist_insert_after(before, node);
}

/* The first id of what this is a node of */
static int64
first_of(dlist_node *node, Size offset)
{
	return ((Registration *) ((char *) node - offset))->first;
}

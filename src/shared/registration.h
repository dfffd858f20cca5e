/*-------------------------------------------------------------------------
 *
 * registration.h
 *		Transactions that may still publish ids in a topic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_REGISTRATION_H
#define QUEUE_REGISTRATION_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"

/* Partitions of a topic */
#define TOPIC_MAX_PARTITIONS	256

/* Instead of one: a registration for all of them */
#define ANY_PARTITION			(-1)

/* A registration that is of no topic any more */
#define NO_TOPIC				(-1)

/*
 * One transaction and one partition.  Its transaction counts what it has
 * drawn; all else is under the lock of the topic.
 */
typedef struct Registration
{
	dlist_node	link;			/* of its partition, or of any; or it is free */
	dlist_node	all_link;		/* of the topic */
	int			topic;			/* its slot, or NO_TOPIC */
	int			partition;		/* or ANY_PARTITION */
	int64		first;			/* none of its ids can be lower */
	int64		least;			/* of those it has drawn */
	int64		greatest;
	int64		nids;
	int64		drawn_from;		/* of those it drew at once, the last time: */
	int64		drawn_to;		/* ... they may not be rows yet */
	int			procno;
	TransactionId xid;			/* valid: it is prepared, and has no process */
	TimestampTz since;
} Registration;

/* The lists of one topic, each in the order of first ids */
typedef struct RegistrationLists
{
	dlist_head	all;
	dlist_head	any;
	dlist_head	partitions[TOPIC_MAX_PARTITIONS];
} RegistrationLists;

extern Size queue_registration_shmem_size(void);
extern void queue_registration_shmem_init(void);

/* By number, for all that there are */
extern int	queue_registration_count(void);
extern Registration *queue_registration_at(int i);

/* Take one that is free, or NULL; give it back */
extern Registration *queue_registration_take(int partition);
extern void queue_registration_free(Registration *registration);

/* With the lock of the topic held: */
extern void queue_registrations_init(RegistrationLists *lists);
extern void queue_registration_link(RegistrationLists *lists,
									Registration *registration);
extern void queue_registration_unlink(RegistrationLists *lists,
									  Registration *registration);

/*
 * The one that can draw the least id in a partition, or in all
 * (ANY_PARTITION); NULL: nobody is registered
 */
extern Registration *queue_registration_first(RegistrationLists *lists,
											  int partition);

#endif							/* QUEUE_REGISTRATION_H */

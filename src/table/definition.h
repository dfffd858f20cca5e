/*-------------------------------------------------------------------------
 *
 * definition.h
 *		What each session knows of a queue, and what users may do with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEFINITION_H
#define QUEUE_DEFINITION_H

#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "shared/failure.h"
#include "shared/queue_slot.h"
#include "table/choice.h"
#include "table/def_cache.h"
#include "table/index.h"

/* One queue as this backend knows it; see DefHead */
typedef struct QueueDef
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_stale;		/* invalidated while it was being built */
	bool		is_queue;		/* has a row in queue.queue */
	char	   *problem;		/* why it cannot be (used as) a queue, or NULL */
	char	   *deaf_trigger;	/* one of its own that does not fire in
								 * replica role, or NULL */
	QueueIndexes indexes;
	Oid			sequence;		/* id allocator */
	Oid			table_file;		/* what both are stored in: TRUNCATE changes */
	Oid			sequence_file;	/* the one, a restart of the ids the other */
	int64		id_block;		/* ids that one call of nextval() stands for */
	int64		moved_to;		/* no queue yet: its sequence was moved beyond
								 * this id */
	QueueSlot  *slot;			/* hint: see queue_def_slot() */
	int64		lease;			/* usec */
	int64		max_lease;		/* usec */
	RetryPolicy retry;
	Oid			dead_letter;	/* InvalidOid: none */
	bool		enqueue_paused;
	bool		dequeue_paused;
	int64		expires_in;		/* usec; 0: a message never does */
	ExpiryAction on_expiry;
	GroupMode	group_mode;
	GroupFailure group_failure;
	int64		dedup_window;	/* usec; -1: none; PG_INT64_MAX: for ever */
	Oid			key_table;		/* its keys; InvalidOid: none */
	Oid			key_index;		/* ... by key; InvalidOid: not looked at yet */
	int64		max_messages;	/* 0: no limit, here and below */
	int64		max_bytes;
	FullAction	on_full;
	int			max_in_flight;
} QueueDef;

/* What an open needs to have checked */
typedef enum QueueAccess
{
	QUEUE_ENQUEUE,				/* INSERT; refused while enqueue is paused */
	QUEUE_ASK_FOR_ROOM,			/* INSERT */
	QUEUE_TAKE,					/* SELECT + DELETE; refused while paused */
	QUEUE_SETTLE,				/* SELECT + DELETE */
	QUEUE_BROWSE,				/* SELECT */
	QUEUE_OWN,					/* ownership */
	QUEUE_SYSTEM				/* the worker, and moves on a user's behalf:
								 * no privilege is needed, and a pause is
								 * ignored */
} QueueAccess;

/* Open a queue for the current user, with all checks; may throw much */
extern Relation queue_open(Oid relid, QueueAccess access, QueueDef **def);

/* The lock that queue_open() takes for this kind of access */
extern LOCKMODE queue_lockmode(QueueAccess access);

/* This transaction has opened a queue; cleared at its end (xact.c) */
extern bool queue_is_used;

/* Look a definition up; throws nothing for a table that is no queue */
extern QueueDef *queue_def(Relation rel);

/* The same without a look at the table; NULL: not known for certain */
extern QueueDef *queue_def_known(Oid relid);

/* May the current user take messages? */
extern bool queue_may_take(Oid relid);

/* May the current user know what goes on with them? */
extern bool queue_may_watch(Oid relid);

/* What shared memory knows of the queue, made if need be; or NULL */
extern QueueSlot *queue_def_slot(QueueDef *def);

/* Is the number of its messages limited, or of their bytes? */
extern bool queue_def_is_limited(const QueueDef *def);

/* Are the messages of a group delivered in order? */
extern bool queue_def_keeps_order(const QueueDef *def);
extern bool queue_def_is_fair(const QueueDef *def);

/* ... and does one that has failed max_attempts times stop its group? */
extern bool queue_def_stops_groups(const QueueDef *def);

/* 42809 if rel is no queue, or one beyond the white list */
extern void queue_check_shape(Relation rel, QueueDef *def);

/* 22023 if a lease is longer than this queue allows */
extern void queue_check_lease(QueueDef *def, int64 lease);

/* QU002 if what is asked for is paused */
extern void queue_check_not_paused(Relation rel, QueueDef *def,
								   QueueAccess access);

/* Register the relcache callback; from _PG_init(), in every backend */
extern void queue_definition_init(void);

#endif							/* QUEUE_DEFINITION_H */

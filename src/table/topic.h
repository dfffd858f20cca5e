/*-------------------------------------------------------------------------
 *
 * topic.h
 *		What each session knows of a topic, and what users may do with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_H
#define QUEUE_TOPIC_H

#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "common/compat.h"
#include "table/index.h"

/* One topic as this backend knows it; see DefHead */
typedef struct TopicDef
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_stale;		/* invalidated while it was being built */
	bool		is_topic;		/* has a row in queue.topic */
	char	   *problem;		/* why it cannot be (used as) one, or NULL */
	char	   *deaf_trigger;	/* one of its own that does not fire in
								 * replica role, or NULL */
	QueueIndexes indexes;
	Oid			sequence;		/* id allocator */
	Oid			table_file;		/* what both are stored in, as QueueDef's */
	Oid			sequence_file;
	int64		id_block;		/* ids that one call of nextval() stands for */
	int			partitions;
	int64		retention;		/* usec; 0: for ever */
	int64		max_bytes;		/* 0: no limit */
	bool		keep_unread;
} TopicDef;

/* What an open needs to have checked */
typedef enum TopicAccess
{
	TOPIC_PUBLISH,				/* INSERT */
	TOPIC_READ,					/* SELECT */
	TOPIC_BIND,					/* TRIGGER; keeps publishers out */
	TOPIC_OWN					/* ownership */
} TopicAccess;

/* Open a topic for the current user, with all checks; may throw much */
extern Relation queue_topic_open(Oid relid, TopicAccess access,
								 TopicDef **topic);

/* The lock that this takes */
extern LOCKMODE queue_topic_lockmode(TopicAccess access);

/* Look a definition up; throws nothing for a table that is no topic */
extern TopicDef *queue_topic_def(Relation rel);

/* 42809 for what has no settings of a topic */
pg_noreturn extern void queue_topic_refuse(Oid relid, TopicAccess access);

/* The same if it is known and has not changed, else NULL */
extern TopicDef *queue_topic_def_known(Oid relid);

/* 42809 if it is no topic, or one beyond the white list */
extern void queue_topic_check(TopicDef *topic);

/* Register the relcache callback; from _PG_init(), in every backend */
extern void queue_topic_init(void);

#endif							/* QUEUE_TOPIC_H */

/*-------------------------------------------------------------------------
 *
 * topic.c
 *		What each session knows of a topic, and what users may do with it.
 *
 * As definition.c for queues: settings, and whether the table is within the
 * white list, are kept by def_cache.c; privileges are asked for on every call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/args.h"
#include "table/access.h"
#include "table/def_cache.h"
#include "table/setting_row.h"
#include "table/shape.h"
#include "table/topic.h"
#include "table/topic_settings.h"

DEF_BEGINS_WITH_HEAD(TopicDef);

static DefCache topic_defs = {
	.name = "topic definitions",
	.size = sizeof(TopicDef),
	.settings = MEMBER_TOPIC
};

static void check_topic(TopicDef *topic, const Instead *instead);
static const Instead *instead_of(TopicAccess access);
static void build_topic(Relation rel, TopicDef *topic);
static bool read_settings(TopicDef *topic);


/* Register the relcache callback; from _PG_init(), in every backend. */
void
queue_topic_init(void)
{
	queue_def_cache_register(&topic_defs);
}

/*
 * queue_topic_lockmode
 *		Return the lock that queue_topic_open() takes for this kind of access.
 *
 * A bind waits for the publishers that are under way, so that what is
 * published later is copied.
 */
LOCKMODE
queue_topic_lockmode(TopicAccess access)
{
	switch (access)
	{
		case TOPIC_READ:
			return AccessShareLock;
		case TOPIC_PUBLISH:
		case TOPIC_OWN:
			return RowExclusiveLock;
		case TOPIC_BIND:
			return ShareRowExclusiveLock;
	}
	return NoLock;				/* not reached */
}

/*
 * queue_topic_open
 *		Open a topic for the current user.
 *
 * Locks the table, and checks privileges and white list.  Raises 42704 if
 * there is no such relation, 42501, or 42809 if it is no (proper) topic.
 *
 * The caller closes with table_close(rel, NoLock).
 */
Relation
queue_topic_open(Oid relid, TopicAccess access, TopicDef **topic)
{
	Relation	rel = queue_access_open(relid, queue_topic_lockmode(access),
										&queue_topic_form);

	switch (access)
	{
		case TOPIC_PUBLISH:
			queue_access_check(rel, ACL_INSERT);
			break;
		case TOPIC_READ:
			queue_access_check(rel, ACL_SELECT);
			break;
		case TOPIC_BIND:
			queue_access_check(rel, ACL_TRIGGER);
			break;
		case TOPIC_OWN:
			queue_access_check_owner(rel);
			break;
	}
	*topic = queue_topic_def(rel);
	check_topic(*topic, instead_of(access));
	return rel;
}

/* Return what to do with what is no topic. */
static const Instead *
instead_of(TopicAccess access)
{
	static const Instead hints[] = {
		[TOPIC_PUBLISH] = {
			.queue = "Use queue.enqueue() and its like to send messages to a queue.",
			.subscription = "Publish to the topic of the subscription."
		},
		[TOPIC_READ] = {
			.queue = "Use queue.browse() to look at the messages of a queue, queue.dequeue() or queue.receive() to take them.",
			.subscription = "Name the topic of the subscription; or take messages with queue.dequeue() or queue.receive()."
		},
		[TOPIC_BIND] = {
			.queue = "Only a topic has bindings; name the queue in the second argument.",
			.subscription = "Name the topic of the subscription."
		},
		[TOPIC_OWN] = {
			.queue = "Use queue.alter_queue() and queue.drop_queue() for queues.",
			.subscription = "Use queue.alter_subscription() and queue.drop_queue() for subscriptions."
		}
	};

	return &hints[access];
}

/* Raise 42809 for what has no settings of a topic. */
void
queue_topic_refuse(Oid relid, TopicAccess access)
{
	queue_access_refuse(relid, &queue_topic_form, instead_of(access));
}

/*
 * queue_topic_check
 *		Raise 42809 if it is no topic, or one beyond the white list.
 */
void
queue_topic_check(TopicDef *topic)
{
	check_topic(topic, instead_of(TOPIC_PUBLISH));
}

/* The same; "instead" is the hint if it is something else. */
static void
check_topic(TopicDef *topic, const Instead *instead)
{
	if (!topic->is_topic)
		queue_access_refuse(topic->relid, &queue_topic_form, instead);
	queue_shape_check(topic->relid, &queue_topic_form, topic->problem);
}

/*
 * queue_topic_def
 *		Look a definition up, building it when needed.
 *
 * "rel" is open and locked.  Throws nothing for a table that is no topic; the
 * caller looks at is_topic and problem.
 */
TopicDef *
queue_topic_def(Relation rel)
{
	TopicDef   *topic = queue_def_cache_enter(&topic_defs,
											  RelationGetRelid(rel));

	if (!topic->is_valid)
		build_topic(rel, topic);
	return topic;
}

/*
 * queue_topic_def_known
 *		Return the definition of a topic, if it is known and has not changed
 *		since; else NULL.
 */
TopicDef *
queue_topic_def_known(Oid relid)
{
	TopicDef   *topic = queue_def_cache_find(&topic_defs, relid);

	return topic != NULL && topic->is_valid && topic->is_topic ? topic : NULL;
}

/* Fill a definition in, as build_def() of definition.c. */
static void
build_topic(Relation rel, TopicDef *topic)
{
	TopicDef	fresh = {.relid = topic->relid};
	QueueShape	shape = {0};
	char	   *problem;
	bool		is_known;

	topic->is_stale = false;
	is_known = read_settings(&fresh);

	/* without settings, too: rows may be restored before those are */
	problem = queue_shape_violation(rel, &queue_topic_form, &shape);
	if (problem == NULL)
		problem = queue_shape_missing(&queue_topic_form, &shape);
	if (problem != NULL)
		fresh.problem = MemoryContextStrdup(queue_def_cache_context(),
											problem);
	if (shape.deaf_trigger != NULL)
		fresh.deaf_trigger = MemoryContextStrdup(queue_def_cache_context(),
												 shape.deaf_trigger);
	fresh.indexes = shape.indexes;
	fresh.sequence = shape.sequence;
	fresh.table_file = rel->rd_rel->relfilenode;
	fresh.sequence_file = queue_def_file_of(shape.sequence);
	fresh.id_block = queue_def_block_length(shape.sequence);

	queue_def_cache_note_part(fresh.sequence, fresh.relid);
	fresh.is_stale = topic->is_stale;
	fresh.is_valid = is_known && problem == NULL && !fresh.is_stale;
	if (topic->problem != NULL)
		pfree(topic->problem);
	if (topic->deaf_trigger != NULL)
		pfree(topic->deaf_trigger);
	*topic = fresh;
}

/*
 * read_settings
 *		Read the row of queue.topic; is_topic tells whether there is one.
 *
 * Returns false if there is no such table.
 */
static bool
read_settings(TopicDef *topic)
{
	Relation	settings = queue_setting_open_if_there(MEMBER_TOPIC,
													   AccessShareLock);
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (settings == NULL)
		return false;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = queue_setting_scan(settings, MEMBER_TOPIC, topic->relid);
	tuple = queue_setting_next(scan, snapshot);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_topic];
		bool		nulls[Natts_topic];

		queue_member_deform(settings, MEMBER_TOPIC, tuple, values, nulls);
		topic->is_topic = true;
		topic->partitions =
			DatumGetInt32(values[Anum_topic_partitions - 1]);
		if (!nulls[Anum_topic_retention - 1])
			topic->retention =
				queue_interval_usec(DatumGetIntervalP(values[Anum_topic_retention - 1]),
									"retention");
		if (!nulls[Anum_topic_max_bytes - 1])
			topic->max_bytes =
				DatumGetInt64(values[Anum_topic_max_bytes - 1]);
		topic->keep_unread =
			DatumGetBool(values[Anum_topic_keep_unread - 1]);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);

	return true;
}

/*-------------------------------------------------------------------------
 *
 * definition.c
 *		What each session knows of a queue, and what users may do with it.
 *
 * Settings, and whether the table is within the white list, are kept by
 * def_cache.c.  Privileges are not part of it: they depend on the role of the
 * moment, and are asked for on every call (access.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/errcodes.h"
#include "common/relation_name.h"
#include "shared/database.h"
#include "table/access.h"
#include "table/def_cache.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/settings.h"
#include "table/shape.h"

bool		queue_is_used = false;

DEF_BEGINS_WITH_HEAD(QueueDef);

static DefCache queue_defs = {
	.name = "queue definitions",
	.size = sizeof(QueueDef),
	.settings = MEMBER_QUEUE
};

static void build_def(Relation rel, QueueDef *def);
static bool read_settings(QueueDef *def);
static void read_delivery(QueueDef *def, const Datum *values,
						  const bool *nulls);
static int	read_choice(int attnum, const Datum *values);
static void check_privileges(Relation rel, QueueAccess access);
static const Instead *instead_of(QueueAccess access);
static void check_shape(Relation rel, QueueDef *def, const Instead *instead);


/* Register the relcache callback; from _PG_init(), in every backend. */
void
queue_definition_init(void)
{
	queue_def_cache_register(&queue_defs);
}

/*
 * queue_lockmode
 *		Return the lock that queue_open() takes for this kind of access.
 */
LOCKMODE
queue_lockmode(QueueAccess access)
{
	return access == QUEUE_BROWSE ? AccessShareLock : RowExclusiveLock;
}

/*
 * queue_open
 *		Open a queue for the current user.
 *
 * Locks the table (RowExclusiveLock, but AccessShareLock to browse), and
 * checks privileges, white list and pause.  Raises 42704 if there is no such
 * relation, 42809 if it is no (proper) queue, 42501, or QU002; to take, also
 * what the server raises if a publication forbids DELETE.
 *
 * The privileges come before the question whether it is a queue, so that a
 * role without any learns no more than from the server itself.
 *
 * The caller closes with table_close(rel, NoLock), or releases the lock if it
 * took nothing.
 */
Relation
queue_open(Oid relid, QueueAccess access, QueueDef **def)
{
	Relation	rel;

	queue_is_used = true;

	rel = queue_access_open(relid, queue_lockmode(access), &queue_form);
	check_privileges(rel, access);
	*def = queue_def(rel);
	check_shape(rel, *def, instead_of(access));
	queue_check_not_paused(rel, *def, access);

	/* a consumer that cannot delete a message must not get it */
	if (access == QUEUE_TAKE)
		CheckCmdReplicaIdentity(rel, CMD_DELETE);

	return rel;
}

/*
 * queue_may_take
 *		Returns true if the current user may take messages.
 *
 * No error if not, or if there is no such table.
 */
bool
queue_may_take(Oid relid)
{
	bool		is_missing = false;

	return pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT,
								 &is_missing) == ACLCHECK_OK &&
		pg_class_aclcheck_ext(relid, GetUserId(), ACL_DELETE,
							  &is_missing) == ACLCHECK_OK && !is_missing;
}

/*
 * queue_may_watch
 *		Returns true if the current user may know what goes on with the
 *		messages, as readers and monitors may.
 */
bool
queue_may_watch(Oid relid)
{
	bool		is_missing = false;
	AclResult	result = pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT,
											   &is_missing);

	return !is_missing && (result == ACLCHECK_OK ||
						   has_privs_of_role(GetUserId(), ROLE_PG_MONITOR));
}

/* Raise an error unless the current user has what this access needs. */
static void
check_privileges(Relation rel, QueueAccess access)
{
	switch (access)
	{
		case QUEUE_ENQUEUE:
		case QUEUE_ASK_FOR_ROOM:
			queue_access_check(rel, ACL_INSERT);
			break;
		case QUEUE_TAKE:
		case QUEUE_SETTLE:
			queue_access_check(rel, ACL_SELECT | ACL_DELETE);
			break;
		case QUEUE_BROWSE:
			queue_access_check(rel, ACL_SELECT);
			break;
		case QUEUE_OWN:
			queue_access_check_owner(rel);
			break;
		case QUEUE_SYSTEM:
			break;
	}
}

/* Return what to do with what is no queue. */
static const Instead *
instead_of(QueueAccess access)
{
	static const Instead take = {
		.topic = "Use queue.subscribe() to make a subscription, whose messages can be taken; queue.read() to read the topic; or queue.bind() to have its messages copied to a queue.",
		.subscription = "Use queue.dequeue() or queue.receive() to take messages, and their receipts to settle them."
	};
	static const Instead hints[] = {
		[QUEUE_ENQUEUE] = {
			.topic = "Use queue.publish() and its like to send messages to a topic.",
			.subscription = "Use queue.publish() and its like to send messages to the topic of the subscription."
		},
		[QUEUE_ASK_FOR_ROOM] = {
			.topic = "A topic takes whatever queue.publish() sends; the queues that are bound to it may have limits.",
			.subscription = "The topic of a subscription takes whatever queue.publish() sends."
		},
		[QUEUE_BROWSE] = {
			.topic = "Use queue.read() to read a topic, or SELECT.",
			.subscription = "Use queue.read() to read the topic of the subscription."
		},
		[QUEUE_OWN] = {
			.topic = "Use queue.alter_topic() and queue.drop_topic() for topics, and DELETE or TRUNCATE to remove messages.",
			.subscription = "Use queue.alter_subscription() and queue.drop_queue() for subscriptions, and queue.seek() to go past messages."
		},
		[QUEUE_SYSTEM] = {
			.topic = "Name a queue instead.",
			.subscription = "Name a queue instead."
		}
	};

	return access == QUEUE_TAKE || access == QUEUE_SETTLE ? &take :
		&hints[access];
}

/*
 * queue_check_lease
 *		Raise 22023 if a lease is longer than this queue allows.
 */
void
queue_check_lease(QueueDef *def, int64 lease)
{
	if (lease > def->max_lease)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease is longer than queue \"%s\" allows",
						queue_shown_name(def->relid)),
				 errdetail("The longest is " INT64_FORMAT " seconds.",
						   def->max_lease / USECS_PER_SEC),
				 errhint("Take a shorter lease and extend it with queue.extend(), or set max_lease with queue.alter_queue().")));
}

/*
 * queue_check_not_paused
 *		Raise QU002 if this kind of access is paused.
 */
void
queue_check_not_paused(Relation rel, QueueDef *def, QueueAccess access)
{
	if (access == QUEUE_ENQUEUE && def->enqueue_paused)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_PAUSED),
				 errmsg("enqueue on queue \"%s\" is paused",
						queue_shown_name(RelationGetRelid(rel))),
				 errdetail("Its owner paused it with queue.pause()."),
				 errhint("Try again after the owner has called queue.resume().")));
	if (access == QUEUE_TAKE && def->dequeue_paused)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_PAUSED),
				 errmsg("dequeue on queue \"%s\" is paused",
						queue_shown_name(RelationGetRelid(rel))),
				 errdetail("Its owner paused it with queue.pause()."),
				 errhint("Try again after the owner has called queue.resume().")));
}

/*
 * queue_check_shape
 *		Raise 42809 if rel is no queue, or one beyond the white list.
 */
void
queue_check_shape(Relation rel, QueueDef *def)
{
	check_shape(rel, def, instead_of(QUEUE_SYSTEM));
}

/* The same; "instead" is the hint if it is something else. */
static void
check_shape(Relation rel, QueueDef *def, const Instead *instead)
{
	if (!def->is_queue)
		queue_access_refuse(RelationGetRelid(rel), &queue_form, instead);
	queue_shape_check(RelationGetRelid(rel), &queue_form, def->problem);
}

/*
 * queue_def
 *		Look a definition up, building it when needed.
 *
 * "rel" is open and locked.  Throws nothing for a table that is no queue; the
 * caller looks at is_queue and problem.  The fast path is one look into a hash
 * table.
 */
QueueDef *
queue_def(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	QueueDef   *def = queue_def_cache_enter(&queue_defs, relid);

	if (!def->is_valid)
		build_def(rel, def);

	return def;
}

/*
 * queue_def_known
 *		Look a definition up without a look at the table.
 *
 * Returns NULL if it is not known to be a queue, or may have changed.
 */
QueueDef *
queue_def_known(Oid relid)
{
	QueueDef   *def;

	AcceptInvalidationMessages();
	def = queue_def_cache_find(&queue_defs, relid);
	return def != NULL && def->is_valid && def->is_queue ? def : NULL;
}

/*
 * queue_def_slot
 *		Return what shared memory knows of the queue, made if need be; NULL if
 *		there is no room.
 *
 * Every entry that shared memory makes for a queue begins here, with a
 * definition got by a session that had opened the table, and was allowed to, or
 * for leases that the log told of.  What is no queue gets none.
 */
QueueSlot *
queue_def_slot(QueueDef *def)
{
	QueueSlot  *slot = def->slot;

	/* an unlocked look; queue_slot_lock() looks again */
	if (slot == NULL || slot->relid != def->relid ||
		slot->dbid != MyDatabaseId)
	{
		def->slot = slot = def->is_queue && def->problem == NULL ?
			queue_slot_make(def->relid, SLOT_QUEUE) : queue_slot_find(def->relid);
		if (def->deaf_trigger != NULL && slot != NULL &&
			!queue_slot_is_deaf(slot))
		{
			queue_slot_set_deaf(slot, MyDatabaseId, def->relid, true);
			queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
		}
	}
	return slot;
}

/*
 * build_def
 *		Fill a definition in.
 *
 * An invalidation that arrives on the way finds is_valid false already, so it
 * sets is_stale.  Then what has been read serves this call, which holds its
 * lock, but not the next one.  After an error is_valid stays false.
 */
static void
build_def(Relation rel, QueueDef *def)
{
	QueueDef	fresh;
	QueueShape	shape;
	char	   *problem = NULL;
	bool		is_known;

	memset(&fresh, 0, sizeof(fresh));
	memset(&shape, 0, sizeof(shape));
	fresh.relid = def->relid;

	def->is_stale = false;
	is_known = read_settings(&fresh);

	/* without settings, too: rows may be restored before those are */
	problem = queue_shape_violation(rel, &queue_form, &shape);
	if (problem == NULL)
		problem = queue_shape_missing(&queue_form, &shape);
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

	/* found anew, it is told what triggers there are */
	if (fresh.is_queue && fresh.deaf_trigger == NULL)
		fresh.slot = def->slot;

	queue_def_cache_note_part(fresh.sequence, fresh.relid);
	queue_def_cache_note_part(fresh.key_table, fresh.relid);
	fresh.is_stale = def->is_stale;
	fresh.is_valid = is_known && problem == NULL && !fresh.is_stale;
	if (def->problem != NULL)
		pfree(def->problem);
	if (def->deaf_trigger != NULL)
		pfree(def->deaf_trigger);
	*def = fresh;
}

/*
 * read_settings
 *		Read the row of queue.queue into a definition; is_queue tells whether
 *		there is one.
 *
 * Returns false if there is no such table.
 */
static bool
read_settings(QueueDef *def)
{
	Relation	settings = queue_settings_try_open(AccessShareLock);
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (settings == NULL)
		return false;
	queue_member_check(settings, MEMBER_QUEUE);

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = queue_setting_scan(settings, MEMBER_QUEUE, def->relid);
	tuple = queue_setting_next(scan, snapshot);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_settings];
		bool		nulls[Natts_settings];

		queue_member_deform(settings, MEMBER_QUEUE, tuple, values, nulls);
		def->is_queue = true;
		def->lease =
			queue_interval_usec(DatumGetIntervalP(values[Anum_settings_lease - 1]),
								"lease");
		def->max_lease =
			queue_interval_usec(DatumGetIntervalP(values[Anum_settings_max_lease - 1]),
								"max_lease");
		def->retry.max_attempts =
			DatumGetInt32(values[Anum_settings_max_attempts - 1]);
		def->retry.delay =
			queue_interval_usec(DatumGetIntervalP(values[Anum_settings_retry_delay - 1]),
								"retry_delay");
		def->retry.max_delay =
			queue_interval_usec(DatumGetIntervalP(values[Anum_settings_retry_max_delay - 1]),
								"retry_max_delay");
		if (!nulls[Anum_settings_dead_letter - 1])
			def->dead_letter =
				DatumGetObjectId(values[Anum_settings_dead_letter - 1]);
		def->enqueue_paused =
			DatumGetBool(values[Anum_settings_enqueue_paused - 1]);
		def->dequeue_paused =
			DatumGetBool(values[Anum_settings_dequeue_paused - 1]);
		read_delivery(def, values, nulls);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);

	return true;
}

/* Read the settings of delivery control. */
static void
read_delivery(QueueDef *def, const Datum *values, const bool *nulls)
{
	def->dedup_window = -1;
	if (!nulls[Anum_settings_dedup_window - 1])
	{
		Interval   *window =
			DatumGetIntervalP(values[Anum_settings_dedup_window - 1]);

		def->dedup_window = INTERVAL_NOT_FINITE(window) ? PG_INT64_MAX :
			queue_interval_usec(window, "dedup_window");
	}
	if (!nulls[Anum_settings_key_table - 1])
		def->key_table =
			DatumGetObjectId(values[Anum_settings_key_table - 1]);
	if (!nulls[Anum_settings_expires_in - 1])
		def->expires_in =
			queue_interval_usec(DatumGetIntervalP(values[Anum_settings_expires_in - 1]),
								"expires_in");
	if (!nulls[Anum_settings_max_messages - 1])
		def->max_messages =
			DatumGetInt64(values[Anum_settings_max_messages - 1]);
	if (!nulls[Anum_settings_max_bytes - 1])
		def->max_bytes = DatumGetInt64(values[Anum_settings_max_bytes - 1]);
	if (!nulls[Anum_settings_max_in_flight - 1])
		def->max_in_flight =
			DatumGetInt32(values[Anum_settings_max_in_flight - 1]);
	def->on_expiry = read_choice(Anum_settings_on_expiry, values);
	def->group_mode = read_choice(Anum_settings_group_mode, values);
	def->group_failure = read_choice(Anum_settings_group_failure, values);
	def->on_full = read_choice(Anum_settings_on_full, values);
}

/* Read a setting that is one of a few words, as its enum. */
static int
read_choice(int attnum, const Datum *values)
{
	char	   *word = TextDatumGetCString(values[attnum - 1]);
	int			choice = queue_choice_find(attnum, word);

	/* the table's constraint lets no other pass */
	if (choice < 0)
		elog(ERROR, "unexpected word \"%s\" in table queue.queue", word);
	return choice;
}

/* Is the number of its messages limited, or of their bytes? */
bool
queue_def_is_limited(const QueueDef *def)
{
	return def->max_messages > 0 || def->max_bytes > 0;
}

/* Are the messages of a group delivered in order? */
bool
queue_def_keeps_order(const QueueDef *def)
{
	return def->group_mode == GROUP_ORDERED;
}

/* Do groups take turns? */
bool
queue_def_is_fair(const QueueDef *def)
{
	return def->group_mode == GROUP_FAIR;
}

/* Does a message stop its group when it has failed max_attempts times? */
bool
queue_def_stops_groups(const QueueDef *def)
{
	return def->group_mode == GROUP_ORDERED &&
		def->group_failure == GROUP_FAILURE_HOLD;
}

/*-------------------------------------------------------------------------
 *
 * definition.c
 *		What each session knows of a queue, and what users may do with it.
 *
 * Every call on a queue needs its settings, and has to know that the table is
 * still within the white list (shape.c).  Neither may cost a look into the
 * catalogs each time.  So both are kept in a hash table for the life of the
 * backend, and a relcache callback marks what is out of date.  The relation
 * cache is the right thing to follow, because all that the white list speaks
 * of invalidates it.  A transaction that writes a settings row sends the same
 * invalidation for the queue (queue_def_invalidate).  The callback may run
 * within any catalog access, so it touches nothing but flags.  Privileges are
 * not part of it: they depend on the role of the moment, and are asked for on
 * every call.
 *
 * Only good news is kept.  A table beyond the white list is looked at again by
 * each call, because some ways back (the last child of an inheritance parent
 * is dropped) send no invalidation for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/errcodes.h"
#include "shared/database.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/settings.h"
#include "table/shape.h"

bool		queue_is_used = false;

/*
 * The queue that a sequence or a key table belongs to, so that a change or the
 * loss of either is noticed
 */
typedef struct PartOwner
{
	Oid			part;			/* hash key */
	Oid			relid;
} PartOwner;

/* QueueDef by relid, PartOwner by part; made on first use */
static HTAB *queue_defs = NULL;
static HTAB *part_owners = NULL;
static MemoryContext queue_defs_context = NULL;

static void make_cache(void);
static void build_def(Relation rel, QueueDef *def);
static void note_owner(Oid part, Oid relid);
static int64 block_length(Oid sequence);
static Oid	file_of(Oid relid);
static bool read_settings(QueueDef *def);
static void read_delivery(QueueDef *def, const Datum *values,
						  const bool *nulls);
static int	read_choice(int attnum, const Datum *values);
static void forget_defs(Datum arg, Oid relid);
static void check_privileges(Relation rel, QueueAccess access);


/* Register the relcache callback; from _PG_init(), in every backend. */
void
queue_definition_init(void)
{
	CacheRegisterRelcacheCallback(forget_defs, (Datum) 0);
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

	/* a lock that is held already would not accept them */
	AcceptInvalidationMessages();
	/* any relation, because what the server says to an index has changed */
	rel = try_relation_open(relid, queue_lockmode(access));
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue with OID %u does not exist", relid)));

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a queue",
						queue_qualified_name(RelationGetRelid(rel))),
				 errdetail_relkind_not_supported(rel->rd_rel->relkind)));

	check_privileges(rel, access);
	*def = queue_def(rel);
	queue_check_shape(rel, *def);
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
	Oid			relid = RelationGetRelid(rel);
	Oid			userid = GetUserId();
	AclMode		needed = 0;
	AclResult	result;

	switch (access)
	{
		case QUEUE_ENQUEUE:
		case QUEUE_ASK_FOR_ROOM:
			needed = ACL_INSERT;
			break;
		case QUEUE_TAKE:
		case QUEUE_SETTLE:
			needed = ACL_SELECT | ACL_DELETE;
			break;
		case QUEUE_BROWSE:
			needed = ACL_SELECT;
			break;
		case QUEUE_OWN:
			if (!object_ownercheck(RelationRelationId, relid, userid))
				aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE,
							   RelationGetRelationName(rel));
			break;
		case QUEUE_SYSTEM:
			break;
	}

	/* one at a time: asked for two, the server is content with either */
	while (needed != 0)
	{
		AclMode		privilege = needed & ~(needed - 1);

		result = pg_class_aclcheck(relid, userid, privilege);
		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, RelationGetRelationName(rel));
		needed &= ~privilege;
	}
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
				 errmsg("lease is longer than queue %s allows",
						queue_qualified_name(def->relid)),
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
						queue_qualified_name(RelationGetRelid(rel))),
				 errdetail("Its owner paused it with queue.pause()."),
				 errhint("Try again after the owner has called queue.resume().")));
	if (access == QUEUE_TAKE && def->dequeue_paused)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_PAUSED),
				 errmsg("dequeue on queue \"%s\" is paused",
						queue_qualified_name(RelationGetRelid(rel))),
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
	if (!def->is_queue)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a queue",
						queue_qualified_name(RelationGetRelid(rel))),
				 errdetail("It has no settings in table queue.queue."),
				 errhint("Create queues with queue.create_queue(), which also adopts a queue table restored without its settings.")));

	if (def->problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be used as a queue",
						queue_qualified_name(RelationGetRelid(rel))),
				 errdetail_internal("%s", def->problem),
				 errhint("A queue table must stay as queue.create_queue() made it; undo the change, or move the messages to a new queue.")));
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
	QueueDef   *def;
	bool		found;

	if (queue_defs == NULL)
		make_cache();

	def = hash_search(queue_defs, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(def, 0, sizeof(*def));
		def->relid = relid;
	}
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
	if (queue_defs == NULL)
		return NULL;
	def = hash_search(queue_defs, &relid, HASH_FIND, NULL);
	return def != NULL && def->is_valid && def->is_queue ? def : NULL;
}

/*
 * queue_def_slot
 *		Return what shared memory knows of the queue, made if need be; NULL if
 *		there is no room.
 *
 * Every entry that shared memory makes for a queue begins here, with a
 * definition got by a session that had opened the table, and was allowed to.
 * What is no queue gets none.
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
			queue_slot_make(def->relid) : queue_slot_find(def->relid);
		if (def->deaf_trigger != NULL && slot != NULL &&
			!queue_slot_is_deaf(slot))
		{
			queue_slot_set_deaf(slot, MyDatabaseId, def->relid, true);
			queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
		}
	}
	return slot;
}

/* Make what is missing, also after an error half-way. */
static void
make_cache(void)
{
	HASHCTL		ctl;

	if (queue_defs_context == NULL)
		queue_defs_context = AllocSetContextCreate(TopMemoryContext,
												   "queue definitions",
												   ALLOCSET_SMALL_SIZES);

	memset(&ctl, 0, sizeof(ctl));
	ctl.hcxt = queue_defs_context;
	ctl.keysize = sizeof(Oid);

	if (part_owners == NULL)
	{
		ctl.entrysize = sizeof(PartOwner);
		part_owners = hash_create("parts of queues", 32, &ctl,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	ctl.entrysize = sizeof(QueueDef);
	queue_defs = hash_create("queue definitions", 32, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
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
	problem = queue_shape_violation(rel, &shape);
	if (problem == NULL)
		problem = queue_shape_missing(&shape);
	if (problem != NULL)
		fresh.problem = MemoryContextStrdup(queue_defs_context, problem);
	if (shape.deaf_trigger != NULL)
		fresh.deaf_trigger = MemoryContextStrdup(queue_defs_context,
												 shape.deaf_trigger);
	fresh.pkey = shape.indexes.pkey;
	fresh.due_index = shape.indexes.own[DUE_INDEX];
	fresh.expiry_index = shape.indexes.own[EXPIRY_INDEX];
	fresh.group_index = shape.indexes.own[GROUP_INDEX];
	fresh.correlation_index = shape.indexes.own[CORRELATION_INDEX];
	fresh.sequence = shape.sequence;
	fresh.table_file = rel->rd_rel->relfilenode;
	fresh.sequence_file = file_of(shape.sequence);
	fresh.id_block = block_length(shape.sequence);

	/* found anew, it is told what triggers there are */
	if (fresh.is_queue && fresh.deaf_trigger == NULL)
		fresh.slot = def->slot;

	note_owner(fresh.sequence, fresh.relid);
	note_owner(fresh.key_table, fresh.relid);
	fresh.is_stale = def->is_stale;
	fresh.is_valid = is_known && problem == NULL && !fresh.is_stale;
	if (def->problem != NULL)
		pfree(def->problem);
	if (def->deaf_trigger != NULL)
		pfree(def->deaf_trigger);
	*def = fresh;
}

/* Note that a change of this relation is one of the queue. */
static void
note_owner(Oid part, Oid relid)
{
	PartOwner  *owner;

	if (!OidIsValid(part))
		return;
	owner = hash_search(part_owners, &part, HASH_ENTER, NULL);
	owner->relid = relid;
}

/*
 * block_length
 *		Return the number of ids that one step of the sequence stands for.
 */
static int64
block_length(Oid sequence)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	int64		increment = 1;

	if (HeapTupleIsValid(tuple))
	{
		increment = ((Form_pg_sequence) GETSTRUCT(tuple))->seqincrement;
		ReleaseSysCache(tuple);
	}
	return Max(increment, 1);
}

/* Return what the relation is stored in, as this transaction sees it. */
static Oid
file_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			file = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
		ReleaseSysCache(tuple);
	}
	return file;
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
	scan = queue_settings_scan(settings, def->relid);
	tuple = queue_settings_next(scan, snapshot);
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

/*
 * forget_defs
 *		Relcache callback: mark definitions as out of date.
 *
 * May run at any lock acquisition, so there is no catalog access and no
 * allocation, and no entry is removed.
 */
static void
forget_defs(Datum arg, Oid relid)
{
	QueueDef   *def;
	PartOwner  *owner;

	if (queue_defs == NULL)
		return;

	if (!OidIsValid(relid) || queue_settings_is_table(relid))
	{
		HASH_SEQ_STATUS status;

		hash_seq_init(&status, queue_defs);
		while ((def = hash_seq_search(&status)) != NULL)
		{
			def->is_valid = false;
			def->is_stale = true;
		}
		return;
	}

	owner = hash_search(part_owners, &relid, HASH_FIND, NULL);
	if (owner != NULL)
		relid = owner->relid;

	def = hash_search(queue_defs, &relid, HASH_FIND, NULL);
	if (def != NULL)
	{
		def->is_valid = false;
		def->is_stale = true;
	}
}

/*
 * queue_def_invalidate
 *		Forget what is cached about a queue, in all backends when this
 *		transaction commits, in this one at once.
 *
 * To be followed by CommandCounterIncrement().  An invalidation that has not
 * been through that is not repeated if the transaction is rolled back, and a
 * definition built in between would stay.
 */
void
queue_def_invalidate(Oid relid)
{
	HeapTuple	tuple;

	forget_defs((Datum) 0, relid);

	/* the row may name a table that is gone, which cannot be cached */
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		CacheInvalidateRelcacheByTuple(tuple);
		ReleaseSysCache(tuple);
	}
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

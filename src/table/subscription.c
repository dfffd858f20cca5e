/*-------------------------------------------------------------------------
 *
 * subscription.c
 *		What each session knows of a subscription, and what users may do with
 *		it.
 *
 * As topic.c: settings, and whether the table is within the white list, are
 * kept by def_cache.c; privileges are asked for on every call.  Pattern and
 * selector are kept prepared, in a memory context that goes with the next
 * definition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/args.h"
#include "common/errcodes.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "table/access.h"
#include "table/def_cache.h"
#include "table/definition.h"
#include "table/setting_row.h"
#include "table/shape.h"
#include "table/subscription.h"
#include "table/subscription_settings.h"

DEF_BEGINS_WITH_HEAD(SubscriptionDef);

static DefCache subscription_defs = {
	.name = "subscription definitions",
	.size = sizeof(SubscriptionDef),
	.settings = MEMBER_SUBSCRIPTION
};

static void check_privileges(Relation rel, SubscriptionAccess access);
static void check_subscription(SubscriptionDef *def, const Instead *instead);
static const Instead *instead_of(SubscriptionAccess access);
static void check_not_paused(SubscriptionDef *def);
static void build_subscription(Relation rel, SubscriptionDef *def);
static bool read_settings(SubscriptionDef *def);
static void read_row(SubscriptionDef *def, const Datum *values,
					 const bool *nulls);


/* Register the relcache callback; from _PG_init(), in every backend. */
void
queue_subscription_init(void)
{
	queue_def_cache_register(&subscription_defs);
}

/* Return the lock that queue_subscription_open() takes for this access. */
LOCKMODE
queue_subscription_lockmode(SubscriptionAccess access)
{
	return access == SUBSCRIPTION_BROWSE ? AccessShareLock : RowExclusiveLock;
}

/*
 * queue_subscription_open
 *		Open a subscription for the current user.
 *
 * Locks the table, and checks privileges, white list and pause.  Raises 42704
 * if there is no such relation, 42501, 42809 if it is no (proper)
 * subscription, or QU002; to take, also what the server raises if a
 * publication forbids UPDATE.
 *
 * The caller closes with table_close(rel, NoLock).
 */
Relation
queue_subscription_open(Oid relid, SubscriptionAccess access,
						SubscriptionDef **def)
{
	Relation	rel;

	queue_is_used = true;
	rel = queue_access_open(relid, queue_subscription_lockmode(access),
							&queue_subscription_form);
	check_privileges(rel, access);
	*def = queue_subscription_def(rel);
	check_subscription(*def, instead_of(access));
	if (access == SUBSCRIPTION_TAKE)
	{
		check_not_paused(*def);

		/* a position that cannot be moved must not be passed */
		CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	}
	return rel;
}

/* Raise an error unless the current user has what this access needs. */
static void
check_privileges(Relation rel, SubscriptionAccess access)
{
	switch (access)
	{
		case SUBSCRIPTION_TAKE:
		case SUBSCRIPTION_SETTLE:
			queue_access_check(rel, ACL_SELECT | ACL_UPDATE);
			break;
		case SUBSCRIPTION_BROWSE:
			queue_access_check(rel, ACL_SELECT);
			break;
		case SUBSCRIPTION_OWN:
			queue_access_check_owner(rel);
			break;
		case SUBSCRIPTION_SYSTEM:
			break;
	}
}

/* Return what to do with what is no subscription. */
static const Instead *
instead_of(SubscriptionAccess access)
{
	static const Instead own = {
		.queue = "Use queue.alter_queue() and queue.drop_queue() for queues.",
		.topic = "Use queue.alter_topic() and queue.drop_topic() for topics."
	};
	static const Instead other = {
		.queue = "Name a subscription instead.",
		.topic = "Name a subscription to it instead; queue.subscribe() makes one."
	};

	return access == SUBSCRIPTION_OWN ? &own : &other;
}

/* Raise 42809 if it is no subscription, or one beyond the white list. */
void
queue_subscription_check(SubscriptionDef *def)
{
	check_subscription(def, instead_of(SUBSCRIPTION_SYSTEM));
}

/* The same; "instead" is the hint if it is something else. */
static void
check_subscription(SubscriptionDef *def, const Instead *instead)
{
	if (!def->is_subscription)
		queue_access_refuse(def->relid, &queue_subscription_form, instead);
	queue_shape_check(def->relid, &queue_subscription_form, def->problem);
}

/* Raise 22023 if a lease is longer than there may be. */
void
queue_subscription_check_lease(SubscriptionDef *def, int64 lease)
{
	if (lease > def->max_lease)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease must not be longer than one day")));
}

/* Raise QU002 if it is paused. */
static void
check_not_paused(SubscriptionDef *def)
{
	if (def->paused)
		ereport(ERROR,
				(errcode(ERRCODE_QUEUE_PAUSED),
				 errmsg("subscription \"%s\" is paused",
						queue_shown_name(def->relid)),
				 errdetail("Its owner paused it with queue.pause()."),
				 errhint("Try again after the owner has called queue.resume().")));
}

/*
 * queue_subscription_def
 *		Look a definition up, building it when needed.
 *
 * "rel" is open and locked.  Throws nothing for a table that is no
 * subscription; the caller looks at is_subscription and problem.
 */
SubscriptionDef *
queue_subscription_def(Relation rel)
{
	SubscriptionDef *def = queue_def_cache_enter(&subscription_defs,
												 RelationGetRelid(rel));

	if (!def->is_valid)
		build_subscription(rel, def);
	return def;
}

/*
 * queue_is_subscription
 *		Returns true if this relation has a row in queue.subscription.
 *
 * Every call that may be given either asks, so what sessions know of a queue
 * or a subscription is looked at first.
 */
bool
queue_is_subscription(Oid relid)
{
	SubscriptionDef *def;

	if (queue_def_known(relid) != NULL)
		return false;
	def = queue_def_cache_find(&subscription_defs, relid);
	if (def != NULL && def->is_valid)
		return def->is_subscription;
	return queue_setting_find(MEMBER_SUBSCRIPTION, relid, 0, NULL);
}

/*
 * queue_subscription_slot
 *		Return what shared memory knows of it, made if need be; NULL if there
 *		is no room.
 */
QueueSlot *
queue_subscription_slot(SubscriptionDef *def)
{
	QueueSlot  *slot = def->slot;

	/* an unlocked look; queue_slot_lock() looks again */
	if (slot == NULL || slot->relid != def->relid ||
		slot->dbid != MyDatabaseId)
		def->slot = def->is_subscription && def->problem == NULL ?
			queue_slot_make(def->relid, SLOT_SUBSCRIPTION) : queue_slot_find(def->relid);
	return def->slot;
}

/*
 * queue_make_slot
 *		Make a place in memory for a queue or a subscription that may not be in
 *		use yet.
 *
 * Returns false, with nothing done, if that is locked.
 */
bool
queue_make_slot(Oid relid)
{
	bool		is_locked;
	Relation	rel = queue_open_unless_locked(relid, AccessShareLock,
											   &is_locked);

	if (rel == NULL)
		return !is_locked;
	if (queue_is_subscription(relid))
		(void) queue_subscription_slot(queue_subscription_def(rel));
	else
		(void) queue_def_slot(queue_def(rel));
	table_close(rel, AccessShareLock);
	return true;
}

/* Return the subscriptions to a topic, a List of Oid. */
List *
queue_subscriptions_of(Oid topic)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_subscription_topic, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(topic));
	return queue_setting_list(MEMBER_SUBSCRIPTION, "subscription_topic_idx", 1,
							  &key);
}

/* Return all subscriptions of this database, as queue_settings_all() does. */
List *
queue_subscriptions_all(void)
{
	return queue_setting_list(MEMBER_SUBSCRIPTION, NULL, 0, NULL);
}

/* Fill a definition in, as build_def() of definition.c. */
static void
build_subscription(Relation rel, SubscriptionDef *def)
{
	SubscriptionDef fresh = {.relid = def->relid};
	QueueShape	shape = {0};
	MemoryContext old;
	char	   *problem;
	bool		is_known;

	def->is_stale = false;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "queue subscription",
										  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(fresh.context);
	is_known = read_settings(&fresh);
	MemoryContextSwitchTo(old);

	/* without settings, too: rows may be restored before those are */
	problem = queue_shape_violation(rel, &queue_subscription_form, &shape);
	if (problem == NULL)
		problem = queue_shape_missing(&queue_subscription_form, &shape);
	if (problem == NULL && fresh.is_subscription &&
		get_rel_name(fresh.topic) == NULL)
		problem = "Its topic does not exist any more.";
	if (problem != NULL)
		fresh.problem = MemoryContextStrdup(fresh.context, problem);
	fresh.indexes = shape.indexes;
	fresh.slot = def->slot;
	fresh.is_stale = def->is_stale;
	fresh.is_valid = is_known && problem == NULL && !fresh.is_stale;

	MemoryContextSetParent(fresh.context, queue_def_cache_context());
	if (def->context != NULL)
		MemoryContextDelete(def->context);
	*def = fresh;
}

/*
 * read_settings
 *		Read the row of queue.subscription; is_subscription tells whether
 *		there is one.
 *
 * Returns false if there is no such table.
 */
static bool
read_settings(SubscriptionDef *def)
{
	Relation	settings = queue_setting_open_if_there(MEMBER_SUBSCRIPTION,
													   AccessShareLock);
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (settings == NULL)
		return false;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = queue_setting_scan(settings, MEMBER_SUBSCRIPTION, def->relid);
	tuple = queue_setting_next(scan, snapshot);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_subscription];
		bool		nulls[Natts_subscription];

		queue_member_deform(settings, MEMBER_SUBSCRIPTION, tuple, values,
							nulls);
		def->is_subscription = true;
		read_row(def, values, nulls);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);

	return true;
}

static void
read_row(SubscriptionDef *def, const Datum *values, const bool *nulls)
{
	char	   *pattern =
		TextDatumGetCString(values[Anum_subscription_pattern - 1]);

	def->topic = DatumGetObjectId(values[Anum_subscription_topic - 1]);
	def->pattern = queue_pattern_compile(pattern, strlen(pattern));
	def->filter = hash_bytes((unsigned char *) pattern, strlen(pattern));
	if (!nulls[Anum_subscription_selector - 1])
	{
		struct varlena *path =
			PG_DETOAST_DATUM(values[Anum_subscription_selector - 1]);

		def->selector = queue_selector_make(PointerGetDatum(path),
											false /* raises */ );
		def->filter = hash_combine(def->filter,
								   hash_bytes((unsigned char *) VARDATA(path),
											  VARSIZE(path) - VARHDRSZ));
	}
	def->on_failure =
		strcmp(TextDatumGetCString(values[Anum_subscription_on_failure - 1]),
			   SUBSCRIPTION_HOLDS) == 0 ? ON_FAILURE_HOLD :
		ON_FAILURE_DEAD_LETTER;
	def->on_gap =
		strcmp(TextDatumGetCString(values[Anum_subscription_on_gap - 1]),
			   SUBSCRIPTION_SKIPS) == 0 ? ON_GAP_SKIP : ON_GAP_ERROR;
	if (!nulls[Anum_subscription_idle_after - 1])
		def->idle_after =
			queue_interval_usec(DatumGetIntervalP(values[Anum_subscription_idle_after - 1]),
								"idle_after");
	def->lease =
		queue_interval_usec(DatumGetIntervalP(values[Anum_subscription_lease - 1]),
							"lease");
	def->max_lease = SUBSCRIPTION_MAX_LEASE;
	def->retry.max_attempts =
		DatumGetInt32(values[Anum_subscription_max_attempts - 1]);
	def->retry.delay =
		queue_interval_usec(DatumGetIntervalP(values[Anum_subscription_retry_delay - 1]),
							"retry_delay");
	def->retry.max_delay =
		queue_interval_usec(DatumGetIntervalP(values[Anum_subscription_retry_max_delay - 1]),
							"retry_max_delay");
	if (!nulls[Anum_subscription_dead_letter - 1])
		def->dead_letter =
			DatumGetObjectId(values[Anum_subscription_dead_letter - 1]);
	def->paused = DatumGetBool(values[Anum_subscription_paused - 1]);
}

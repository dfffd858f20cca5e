/*-------------------------------------------------------------------------
 *
 * admin.c
 *		Queues altered, paused and dropped.
 *
 * These functions need ownership of the table.  The settings in queue.queue,
 * which callers may read but not write, are written by catalog functions after
 * that is checked.  Tables are dropped by plain DDL through SPI, as the
 * caller.  So what DROP TABLE would refuse is refused here, and the settings
 * go with the table by the hook that serves every other way of dropping it.
 *
 * Locks: the queue's table first (as queue_open() does, or exclusively to drop
 * it), then its dead-letter queue, then rows of queue.queue.  A transaction
 * that gives an existing queue another dead-letter queue locks queue.queue
 * against others that do so.  Two of them could otherwise close a loop, each
 * without seeing the other's half.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "api/dead_letter.h"
#include "api/drop_table.h"
#include "api/key_ddl.h"
#include "api/setting_args.h"
#include "api/subscription_admin.h"
#include "api/subscription_ddl.h"
#include "common/args.h"
#include "common/compat.h"
#include "common/extension.h"
#include "common/progress.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "shared/availability.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/scan.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "table/subscription_settings.h"
#include "transaction/announce.h"
#include "transaction/holds.h"

PG_FUNCTION_INFO_V1(queue_alter_queue);
PG_FUNCTION_INFO_V1(queue_drop_queue);
PG_FUNCTION_INFO_V1(queue_pause);
PG_FUNCTION_INFO_V1(queue_resume);
PG_FUNCTION_INFO_V1(queue_invalidate_definition);
PG_FUNCTION_INFO_V1(queue_require_preloaded);

static bool is_of_settings(Relation rel, MemberTable *table);
static Oid	follow_window(Oid relid, Datum *values, bool *nulls);
static void note_exhausted(Relation rel, QueueDef *def);
static void set_paused(FunctionCallInfo fcinfo, bool is_paused,
					   const char *call);
static void refuse_to_drop_target(Oid relid);
static Oid	dead_letter_to_drop(Oid relid, const TableForm *form);
static Oid	own_dead_letter(Oid relid, const TableForm *form);
static bool has_any_row(Relation rel);


/* alter_queue(queue, ...), with settings as setting_args.c has them */
Datum
queue_alter_queue(PG_FUNCTION_ARGS)
{
	Oid			relid;
	Relation	rel;
	QueueDef   *def;
	Relation	catalog;
	HeapTuple	tuple;
	HeapTuple	new_tuple;
	Datum		values[Natts_settings];
	bool		nulls[Natts_settings];
	bool		gives_dead_letter;
	Oid			old_keys;

	queue_call_begin(fcinfo, "queue.alter_queue()", CALL_WRITES, "queue");
	relid = PG_GETARG_OID(0);

	rel = queue_open(relid, QUEUE_OWN, &def);
	gives_dead_letter = queue_setting_args_given(fcinfo,
												 Anum_settings_dead_letter);
	if (gives_dead_letter)
	{
		LockRelationOid(queue_catalog_relid("queue"), ShareUpdateExclusiveLock);
		queue_check_dead_letter(PG_GETARG_OID(5), relid);
	}

	catalog = queue_settings_open(RowExclusiveLock);
	tuple = queue_settings_lock(catalog, relid);
	if (tuple == NULL)
		elog(ERROR, "settings of queue %u have disappeared", relid);
	queue_member_deform(catalog, MEMBER_QUEUE, tuple, values, nulls);

	queue_setting_args_alter(fcinfo, values, nulls);
	old_keys = follow_window(relid, values, nulls);
	new_tuple = queue_member_form(catalog, MEMBER_QUEUE, values, nulls);
	CatalogTupleUpdate(catalog, &tuple->t_self, new_tuple);
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	queue_announce_all(relid);	/* there may be more to deliver now */
	if (OidIsValid(old_keys))
		queue_key_table_drop(old_keys);
	if (gives_dead_letter ||
		queue_setting_args_given(fcinfo, Anum_settings_max_attempts))
		note_exhausted(rel, queue_def(rel));
	table_close(catalog, NoLock);
	table_close(rel, NoLock);

	PG_RETURN_VOID();
}

/*
 * follow_window
 *		Give the queue a key table if it has a dedup_window now.
 *
 * Returns the one that it had and is to have no more, or InvalidOid.  That is
 * dropped when the settings do not name it any longer.
 */
static Oid
follow_window(Oid relid, Datum *values, bool *nulls)
{
	const int	column = Anum_settings_key_table - 1;
	Oid			keys = nulls[column] ? InvalidOid :
		DatumGetObjectId(values[column]);

	if (nulls[Anum_settings_dedup_window - 1])
	{
		nulls[column] = true;
		return keys;
	}
	if (!OidIsValid(keys))
	{
		values[column] = ObjectIdGetDatum(queue_key_table_make(relid, true));
		nulls[column] = false;
	}
	return InvalidOid;
}

/*
 * note_exhausted
 *		Hand messages to the worker that are exhausted under the new settings.
 *
 * They may be at the limit of attempts now, or have a place to go.  Consumers
 * pass them by, and none may come.  So claim them until the commit, which
 * hands them to the worker.
 */
static void
note_exhausted(Relation rel, QueueDef *def)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueScan  *scan;
	MessageRow *row;

	if (def->retry.max_attempts == 0 || !OidIsValid(def->dead_letter))
		return;
	queue_lease_load();
	scan = queue_scan_begin(rel, def);
	while ((row = queue_scan_next(scan)) != NULL)
	{
		MessageKey	key;
		InflightEntry *entry;
		TimestampTz due = TIMESTAMP_INFINITY;
		Hold	   *hold;

		if (!queue_is_at_limit(def->retry.max_attempts, row->failures))
			continue;
		queue_message_key(&key, RelationGetRelid(rel), row->id);
		queue_xact_reserve();
		if (queue_row_claim(rel, row, &key, queue_def_slot(def), now,
							&entry, &due) != CLAIM_OK)
			continue;			/* held, or noted already */
		hold = queue_xact_push(HOLD_EXHAUST, &key, entry);
		hold->counted = row->failures;
	}
	queue_scan_end(scan);
}

/*
 * drop_queue(queue), which may be a subscription
 *
 * Asks for ownership alone, because it must be possible to drop a queue that
 * is beyond the white list.
 */
Datum
queue_drop_queue(PG_FUNCTION_ARGS)
{
	Oid			relid;
	const TableForm *form;
	Oid			dead_letter;

	queue_call_begin(fcinfo, "queue.drop_queue()", CALL_WRITES, "queue");
	relid = PG_GETARG_OID(0);

	form = queue_is_subscription(relid) ? &queue_subscription_form :
		&queue_form;
	queue_progress_begin(PROGRESS_OF_DROP, relid, -1);
	table_close(queue_drop_open(relid, form), NoLock);
	refuse_to_drop_target(relid);
	dead_letter = dead_letter_to_drop(relid, form);
	queue_drop_table(relid, form);
	if (OidIsValid(dead_letter))
		queue_drop_table(dead_letter, &queue_form);
	queue_progress_end();

	PG_RETURN_VOID();
}

/* pause(queue, enqueue, dequeue) */
Datum
queue_pause(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, true, "queue.pause()");
	PG_RETURN_VOID();
}

/* resume(queue, enqueue, dequeue) */
Datum
queue_resume(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, false, "queue.resume()");
	PG_RETURN_VOID();
}

/*
 * Triggers on queue.queue and queue.topic, for direct writes by a superuser or by logical
 * replication.
 *
 * One before the statement refuses such writes to all other roles.  That
 * includes roles that may write all data, because they could send the dead
 * letters of others to where they can read them.  (Row security would do, but
 * pg_dump fails for roles that it applies to.)  The other trigger tells all
 * sessions of the change.
 */
Datum
queue_invalidate_definition(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	MemberTable table;
	HeapTuple	tuples[2];

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!(TRIGGER_FIRED_FOR_ROW(data->tg_event) ?
		  TRIGGER_FIRED_AFTER(data->tg_event) :
		  TRIGGER_FIRED_BEFORE(data->tg_event)) ||
		!is_of_settings(data->tg_relation, &table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" can only be called by its own triggers",
						"queue_internal.invalidate_definition")));
	if (TRIGGER_FIRED_BEFORE(data->tg_event))
	{
		if (!object_ownercheck(RelationRelationId,
							   RelationGetRelid(data->tg_relation),
							   GetUserId()))
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE,
						   RelationGetRelationName(data->tg_relation));
		return PointerGetDatum(NULL);
	}

	tuples[0] = data->tg_trigtuple;
	tuples[1] = data->tg_newtuple;	/* NULL unless an update */
	for (int i = 0; i < 2; i++)
	{
		bool		isnull;
		Datum		relid;
		Datum		topic;

		if (tuples[i] == NULL ||
			!queue_member_resembles(data->tg_relation, table))
			continue;
		relid = heap_getattr(tuples[i], 1, RelationGetDescr(data->tg_relation),
							 &isnull);
		queue_def_invalidate(DatumGetObjectId(relid));
		if (queue_is_preloaded && table == MEMBER_QUEUE)
			queue_announce_all(DatumGetObjectId(relid));
		if (!queue_is_preloaded || table != MEMBER_SUBSCRIPTION ||
			TRIGGER_FIRED_BY_DELETE(data->tg_event))
			continue;
		topic = heap_getattr(tuples[i], Anum_subscription_topic,
							 RelationGetDescr(data->tg_relation), &isnull);
		queue_subscription_on_write(DatumGetObjectId(relid),
									DatumGetObjectId(topic));
	}

	return PointerGetDatum(NULL);
}

/* Is this a table of settings, whose first column names a table? */
static bool
is_of_settings(Relation rel, MemberTable *table)
{
	static const MemberTable tables[] = {
		MEMBER_QUEUE, MEMBER_TOPIC, MEMBER_BINDING, MEMBER_SUBSCRIPTION
	};

	for (int i = 0; i < lengthof(tables); i++)
	{
		*table = tables[i];
		if (RelationGetRelid(rel) ==
			queue_catalog_relid(queue_member_name(*table)))
			return true;
	}
	return false;
}

/*
 * Called by the install script, so that CREATE EXTENSION fails at once where
 * nothing would work later.
 *
 * It also fails if the schema exists already and its owner is no superuser:
 * that role could drop what is put into the schema, and add functions of its
 * own.
 */
Datum
queue_require_preloaded(PG_FUNCTION_ARGS)
{
	HeapTuple	tuple;
	bool		is_safe;

	queue_require_library();
	queue_member_lock_creation();

	tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum(QUEUE_SCHEMA));
	is_safe = HeapTupleIsValid(tuple) &&
		superuser_arg(((Form_pg_namespace) GETSTRUCT(tuple))->nspowner);
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!is_safe)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("schema \"%s\" exists and does not belong to a superuser",
						QUEUE_SCHEMA),
				 errhint("Drop the schema, or change its owner, before you create the extension.")));
	PG_RETURN_VOID();
}

/*
 * set_paused
 *		What pause() and resume() have in common.
 *
 * An argument that is true says that this end of the queue is meant.  A
 * subscription has one end only.
 */
static void
set_paused(FunctionCallInfo fcinfo, bool is_paused, const char *call)
{
	Oid			relid;
	Relation	rel;
	QueueDef   *def;
	Relation	catalog;
	HeapTuple	tuple;
	HeapTuple	new_tuple;
	Datum		values[Natts_settings] = {0};
	bool		nulls[Natts_settings] = {false};
	bool		replaces[Natts_settings] = {false};

	queue_call_begin(fcinfo, call, CALL_WRITES, "queue", "enqueue", "dequeue");
	relid = PG_GETARG_OID(0);

	if (queue_is_subscription(relid))
	{
		if (PG_GETARG_BOOL(2))
			queue_subscription_set_paused(relid, is_paused);
		return;
	}
	rel = queue_open(relid, QUEUE_OWN, &def);
	catalog = queue_settings_open(RowExclusiveLock);
	tuple = queue_settings_lock(catalog, relid);
	if (tuple == NULL)
		elog(ERROR, "settings of queue %u have disappeared", relid);

	values[Anum_settings_enqueue_paused - 1] = BoolGetDatum(is_paused);
	replaces[Anum_settings_enqueue_paused - 1] = PG_GETARG_BOOL(1);
	values[Anum_settings_dequeue_paused - 1] = BoolGetDatum(is_paused);
	replaces[Anum_settings_dequeue_paused - 1] = PG_GETARG_BOOL(2);
	new_tuple = queue_member_modify(catalog, MEMBER_QUEUE, tuple,
									values, nulls, replaces);
	CatalogTupleUpdate(catalog, &tuple->t_self, new_tuple);
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	queue_announce_all(relid);
	table_close(catalog, NoLock);
	table_close(rel, NoLock);
}

/*
 * refuse_to_drop_target
 *		Raise an error if the dead letters of another queue go to this one.
 *
 * They would have nowhere to go.  DROP TABLE, DROP SCHEMA and DROP OWNED do
 * not ask; queue.problem() tells what they have left behind.
 */
static void
refuse_to_drop_target(Oid relid)
{
	List	   *queues = queue_dead_letter_sources(relid);
	List	   *subscriptions = queue_dead_letter_subscriptions(relid);

	if (queues == NIL && subscriptions == NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			 errmsg(queues != NIL ?
					"cannot drop queue \"%s\" because another queue depends on it" :
					"cannot drop queue \"%s\" because a subscription depends on it",
					queue_shown_name(relid)),
			 errdetail("It is the dead-letter queue of \"%s\".",
					   queue_shown_name(linitial_oid(queues != NIL ?
													 queues :
													 subscriptions))),
			 errhint(queues != NIL ?
					 "Drop that queue first, or name another dead-letter queue for it with queue.alter_queue()." :
					 "Drop that subscription first, or name another dead-letter queue for it with queue.alter_subscription().")));
}

/*
 * dead_letter_to_drop
 *		Return the dead-letter queue that is to be dropped along with its
 *		queue or subscription, locked for that, or InvalidOid.
 *
 * It was made with this queue, the caller still owns it, no other queue sends
 * dead letters there, and it is empty.
 */
static Oid
dead_letter_to_drop(Oid relid, const TableForm *form)
{
	Oid			dead_letter = own_dead_letter(relid, form);
	Relation	rel;
	bool		has_rows;

	if (!queue_settings_exist(dead_letter, NULL) ||
		get_rel_relkind(dead_letter) != RELKIND_RELATION ||
		!object_ownercheck(RelationRelationId, dead_letter, GetUserId()))
		return InvalidOid;

	rel = queue_drop_open(dead_letter, &queue_form);
	has_rows = has_any_row(rel);
	table_close(rel, NoLock);
	if (has_rows ||
		list_length(queue_dead_letter_sources(dead_letter)) +
		list_length(queue_dead_letter_subscriptions(dead_letter)) > 1)
		return InvalidOid;
	return dead_letter;
}

/* Return the dead-letter queue that came with it, or InvalidOid. */
static Oid
own_dead_letter(Oid relid, const TableForm *form)
{
	bool		is_queue = form == &queue_form;
	const int	name = is_queue ? Anum_settings_dead_letter :
		Anum_subscription_dead_letter;
	const int	is_own = is_queue ? Anum_settings_own_dead_letter :
		Anum_subscription_own_dead_letter;
	Relation	catalog = queue_setting_open(form->settings,
											 RowExclusiveLock);
	HeapTuple	tuple = queue_setting_lock(catalog, form->settings, relid);
	Oid			dead_letter = InvalidOid;

	if (tuple != NULL)
	{
		Datum		values[Max(Natts_settings, Natts_subscription)];
		bool		nulls[Max(Natts_settings, Natts_subscription)];

		queue_member_deform(catalog, form->settings, tuple, values, nulls);
		if (!nulls[name - 1] && DatumGetBool(values[is_own - 1]))
			dead_letter = DatumGetObjectId(values[name - 1]);
		heap_freetuple(tuple);
	}
	table_close(catalog, NoLock);
	return dead_letter;
}

/*
 * has_any_row
 *		Returns true if the table has a row, whatever the caller may read.
 *
 * The columns are not looked at, because the table may be beyond the white
 * list.  A query would read what has the table's name by now.  That is another
 * table if its schema is renamed meanwhile, and the query would run the code
 * of a view's owner there.
 */
static bool
has_any_row(Relation rel)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

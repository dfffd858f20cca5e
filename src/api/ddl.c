/*-------------------------------------------------------------------------
 *
 * ddl.c
 *		What follows from DDL on queues and topics, by whatever statement.
 *
 * The hooks (queue.c) come here.  A statement that would wait for a prepared
 * transaction which holds a queue is refused before it begins (blocker.c).
 * Only statements that keep their lock to commit are looked at, and only on
 * queues the user may change, because the server reports the rest itself.
 *
 * When a table is dropped, by whatever means, its settings go with it, and
 * queues that had it for dead-letter queue have none.  When it is altered,
 * what is known of its messages may be wrong.  The worker finds settings of
 * tables that were dropped while the hooks were not in place.
 *
 * Locks: the table is locked by the statement; then rows of queue.queue.  What
 * runs for every relation that is dropped in a database first finds out
 * cheaply that there is nothing to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/sequence.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "api/ddl.h"
#include "api/subscription_ddl.h"
#include "common/args.h"
#include "common/compat.h"
#include "shared/topic_slot.h"
#include "table/binding_row.h"
#include "table/ids.h"
#include "table/member.h"
#include "table/settings.h"
#include "table/removed_id.h"
#include "table/stable_id.h"
#include "transaction/announce.h"
#include "transaction/holds.h"
#include "transaction/in_doubt.h"

PG_FUNCTION_INFO_V1(queue_announce_database);

static void refuse_part(List *names);
static void refuse_index(RangeVar *name, LOCKMODE mode, AclMode privilege);
static void refuse_vacuum(VacuumStmt *stmt);
static void refuse_named(RangeVar *name, LOCKMODE mode, AclMode privilege);
static void refuse_owned(Oid relid, LOCKMODE mode, AclMode privilege);
static void refuse_schema(const char *name);
static void delete_settings(Relation settings, Oid relid);
static void forget_topic(Oid relid);
static void forget_dead_letter(Relation settings, Oid relid, List *sources);
static void forget_key_table(Relation settings, Oid relid, Oid queue);

/* The install script calls this: the database needs a worker now. */
Datum
queue_announce_database(PG_FUNCTION_ARGS)
{
	queue_require_library();
	queue_xact_note_database();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 *		Before: prepared transactions that are in the way
 * ----------------------------------------------------------------
 */

/*
 * queue_ddl_refuse_in_doubt
 *		Raise 55006 if the statement would wait for a prepared transaction
 *		that has a queue locked.
 *
 * For the ProcessUtility hook, before the statement begins.  Only statements
 * that keep their lock to commit, and only on queues the user may change.
 * LOCK is not among them: it waits as long as its user says, because there is
 * no other way to wait for the end of a prepared transaction.
 */
void
queue_ddl_refuse_in_doubt(Node *stmt)
{
	ListCell   *lc;

	if (max_prepared_xacts == 0)
		return;
	switch (nodeTag(stmt))
	{
		case T_DropStmt:
			foreach(lc, ((DropStmt *) stmt)->objects)
			{
				switch (((DropStmt *) stmt)->removeType)
				{
					case OBJECT_TABLE:
						refuse_named(makeRangeVarFromNameList(lfirst(lc)),
									 AccessExclusiveLock, ACL_NO_RIGHTS);
						break;
					case OBJECT_INDEX:
						refuse_index(makeRangeVarFromNameList(lfirst(lc)),
									 AccessExclusiveLock, ACL_NO_RIGHTS);
						break;
					case OBJECT_TRIGGER:
					case OBJECT_RULE:
					case OBJECT_POLICY:
						refuse_part(lfirst(lc));
						break;
					case OBJECT_SCHEMA:
						refuse_schema(strVal(lfirst(lc)));
						break;
					default:
						break;
				}
			}
			break;
		case T_TruncateStmt:
			foreach(lc, ((TruncateStmt *) stmt)->relations)
				refuse_named(lfirst(lc), AccessExclusiveLock, ACL_TRUNCATE);
			break;
		case T_AlterTableStmt:
			refuse_named(((AlterTableStmt *) stmt)->relation,
						 AlterTableGetLockLevel(((AlterTableStmt *) stmt)->cmds),
						 ACL_NO_RIGHTS);
			break;
		case T_RenameStmt:
			switch (((RenameStmt *) stmt)->renameType)
			{
				case OBJECT_TABLE:
				case OBJECT_COLUMN:
				case OBJECT_TABCONSTRAINT:
				case OBJECT_TRIGGER:
				case OBJECT_RULE:
				case OBJECT_POLICY:
					refuse_named(((RenameStmt *) stmt)->relation,
								 AccessExclusiveLock, ACL_NO_RIGHTS);
					break;
				default:
					break;
			}
			break;
		case T_CreateTrigStmt:
			refuse_named(((CreateTrigStmt *) stmt)->relation,
						 ShareRowExclusiveLock, ACL_NO_RIGHTS);
			break;
		case T_IndexStmt:

			/*
			 * CONCURRENTLY also waits for transactions that hold a lock that
			 * conflicts with this one
			 */
			refuse_named(((IndexStmt *) stmt)->relation, ShareLock,
						 ACL_NO_RIGHTS);
			break;
		case T_ReindexStmt:
			if (((ReindexStmt *) stmt)->kind == REINDEX_OBJECT_TABLE)
				refuse_named(((ReindexStmt *) stmt)->relation, ShareLock,
							 ACL_MAINTAIN);
			else if (((ReindexStmt *) stmt)->kind == REINDEX_OBJECT_INDEX)
				refuse_index(((ReindexStmt *) stmt)->relation, ShareLock,
							 ACL_MAINTAIN);
			break;
		case T_RepackStmt:
			if (queue_repacked_table(stmt) != NULL)
				refuse_named(queue_repacked_table(stmt), AccessExclusiveLock,
							 ACL_MAINTAIN);
			break;
		case T_VacuumStmt:
			refuse_vacuum((VacuumStmt *) stmt);
			break;
		case T_AlterObjectSchemaStmt:
			if (((AlterObjectSchemaStmt *) stmt)->objectType == OBJECT_TABLE)
				refuse_named(((AlterObjectSchemaStmt *) stmt)->relation,
							 AccessExclusiveLock, ACL_NO_RIGHTS);
			break;
		default:
			break;
	}
}

/* For an object that is named by its table's name and its own */
static void
refuse_part(List *names)
{
	refuse_named(makeRangeVarFromNameList(list_truncate(list_copy(names),
														list_length(names) - 1)),
				 AccessExclusiveLock, ACL_NO_RIGHTS);
}

/* For an index: refuse by its table. */
static void
refuse_index(RangeVar *name, LOCKMODE mode, AclMode privilege)
{
	Oid			index = RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(index) && get_rel_relkind(index) == RELKIND_INDEX)
		refuse_owned(IndexGetRelation(index, true), mode, privilege);
}

/*
 * refuse_vacuum
 *		For VACUUM.
 *
 * Only FULL needs a lock that conflicts with those of messages.
 */
static void
refuse_vacuum(VacuumStmt *stmt)
{
	LOCKMODE	mode = ShareUpdateExclusiveLock;
	bool		waits = true;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "full") == 0 && defGetBoolean(option))
			mode = AccessExclusiveLock;
		if (strcmp(option->defname, "skip_locked") == 0)
			waits = !defGetBoolean(option);
	}
	foreach(lc, waits ? stmt->rels : NIL)
	{
		RangeVar   *name = lfirst_node(VacuumRelation, lc)->relation;

		if (name != NULL)
			refuse_named(name, mode, ACL_MAINTAIN);
	}
}

/* For a table, by its name. */
static void
refuse_named(RangeVar *name, LOCKMODE mode, AclMode privilege)
{
	refuse_owned(RangeVarGetRelid(name, NoLock, true), mode, privilege);
}

/*
 * refuse_owned
 *		For a table: refuse if it is a queue in doubt that the user may
 *		change.
 *
 * The privilege on the table, if there is one, is as good as ownership.
 */
static void
refuse_owned(Oid relid, LOCKMODE mode, AclMode privilege)
{
	if (OidIsValid(relid) &&
		(object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		 (privilege != ACL_NO_RIGHTS &&
		  pg_class_aclcheck(relid, GetUserId(), privilege) == ACLCHECK_OK)) &&
		queue_form_of(relid) != NULL)
		queue_in_doubt_refuse(relid, mode);
}

/*
 * refuse_schema
 *		For DROP SCHEMA: refuse by the queues in it, because the server locks
 *		them before it says that they are in the way.
 *
 * There is no index to find them; GRANT ... IN SCHEMA reads all of pg_class as
 * well.
 */
static void
refuse_schema(const char *name)
{
	Oid			schema = get_namespace_oid(name, true);
	Relation	rel;
	ScanKeyData key;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *relids = NIL;
	ListCell   *lc;

	if (!OidIsValid(schema) ||
		!object_ownercheck(NamespaceRelationId, schema, GetUserId()))
		return;
	ScanKeyInit(&key, Anum_pg_class_relnamespace, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(schema));
	rel = table_open(RelationRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 1, &key);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_RELATION)
			relids = lappend_oid(relids, form->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	foreach(lc, relids)
	{
		if (queue_form_of(lfirst_oid(lc)) != NULL)
			queue_in_doubt_refuse(lfirst_oid(lc), AccessExclusiveLock);
	}
	list_free(relids);
}

/* ----------------------------------------------------------------
 *		After: what is known of the queue
 * ----------------------------------------------------------------
 */

/*
 * queue_on_relation_drop
 *		A table is about to be dropped, by whatever means.
 *
 * Its settings go with it, and queues that had it for dead-letter queue have
 * none.  This runs for every relation that is dropped in a database, so it
 * first finds out cheaply that there is nothing to do.
 */
void
queue_on_relation_drop(Oid relid)
{
	Oid			settings_oid = queue_settings_relid();
	Relation	settings;
	bool		is_queue;
	List	   *sources;
	Oid			keys_of;

	if (!OidIsValid(settings_oid) || relid == settings_oid ||
		relid == queue_setting_relid(MEMBER_TOPIC) ||
		relid == queue_setting_relid(MEMBER_BINDING) ||
		relid == queue_setting_relid(MEMBER_SUBSCRIPTION))
		return;
	if (get_rel_relkind(relid) != RELKIND_RELATION ||
		get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		return;

	/* it is locked, so it is not being made a queue at this moment */
	is_queue = queue_settings_exist(relid, NULL);
	sources = queue_dead_letter_sources(relid);
	keys_of = queue_key_table_owner(relid);
	if (queue_setting_find(MEMBER_TOPIC, relid, 0, NULL))
		forget_topic(relid);
	queue_binding_forget(relid);
	queue_subscription_on_drop(relid);
	if (!is_queue && sources == NIL && !OidIsValid(keys_of))
		return;

	settings = queue_settings_try_open(RowExclusiveLock);
	if (settings == NULL)
		return;					/* dropped meanwhile, with all settings */
	if (sources != NIL)
		forget_dead_letter(settings, relid, sources);
	if (OidIsValid(keys_of))
		forget_key_table(settings, relid, keys_of);
	if (is_queue)
	{
		delete_settings(settings, relid);
		queue_xact_note_drop(relid);
	}
	table_close(settings, NoLock);
	CommandCounterIncrement();
	list_free(sources);
}

/*
 * queue_on_relation_alter
 *		A table was altered: what is known of its messages and ids may be
 *		wrong.
 */
void
queue_on_relation_alter(Oid relid)
{
	queue_topic_slot_note_altered(relid);
	if (queue_slot_find(relid) == NULL)
		return;
	queue_forget_ids(relid);
	queue_announce_all(relid);
}

/*
 * queue_on_relation_truncate
 *		A table is about to be truncated.
 *
 * It is not locked yet, and the statement may fail, so all that is to be done
 * is noted for the commit.  Nor does it matter what is known of its messages
 * now, because others use the queue until it is locked.
 */
void
queue_on_relation_truncate(Oid relid)
{
	if (queue_slot_find(relid) != NULL ||
		queue_topic_slot_find(relid) != NULL ||
		queue_settings_exist(relid, NULL))
	{
		queue_announce_all(relid);
		queue_xact_note_truncate(relid);
	}
	INJECTION_POINT("queue-truncate-noted", NULL);
}

/*
 * queue_on_trigger_alter
 *		A trigger was altered, perhaps enabled or disabled.
 *
 * That alters its table in a way, but no hook is called for the table.
 */
void
queue_on_trigger_alter(Oid trigger)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(pg_trigger, TriggerOidIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		queue_on_relation_alter(((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid);
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
}

/*
 * queue_ddl_find_unlogged
 *		Return the table that this statement makes unlogged, or NULL.
 *
 * The table is to be found before the statement is run, because that may
 * change it.
 */
RangeVar *
queue_ddl_find_unlogged(Node *stmt)
{
	AlterTableStmt *alter = (AlterTableStmt *) stmt;
	ListCell   *lc;

	if (!IsA(stmt, AlterTableStmt) || alter->objtype != OBJECT_TABLE)
		return NULL;
	foreach(lc, alter->cmds)
	{
		if (lfirst_node(AlterTableCmd, lc)->subtype == AT_SetUnLogged)
			return copyObject(alter->relation);
	}
	return NULL;
}

/*
 * queue_ddl_keep_sequence_logged
 *		Make the sequence of a queue logged again after ALTER TABLE ... SET
 *		UNLOGGED, which has taken it along.
 *
 * The table is locked by that statement.
 */
void
queue_ddl_keep_sequence_logged(const RangeVar *table)
{
	Oid			relid = RangeVarGetRelid(table, NoLock, true /* missing_ok */ );
	ListCell   *lc;

	if (!OidIsValid(relid) || !queue_settings_exist(relid, NULL))
		return;
	foreach(lc, getOwnedSequences(relid))
	{
		if (get_rel_persistence(lfirst_oid(lc)) == RELPERSISTENCE_UNLOGGED)
			SequenceChangePersistence(lfirst_oid(lc),
									  RELPERSISTENCE_PERMANENT);
	}
	CommandCounterIncrement();
}

/*
 * queue_ddl_forget_gone
 *		Delete settings of tables that were dropped unnoticed, because the
 *		library was not loaded or the schema had another name.
 *
 * For the worker.  Returns when to do it again: never, unless called for.
 */
TimestampTz
queue_ddl_forget_gone(void)
{
	Relation	settings = queue_settings_open(RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *gone = NIL;
	ListCell   *lc;

	/* a row that is seen now is of a table that is known now */
	AcceptInvalidationMessages();
	scan = systable_beginscan(settings, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		static const int names[] = {
			Anum_settings_queue, Anum_settings_dead_letter,
			Anum_settings_key_table
		};

		for (int i = 0; i < lengthof(names); i++)
		{
			bool		isnull;
			Datum		name = heap_getattr(tuple, names[i],
											RelationGetDescr(settings), &isnull);

			if (!isnull &&
				!SearchSysCacheExists1(RELOID, name))
				gone = list_append_unique_oid(gone, DatumGetObjectId(name));
		}
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);

	foreach(lc, gone)
	{
		Oid			relid = lfirst_oid(lc);

		forget_dead_letter(settings, relid, queue_dead_letter_sources(relid));
		forget_key_table(settings, relid, queue_key_table_owner(relid));
		delete_settings(settings, relid);
		CommandCounterIncrement();
	}
	foreach(lc, queue_binding_gone())
		queue_binding_forget(lfirst_oid(lc));
	queue_subscription_mend();
	list_free(gone);
	table_close(settings, NoLock);

	foreach(lc, queue_setting_list(MEMBER_TOPIC, NULL, 0, NULL))
	{
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			forget_topic(lfirst_oid(lc));
	}
	return TIMESTAMP_INFINITY;
}

/* Delete the row of a queue that is being dropped. */
static void
delete_settings(Relation settings, Oid relid)
{
	HeapTuple	tuple = queue_settings_lock(settings, relid);

	if (tuple == NULL)
		return;
	CatalogTupleDelete(settings, &tuple->t_self);
	heap_freetuple(tuple);
	queue_def_invalidate(relid);
	queue_announce_all(relid);
}

/* Delete the row of a topic that is being dropped. */
static void
forget_topic(Oid relid)
{
	Relation	settings = queue_setting_try_open(MEMBER_TOPIC,
												  RowExclusiveLock);
	HeapTuple	tuple = settings == NULL ? NULL :
		queue_setting_lock(settings, MEMBER_TOPIC, relid);

	if (tuple != NULL)
	{
		CatalogTupleDelete(settings, &tuple->t_self);
		heap_freetuple(tuple);
		queue_def_invalidate(relid);
		queue_stable_id_forget(relid);
		queue_removed_ids_forget(relid);
		queue_xact_note_drop(relid);
		CommandCounterIncrement();
	}
	if (settings != NULL)
		table_close(settings, NoLock);
}

/* These queues had the table for dead-letter queue, and have none now. */
static void
forget_dead_letter(Relation settings, Oid relid, List *sources)
{
	ListCell   *lc;

	foreach(lc, sources)
	{
		Oid			source = lfirst_oid(lc);
		HeapTuple	tuple = queue_settings_lock(settings, source);
		HeapTuple	new_tuple;
		Datum		values[Natts_settings] = {0};
		bool		nulls[Natts_settings] = {false};
		bool		replaces[Natts_settings] = {false};
		Datum		dead_letter;
		bool		isnull;

		if (tuple == NULL)
			continue;

		/* it may have been changed while we waited for the row */
		dead_letter = heap_getattr(tuple, Anum_settings_dead_letter,
								   RelationGetDescr(settings), &isnull);
		if (isnull || DatumGetObjectId(dead_letter) != relid)
			continue;

		replaces[Anum_settings_dead_letter - 1] = true;
		nulls[Anum_settings_dead_letter - 1] = true;
		replaces[Anum_settings_own_dead_letter - 1] = true;
		values[Anum_settings_own_dead_letter - 1] = BoolGetDatum(false);
		new_tuple = queue_member_modify(settings, MEMBER_QUEUE, tuple,
										values, nulls, replaces);
		CatalogTupleUpdate(settings, &tuple->t_self, new_tuple);
		heap_freetuple(new_tuple);
		heap_freetuple(tuple);
		queue_def_invalidate(source);
	}

	/* if the queue is its own, its row is about to be deleted */
	CommandCounterIncrement();
}

/*
 * forget_key_table
 *		This queue had the table for its keys, and has none now.
 *
 * It goes on without, and takes no message with a key (dedup.c).
 */
static void
forget_key_table(Relation settings, Oid relid, Oid queue)
{
	HeapTuple	tuple = OidIsValid(queue) ?
		queue_settings_lock(settings, queue) : NULL;
	HeapTuple	new_tuple;
	Datum		values[Natts_settings] = {0};
	bool		nulls[Natts_settings] = {false};
	bool		replaces[Natts_settings] = {false};
	Datum		keys;
	bool		isnull;

	if (tuple == NULL)
		return;
	keys = heap_getattr(tuple, Anum_settings_key_table,
						RelationGetDescr(settings), &isnull);
	if (!isnull && DatumGetObjectId(keys) == relid)
	{
		replaces[Anum_settings_key_table - 1] = true;
		nulls[Anum_settings_key_table - 1] = true;
		new_tuple = queue_member_modify(settings, MEMBER_QUEUE, tuple,
										values, nulls, replaces);
		CatalogTupleUpdate(settings, &tuple->t_self, new_tuple);
		heap_freetuple(new_tuple);
		queue_def_invalidate(queue);
		CommandCounterIncrement();
	}
	heap_freetuple(tuple);
}

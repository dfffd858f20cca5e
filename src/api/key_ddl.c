/*-------------------------------------------------------------------------
 *
 * key_ddl.c
 *		Key tables made and dropped, and changed along with their queues.
 *
 * A queue with a dedup_window has a key table (table/key_table.c).  It has the
 * queue's owner, schema and persistence, and a name made of the queue's; what a
 * statement changes of these in the queue is changed here in the key table,
 * when the statement has run (queue.c).  It depends on the queue, so it is
 * dropped with it by the server.  A TRUNCATE of the queue empties it: the keys
 * of messages that are removed are forgotten.
 *
 * The key table is named in queue.queue.  A dump has that name with the
 * settings, and a restore binds the two again.  pg_upgrade copies the settings
 * as they are, so the worker looks after that, too (worker/forget.c).  Without
 * the settings (pg_dump -n) create_queue() finds the key table of a table that
 * it adopts by its name.
 *
 * By itself a key table is changed by nobody but those who mend it: the guard
 * refuses what would take it beyond the white list, as guard.c does for queues.
 *
 * Locks: the queue first, then its key table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "api/key_ddl.h"
#include "api/statement.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/dedup.h"
#include "table/key_table.h"
#include "table/scan.h"
#include "table/settings.h"
#include "transaction/in_doubt.h"

/* What a key table is named after its queue */
#define KEY_TABLE_LABEL		"keys"

/* What a table has in common with its key table */
typedef struct Place
{
	char	   *name;
	Oid			schema;
	Oid			owner;
	char		persistence;
} Place;

/* A statement is being run for the sake of a queue */
static bool is_following = false;

static bool place_of(Oid relid, Place *place);
static bool is_bound(Oid keys, Oid relid);
static void create_key_table(const Place *queue, const char *name);
static void remember_keys(Oid relid, Oid keys);
static void run(const char *statement);
static List *add_leader(List *leaders, RangeVar *name);
static void follow_one(Oid relid, Oid keys, bool is_renamed);
static void empty_key_table(Oid keys);
static bool changes_place(AlterTableStmt *stmt);
static void refuse_change(RangeVar *name);
static bool is_harmless(AlterTableStmt *stmt);


/* Read them; returns false if there is no such relation. */
static bool
place_of(Oid relid, Place *place)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	place->name = pstrdup(NameStr(form->relname));
	place->schema = form->relnamespace;
	place->owner = form->relowner;
	place->persistence = form->relpersistence;
	ReleaseSysCache(tuple);
	return true;
}

/* ----------------------------------------------------------------
 *		Made and dropped
 * ----------------------------------------------------------------
 */

/*
 * queue_key_table_make
 *		Make the key table of a queue, and return it.
 *
 * The queue is locked.  If it was there before (is_adopted), there may be a key
 * table of it without its settings; otherwise what is there with its name is
 * none of it.
 */
Oid
queue_key_table_make(Oid relid, bool is_adopted)
{
	Place		queue;
	char	   *name;
	Oid			keys = InvalidOid;

	if (!place_of(relid, &queue))
		elog(ERROR, "queue %u has disappeared", relid);
	if (is_adopted)
	{
		name = makeObjectName(queue.name, NULL, KEY_TABLE_LABEL);
		keys = get_relname_relid(name, queue.schema);
		if (OidIsValid(keys) && !queue_key_table_may_serve(keys, relid))
			keys = InvalidOid;
	}
	if (!OidIsValid(keys))
	{
		name = ChooseRelationName(queue.name, NULL, KEY_TABLE_LABEL,
								  queue.schema, false /* no constraint */ );
		create_key_table(&queue, name);
		keys = get_relname_relid(name, queue.schema);
		if (!OidIsValid(keys))
			elog(ERROR, "table \"%s\" has disappeared", name);
		if (is_adopted)
			remember_keys(relid, keys);
	}
	queue_key_table_bind(keys, relid);
	return keys;
}

/* Create it, with the owner of the queue, and granted to nobody. */
static void
create_key_table(const Place *queue, const char *name)
{
	int			guc_level = queue_ddl_begin();
	char	   *table = quote_qualified_identifier(get_namespace_name(queue->schema),
												   name);

	queue_ddl_run(psprintf("CREATE %sTABLE %s (%s) USING heap WITH (" QUEUE_STORAGE_PARAMETERS ")",
						   queue->persistence == RELPERSISTENCE_UNLOGGED ?
						   "UNLOGGED " : "", table, queue_key_table_columns()));
	queue_ddl_run(psprintf("CREATE INDEX ON %s USING btree (%s)", table,
						   queue_key_table_index()));
	queue_ddl_run(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", table));
	CommandCounterIncrement();
	queue_ddl_revoke_defaults(get_relname_relid(name, queue->schema), "TABLE");
	if (queue->owner != GetUserId())
		queue_ddl_run(psprintf("ALTER TABLE %s OWNER TO %s", table,
							   quote_identifier(GetUserNameFromId(queue->owner,
																  false))));
	queue_ddl_end(guc_level);
}

/*
 * remember_keys
 *		Fill a new key table with the keys of the messages that are there.
 *
 * They may have come without it.  If two have one key, either is the first.
 */
static void
remember_keys(Oid relid, Oid keys)
{
	Relation	rel = table_open(relid, NoLock);
	Relation	key_rel = table_open(keys, RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueTableScan *pass = queue_table_scan_begin(rel, snapshot);
	MessageRow *row;
	Oid			index;
	char	   *problem = queue_key_table_violation(key_rel, &index);

	/* an event trigger may have changed it */
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be used for the keys of queue \"%s\"",
						queue_shown_name(keys),
						queue_shown_name(relid)),
				 errdetail_internal("%s", problem)));
	while ((row = queue_table_scan_next(pass)) != NULL)
		queue_dedup_restore(key_rel, index, row);
	queue_table_scan_end(pass);
	UnregisterSnapshot(snapshot);
	table_close(key_rel, NoLock);
	table_close(rel, NoLock);
}

/*
 * queue_key_table_may_serve
 *		Returns true if this table can be the key table of this queue: it has
 *		its columns and its owner, and no other queue has it.
 */
bool
queue_key_table_may_serve(Oid keys, Oid relid)
{
	Place		queue;
	Place		place;
	Oid			owner;

	if (!OidIsValid(keys) || get_rel_relkind(keys) != RELKIND_RELATION ||
		!queue_key_table_resembles(keys) || !place_of(keys, &place) ||
		!place_of(relid, &queue) || place.owner != queue.owner ||
		place.persistence != queue.persistence)
		return false;
	owner = queue_key_table_owner(keys);
	return !OidIsValid(owner) || owner == relid;
}

/* Let the key table be dropped with the queue. */
void
queue_key_table_bind(Oid keys, Oid relid)
{
	ObjectAddress part;
	ObjectAddress whole;

	if (is_bound(keys, relid))
		return;
	ObjectAddressSet(part, RelationRelationId, keys);
	ObjectAddressSet(whole, RelationRelationId, relid);
	recordDependencyOn(&part, &whole, DEPENDENCY_AUTO);
	CommandCounterIncrement();
}

/* Is it? */
static bool
is_bound(Oid keys, Oid relid)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(keys));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL, 2,
							  key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		found |= depend->refclassid == RelationRelationId &&
			depend->refobjid == relid && depend->refobjsubid == 0;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/*
 * queue_key_table_drop
 *		Drop the key table of a queue that is to remember no keys any more.
 *
 * The caller owns the queue, and the settings do not name the table any more.
 */
void
queue_key_table_drop(Oid keys)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(keys)))
		return;
	queue_in_doubt_refuse(keys, AccessExclusiveLock);
	run(psprintf("DROP TABLE %s", queue_qualified_name(keys)));
}

/* Run a statement on a key table, which the guard lets pass. */
static void
run(const char *statement)
{
	int			guc_level = queue_ddl_begin();
	bool		save = is_following;

	is_following = true;
	PG_TRY();
	{
		queue_ddl_run(statement);
	}
	PG_FINALLY();
	{
		is_following = save;
	}
	PG_END_TRY();
	queue_ddl_end(guc_level);
}

/* ----------------------------------------------------------------
 *		Changed along with the queue
 * ----------------------------------------------------------------
 */

/*
 * queue_key_table_leaders
 *		Return the queues that the statement is about to change in a way that
 *		their key tables are to follow.
 *
 * They are found before it runs, because it may give them other names.
 */
List *
queue_key_table_leaders(Node *stmt)
{
	List	   *leaders = NIL;
	ListCell   *lc;

	switch (nodeTag(stmt))
	{
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_TABLE)
				leaders = add_leader(leaders, ((RenameStmt *) stmt)->relation);
			break;
		case T_AlterObjectSchemaStmt:
			if (((AlterObjectSchemaStmt *) stmt)->objectType == OBJECT_TABLE)
				leaders = add_leader(leaders,
									 ((AlterObjectSchemaStmt *) stmt)->relation);
			break;
		case T_AlterTableStmt:
			if (changes_place((AlterTableStmt *) stmt))
				leaders = add_leader(leaders,
									 ((AlterTableStmt *) stmt)->relation);
			break;
		case T_TruncateStmt:
			foreach(lc, ((TruncateStmt *) stmt)->relations)
				leaders = add_leader(leaders, lfirst_node(RangeVar, lc));
			break;
		default:
			break;
	}
	return leaders;
}

/* Does ALTER TABLE change the owner, or whether the table is logged? */
static bool
changes_place(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_ChangeOwner:
			case AT_SetLogged:
			case AT_SetUnLogged:
				return true;
			default:
				break;
		}
	}
	return false;
}

/* Add the queue of this name, if it has a key table. */
static List *
add_leader(List *leaders, RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(relid) && OidIsValid(queue_settings_key_table(relid)))
		leaders = list_append_unique_oid(leaders, relid);
	return leaders;
}

/* The statement has run: let the key tables follow. */
void
queue_key_table_follow(Node *stmt, List *leaders)
{
	ListCell   *lc;

	if (leaders == NIL)
		return;
	CommandCounterIncrement();
	foreach(lc, leaders)
	{
		Oid			relid = lfirst_oid(lc);
		Oid			keys = queue_settings_key_table(relid);

		if (!OidIsValid(keys))
			continue;
		if (IsA(stmt, TruncateStmt))
			empty_key_table(keys);
		else
			follow_one(relid, keys, IsA(stmt, RenameStmt));
	}
	list_free(leaders);
}

/*
 * follow_one
 *		Give a key table the schema, persistence, name and owner of its queue.
 *
 * The owner comes last, because the caller may lose the right to the rest.
 */
static void
follow_one(Oid relid, Oid keys, bool is_renamed)
{
	Place		queue;
	Place		place;

	if (!place_of(relid, &queue) || !place_of(keys, &place))
		return;
	if (place.schema != queue.schema)
		run(psprintf("ALTER TABLE %s SET SCHEMA %s",
					 queue_qualified_name(keys),
					 quote_identifier(get_namespace_name(queue.schema))));
	if (place.persistence != queue.persistence)
		run(psprintf("ALTER TABLE %s SET %s", queue_qualified_name(keys),
					 queue.persistence == RELPERSISTENCE_UNLOGGED ?
					 "UNLOGGED" : "LOGGED"));
	if (is_renamed)
	{
		char	   *name = ChooseRelationName(queue.name, NULL,
											  KEY_TABLE_LABEL, queue.schema,
											  false);

		run(psprintf("ALTER TABLE %s RENAME TO %s",
					 queue_qualified_name(keys), quote_identifier(name)));
	}
	if (place.owner != queue.owner)
		run(psprintf("ALTER TABLE %s OWNER TO %s", queue_qualified_name(keys),
					 quote_identifier(GetUserNameFromId(queue.owner, false))));
}

/*
 * empty_key_table
 *		Truncate a key table.
 *
 * Below the checks of the statement, because a role that may truncate the
 * queue has no privilege on the key table.
 */
static void
empty_key_table(Oid keys)
{
	Relation	rel = try_table_open(keys, AccessExclusiveLock);
	List	   *logged;

	if (rel == NULL)
		return;
	CheckTableNotInUse(rel, "TRUNCATE");
	logged = RelationIsLogicallyLogged(rel) ? list_make1_oid(keys) : NIL;
	ExecuteTruncateGuts(list_make1(rel), list_make1_oid(keys), logged,
						DROP_RESTRICT, false /* no sequences */ ,
						false /* as the current user */ );
	table_close(rel, NoLock);
}

/* ----------------------------------------------------------------
 *		By itself: not
 * ----------------------------------------------------------------
 */

/*
 * queue_key_table_guard
 *		Raise 42809 if the statement would take a key table beyond the white
 *		list, or away from its queue.
 *
 * As guard.c: a help, and no fence.
 */
void
queue_key_table_guard(Node *stmt)
{
	if (is_following)
		return;
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			if (!is_harmless((AlterTableStmt *) stmt))
				refuse_change(((AlterTableStmt *) stmt)->relation);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_TABLE ||
				((RenameStmt *) stmt)->renameType == OBJECT_COLUMN)
				refuse_change(((RenameStmt *) stmt)->relation);
			break;
		case T_AlterObjectSchemaStmt:
			if (((AlterObjectSchemaStmt *) stmt)->objectType == OBJECT_TABLE)
				refuse_change(((AlterObjectSchemaStmt *) stmt)->relation);
			break;
		case T_CreateTrigStmt:
			refuse_change(((CreateTrigStmt *) stmt)->relation);
			break;
		case T_RuleStmt:
			refuse_change(((RuleStmt *) stmt)->relation);
			break;
		case T_CreatePolicyStmt:
			refuse_change(((CreatePolicyStmt *) stmt)->table);
			break;
		default:
			break;
	}
}

/* Does ALTER TABLE do nothing that a key table may not have? */
static bool
is_harmless(AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_AddColumn:
			case AT_AlterColumnType:
			case AT_ColumnDefault:
			case AT_DropNotNull:
			case AT_AddConstraint:
			case AT_ChangeOwner:
			case AT_SetLogged:
			case AT_SetUnLogged:
			case AT_SetAccessMethod:
			case AT_EnableRowSecurity:
			case AT_ForceRowSecurity:
			case AT_AddInherit:
			case AT_AddOf:
			case AT_AddIdentity:
				return false;
			default:
				break;
		}
	}
	return true;
}

/* Raise the error if this is a key table; if it is not the user's, let the
 * server say so. */
static void
refuse_change(RangeVar *name)
{
	Oid			keys = name == NULL ? InvalidOid :
		RangeVarGetRelid(name, NoLock, true);
	Oid			relid;

	if (!OidIsValid(keys) || get_rel_relkind(keys) != RELKIND_RELATION ||
		!object_ownercheck(RelationRelationId, keys, GetUserId()))
		return;
	relid = queue_key_table_owner(keys);
	if (OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be changed in this way",
						queue_shown_name(keys)),
				 errdetail("It has the keys of queue \"%s\", and follows what is done to that.",
						   queue_shown_name(relid)),
				 errhint("Change the queue instead.")));
}

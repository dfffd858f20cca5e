/*-------------------------------------------------------------------------
 *
 * make_table.c
 *		Tables of queues, topics and subscriptions made, or made again of what
 *		a restore has left.
 *
 * Speed does not matter here, so a table is made by plain DDL through SPI, as
 * the caller.  The caller needs for it what CREATE TABLE needs, and its
 * default privileges and event triggers apply as ever.  All names are
 * qualified and quoted, and search_path is pinned while statements run, so
 * that no operator or function of another role gets in between.  A name may
 * become another table's all the same, if its schema is renamed meanwhile.  So
 * no query runs, which could meet a view there, and the caller looks at the
 * table itself when the DDL has run.
 *
 * Locks: the caller has locked the name (name.c).  An existing table is locked
 * against writers then, so that its ids can be counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "commands/comment.h"
#include "commands/defrem.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "api/make_table.h"
#include "api/statement.h"
#include "common/compat.h"
#include "common/extension.h"
#include "common/relation_name.h"
#include "table/def_cache.h"
#include "table/sequence.h"
#include "table/member.h"
#include "table/setting_row.h"
#include "table/shape.h"

/*
 * Ids that one call of nextval() stands for.  A restart loses at most as many,
 * and a transaction that sends one message draws as many for those after it.
 */
#define ID_BLOCK		256

static Oid	find_adoptable(const TableForm *form, Oid schema,
						   const char *relname, const char *source);
static bool is_ours(Oid relid, const TableForm *form);
pg_noreturn static void report_name_taken(const char *relname, const char *source);
static void adopt_table(const TableForm *form, Oid relid, Oid schema,
						const char *relname);
static char *look_at_shape(const TableForm *form, Oid relid,
						   QueueShape *shape, Oid *owner);
static void create_table(const TableForm *form, Oid schema,
						 const char *relname, bool is_unlogged);
static void create_indexes(const TableForm *form, const char *table,
						   const QueueShape *shape);
static void create_sequence(Oid schema, const char *relname, Oid owner);
static void create_trigger(const char *table, const OwnTriggerForm *trigger);
static void enable_trigger(const char *table, const char *trigger);
static void comment_on_table(const TableForm *form, Oid relid);
static int64 highest_id(const TableForm *form, Oid relid);


/*
 * queue_make_table
 *		Return a table of this kind: a new one, or one that can be adopted.
 *
 * "source" is given if this is to be the dead-letter queue that comes with a
 * queue of that name.
 */
Oid
queue_make_table(const TableForm *form, Oid schema, const char *relname,
				 const char *source, bool is_unlogged)
{
	Oid			relid = find_adoptable(form, schema, relname, source);
	int			guc_level = queue_ddl_begin();

	if (OidIsValid(relid))
		adopt_table(form, relid, schema, relname);
	else
	{
		create_table(form, schema, relname, is_unlogged);
		relid = get_relname_relid(relname, schema);
		if (!OidIsValid(relid))
			elog(ERROR, "table \"%s\" has disappeared", relname);
		if (source != NULL)
		{
			ListCell   *lc;

			CommandCounterIncrement();
			queue_ddl_revoke_defaults(relid, "TABLE");
			foreach(lc, getOwnedSequences(relid))
				queue_ddl_revoke_defaults(lfirst_oid(lc), "SEQUENCE");
		}
	}
	comment_on_table(form, relid);
	queue_ddl_end(guc_level);

	return relid;
}

/*
 * queue_make_setting_row
 *		Give a table its row of settings, which makes it what it is to be.
 *
 * The first column is filled in here.
 */
void
queue_make_setting_row(const TableForm *form, Oid relid, Datum *values,
					   bool *nulls)
{
	Relation	catalog = queue_setting_open(form->settings,
											 RowExclusiveLock);
	HeapTuple	tuple;

	values[0] = ObjectIdGetDatum(relid);
	nulls[0] = false;
	tuple = queue_member_form(catalog, form->settings, values, nulls);
	CatalogTupleInsert(catalog, tuple);
	heap_freetuple(tuple);
	table_close(catalog, NoLock);
	queue_def_invalidate(relid);
	CommandCounterIncrement();
}

/*
 * find_adoptable
 *		Return the table of this name that the caller may make one of this
 *		kind, locked against writers.
 *
 * Returns InvalidOid if the name is free, and throws if something else has it.
 */
static Oid
find_adoptable(const TableForm *form, Oid schema, const char *relname,
			   const char *source)
{
	Oid			relid = get_relname_relid(relname, schema);
	Relation	rel;
	bool		resembles;

	if (!OidIsValid(relid))
		return InvalidOid;

	if (source == NULL && is_ours(relid, form))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("%s \"%s\" already exists", form->noun,
						queue_shown_name(relid)),
				 errhint("Use %s to change its settings.",
						 form->changer)));

	/* Check before locking, so that others cannot block the owner. */
	if (get_rel_relkind(relid) != RELKIND_RELATION ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		is_ours(relid, form))
		report_name_taken(relname, source);

	rel = try_table_open(relid, ShareRowExclusiveLock);
	if (rel == NULL ||
		get_relname_relid(relname, schema) != relid ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		is_ours(relid, form))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("relation \"%s\" was changed by another transaction",
						relname)));
	resembles = queue_shape_resembles(relid, form);
	table_close(rel, NoLock);
	if (!resembles)
		report_name_taken(relname, source);

	return relid;
}

/* Is it one of this kind already? */
static bool
is_ours(Oid relid, const TableForm *form)
{
	return queue_setting_find(form->settings, relid, 0, NULL);
}

/*
 * report_name_taken
 *		Raise 42P07, as CREATE TABLE would.
 *
 * See make_table() for "source".
 */
static void
report_name_taken(const char *relname, const char *source)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("relation \"%s\" already exists", relname),
			 source == NULL ? 0 :
			 errdetail("It would be the queue for the dead letters of \"%s\".",
					   source),
			 source == NULL ? 0 :
			 errhint("Name another queue for them in argument dead_letter.")));
}

/*
 * adopt_table
 *		Add to a table what a restore may have left out.
 *
 * What it has too much its owner has to remove, so that raises an error.
 */
static void
adopt_table(const TableForm *form, Oid relid, Oid schema, const char *relname)
{
	char	   *table = queue_qualified_name(relid);
	QueueShape	shape;
	Oid			owner;
	char	   *problem = look_at_shape(form, relid, &shape, &owner);

	/* pg_restore -t leaves it out */
	if (problem != NULL && shape.indexes.lacks_pkey_only)
	{
		queue_ddl_run(psprintf("ALTER TABLE %s ADD PRIMARY KEY %s", table,
							   queue_form_key(form)));
		problem = look_at_shape(form, relid, &shape, &owner);
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be made a %s", queue_shown_name(relid),
						form->noun),
				 errdetail_internal("%s", problem)));

	for (int i = 0; i < NUM_OWN_TRIGGERS; i++)
	{
		if (!shape.has_trigger[i])
			create_trigger(table, &form->triggers[i]);
	}
	for (int i = 0; i < NUM_OWN_TRIGGERS && shape.deaf_trigger != NULL; i++)
	{
		enable_trigger(table, shape.deaf_trigger);
		(void) look_at_shape(form, relid, &shape, &owner);
	}
	create_indexes(form, table, &shape);
	if (form->id == InvalidAttrNumber)
		return;
	if (!OidIsValid(shape.sequence))
	{
		create_sequence(schema, relname, owner);
		problem = look_at_shape(form, relid, &shape, &owner);
		if (problem != NULL || !OidIsValid(shape.sequence))
			elog(ERROR, "sequence of table \"%s\" has disappeared", relname);
	}
	queue_sequence_pass(shape.sequence, highest_id(form, relid));
}

/* As queue_shape_violation(), for a locked table, with its owner */
static char *
look_at_shape(const TableForm *form, Oid relid, QueueShape *shape, Oid *owner)
{
	Relation	rel = table_open(relid, NoLock);
	char	   *problem = queue_shape_violation(rel, form, shape);

	*owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	return problem;
}

/* Create a table with everything that belongs to it. */
static void
create_table(const TableForm *form, Oid schema, const char *relname,
			 bool is_unlogged)
{
	char	   *table = quote_qualified_identifier(get_namespace_name(schema),
												   relname);
	StringInfoData statement;

	initStringInfo(&statement);
	appendStringInfo(&statement, "CREATE %sTABLE %s (",
					 is_unlogged ? "UNLOGGED " : "", table);
	for (int attnum = 1; attnum <= form->natts; attnum++)
		appendStringInfo(&statement, "%s, ",
						 queue_form_column_ddl(form, attnum));
	appendStringInfo(&statement, "PRIMARY KEY %s) USING heap"
					 " WITH (%s" QUEUE_STORAGE_PARAMETERS ")",
					 queue_form_key(form), form->storage);
	queue_ddl_run(statement.data);

	create_indexes(form, table, NULL);
	if (form->id != InvalidAttrNumber)
		create_sequence(schema, relname, GetUserId());
	for (int i = 0; i < NUM_OWN_TRIGGERS; i++)
		create_trigger(table, &form->triggers[i]);
}

/*
 * Create the indexes beside the primary key, but those that are there.  "shape"
 * is NULL for a new table.
 */
static void
create_indexes(const TableForm *form, const char *table,
			   const QueueShape *shape)
{
	for (int i = 0; i < form->nindexes; i++)
	{
		if (shape == NULL || !OidIsValid(shape->indexes.own[i]))
			queue_ddl_run(queue_index_ddl(form, i, table));
	}
}

/*
 * create_sequence
 *		Create the sequence of a table.
 *
 * It is logged even if the table is not, because ids are never used twice.  It
 * must have the table's owner, and the caller may be a superuser instead.
 */
static void
create_sequence(Oid schema, const char *relname, Oid owner)
{
	char	   *schema_name = get_namespace_name(schema);
	char	   *name = ChooseRelationName(relname, "id", "seq", schema,
										  false /* no constraint */ );
	char	   *sequence = quote_qualified_identifier(schema_name, name);

	queue_ddl_run(psprintf("CREATE SEQUENCE %s AS pg_catalog.int8 INCREMENT BY %d",
						   sequence, ID_BLOCK));
	if (owner != GetUserId())
		queue_ddl_run(psprintf("ALTER SEQUENCE %s OWNER TO %s", sequence,
							   quote_identifier(GetUserNameFromId(owner,
																  false))));
	queue_ddl_run(psprintf("ALTER SEQUENCE %s OWNED BY %s.id", sequence,
						   quote_qualified_identifier(schema_name, relname)));
}

/* Create one of the two triggers, which fires for replicated rows too. */
static void
create_trigger(const char *table, const OwnTriggerForm *trigger)
{
	queue_ddl_run(psprintf("CREATE TRIGGER %s BEFORE %s ON %s FOR EACH ROW EXECUTE FUNCTION %s.%s()",
						   trigger->name, trigger->event, table, QUEUE_SCHEMA,
						   trigger->function));
	enable_trigger(table, trigger->name);
}

static void
enable_trigger(const char *table, const char *trigger)
{
	queue_ddl_run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
						   table, quote_identifier(trigger)));
}

/*
 * comment_on_table
 *		Say what the table is, for a user that meets it in \dt+ or \d+, unless
 *		there is a comment.
 *
 * What \d+ shows is the comment of a column.  queue.definition() knows both
 * texts.  Rows of a catalog for each column of each queue would be too many.
 */
static void
comment_on_table(const TableForm *form, Oid relid)
{
	char	   *table = queue_qualified_name(relid);

	if (GetComment(relid, RelationRelationId, 0) == NULL)
		queue_ddl_run(psprintf("COMMENT ON TABLE %s IS '%s of extension \"%s\"'",
							   table, form->noun, QUEUE_EXTENSION));
	if (GetComment(relid, RelationRelationId, 1) == NULL)
		queue_ddl_run(psprintf("COMMENT ON COLUMN %s.%s IS 'this table is a %s of extension \"%s\"'",
							   table, quote_identifier(form->columns[0].name),
							   form->noun, QUEUE_EXTENSION));
}

/*
 * highest_id
 *		Return the highest id that the table has, zero if it has none.
 *
 * The table is locked against writers, and its columns are those of its kind.
 */
static int64
highest_id(const TableForm *form, Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64		highest = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int64		id = DatumGetInt64(slot_getattr(slot, form->id, &isnull));

		CHECK_FOR_INTERRUPTS();
		highest = Max(highest, id);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return highest;
}

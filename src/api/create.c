/*-------------------------------------------------------------------------
 *
 * create.c
 *		Queues made, or made again of tables that were restored without their
 *		settings.
 *
 * Speed does not matter here, so the table is made by plain DDL through SPI,
 * as the caller.  The caller needs for it what CREATE TABLE needs, and its
 * default privileges and event triggers apply as ever.  The name that it gives
 * is resolved with its search_path.  From then on all names are qualified and
 * quoted, and search_path is pinned while statements run, so that no operator
 * or function of another role gets in between.  A name may become another
 * table's all the same, if its schema is renamed meanwhile.  So no query runs,
 * which could meet a view there, and the table itself is looked at when the
 * DDL has run (make_settings()).  The settings are written by catalog
 * functions, because callers have no privilege to write them.
 *
 * A new table is invisible to others until the commit.  Two transactions that
 * make a queue of one name would meet in the catalogs, where the second would
 * get an error about them.  So a lock on the name itself comes first, to the
 * end of the transaction.  The name of the dead-letter queue that comes along
 * is locked in the same way, before one that is left from before is looked at.
 * An existing table is locked against writers then, so that its ids can be
 * counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/defrem.h"
#include "commands/sequence.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "api/admin.h"
#include "api/key_ddl.h"
#include "api/name.h"
#include "api/setting_args.h"
#include "api/statement.h"
#include "common/args.h"
#include "common/compat.h"
#include "common/extension.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/member.h"
#include "table/scan.h"
#include "table/settings.h"
#include "table/shape.h"
#include "transaction/announce.h"
#include "transaction/in_doubt.h"

/*
 * Ids that one call of nextval() stands for.  A restart loses at most as many,
 * and a transaction that sends one message draws as many for those after it.
 */
#define ID_BLOCK		256

PG_FUNCTION_INFO_V1(queue_create_queue);

static Oid	existing_queue(Oid schema, const char *relname);
static Oid	make_table(Oid schema, const char *relname, const char *source,
					   bool is_unlogged);
static Oid	find_dead_letter_queue(Oid schema, const char *relname);
static Oid	make_dead_letter_queue(Oid schema, const char *source,
								   const Datum *source_values,
								   const bool *source_nulls);
static void make_settings(Oid relid, Datum *values, bool *nulls);
static Oid	find_adoptable(Oid schema, const char *relname,
						   const char *source);
pg_noreturn static void report_name_taken(const char *relname, const char *source);
static void adopt_table(Oid relid, Oid schema, const char *relname);
static char *look_at_shape(Oid relid, QueueShape *shape, Oid *owner);
static void create_table(Oid schema, const char *relname, bool is_unlogged);
static void create_indexes(const char *table, const QueueShape *shape);
static void create_sequence(Oid schema, const char *relname, Oid owner);
static void create_trigger(const char *table, const char *trigger,
						   const char *event, const char *function);
static void enable_trigger(const char *table, const char *trigger);
static int64 highest_id(Oid relid);


/* create_queue(name, ...), with settings as setting_args.c has them */
Datum
queue_create_queue(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_settings];
	bool		nulls[Natts_settings];
	const int	column = Anum_settings_dead_letter - 1;
	char	   *relname;
	Oid			schema;
	Oid			relid;
	bool		is_adopted;

	queue_require_preload();
	PreventCommandIfReadOnly("queue.create_queue()");
	PreventCommandIfParallelMode("queue.create_queue()");
	queue_require_arg(fcinfo, 0, "name");
	queue_require_arg(fcinfo, 6, "unlogged");
	queue_require_arg(fcinfo, 7, "if_not_exists");
	queue_setting_args_create(fcinfo, values, nulls);

	table_close(queue_settings_open(RowExclusiveLock), NoLock); /* it stays */
	schema = queue_name_schema(PG_GETARG_TEXT_PP(0), &relname);
	queue_name_lock(schema, relname);
	if (PG_GETARG_BOOL(7))
	{
		relid = existing_queue(schema, relname);
		if (OidIsValid(relid))
			PG_RETURN_OID(relid);
	}
	is_adopted = OidIsValid(get_relname_relid(relname, schema));
	relid = make_table(schema, relname, NULL, PG_GETARG_BOOL(6));
	if (nulls[column])
	{
		values[column] =
			ObjectIdGetDatum(make_dead_letter_queue(schema, relname, values,
													nulls));
		nulls[column] = false;
	}
	else
		queue_check_dead_letter(DatumGetObjectId(values[column]), relid);
	if (!nulls[Anum_settings_dedup_window - 1])
	{
		values[Anum_settings_key_table - 1] =
			ObjectIdGetDatum(queue_key_table_make(relid, is_adopted));
		nulls[Anum_settings_key_table - 1] = false;
	}
	make_settings(relid, values, nulls);

	PG_RETURN_OID(relid);
}

/*
 * existing_queue
 *		With if_not_exists: return the queue that has this name.
 *
 * Returns InvalidOid if the name is free, or that of a table that the caller
 * may make a queue.  Throws if something else has it.
 */
static Oid
existing_queue(Oid schema, const char *relname)
{
	Oid			relid = get_relname_relid(relname, schema);

	if (!OidIsValid(relid))
		return InvalidOid;
	if (queue_settings_exist(relid, NULL))
	{
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" already exists, skipping",
						queue_qualified_name(relid))));
		return relid;
	}
	if (get_rel_relkind(relid) != RELKIND_RELATION ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		!queue_shape_resembles(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a queue",
						queue_qualified_name(relid)),
				 errdetail("A relation of this name exists already.")));
	return InvalidOid;
}

/*
 * make_table
 *		Return the table of a queue: a new one, or one that can be adopted.
 *
 * "source" is given if this is to be the dead-letter queue that comes with a
 * queue of that name.
 */
static Oid
make_table(Oid schema, const char *relname, const char *source,
		   bool is_unlogged)
{
	Oid			relid = find_adoptable(schema, relname, source);
	int			guc_level = queue_ddl_begin();

	if (OidIsValid(relid))
		adopt_table(relid, schema, relname);
	else
	{
		create_table(schema, relname, is_unlogged);
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
	queue_ddl_end(guc_level);

	return relid;
}

/*
 * find_dead_letter_queue
 *		Return the dead-letter queue of an earlier queue of the same name,
 *		which was dropped, or restored without its settings.
 *
 * It must be owned by the caller, still be as make_dead_letter_queue() made
 * it, and be used by no other queue.  InvalidOid if there is none.
 */
static Oid
find_dead_letter_queue(Oid schema, const char *relname)
{
	Oid			relid = get_relname_relid(relname, schema);
	Relation	rel;
	QueueDef   *def;
	bool		fits;

	if (!OidIsValid(relid) ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		!queue_settings_exist(relid, NULL) ||
		queue_dead_letter_sources(relid) != NIL)
		return InvalidOid;

	rel = queue_open(relid, QUEUE_OWN, &def);
	fits = def->retry.max_attempts == 0 && !OidIsValid(def->dead_letter);
	table_close(rel, NoLock);
	return fits ? relid : InvalidOid;
}

/*
 * make_dead_letter_queue
 *		Make the dead-letter queue that comes with a queue, or find one left
 *		from before.
 *
 * It is logged even if the other is not, because it is the record of what went
 * wrong.
 */
static Oid
make_dead_letter_queue(Oid schema, const char *source,
					   const Datum *source_values, const bool *source_nulls)
{
	char	   *relname = makeObjectName(source, NULL, "dead");
	Oid			relid;
	Datum		values[Natts_settings];
	bool		nulls[Natts_settings];

	queue_name_lock(schema, relname);
	relid = find_dead_letter_queue(schema, relname);
	if (OidIsValid(relid))
		return relid;

	relid = make_table(schema, relname, source, false /* logged */ );
	memcpy(values, source_values, sizeof(values));
	memcpy(nulls, source_nulls, sizeof(nulls));
	queue_setting_args_dead(values, nulls);
	make_settings(relid, values, nulls);

	return relid;
}

/*
 * make_settings
 *		Give a table its row in queue.queue, which makes it a queue.
 *
 * Throws if the table is beyond the white list by now.
 */
static void
make_settings(Oid relid, Datum *values, bool *nulls)
{
	Relation	catalog = queue_settings_open(RowExclusiveLock);
	Relation	rel;
	HeapTuple	tuple;

	values[Anum_settings_queue - 1] = ObjectIdGetDatum(relid);
	nulls[Anum_settings_queue - 1] = false;
	tuple = queue_member_form(catalog, MEMBER_QUEUE, values, nulls);
	CatalogTupleInsert(catalog, tuple);
	heap_freetuple(tuple);
	table_close(catalog, NoLock);
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	queue_announce_all(relid);	/* it may have messages */

	/* an event trigger may have changed it */
	rel = table_open(relid, NoLock);
	queue_check_shape(rel, queue_def(rel));
	table_close(rel, NoLock);
}

/*
 * find_adoptable
 *		Return the table of this name that the caller may make a queue, locked
 *		against writers.
 *
 * Returns InvalidOid if the name is free, and throws if something else has it.
 */
static Oid
find_adoptable(Oid schema, const char *relname, const char *source)
{
	Oid			relid = get_relname_relid(relname, schema);
	Relation	rel;
	bool		resembles;

	if (!OidIsValid(relid))
		return InvalidOid;

	if (source == NULL && queue_settings_exist(relid, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" already exists",
						queue_qualified_name(relid)),
				 errhint("Use queue.alter_queue() to change its settings.")));

	/* Check before locking, so that others cannot block the owner. */
	if (get_rel_relkind(relid) != RELKIND_RELATION ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		queue_settings_exist(relid, NULL))
		report_name_taken(relname, source);

	rel = try_table_open(relid, ShareRowExclusiveLock);
	if (rel == NULL ||
		get_relname_relid(relname, schema) != relid ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		queue_settings_exist(relid, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("relation \"%s\" was changed by another transaction",
						relname)));
	resembles = queue_shape_resembles(relid);
	table_close(rel, NoLock);
	if (!resembles)
		report_name_taken(relname, source);

	return relid;
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
adopt_table(Oid relid, Oid schema, const char *relname)
{
	char	   *table = queue_qualified_name(relid);
	QueueShape	shape;
	Oid			owner;
	char	   *problem = look_at_shape(relid, &shape, &owner);

	/* pg_restore -t leaves it out */
	if (problem != NULL && shape.indexes.lacks_pkey_only)
	{
		queue_ddl_run(psprintf("ALTER TABLE %s ADD PRIMARY KEY (priority, id)",
							   table));
		problem = look_at_shape(relid, &shape, &owner);
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be made a queue", table),
				 errdetail_internal("%s", problem)));

	if (!shape.has_insert_trigger)
		create_trigger(table, "queue_insert", "INSERT", "before_insert");
	if (!shape.has_update_trigger)
		create_trigger(table, "queue_update", "UPDATE", "before_update");
	for (int i = 0; i < 2 && shape.deaf_trigger != NULL; i++)
	{
		enable_trigger(table, shape.deaf_trigger);
		(void) look_at_shape(relid, &shape, &owner);
	}
	create_indexes(table, &shape);
	if (!OidIsValid(shape.sequence))
	{
		create_sequence(schema, relname, owner);
		problem = look_at_shape(relid, &shape, &owner);
		if (problem != NULL || !OidIsValid(shape.sequence))
			elog(ERROR, "sequence of table \"%s\" has disappeared", relname);
	}
	queue_sequence_pass(shape.sequence, highest_id(relid));
}

/* As queue_shape_violation(), for a locked table, with its owner */
static char *
look_at_shape(Oid relid, QueueShape *shape, Oid *owner)
{
	Relation	rel = table_open(relid, NoLock);
	char	   *problem = queue_shape_violation(rel, shape);

	*owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	return problem;
}

/* Create a table with everything that belongs to it. */
static void
create_table(Oid schema, const char *relname, bool is_unlogged)
{
	char	   *table = quote_qualified_identifier(get_namespace_name(schema),
												   relname);
	StringInfoData statement;

	initStringInfo(&statement);
	appendStringInfo(&statement, "CREATE %sTABLE %s (",
					 is_unlogged ? "UNLOGGED " : "", table);
	for (int attnum = 1; attnum <= Natts_message; attnum++)
		appendStringInfo(&statement, "%s, ", queue_column_ddl(attnum));
	appendStringInfoString(&statement, "PRIMARY KEY (priority, id)) USING heap"
						   " WITH (" QUEUE_STORAGE_PARAMETERS ")");
	queue_ddl_run(statement.data);

	create_indexes(table, NULL);
	create_sequence(schema, relname, GetUserId());
	create_trigger(table, "queue_insert", "INSERT", "before_insert");
	create_trigger(table, "queue_update", "UPDATE", "before_update");
}

/*
 * Create the indexes beside the primary key, but those that are there.  "shape"
 * is NULL for a new table.
 */
static void
create_indexes(const char *table, const QueueShape *shape)
{
	for (int i = 0; i < NUM_OWN_INDEXES; i++)
	{
		if (shape == NULL || !OidIsValid(shape->indexes.own[i]))
			queue_ddl_run(queue_index_ddl(i, table));
	}
}

/*
 * create_sequence
 *		Create the sequence of a queue.
 *
 * It is logged even if the queue is not, because ids are never used twice.  It
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
create_trigger(const char *table, const char *trigger, const char *event,
			   const char *function)
{
	queue_ddl_run(psprintf("CREATE TRIGGER %s BEFORE %s ON %s FOR EACH ROW EXECUTE FUNCTION %s.%s()",
						   trigger, event, table, QUEUE_SCHEMA, function));
	enable_trigger(table, trigger);
}

static void
enable_trigger(const char *table, const char *trigger)
{
	queue_ddl_run(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
						   table, quote_identifier(trigger)));
}

/*
 * highest_id
 *		Return the highest id that the table has, zero if it has none.
 *
 * The table is locked against writers, and its columns are those of a queue.
 */
static int64
highest_id(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueTableScan *pass = queue_table_scan_begin(rel, snapshot);
	MessageRow *row;
	int64		highest = 0;

	while ((row = queue_table_scan_next(pass)) != NULL)
		highest = Max(highest, row->id);
	queue_table_scan_end(pass);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return highest;
}

/*-------------------------------------------------------------------------
 *
 * create.c
 *		Queues made, or made again of tables that were restored without their
 *		settings.
 *
 * The table is made by make_table.c.  The name that the caller gives is
 * resolved with its search_path.  The settings are written by catalog
 * functions, because callers have no privilege to write them.  When the DDL has
 * run, the table itself is looked at (make_queue.c).
 *
 * A new table is invisible to others until the commit.  Two transactions that
 * make a queue of one name would meet in the catalogs, where the second would
 * get an error about them.  So a lock on the name itself comes first, to the
 * end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "api/dead_letter.h"
#include "api/key_ddl.h"
#include "api/make_queue.h"
#include "api/make_table.h"
#include "api/name.h"
#include "api/setting_args.h"
#include "common/args.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/call.h"
#include "table/settings.h"
#include "table/shape.h"

PG_FUNCTION_INFO_V1(queue_create_queue);

static Oid	existing_queue(Oid schema, const char *relname);


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

	queue_call_begin(fcinfo, "queue.create_queue()", CALL_WRITES, "name");
	queue_require_arg(fcinfo, 6, "unlogged");
	queue_require_arg(fcinfo, 7, "if_not_exists");
	queue_setting_args_create(fcinfo, values, nulls);

	table_close(queue_settings_open(RowExclusiveLock), NoLock); /* it stays */
	schema = queue_name_schema(PG_GETARG_TEXT_PP(0), queue_form.noun, &relname);
	queue_name_lock(schema, relname);
	if (PG_GETARG_BOOL(7))
	{
		relid = existing_queue(schema, relname);
		if (OidIsValid(relid))
			PG_RETURN_OID(relid);
	}
	is_adopted = OidIsValid(get_relname_relid(relname, schema));
	relid = queue_make_table(&queue_form, schema, relname, NULL,
							 PG_GETARG_BOOL(6));
	if (nulls[column])
	{
		values[column] =
			ObjectIdGetDatum(queue_make_dead_letter(schema, relname, values,
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
	queue_make_settings(relid, values, nulls);

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
						queue_shown_name(relid))));
		return relid;
	}
	if (get_rel_relkind(relid) != RELKIND_RELATION ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		!queue_shape_resembles(relid, &queue_form))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a queue",
						queue_shown_name(relid)),
				 errdetail("A relation of this name exists already.")));
	return InvalidOid;
}

/*-------------------------------------------------------------------------
 *
 * column.c
 *		The columns of a queue table.
 *
 * Released forms never change: a column that is added later is another
 * version's, and comes with a script that updates the tables there are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "table/column.h"

/* In order of Anum_message_xxx */
static const QueueColumn columns[Natts_message] = {
	{"id", INT8OID, "pg_catalog.int8", true, COLUMN_OF_SERVER},
	{"priority", INT2OID, "pg_catalog.int2", true, COLUMN_OF_ANYBODY},
	{"failures", INT2OID, "pg_catalog.int2", true, COLUMN_OF_SERVER},
	{"enqueued_at", TIMESTAMPTZOID, "pg_catalog.timestamptz", true, COLUMN_OF_SERVER},
	{"visible_at", TIMESTAMPTZOID, "pg_catalog.timestamptz", false, COLUMN_OF_SENDER},
	{"expires_at", TIMESTAMPTZOID, "pg_catalog.timestamptz", false, COLUMN_OF_SENDER},
	{"group_key", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SENDER},
	{"correlation_id", TEXTOID, "pg_catalog.text", false, COLUMN_OF_ANYBODY},
	{"dedup_key", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SENDER},
	{"sender", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SERVER},
	{"content_type", TEXTOID, "pg_catalog.text", false, COLUMN_OF_ANYBODY},
	{"headers", JSONBOID, "pg_catalog.jsonb", false, COLUMN_OF_ANYBODY},
	{"payload", JSONBOID, "pg_catalog.jsonb", false, COLUMN_OF_ANYBODY},
	{"body", BYTEAOID, "pg_catalog.bytea", false, COLUMN_OF_ANYBODY},
	{"failure_log", JSONBOID, "pg_catalog.jsonb", false, COLUMN_OF_SERVER},
};

/* Return what is known of a column. */
const QueueColumn *
queue_column(int attnum)
{
	return &columns[attnum - 1];
}

/* Return the column of this name, NULL if a queue has none. */
const QueueColumn *
queue_column_named(const char *name)
{
	for (int i = 0; i < Natts_message; i++)
	{
		if (strcmp(columns[i].name, name) == 0)
			return &columns[i];
	}
	return NULL;
}

/* Return a column for CREATE TABLE, as "id pg_catalog.int8 NOT NULL". */
char *
queue_column_ddl(int attnum)
{
	const QueueColumn *column = queue_column(attnum);

	return psprintf("%s %s%s", quote_identifier(column->name),
					column->type_name,
					column->is_not_null ? " NOT NULL" : "");
}

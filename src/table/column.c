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

#include "table/column.h"

/* In order of Anum_message_xxx */
const QueueColumn queue_message_columns[Natts_message] = {
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
	return &queue_message_columns[attnum - 1];
}

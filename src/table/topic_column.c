/*-------------------------------------------------------------------------
 *
 * topic_column.c
 *		The columns of a topic table.
 *
 * Released forms never change, as those of queues (column.c).  No column of a
 * row that is there ever changes, whoever gave it its value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "table/topic_column.h"

/* In order of Anum_published_xxx */
const QueueColumn queue_topic_columns[Natts_published] = {
	{"partition", INT2OID, "pg_catalog.int2", true, COLUMN_OF_SERVER},
	{"id", INT8OID, "pg_catalog.int8", true, COLUMN_OF_SERVER},
	{"published_at", TIMESTAMPTZOID, "pg_catalog.timestamptz", true, COLUMN_OF_SERVER},
	{"routing_key", TEXTOID, "pg_catalog.text", true, COLUMN_OF_SENDER},
	{"group_key", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SENDER},
	{"correlation_id", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SENDER},
	{"content_type", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SENDER},
	{"sender", TEXTOID, "pg_catalog.text", false, COLUMN_OF_SERVER},
	{"headers", JSONBOID, "pg_catalog.jsonb", false, COLUMN_OF_SENDER},
	{"payload", JSONBOID, "pg_catalog.jsonb", false, COLUMN_OF_SENDER},
	{"body", BYTEAOID, "pg_catalog.bytea", false, COLUMN_OF_SENDER},
};

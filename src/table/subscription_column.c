/*-------------------------------------------------------------------------
 *
 * subscription_column.c
 *		The columns of a subscription table.
 *
 * Released forms never change, as those of queues (column.c).  All values are
 * the server's: a position that somebody else moves would pass messages by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "table/subscription_column.h"

/* In order of Anum_position_xxx */
const QueueColumn queue_subscription_columns[Natts_position] = {
	{"partition", INT2OID, "pg_catalog.int2", true, COLUMN_OF_SERVER},
	{"position", INT8OID, "pg_catalog.int8", true, COLUMN_OF_SERVER},
	{"failures", INT2OID, "pg_catalog.int2", true, COLUMN_OF_SERVER},
	{"alone_until", INT8OID, "pg_catalog.int8", false, COLUMN_OF_SERVER},
	{"failure_log", JSONBOID, "pg_catalog.jsonb", false, COLUMN_OF_SERVER},
	{"moved_at", TIMESTAMPTZOID, "pg_catalog.timestamptz", true, COLUMN_OF_SERVER},
};

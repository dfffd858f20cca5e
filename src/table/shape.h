/*-------------------------------------------------------------------------
 *
 * shape.h
 *		The white list: what a queue table may have, and what it must have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SHAPE_H
#define QUEUE_SHAPE_H

#include "utils/relcache.h"

#include "table/draft.h"

/* What gives a column its value */
typedef enum ColumnSetter
{
	COLUMN_OF_SERVER,			/* the server; the owner may in INSERT */
	COLUMN_OF_SENDER,			/* the sender of the message; nothing later */
	COLUMN_OF_ANYBODY			/* any role that may INSERT or UPDATE */
} ColumnSetter;

/* What was found of the things that belong to a queue table */
typedef struct QueueShape
{
	Oid			pkey;
	Oid			sequence;		/* owned by column id */
	bool		has_insert_trigger;
	bool		has_update_trigger;
	char	   *deaf_trigger;	/* palloc'd name of one that does not fire in
								 * replica role, or NULL */
	bool		lacks_pkey_only;	/* all else that was looked at is in order */
} QueueShape;

/* What a table has that no queue may have, or lacks; NULL: nothing */
extern char *queue_shape_violation(Relation rel, QueueShape *shape);

/* What it lacks that create_queue() can add: triggers, the sequence */
extern char *queue_shape_missing(const QueueShape *shape);

/* Does the table have all columns of a queue? */
extern bool queue_shape_resembles(Oid relid);

/* Is this a column of a queue, of which type, and is it NOT NULL? */
extern bool queue_shape_column(const char *name, Oid *type,
							   bool *is_not_null);

/* The trigger function queue.<name>(), or InvalidOid */
extern Oid	queue_shape_trigger_function(const char *name);

/* What gives this column its value? */
extern ColumnSetter queue_shape_column_setter(int attnum);

/* A column for CREATE TABLE, as "id pg_catalog.int8 NOT NULL" */
extern char *queue_shape_column_ddl(int attnum);

#endif							/* QUEUE_SHAPE_H */

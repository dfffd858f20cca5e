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

/* Who gives a column its value? */
typedef enum ColumnSetter
{
	COLUMN_OF_SERVER,			/* the server; the owner may in INSERT */
	COLUMN_OF_SENDER,			/* who sends the message, and then nobody */
	COLUMN_OF_ANYBODY			/* who may INSERT or UPDATE */
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

/*
 * Look at a table, which is open and locked.  Returns what it has that a
 * queue table may not have, or lacks of columns or primary key, as a sentence
 * for an error's detail (palloc'd); NULL if there is nothing of the kind.
 */
extern char *queue_shape_violation(Relation rel, QueueShape *shape);

/*
 * What is missing of the things that create_queue() can add to a table: our
 * triggers, the sequence.  A sentence, or NULL.
 */
extern char *queue_shape_missing(const QueueShape *shape);

/* Has the table all columns of a queue, whatever else it may have? */
extern bool queue_shape_resembles(Oid relid);

/* Is this a column of a queue?  If so, of which type, and is it NOT NULL?
 * (either may be NULL) */
extern bool queue_shape_column(const char *name, Oid *type,
							   bool *is_not_null);

/* The trigger function queue.<name>(), or InvalidOid */
extern Oid	queue_shape_trigger_function(const char *name);

/* Who gives it its value? */
extern ColumnSetter queue_shape_column_setter(int attnum);

/* A column for CREATE TABLE, as "id pg_catalog.int8 NOT NULL" */
extern char *queue_shape_column_ddl(int attnum);

#endif							/* QUEUE_SHAPE_H */

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

#include "table/index.h"

/* What was found of the things that belong to a queue table */
typedef struct QueueShape
{
	QueueIndexes indexes;
	Oid			sequence;		/* owned by column id */
	bool		has_insert_trigger;
	bool		has_update_trigger;
	char	   *deaf_trigger;	/* palloc'd name of one that does not fire in
								 * replica role, or NULL */
} QueueShape;

/* What a table has that no queue may have, or lacks; NULL: nothing */
extern char *queue_shape_violation(Relation rel, QueueShape *shape);

/* Parts of that, which hold for the key table of a queue, too */
extern char *queue_shape_table_violation(Relation rel);
extern char *queue_shape_constraint_violation(Oid relid);

/* What it lacks that create_queue() can add: triggers, indexes, the sequence */
extern char *queue_shape_missing(const QueueShape *shape);

/* Does the table have all columns of a queue? */
extern bool queue_shape_resembles(Oid relid);

/* The trigger function queue.<name>(), or InvalidOid */
extern Oid	queue_shape_trigger_function(const char *name);

#endif							/* QUEUE_SHAPE_H */

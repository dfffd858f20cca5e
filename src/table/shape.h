/*-------------------------------------------------------------------------
 *
 * shape.h
 *		The white list: what a table of ours may have, and what it must have.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SHAPE_H
#define QUEUE_SHAPE_H

#include "utils/relcache.h"

#include "table/index.h"

/* What was found of the things that belong to such a table */
typedef struct QueueShape
{
	QueueIndexes indexes;
	Oid			sequence;		/* owned by column id */
	bool		has_trigger[NUM_OWN_TRIGGERS];
	char	   *deaf_trigger;	/* palloc'd name of one that does not fire in
								 * replica role, or NULL */
} QueueShape;

/* What a table has that none of its kind may have, or lacks; NULL: nothing */
extern char *queue_shape_violation(Relation rel, const TableForm *form,
								   QueueShape *shape);

/* A part of that: its columns */
extern char *queue_shape_columns_violation(Relation rel,
										   const TableForm *form);

/* Parts of that, which hold for the key table of a queue, too */
extern char *queue_shape_table_violation(Relation rel);
extern char *queue_shape_constraint_violation(Oid relid);

/* What it lacks that its maker can add: triggers, indexes, the sequence */
extern char *queue_shape_missing(const TableForm *form,
								 const QueueShape *shape);

/* Does the table have all columns of its kind? */
extern bool queue_shape_resembles(Oid relid, const TableForm *form);

/* 42809 if it is beyond the white list: "problem" says why */
extern void queue_shape_check(Oid relid, const TableForm *form,
							  const char *problem);

/* The trigger function queue.<name>(), or InvalidOid */
extern Oid	queue_shape_trigger_function(const char *name);

#endif							/* QUEUE_SHAPE_H */

/*-------------------------------------------------------------------------
 *
 * make_table.h
 *		Tables of queues, topics and subscriptions made.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MAKE_TABLE_H
#define QUEUE_MAKE_TABLE_H

#include "table/form.h"

/*
 * A table of this kind: a new one, or one that can be adopted.  "source" is
 * given if it is to be the dead-letter queue that comes with a queue of that
 * name
 */
extern Oid	queue_make_table(const TableForm *form, Oid schema,
							 const char *relname, const char *source,
							 bool is_unlogged);

/* Its row of settings, whose first column is filled in here */
extern void queue_make_setting_row(const TableForm *form, Oid relid,
								   Datum *values, bool *nulls);

#endif							/* QUEUE_MAKE_TABLE_H */

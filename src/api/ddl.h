/*-------------------------------------------------------------------------
 *
 * ddl.h
 *		What follows from DDL on queue tables, by whatever statement.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DDL_H
#define QUEUE_DDL_H

#include "nodes/parsenodes.h"

/* 55006 if the statement drops, empties or changes a queue which a prepared
 * transaction holds; before it has begun, from the ProcessUtility hook */
extern void queue_ddl_refuse_in_doubt(Node *stmt);

/* Object access hook: the settings row goes with the table */
extern void queue_on_relation_drop(Oid relid);

/* ... a table, or a trigger, was altered: what is known of a queue's messages
 * may be wrong */
extern void queue_on_relation_alter(Oid relid);
extern void queue_on_trigger_alter(Oid trigger);
extern void queue_on_relation_truncate(Oid relid);

/*
 * ALTER TABLE ... SET UNLOGGED takes the sequences of the table along, but that
 * of a queue stays logged.  The table is to be found before the statement is
 * run, since that may change it.
 */
extern RangeVar *queue_ddl_find_unlogged(Node *stmt);
extern void queue_ddl_keep_sequence_logged(const RangeVar *table);

/* The worker: delete what settings there are of tables that are gone */
extern TimestampTz queue_ddl_forget_gone(void);

#endif							/* QUEUE_DDL_H */

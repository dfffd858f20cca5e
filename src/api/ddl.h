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

/* 55006 if the statement would wait for a prepared transaction */
extern void queue_ddl_refuse_in_doubt(Node *stmt);

/* Object access hook: the settings row goes with the table */
extern void queue_on_relation_drop(Oid relid);

/* ... and what is known of the messages of an altered table may be wrong */
extern void queue_on_relation_alter(Oid relid);
extern void queue_on_trigger_alter(Oid trigger);
extern void queue_on_relation_truncate(Oid relid);

/* Around ALTER TABLE ...  SET UNLOGGED, which must not change the sequence */
extern RangeVar *queue_ddl_find_unlogged(Node *stmt);
extern void queue_ddl_keep_sequence_logged(const RangeVar *table);

/* The worker: delete settings of tables that are gone */
extern TimestampTz queue_ddl_forget_gone(void);

#endif							/* QUEUE_DDL_H */

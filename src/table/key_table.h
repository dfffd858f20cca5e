/*-------------------------------------------------------------------------
 *
 * key_table.h
 *		The table in which a queue keeps its dedup keys: what it is like.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_KEY_TABLE_H
#define QUEUE_KEY_TABLE_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

#include "table/definition.h"

/* Its columns, in order: the first message with a key */
#define Natts_key						3
#define Anum_key_id						1
#define Anum_key_enqueued_at			2
#define Anum_key_dedup_key				3

/* What it has that no such table may have, or lacks; NULL: nothing */
extern char *queue_key_table_violation(Relation keys, Oid *index);

/* What keeps a queue from taking messages with keys, NULL: nothing */
extern char *queue_key_table_problem(QueueDef *def);

/* Does a table have these columns? */
extern bool queue_key_table_resembles(Oid relid);

/* Its columns, for CREATE TABLE, and those of its index */
extern const char *queue_key_table_columns(void);
extern const char *queue_key_table_index(void);

/* Columns of a row */
extern int64 queue_key_row_id(TupleTableSlot *slot);
extern TimestampTz queue_key_row_enqueued_at(TupleTableSlot *slot);

/*
 * Open that of a queue, RowExclusiveLock.  NULL if there is none; 42809 if it
 * has been altered, or NULL as well (altered_ok)
 */
extern Relation queue_key_table_open(QueueDef *def, bool altered_ok);

#endif							/* QUEUE_KEY_TABLE_H */

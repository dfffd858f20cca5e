/*-------------------------------------------------------------------------
 *
 * sql.h
 *		Statements that our C code runs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SQL_H
#define QUEUE_SQL_H

#include "datatype/timestamp.h"

/* Begin to run statements, and be done with them and their rows */
extern void queue_sql_begin(void);
extern void queue_sql_end(void);

/* Run one, with these parameters ("nulls" as for SPI); the number of rows */
extern uint64 queue_sql_run(const char *sql, int nparams, Oid *types,
							Datum *values, const char *nulls);

/* Begin with a query, which sees what the statement that asks sees */
extern uint64 queue_sql_ask(const char *query, int nparams, Oid *types,
							Datum *values);

/* How many columns its rows have */
extern int	queue_sql_width(void);

/* A column of a row (from 0; columns from 1) */
extern Datum queue_sql_value(uint64 row, int column, bool *isnull);
extern TimestampTz queue_sql_time(uint64 row, int column);

/* The same as a text in this context; NULL for a null */
extern char *queue_sql_text(uint64 row, int column, MemoryContext context);

#endif							/* QUEUE_SQL_H */

/*-------------------------------------------------------------------------
 *
 * sql.c
 *		Statements that our C code runs.
 *
 * Off the hot path what we want to know, or do, is said in SQL.  It may be run
 * under any search_path, so all names in it are qualified, those of operators
 * too, except in our processes, which pin it (process.c).
 *
 * An error ends all that was begun by ending the (sub)transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/sql.h"

static uint64 execute(const char *sql, int nparams, Oid *types, Datum *values,
					  const char *nulls, bool read_only);

/* Begin to run statements. */
void
queue_sql_begin(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* The statements, and their rows, are done with. */
void
queue_sql_end(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * queue_sql_run
 *		Run a statement, and return how many rows it has.
 *
 * They can be read until the next one, or the end.
 */
uint64
queue_sql_run(const char *sql, int nparams, Oid *types, Datum *values,
			  const char *nulls)
{
	return execute(sql, nparams, types, values, nulls, false);
}

/*
 * queue_sql_ask
 *		Begin with a query, and return how many rows it has.
 *
 * To be ended whatever it returns.  Where there is a snapshot, it sees the
 * catalogs as the statement that asks, so that nothing becomes visible to that
 * on the way.
 */
uint64
queue_sql_ask(const char *query, int nparams, Oid *types, Datum *values)
{
	queue_sql_begin();
	return execute(query, nparams, types, values, NULL, ActiveSnapshotSet());
}

/* Run a statement; that it cannot be run at all is a mistake of ours. */
static uint64
execute(const char *sql, int nparams, Oid *types, Datum *values,
		const char *nulls, bool read_only)
{
	int			result = SPI_execute_with_args(sql, nparams, types, values,
											   nulls, read_only, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql,
			 SPI_result_code_string(result));
	return SPI_tuptable == NULL ? 0 : SPI_processed;
}

/* Return how many columns the rows have. */
int
queue_sql_width(void)
{
	return SPI_tuptable->tupdesc->natts;
}

/* Return a column of a row. */
Datum
queue_sql_value(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

/* Return a time in a row; 0 for a null. */
TimestampTz
queue_sql_time(uint64 row, int column)
{
	bool		isnull;
	Datum		value = queue_sql_value(row, column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* Return a column of a row as a text in this context; NULL for a null. */
char *
queue_sql_text(uint64 row, int column, MemoryContext context)
{
	char	   *text = SPI_getvalue(SPI_tuptable->vals[row],
									SPI_tuptable->tupdesc, column);

	return text == NULL ? NULL : MemoryContextStrdup(context, text);
}

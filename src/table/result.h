/*-------------------------------------------------------------------------
 *
 * result.h
 *		Rows of the results that messages are returned in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RESULT_H
#define QUEUE_RESULT_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

/* Columns that are stored as the sender gave them, as the result has them */
#define NUM_RESULT_VALUES	6

/*
 * One row, in the order of its columns.  A pointer may be NULL; what it leads to
 * is not in TOAST
 */
typedef struct ResultRow
{
	int64		id;
	const char *receipt;
	int			attempt;
	TimestampTz sent_at;
	int			priority;		/* NO_NUMBER: none */
	struct varlena *values[NUM_RESULT_VALUES];
	int			partition;		/* NO_NUMBER: none */
	struct varlena *routing_key;
	Size		room;			/* all values together need no more than this,
								 * but for what aligns them */
} ResultRow;

#define NO_NUMBER			PG_INT32_MIN

/* Form it, in the current memory context */
extern HeapTuple queue_result_form(TupleDesc desc, const ResultRow *row);

/* Add it to a result */
extern void queue_result_put(Tuplestorestate *result, TupleDesc desc,
							 const ResultRow *row);

#endif							/* QUEUE_RESULT_H */

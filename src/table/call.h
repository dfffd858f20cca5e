/*-------------------------------------------------------------------------
 *
 * call.h
 *		How SQL functions begin.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CALL_H
#define QUEUE_CALL_H

#include "access/tupdesc.h"
#include "fmgr.h"
#include "nodes/execnodes.h"

/* Where a function may not be called */
typedef enum CallKind
{
	CALL_READS,					/* in a parallel worker */
	CALL_WRITES					/* nor in a read-only transaction */
} CallKind;

/*
 * Begin a call of "funcname", which is of this kind, and whose first arguments
 * have these names and must not be null
 */
#define queue_call_begin(fcinfo, funcname, kind, ...) \
	queue_call_check(fcinfo, funcname, kind, \
					 (const char *const[]) {__VA_ARGS__, NULL})

extern void queue_call_check(FunctionCallInfo fcinfo, const char *funcname,
							 CallKind kind, const char *const *argnames);

/* Begin a call that shows rows, where they are to be put */
extern ReturnSetInfo *queue_call_begin_rows(FunctionCallInfo fcinfo);

/* Does a transaction go on when the call is over?  Then it may not commit. */
extern bool queue_call_is_atomic(FunctionCallInfo fcinfo);

/* The type of the row that a call returns */
extern TupleDesc queue_call_row_type(FunctionCallInfo fcinfo);

#endif							/* QUEUE_CALL_H */

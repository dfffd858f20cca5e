/*-------------------------------------------------------------------------
 *
 * call.c
 *		How SQL functions begin.
 *
 * The library and the version of the extension come first, before any argument
 * is looked at: another version of the script may have given the function
 * others.  Then where it is called, then what it is given, so that a caller
 * gets the same error from all functions for the same mistake.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"

#include "common/args.h"
#include "table/call.h"
#include "table/member.h"

/*
 * queue_call_check
 *		Raise 55000 without the library, 25006 or 25000 where it may not be
 *		called, 22004 if one of the arguments is null.
 *
 * "argnames" are those of the first arguments, and end with NULL.
 */
void
queue_call_check(FunctionCallInfo fcinfo, const char *funcname,
				 CallKind kind, const char *const *argnames)
{
	queue_require_preload();
	if (kind == CALL_WRITES)
		PreventCommandIfReadOnly(funcname);
	PreventCommandIfParallelMode(funcname);
	for (int i = 0; argnames[i] != NULL; i++)
		queue_require_arg(fcinfo, i, argnames[i]);
}

/*
 * queue_call_begin_rows
 *		Raise 55000 without the library, and return what the rows are put
 *		into.
 */
ReturnSetInfo *
queue_call_begin_rows(FunctionCallInfo fcinfo)
{
	queue_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	return (ReturnSetInfo *) fcinfo->resultinfo;
}

/* Was it called inside a transaction block, or by a function? */
bool
queue_call_is_atomic(FunctionCallInfo fcinfo)
{
	return fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		((CallContext *) fcinfo->context)->atomic;
}

/* Return the type of the row that the function returns. */
TupleDesc
queue_call_row_type(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return desc;
}

/*-------------------------------------------------------------------------
 *
 * unbuilt.c
 *		Functions of the contract that are not built yet.
 *
 * They are declared, so that what calls them need not change, and check what
 * they will check: the library, nulls, privileges.  Whoever builds one takes it
 * out of here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "common/args.h"
#include "table/definition.h"
#include "table/member.h"

PG_FUNCTION_INFO_V1(queue_fail);

pg_noreturn static void report(const char *funcname);

/* fail(error): no queue is named, what the transaction has dequeued is meant */
Datum
queue_fail(PG_FUNCTION_ARGS)
{
	queue_require_preload();
	PreventCommandIfReadOnly("queue.fail()");
	PreventCommandIfParallelMode("queue.fail()");
	queue_require_arg(fcinfo, 0, "error");
	report("queue.fail()");
}

static void
report(const char *funcname)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported in this version", funcname)));
}

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

PG_FUNCTION_INFO_V1(queue_enqueue_once);
PG_FUNCTION_INFO_V1(queue_fail);

pg_noreturn static void refuse(FunctionCallInfo fcinfo, const char *funcname,
							   QueueAccess access, const char *const *required);
pg_noreturn static void report(const char *funcname);

/* enqueue_once(queue, payload, dedup_key, ... as enqueue) */
Datum
queue_enqueue_once(PG_FUNCTION_ARGS)
{
	static const char *const required[] = {"queue", "payload", "dedup_key", NULL};

	refuse(fcinfo, "queue.enqueue_once()", QUEUE_ENQUEUE, required);
}

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

/*
 * refuse
 *		Check what the function will check, then raise 0A000.
 *
 * "required" has the names of the first arguments, which must not be null.
 */
static void
refuse(FunctionCallInfo fcinfo, const char *funcname, QueueAccess access,
	   const char *const *required)
{
	QueueDef   *def;

	queue_require_preload();

	PreventCommandIfReadOnly(funcname);
	PreventCommandIfParallelMode(funcname);
	for (int i = 0; required[i] != NULL; i++)
		queue_require_arg(fcinfo, i, required[i]);
	table_close(queue_open(PG_GETARG_OID(0), access, &def), NoLock);
	report(funcname);
}

static void
report(const char *funcname)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported in this version", funcname)));
}

/*-------------------------------------------------------------------------
 *
 * fail.c
 *		Why a transaction that is about to roll back failed what it has taken:
 *		fail().
 *
 * Nothing is written, and no queue is named: the reason waits for the end of
 * the transaction, or of its savepoint (transaction/reason.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "table/call.h"
#include "transaction/reason.h"

PG_FUNCTION_INFO_V1(queue_fail);

/* fail(error) */
Datum
queue_fail(PG_FUNCTION_ARGS)
{
	queue_call_begin(fcinfo, "queue.fail()", CALL_WRITES, "error");
	queue_reason_give(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

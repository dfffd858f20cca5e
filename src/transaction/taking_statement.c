/*-------------------------------------------------------------------------
 *
 * taking_statement.c
 *		Statements of the client that take messages.
 *
 * What a statement has taken that then fails was not seen by any consumer, so it
 * does not count as failed.  A query string may have several statements, which
 * begin at one time, so each has a number.
 *
 * All of it is in the memory of this process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"

#include "transaction/fault.h"
#include "transaction/taking_statement.h"

/*
 * The last statement from the client that took messages: its number, when it
 * began, and the memory of its portal, NULL when that is over.
 */
static uint64 last_statement = 0;
static TimestampTz last_statement_at = 0;
static MemoryContext last_statement_context = NULL;

static void end_statement(void *arg);


/* Return the number of the statement that is being executed.  May throw. */
uint64
queue_taking_statement_number(void)
{
	MemoryContext context = ActivePortal ? ActivePortal->portalContext : NULL;

	if (context == NULL)
		return 0;
	if (context != last_statement_context)
	{
		MemoryContextCallback *callback;

		callback = MemoryContextAllocZero(context,
										  sizeof(MemoryContextCallback));
		callback->func = end_statement;
		callback->arg = context;
		MemoryContextRegisterResetCallback(context, callback);
		last_statement_context = context;
		last_statement_at = GetCurrentStatementStartTimestamp();
		last_statement++;
	}
	return last_statement;
}

/*
 * end_statement
 *		Its portal goes, when it has done its work.
 *
 * After an error that comes later than the callbacks of the transaction.
 */
static void
end_statement(void *arg)
{
	if (last_statement_context == arg)
		last_statement_context = NULL;
}

/* Returns true if this statement has failed. */
bool
queue_taking_statement_has_failed(uint64 number)
{
	return number != 0 && number == last_statement &&
		last_statement_context != NULL &&
		queue_fault_statement() == last_statement_at;
}

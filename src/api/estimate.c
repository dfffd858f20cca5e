/*-------------------------------------------------------------------------
 *
 * estimate.c
 *		What the planner is told of the functions that return messages.
 *
 * Otherwise the planner expects a thousand rows of any function.  It then
 * reads a whole business table to join them, where one message needs one
 * look-up in an index.  Under SERIALIZABLE that is worse than slow: what was
 * read is locked, and transactions of other consumers fail.
 *
 * The argument "max" says how many rows there can be.  Most calls ask for few,
 * and a plan for few rows is good for fewer, so the estimate is that number.
 * A value that is not known when the plan is made counts as one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"

#include "common/compat.h"

/* Argument "max" of all these functions */
#define MAX_ARGUMENT		1

/*
 * Costs, in units of a page read in sequence: a call opens the queue and looks
 * at shared memory; a message is found in the index and the heap, and is locked
 * in memory or deleted.
 */
#define CALL_COST			1.0
#define MESSAGE_COST		2.0

PG_FUNCTION_INFO_V1(queue_messages_support);

static double estimate_rows(PlannerInfo *root, Node *call);

/* messages_support(internal): planner support of dequeue, receive, browse */
Datum
queue_messages_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestRows))
	{
		SupportRequestRows *req = (SupportRequestRows *) request;

		req->rows = estimate_rows(req->root, req->node);
		PG_RETURN_POINTER(req);
	}
	if (IsA(request, SupportRequestCost))
	{
		SupportRequestCost *req = (SupportRequestCost *) request;

		req->startup = 0;
		req->per_tuple = CALL_COST +
			MESSAGE_COST * estimate_rows(req->root, req->node);
		PG_RETURN_POINTER(req);
	}
	PG_RETURN_POINTER(NULL);
}

/*
 * estimate_rows
 *		Estimate how many rows this call returns.
 *
 * "root" and "call" may be NULL; less is known then.
 */
static double
estimate_rows(PlannerInfo *root, Node *call)
{
	Node	   *arg;
	Const	   *max;
	int64		rows;

	if (call == NULL || !is_funcclause(call) ||
		list_length(((FuncExpr *) call)->args) <= MAX_ARGUMENT)
		return 1;
	arg = list_nth(((FuncExpr *) call)->args, MAX_ARGUMENT);
	if (root != NULL)
		arg = estimate_expression_value(root, arg);
	if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
		return 1;
	max = (Const *) arg;
	if (max->consttype == INT4OID)
		rows = DatumGetInt32(max->constvalue);
	else if (max->consttype == INT8OID)
		rows = DatumGetInt64(max->constvalue);
	else
		return 1;
	return (double) Max(rows, 1);
}

/*-------------------------------------------------------------------------
 *
 * send_args.c
 *		Arguments of functions that send messages, to queues or topics.
 *
 * A message has a payload, which is jsonb, or a body, which is bytea.  What
 * sends the one and what sends the other go the same way; the functions for
 * bodies have content_type between the body and the headers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "api/send_args.h"
#include "common/args.h"

/*
 * queue_send_split_type
 *		Return the content type, and make the call that there would be without
 *		it, with so many arguments.
 */
NullableDatum
queue_send_split_type(FunctionCallInfo fcinfo, FunctionCallInfo call,
					  int nargs)
{
	memcpy(call, fcinfo, SizeForFunctionCallInfo(ARG_CONTENT_TYPE));
	memcpy(&call->args[ARG_CONTENT_TYPE], &fcinfo->args[ARG_CONTENT_TYPE + 1],
		   (nargs - ARG_CONTENT_TYPE) * sizeof(NullableDatum));
	call->nargs = nargs;
	return fcinfo->args[ARG_CONTENT_TYPE];
}

/*
 * queue_send_read_text
 *		Make a call with a payload that is a json or a text, read as jsonb
 *		would be.
 *
 * The arguments are copied, because those that are constants are filled in
 * once for all calls of a query.
 */
void
queue_send_read_text(FunctionCallInfo fcinfo, FunctionCallInfo call,
					 int nargs)
{
	memcpy(call, fcinfo, SizeForFunctionCallInfo(nargs));
	if (!PG_ARGISNULL(ARG_CONTENT))
	{
		char	   *payload = text_to_cstring(PG_GETARG_TEXT_PP(ARG_CONTENT));

		call->args[ARG_CONTENT].value =
			DirectFunctionCall1(jsonb_in, CStringGetDatum(payload));
	}
}

/*
 * queue_send_contents
 *		Read the payloads or bodies of a batch, of which none may be null.
 */
Datum *
queue_send_contents(FunctionCallInfo fcinfo, const SendContent *content, int *n)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(ARG_CONTENT);
	Datum	   *values;
	bool	   *nulls;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a one-dimensional array",
						content->argname)));
	/* jsonb and bytea are laid out alike */
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_INT,
					  &values, &nulls, n);
	for (int i = 0; i < *n; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null",
							content->is_body ? "body" : "payload"),
					 errdetail("Element %d of %s is null.", i + 1,
							   content->argname),
					 content->is_body ?
					 errhint("An empty body is written as ''::bytea.") :
					 errhint("A JSON null is written as 'null'::jsonb.")));
	return values;
}

/*
 * queue_send_due
 *		Return when messages are due, by delay or deliver_at; 0 if that is at
 *		once.
 */
TimestampTz
queue_send_due(NullableDatum delay, NullableDatum deliver_at, TimestampTz now)
{
	TimestampTz due;

	if (!delay.isnull && !deliver_at.isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay and deliver_at exclude each other"),
				 errhint("Give the one or the other.")));
	if (!delay.isnull)
		due = now + queue_interval_usec(DatumGetIntervalP(delay.value),
										"delay");
	else if (!deliver_at.isnull)
		due = queue_due_time(DatumGetTimestampTz(deliver_at.value),
							 "deliver_at");
	else
		return 0;
	return due > now ? due : 0;
}

/* Return the ids of a batch as an array. */
ArrayType *
queue_send_ids(const int64 *ids, int n)
{
	Datum	   *results = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		results[i] = Int64GetDatum(ids[i]);
	return construct_array(results, n, INT8OID, sizeof(int64),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

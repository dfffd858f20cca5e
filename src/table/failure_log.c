/*-------------------------------------------------------------------------
 *
 * failure_log.c
 *		The last failures of a message, as its row has them.
 *
 * A JSON array of objects, the newest last, each with these keys; what is not
 * known is null:
 *
 *	at					when
 *	message				what went wrong
 *	sqlstate			of the error that ended the transaction
 *	role				who had the message ...
 *	application_name	... and with which program
 *	batch				how many messages failed together
 *
 * Only the server writes it, but a restore or the owner may have put in
 * anything; so what is no such array counts as none, and what is none of such
 * objects says nothing.
 *
 * An array without an element says of a message that has not failed that it was
 * delivered all the same, and given back for later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "common/compat.h"
#include "common/json.h"
#include "table/failure_log.h"

static void push_failure(JsonbInState *state, const Failure *failure);
static bool get_member(Jsonb *array, int i, const char *key,
					   JsonbValue *value);
static Jsonb *log_array(NullableDatum log);


/*
 * queue_failure_log_add
 *		Return a log with what it does not tell yet; what is too old leaves it.
 *
 * "log" is that of the row, which may be null.  Its newest failure may be told
 * anew: it was counted when its lease ran out, say, and now its consumer tells
 * why.
 */
Datum
queue_failure_log_add(NullableDatum log, const FailureNews *news)
{
	Jsonb	   *old = log_array(log);
	int			nold = old == NULL ? 0 : JB_ROOT_COUNT(old);
	int			nunknown = Min(news->nunknown, FAILURES_KEPT);
	int			nkept;
	JsonbInState state = {0};

	if (news->is_retold && nold > 0)
		nold--;
	nunknown = Min(nunknown, FAILURES_KEPT - news->nnotes);
	nkept = Min(nold, FAILURES_KEPT - news->nnotes - nunknown);

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = nold - nkept; i < nold; i++)
		pushJsonbValue(&state, WJB_ELEM,
					   getIthJsonbValueFromContainer(&old->root, i));
	for (int i = 0; i < nunknown; i++)
	{
		Failure		unknown = {0};

		unknown.at = GetCurrentTimestamp();
		push_failure(&state, &unknown);
	}
	for (int i = 0; i < news->nnotes; i++)
	{
		Failure		failure;

		queue_failure_read(&news->notes[i], &failure);
		push_failure(&state, &failure);
	}
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(state.result));
}

/*
 * queue_failure_log_message
 *		Return the newest text in the log, palloc'd; NULL if there is none.
 */
char *
queue_failure_log_message(NullableDatum log)
{
	Jsonb	   *array = log_array(log);
	JsonbValue	message;

	for (int i = array == NULL ? 0 : JB_ROOT_COUNT(array); i-- > 0;)
		if (get_member(array, i, "message", &message) &&
			message.type == jbvString)
			return pnstrdup(message.val.string.val, message.val.string.len);
	return NULL;
}

/*
 * queue_failure_log_batch
 *		Return how many messages failed together when this one failed last; 0
 *		if that is not known.
 */
int
queue_failure_log_batch(NullableDatum log)
{
	Jsonb	   *array = log_array(log);
	JsonbValue	batch;
	double		n;

	if (array == NULL || JB_ROOT_COUNT(array) == 0 ||
		!get_member(array, JB_ROOT_COUNT(array) - 1, "batch", &batch) ||
		batch.type != jbvNumeric)
		return 0;
	n = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
										   NumericGetDatum(batch.val.numeric)));
	return n >= 1 ? (int) Min(n, FAILURE_MAX_BATCH) : 0;
}

/* Return the log as it is; an empty one if it is none. */
Datum
queue_failure_log_normal(NullableDatum log)
{
	Jsonb	   *array = log_array(log);
	JsonbInState state = {0};

	if (array != NULL)
		return JsonbPGetDatum(array);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(state.result));
}

/* Return the log as an array, NULL if it is none. */
static Jsonb *
log_array(NullableDatum log)
{
	Jsonb	   *array = log.isnull ? NULL : DatumGetJsonbP(log.value);

	return array != NULL && JB_ROOT_IS_ARRAY(array) &&
		!JB_ROOT_IS_SCALAR(array) ? array : NULL;
}

/* Get a member of the i-th object in the array; false: there is none. */
static bool
get_member(Jsonb *array, int i, const char *key, JsonbValue *value)
{
	JsonbValue *element = getIthJsonbValueFromContainer(&array->root, i);

	return element->type == jbvBinary &&
		JsonContainerIsObject(element->val.binary.data) &&
		getKeyJsonValueFromContainer(element->val.binary.data, key,
									 strlen(key), value) != NULL;
}

/* Add a failure.  A role that is gone has no name any more. */
static void
push_failure(JsonbInState *state, const Failure *failure)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	queue_json_time(state, "at", failure->at);
	queue_json_string(state, "message", failure->message);
	queue_json_string(state, "sqlstate", failure->sqlstate == 0 ? NULL :
					  unpack_sql_state(failure->sqlstate));
	queue_json_string(state, "role", !OidIsValid(failure->role) ? NULL :
					  GetUserNameFromId(failure->role, true));
	queue_json_string(state, "application_name", failure->application);
	if (failure->batch == 0)
		queue_json_string(state, "batch", NULL);
	else
		queue_json_int(state, "batch", failure->batch);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

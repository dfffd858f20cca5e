/*-------------------------------------------------------------------------
 *
 * failure_log.c
 *		The last failures of a message, as its row has them.
 *
 * A JSON array of objects {"at", "message"}, the newest last.  Only the server
 * writes it, but a restore or the owner may have put in anything; so what is no
 * such array counts as none, and what is none of such objects has no text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "common/compat.h"
#include "table/failure_log.h"

static void push_text(JsonbInState *state, const char *key, const char *value);
static Jsonb *log_array(NullableDatum log);


/*
 * queue_failure_log_add
 *		Return a log with one failure more; what is too old leaves it.
 *
 * If it is not new, the newest is another one now: it was counted when its
 * lease ran out, say, and now its consumer tells why.  "log" is that of the
 * row, which may be null, and so may be "message".
 */
Datum
queue_failure_log_add(NullableDatum log, TimestampTz at, const char *message,
					  bool is_new)
{
	Jsonb	   *old = log_array(log);
	int			count = old == NULL ? 0 : JB_ROOT_COUNT(old);
	int			nold = is_new ? count : Max(count - 1, 0);
	JsonbInState state = {0};
	char		at_text[MAXDATELEN + 1];

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = Max(nold - FAILURE_LOG_LENGTH + 1, 0); i < nold; i++)
		pushJsonbValue(&state, WJB_ELEM,
					   getIthJsonbValueFromContainer(&old->root, i));
	JsonEncodeDateTime(at_text, TimestampTzGetDatum(at), TIMESTAMPTZOID, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "at", at_text);
	push_text(&state, "message", message);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(state.result));
}

/*
 * queue_failure_log_message
 *		Return the text of the newest failure, palloc'd; NULL if there is none.
 */
char *
queue_failure_log_message(NullableDatum log)
{
	Jsonb	   *array = log_array(log);
	JsonbValue *last;
	JsonbValue	message;

	if (array == NULL || JB_ROOT_COUNT(array) == 0)
		return NULL;
	last = getIthJsonbValueFromContainer(&array->root,
										 JB_ROOT_COUNT(array) - 1);
	if (last->type != jbvBinary ||
		!JsonContainerIsObject(last->val.binary.data) ||
		getKeyJsonValueFromContainer(last->val.binary.data, "message",
									 strlen("message"), &message) == NULL ||
		message.type != jbvString)
		return NULL;
	return pnstrdup(message.val.string.val, message.val.string.len);
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

/* Add a member of an object; a null text is a null. */
static void
push_text(JsonbInState *state, const char *key, const char *value)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	if (value == NULL)
		v.type = jbvNull;
	else
	{
		v.val.string.val = unconstify(char *, value);
		v.val.string.len = strlen(value);
	}
	pushJsonbValue(state, WJB_VALUE, &v);
}

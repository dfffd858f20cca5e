/*-------------------------------------------------------------------------
 *
 * json.c
 *		Parts of a JSON object that is being built.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "common/json.h"

/* A name, to be followed by a value */
void
queue_json_key(JsonbInState *state, const char *key)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
}

/* A text, which is copied; NULL is a JSON null */
void
queue_json_string(JsonbInState *state, const char *key, const char *value)
{
	JsonbValue	v;

	queue_json_key(state, key);
	if (value == NULL)
		v.type = jbvNull;
	else
	{
		/* an object is not made before all of it is there */
		v.type = jbvString;
		v.val.string.val = pstrdup(value);
		v.val.string.len = strlen(value);
	}
	pushJsonbValue(state, WJB_VALUE, &v);
}

void
queue_json_int(JsonbInState *state, const char *key, int64 value)
{
	JsonbValue	v;

	queue_json_key(state, key);
	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

/* A time, as JSON writes it */
void
queue_json_time(JsonbInState *state, const char *key, TimestampTz value)
{
	char		buffer[MAXDATELEN + 1];

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(value), TIMESTAMPTZOID, NULL);
	queue_json_string(state, key, buffer);
}

/* A whole value, which is an array or an object */
void
queue_json_jsonb(JsonbInState *state, const char *key, Jsonb *value)
{
	JsonbValue	v;

	queue_json_key(state, key);
	v.type = jbvBinary;
	v.val.binary.data = &value->root;
	v.val.binary.len = VARSIZE(value) - VARHDRSZ;
	pushJsonbValue(state, WJB_VALUE, &v);
}

/*-------------------------------------------------------------------------
 *
 * copy.c
 *		A message of a topic as it goes into a queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "common/compat.h"
#include "common/json.h"
#include "topic/copy.h"

/*
 * queue_copy_headers
 *		Return the headers of a message's copy.
 *
 * One that the publisher calls "published" is replaced.
 */
Datum
queue_copy_headers(const TopicDraft *draft, const char *topic)
{
	JsonbInState state = {0};
	Datum		added;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	queue_json_key(&state, "published");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	queue_json_string(&state, "topic", topic);
	queue_json_int(&state, "id", draft->id);
	queue_json_int(&state, "partition", draft->partition);
	queue_json_string(&state, "routing_key",
					  TextDatumGetCString(draft->routing_key.value));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	added = JsonbPGetDatum(JsonbValueToJsonb(state.result));
	return draft->headers.isnull ? added :
		DirectFunctionCall2(jsonb_concat, draft->headers.value, added);
}

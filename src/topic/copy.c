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
#include "topic/copy.h"

static JsonbValue *name_part(JsonbPair *part, const char *name,
							 enum jbvType type);


/* A name, to be followed by a value of this type */
static JsonbValue *
name_part(JsonbPair *part, const char *name, enum jbvType type)
{
	part->key.type = jbvString;
	part->key.val.string.val = unconstify(char *, name);
	part->key.val.string.len = strlen(name);
	part->value.type = type;
	return &part->value;
}

/*
 * queue_copy_headers
 *		Return the headers of a message's copy.
 *
 * One that the publisher calls "published" is replaced.
 *
 * Each message that is published needs this, so the object is put together as
 * it is to be stored, with its names in the order that jsonb gives them: the
 * shorter first.
 */
Datum
queue_copy_headers(const TopicDraft *draft, const char *topic)
{
	text	   *key = DatumGetTextPP(draft->routing_key.value);
	JsonbPair	parts[4];
	JsonbPair	outer;
	JsonbValue	object;
	JsonbValue *value;
	Datum		added;

	name_part(&parts[0], "id", jbvNumeric)->val.numeric =
		int64_to_numeric(draft->id);
	value = name_part(&parts[1], "topic", jbvString);
	value->val.string.val = unconstify(char *, topic);
	value->val.string.len = strlen(topic);
	name_part(&parts[2], "partition", jbvNumeric)->val.numeric =
		int64_to_numeric(draft->partition);
	value = name_part(&parts[3], "routing_key", jbvString);
	value->val.string.val = VARDATA_ANY(key);
	value->val.string.len = VARSIZE_ANY_EXHDR(key);

	value = name_part(&outer, "published", jbvObject);
	value->val.object.nPairs = lengthof(parts);
	value->val.object.pairs = parts;
	object.type = jbvObject;
	object.val.object.nPairs = 1;
	object.val.object.pairs = &outer;
	added = JsonbPGetDatum(JsonbValueToJsonb(&object));
	return draft->headers.isnull ? added :
		DirectFunctionCall2(jsonb_concat, draft->headers.value, added);
}

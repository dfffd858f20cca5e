/*-------------------------------------------------------------------------
 *
 * json.h
 *		Parts of a JSON object that is being built.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_JSON_H
#define QUEUE_JSON_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "common/compat.h"

/* A name, and whole members of some types; names and values of jsonb must stay */
extern void queue_json_key(JsonbInState *state, const char *key);
extern void queue_json_string(JsonbInState *state, const char *key,
							  const char *value);
extern void queue_json_int(JsonbInState *state, const char *key, int64 value);
extern void queue_json_time(JsonbInState *state, const char *key,
							TimestampTz value);
extern void queue_json_jsonb(JsonbInState *state, const char *key,
							 Jsonb *value);

#endif							/* QUEUE_JSON_H */

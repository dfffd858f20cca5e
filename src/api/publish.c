/*-------------------------------------------------------------------------
 *
 * publish.c
 *		Publishing: publish(), publish_bytes(), and both for batches.
 *
 * What these functions are given is checked as enqueue() checks it, also what
 * goes to copies alone: a message that is refused is refused whether or not a
 * queue is bound.  How it is put there is in topic/publish.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "api/array.h"
#include "api/send_args.h"
#include "common/args.h"
#include "table/call.h"
#include "table/draft.h"
#include "topic/publish.h"

/* Arguments of functions for payloads, by place */
enum
{
	ARG_TOPIC, ARG_PAYLOAD, ARG_HEADERS, ARG_ROUTING_KEY, ARG_GROUP_KEY,
	ARG_CORRELATION_ID, ARG_PRIORITY, ARG_DELAY, ARG_DELIVER_AT,
	ARG_EXPIRES_IN, ARG_DEDUP_KEY, NARGS
};

PG_FUNCTION_INFO_V1(queue_publish);
PG_FUNCTION_INFO_V1(queue_publish_text);
PG_FUNCTION_INFO_V1(queue_publish_batch);
PG_FUNCTION_INFO_V1(queue_publish_bytes);
PG_FUNCTION_INFO_V1(queue_publish_bytes_batch);

static int64 publish_one(FunctionCallInfo fcinfo, const SendContent *content);
static ArrayType *publish_batch(FunctionCallInfo fcinfo,
								const SendContent *content);
static TopicDraft *read_batch(FunctionCallInfo fcinfo,
							  const SendContent *content, TimestampTz now,
							  FanOutTerms *terms, int *n);
static void set_content(TopicDraft *draft, const SendContent *content,
						Datum value);
static TimestampTz check_publish(FunctionCallInfo fcinfo,
								 const SendContent *content,
								 FanOutTerms *terms);


/* publish(), with arguments as in the list above */
Datum
queue_publish(PG_FUNCTION_ARGS)
{
	SendContent content = {"queue.publish()", "payload", false, {0, true}};

	PG_RETURN_INT64(publish_one(fcinfo, &content));
}

/* publish() of a json or a text */
Datum
queue_publish_text(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);

	queue_send_read_text(fcinfo, call, NARGS);
	return queue_publish(call);
}

/* publish_batch(): the same, but arrays for all that differs by message */
Datum
queue_publish_batch(PG_FUNCTION_ARGS)
{
	SendContent content = {"queue.publish_batch()", "payloads", false, {0, true}};

	PG_RETURN_ARRAYTYPE_P(publish_batch(fcinfo, &content));
}

/* publish_bytes(topic, body, content_type, ... as publish) */
Datum
queue_publish_bytes(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	SendContent content = {"queue.publish_bytes()", "body", true, {0, true}};

	content.type = queue_send_split_type(fcinfo, call, NARGS);
	PG_RETURN_INT64(publish_one(call, &content));
}

/* publish_bytes_batch(topic, bodies, content_type, ... as publish_batch) */
Datum
queue_publish_bytes_batch(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	SendContent content = {"queue.publish_bytes_batch()", "bodies", true, {0, true}};

	content.type = queue_send_split_type(fcinfo, call, NARGS);
	PG_RETURN_ARRAYTYPE_P(publish_batch(call, &content));
}

/* Publish one message, and return its id. */
static int64
publish_one(FunctionCallInfo fcinfo, const SendContent *content)
{
	FanOutTerms terms;
	TopicDraft	draft;
	TopicDef   *topic;
	Relation	rel;

	queue_topic_draft_init(&draft, check_publish(fcinfo, content, &terms));
	set_content(&draft, content, PG_GETARG_DATUM(ARG_PAYLOAD));
	draft.headers = fcinfo->args[ARG_HEADERS];
	if (!PG_ARGISNULL(ARG_ROUTING_KEY))
		draft.routing_key = fcinfo->args[ARG_ROUTING_KEY];
	draft.group_key = fcinfo->args[ARG_GROUP_KEY];
	draft.correlation_id = fcinfo->args[ARG_CORRELATION_ID];
	queue_topic_draft_check(&draft);
	if (!PG_ARGISNULL(ARG_DEDUP_KEY))
	{
		queue_check_dedup_key(PG_GETARG_DATUM(ARG_DEDUP_KEY));
		terms.dedup_keys = &fcinfo->args[ARG_DEDUP_KEY];
	}

	rel = queue_topic_open(PG_GETARG_OID(ARG_TOPIC), TOPIC_PUBLISH, &topic);
	queue_publish_messages(rel, topic, &draft, 1, &terms);
	table_close(rel, NoLock);
	return draft.id;
}

/* Publish many messages, and return their ids. */
static ArrayType *
publish_batch(FunctionCallInfo fcinfo, const SendContent *content)
{
	FanOutTerms terms;
	TimestampTz now = check_publish(fcinfo, content, &terms);
	int			n;
	TopicDraft *drafts = read_batch(fcinfo, content, now, &terms, &n);
	TopicDef   *topic;
	Relation	rel;
	int64	   *ids;

	rel = queue_topic_open(PG_GETARG_OID(ARG_TOPIC), TOPIC_PUBLISH, &topic);
	if (n > 0)
		queue_publish_messages(rel, topic, drafts, n, &terms);
	table_close(rel, NoLock);
	if (n == 0)
		return construct_empty_array(INT8OID);

	ids = palloc(n * sizeof(int64));
	for (int i = 0; i < n; i++)
		ids[i] = drafts[i].id;
	return queue_send_ids(ids, n);
}

/* Read the arrays of a batch, and check what is in them. */
static TopicDraft *
read_batch(FunctionCallInfo fcinfo, const SendContent *content,
		   TimestampTz now, FanOutTerms *terms, int *n)
{
	Datum	   *contents = queue_send_contents(fcinfo, content, n);
	TopicDraft *drafts = MemoryContextAllocHuge(CurrentMemoryContext,
												Max(*n, 1) * sizeof(TopicDraft));
	OptionalArray headers;
	OptionalArray routing_keys;
	OptionalArray group_keys;
	OptionalArray correlation_ids;
	OptionalArray dedup_keys;

	queue_array_read(fcinfo, ARG_HEADERS, "headers", content->argname, *n, &headers);
	queue_array_read(fcinfo, ARG_ROUTING_KEY, "routing_keys", content->argname, *n, &routing_keys);
	queue_array_read(fcinfo, ARG_GROUP_KEY, "group_keys", content->argname, *n, &group_keys);
	queue_array_read(fcinfo, ARG_CORRELATION_ID, "correlation_ids", content->argname, *n, &correlation_ids);
	queue_array_read(fcinfo, ARG_DEDUP_KEY, "dedup_keys", content->argname, *n, &dedup_keys);
	queue_array_check(&dedup_keys, *n, queue_check_dedup_key);
	if (queue_array_has_values(&dedup_keys, *n))
	{
		NullableDatum *keys = palloc(*n * sizeof(NullableDatum));

		for (int i = 0; i < *n; i++)
			keys[i] = queue_array_element(&dedup_keys, i);
		terms->dedup_keys = keys;
	}

	for (int i = 0; i < *n; i++)
	{
		TopicDraft *draft = &drafts[i];
		NullableDatum routing_key = queue_array_element(&routing_keys, i);

		queue_topic_draft_init(draft, now);
		set_content(draft, content, contents[i]);
		draft->headers = queue_array_element(&headers, i);
		if (!routing_key.isnull)
			draft->routing_key = routing_key;
		draft->group_key = queue_array_element(&group_keys, i);
		draft->correlation_id = queue_array_element(&correlation_ids, i);
		queue_topic_draft_check(draft);
	}
	return drafts;
}

/* Let a message have this payload, or this body. */
static void
set_content(TopicDraft *draft, const SendContent *content, Datum value)
{
	NullableDatum *place = content->is_body ? &draft->body : &draft->payload;

	place->value = value;
	place->isnull = false;
	draft->content_type = content->type;
}

/*
 * Check what all functions have in common, before the topic is opened, and read
 * the terms.  Returns the time of the call.
 */
static TimestampTz
check_publish(FunctionCallInfo fcinfo, const SendContent *content,
			  FanOutTerms *terms)
{
	TimestampTz now = GetCurrentTimestamp();

	queue_call_begin(fcinfo, content->funcname, CALL_WRITES,
					 "topic", content->argname);
	queue_require_arg(fcinfo, ARG_PRIORITY, "priority");

	memset(terms, 0, sizeof(*terms));
	terms->priority = PG_GETARG_INT32(ARG_PRIORITY);
	queue_check_priority(terms->priority);
	terms->due = queue_send_due(fcinfo->args[ARG_DELAY],
								fcinfo->args[ARG_DELIVER_AT], now);
	if (!PG_ARGISNULL(ARG_EXPIRES_IN))
		terms->expires_in =
			queue_expiry_usec(PG_GETARG_INTERVAL_P(ARG_EXPIRES_IN),
							  "expires_in");
	return now;
}

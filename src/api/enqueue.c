/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *		Sending messages: enqueue(), enqueue_bytes(), and both for batches.
 *
 * An enqueue is an insert in the caller's transaction; the queue is noted, so
 * that its waiters are woken when that transaction commits.
 *
 * A message has a payload, which is jsonb, or a body, which is bytea.  What
 * sends the one and what sends the other go the same way; the functions for
 * bodies have content_type between the body and the headers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "api/room.h"
#include "common/args.h"
#include "common/ranges.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/insert.h"
#include "table/member.h"
#include "table/message.h"
#include "transaction/announce.h"

/* Arguments of functions for payloads, by place */
enum
{
	ARG_QUEUE, ARG_PAYLOAD, ARG_HEADERS, ARG_PRIORITY, ARG_DELAY,
	ARG_DELIVER_AT, ARG_EXPIRES_IN, ARG_GROUP_KEY, ARG_DEDUP_KEY,
	ARG_CORRELATION_ID, NARGS
};

/* An argument of functions for bodies, which shifts the others from there on */
#define ARG_CONTENT_TYPE	2

/* What a call sends */
typedef struct Content
{
	const char *funcname;
	const char *argname;		/* "payload", "payloads" ... */
	bool		is_body;
	NullableDatum type;			/* content_type */
} Content;

/* What a call says of all its messages */
typedef struct Terms
{
	int			priority;
	TimestampTz sent_at;
	TimestampTz due;			/* 0: at once */
	int64		expires_in;		/* usec after it is due; 0: never */
} Terms;

/* An optional array argument of enqueue_batch() */
typedef struct OptionalArray
{
	Datum	   *values;			/* NULL: not given */
	bool	   *nulls;
} OptionalArray;

PG_FUNCTION_INFO_V1(queue_enqueue);
PG_FUNCTION_INFO_V1(queue_enqueue_text);
PG_FUNCTION_INFO_V1(queue_enqueue_batch);
PG_FUNCTION_INFO_V1(queue_enqueue_bytes);
PG_FUNCTION_INFO_V1(queue_enqueue_bytes_batch);

static NullableDatum split_content_type(FunctionCallInfo fcinfo,
										FunctionCallInfo call);
static int64 send_one(FunctionCallInfo fcinfo, const Content *content);
static ArrayType *send_batch(FunctionCallInfo fcinfo, const Content *content);
static Datum *read_contents(FunctionCallInfo fcinfo, const Content *content,
							int *n);
static Amount measure(const Datum *contents, const OptionalArray *headers,
					  int n);
static ArrayType *make_result(const int64 *ids, int n);
static void set_content(MessageDraft *draft, const Content *content,
						Datum value);
static void note_sent(Relation rel, const Terms *terms, const int64 *ids,
					  int n, const OptionalArray *correlation_ids);
static void check_keys(const OptionalArray *array, int n,
					   void (*check) (Datum));
static void check_enqueue(FunctionCallInfo fcinfo, const Content *content,
						  Terms *terms);
static TimestampTz due_argument(FunctionCallInfo fcinfo, TimestampTz now);
static TimestampTz expiry_of(const Terms *terms);
static void apply_terms(MessageDraft *draft, const Terms *terms);
static void require_nulls(const OptionalArray *array, int n,
						  const char *name);
static void read_array(FunctionCallInfo fcinfo, int argno, const char *name,
					   const Content *content, int expected,
					   OptionalArray *array);
static NullableDatum element(const OptionalArray *array, int i);

/* enqueue(), with arguments as in the list above */
Datum
queue_enqueue(PG_FUNCTION_ARGS)
{
	Content		content = {"queue.enqueue()", "payload", false, {0, true}};

	PG_RETURN_INT64(send_one(fcinfo, &content));
}

/*
 * enqueue() of a json or a text, which is read as jsonb would be
 *
 * The arguments are copied, because those that are constants are filled in
 * once for all calls of a query.
 */
Datum
queue_enqueue_text(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);

	memcpy(call, fcinfo, SizeForFunctionCallInfo(NARGS));
	if (!PG_ARGISNULL(ARG_PAYLOAD))
	{
		char	   *payload = text_to_cstring(PG_GETARG_TEXT_PP(ARG_PAYLOAD));

		call->args[ARG_PAYLOAD].value =
			DirectFunctionCall1(jsonb_in, CStringGetDatum(payload));
	}
	return queue_enqueue(call);
}

/* enqueue_batch(): the same, but arrays for all that differs by message */
Datum
queue_enqueue_batch(PG_FUNCTION_ARGS)
{
	Content		content = {"queue.enqueue_batch()", "payloads", false, {0, true}};

	PG_RETURN_ARRAYTYPE_P(send_batch(fcinfo, &content));
}

/* enqueue_bytes(queue, body, content_type, ... as enqueue) */
Datum
queue_enqueue_bytes(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	Content		content = {"queue.enqueue_bytes()", "body", true, {0, true}};

	content.type = split_content_type(fcinfo, call);
	PG_RETURN_INT64(send_one(call, &content));
}

/* enqueue_bytes_batch(queue, bodies, content_type, ... as enqueue_batch) */
Datum
queue_enqueue_bytes_batch(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	Content		content = {"queue.enqueue_bytes_batch()", "bodies", true, {0, true}};

	content.type = split_content_type(fcinfo, call);
	PG_RETURN_ARRAYTYPE_P(send_batch(call, &content));
}

/*
 * split_content_type
 *		Return the content type, and make the call that there would be without
 *		it.
 */
static NullableDatum
split_content_type(FunctionCallInfo fcinfo, FunctionCallInfo call)
{
	memcpy(call, fcinfo, SizeForFunctionCallInfo(ARG_CONTENT_TYPE));
	memcpy(&call->args[ARG_CONTENT_TYPE], &fcinfo->args[ARG_CONTENT_TYPE + 1],
		   (NARGS - ARG_CONTENT_TYPE) * sizeof(NullableDatum));
	call->nargs = NARGS;
	return fcinfo->args[ARG_CONTENT_TYPE];
}

/* Send one message, and return its id. */
static int64
send_one(FunctionCallInfo fcinfo, const Content *content)
{
	Relation	rel;
	QueueDef   *def;
	QueueInsert *insert;
	MessageDraft draft;
	OptionalArray correlation_ids;
	Terms		terms;
	Amount		amount;
	int64		id;

	check_enqueue(fcinfo, content, &terms);
	if (!PG_ARGISNULL(ARG_GROUP_KEY))
		queue_check_group_key(PG_GETARG_DATUM(ARG_GROUP_KEY));
	if (!PG_ARGISNULL(ARG_CORRELATION_ID))
		queue_check_correlation_id(PG_GETARG_DATUM(ARG_CORRELATION_ID));
	if (!PG_ARGISNULL(ARG_DEDUP_KEY))
		queue_not_supported("dedup_key");
	if (!PG_ARGISNULL(ARG_HEADERS))
		queue_check_headers(PG_GETARG_DATUM(ARG_HEADERS));

	amount.messages = 1;
	amount.bytes = queue_value_bytes(fcinfo->args[ARG_PAYLOAD]) +
		queue_value_bytes(fcinfo->args[ARG_HEADERS]);
	rel = queue_open_with_room(PG_GETARG_OID(ARG_QUEUE), &amount, &def);
	if (terms.expires_in == 0)
		terms.expires_in = def->expires_in;
	queue_next_ids(def, 1, &id);
	queue_draft_init(&draft, id, terms.sent_at);
	set_content(&draft, content, PG_GETARG_DATUM(ARG_PAYLOAD));
	draft.headers = fcinfo->args[ARG_HEADERS];
	draft.group_key = fcinfo->args[ARG_GROUP_KEY];
	draft.correlation_id = fcinfo->args[ARG_CORRELATION_ID];
	apply_terms(&draft, &terms);
	queue_draft_check_size(&draft);

	correlation_ids.values = &draft.correlation_id.value;
	correlation_ids.nulls = &draft.correlation_id.isnull;
	note_sent(rel, &terms, &id, 1, &correlation_ids);
	insert = queue_insert_begin(rel, def);
	queue_insert_row(insert, &draft);
	queue_insert_end(insert);
	table_close(rel, NoLock);
	return id;
}

/* Send many messages, and return their ids. */
static ArrayType *
send_batch(FunctionCallInfo fcinfo, const Content *content)
{
	Relation	rel;
	QueueDef   *def;
	QueueInsert *insert;
	Datum	   *contents;
	int			n;
	OptionalArray headers;
	OptionalArray correlation_ids;
	OptionalArray group_keys;
	OptionalArray later;
	Terms		terms;
	Amount		amount;
	int64	   *ids;
	int			i;

	check_enqueue(fcinfo, content, &terms);
	contents = read_contents(fcinfo, content, &n);
	read_array(fcinfo, ARG_HEADERS, "headers", content, n, &headers);
	read_array(fcinfo, ARG_CORRELATION_ID, "correlation_ids", content, n,
			   &correlation_ids);
	read_array(fcinfo, ARG_GROUP_KEY, "group_keys", content, n, &group_keys);
	check_keys(&correlation_ids, n, queue_check_correlation_id);
	check_keys(&group_keys, n, queue_check_group_key);
	read_array(fcinfo, ARG_DEDUP_KEY, "dedup_keys", content, n, &later);
	require_nulls(&later, n, "dedup_keys");
	for (i = 0; headers.values && i < n; i++)
		if (!headers.nulls[i])
			queue_check_headers(headers.values[i]);

	amount = measure(contents, &headers, n);
	rel = queue_open_with_room(PG_GETARG_OID(ARG_QUEUE), &amount, &def);
	if (n == 0)
	{
		table_close(rel, NoLock);
		return construct_empty_array(INT8OID);
	}

	if (terms.expires_in == 0)
		terms.expires_in = def->expires_in;
	ids = palloc(n * sizeof(int64));
	queue_next_ids(def, n, ids);
	note_sent(rel, &terms, ids, n, &correlation_ids);
	insert = queue_insert_begin(rel, def);
	for (i = 0; i < n; i++)
	{
		MessageDraft draft;

		queue_draft_init(&draft, ids[i], terms.sent_at);
		set_content(&draft, content, contents[i]);
		draft.headers = element(&headers, i);
		draft.group_key = element(&group_keys, i);
		draft.correlation_id = element(&correlation_ids, i);
		apply_terms(&draft, &terms);
		queue_draft_check_size(&draft);
		queue_insert_row(insert, &draft);
	}
	queue_insert_end(insert);
	table_close(rel, NoLock);
	return make_result(ids, n);
}

/*
 * read_contents
 *		Read the payloads or bodies of a batch, of which none may be null.
 */
static Datum *
read_contents(FunctionCallInfo fcinfo, const Content *content, int *n)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(ARG_PAYLOAD);
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

/* Return how much a batch is. */
static Amount
measure(const Datum *contents, const OptionalArray *headers, int n)
{
	Amount		amount = {n, 0};

	for (int i = 0; i < n; i++)
	{
		NullableDatum content = {contents[i], false};

		amount.bytes += queue_value_bytes(content) +
			queue_value_bytes(element(headers, i));
	}
	return amount;
}

/* Return the ids of a batch as an array. */
static ArrayType *
make_result(const int64 *ids, int n)
{
	Datum	   *results = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		results[i] = Int64GetDatum(ids[i]);
	return construct_array(results, n, INT8OID, sizeof(int64),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/* Let a message have this payload, or this body. */
static void
set_content(MessageDraft *draft, const Content *content, Datum value)
{
	NullableDatum *place = content->is_body ? &draft->body : &draft->payload;

	place->value = value;
	place->isnull = false;
	draft->content_type = content->type;
}

/* Check each element of an optional array. */
static void
check_keys(const OptionalArray *array, int n, void (*check) (Datum))
{
	for (int i = 0; array->values && i < n; i++)
		if (!array->nulls[i])
			check(array->values[i]);
}

/*
 * Note ids to be announced at the commit, one range of consecutive ids at a
 * time; of those that are not due then, the due time is enough.
 */
static void
note_sent(Relation rel, const Terms *terms, const int64 *ids, int n,
		  const OptionalArray *correlation_ids)
{
	int			first;
	int			next;

	if (terms->expires_in != 0)
		queue_announce_expiry(RelationGetRelid(rel), expiry_of(terms));
	if (terms->due != 0)
	{
		queue_announce_delayed(RelationGetRelid(rel), terms->priority,
							   terms->due);
		return;
	}
	for (first = 0; first < n; first = next)
	{
		for (next = first + 1; next < n && ids[next] == ids[next - 1] + 1;)
			next++;
		queue_announce_keyed(RelationGetRelid(rel), terms->priority,
							 ids[first], ids[next - 1]);
	}
	for (int i = 0; correlation_ids->values && i < n; i++)
		if (!correlation_ids->nulls[i])
			queue_announce_key(RelationGetRelid(rel),
							   correlation_ids->values[i]);
}

/*
 * Check what all functions have in common, before the queue is opened, and
 * read the terms.
 */
static void
check_enqueue(FunctionCallInfo fcinfo, const Content *content, Terms *terms)
{
	queue_require_preload();
	PreventCommandIfReadOnly(content->funcname);
	PreventCommandIfParallelMode(content->funcname);
	queue_require_arg(fcinfo, ARG_QUEUE, "queue");
	queue_require_arg(fcinfo, ARG_PAYLOAD, content->argname);
	queue_require_arg(fcinfo, ARG_PRIORITY, "priority");

	terms->priority = PG_GETARG_INT32(ARG_PRIORITY);
	queue_check_priority(terms->priority);
	terms->sent_at = GetCurrentTimestamp();
	terms->due = due_argument(fcinfo, terms->sent_at);
	terms->expires_in = PG_ARGISNULL(ARG_EXPIRES_IN) ? 0 :
		queue_expiry_usec(PG_GETARG_INTERVAL_P(ARG_EXPIRES_IN), "expires_in");
}

/*
 * due_argument
 *		Read when the messages are due, by delay or deliver_at; 0 if that is at
 *		once.
 */
static TimestampTz
due_argument(FunctionCallInfo fcinfo, TimestampTz now)
{
	TimestampTz due;

	if (!PG_ARGISNULL(ARG_DELAY) && !PG_ARGISNULL(ARG_DELIVER_AT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay and deliver_at exclude each other"),
				 errhint("Give the one or the other.")));
	if (!PG_ARGISNULL(ARG_DELAY))
		due = now + queue_interval_usec(PG_GETARG_INTERVAL_P(ARG_DELAY),
										"delay");
	else if (!PG_ARGISNULL(ARG_DELIVER_AT))
		due = queue_due_time(PG_GETARG_TIMESTAMPTZ(ARG_DELIVER_AT),
							 "deliver_at");
	else
		return 0;
	return due > now ? due : 0;
}

/* Return when the messages expire, which is counted from when they are due. */
static TimestampTz
expiry_of(const Terms *terms)
{
	return (terms->due != 0 ? terms->due : terms->sent_at) + terms->expires_in;
}

/* Let a message have what the call says of all. */
static void
apply_terms(MessageDraft *draft, const Terms *terms)
{
	draft->priority = terms->priority;
	draft->visible_at.isnull = terms->due == 0;
	draft->visible_at.value = TimestampTzGetDatum(terms->due);
	draft->expires_at.isnull = terms->expires_in == 0;
	draft->expires_at.value = TimestampTzGetDatum(expiry_of(terms));
}

/*
 * Raise an error unless all elements are null, for what is not supported yet.
 */
static void
require_nulls(const OptionalArray *array, int n, const char *name)
{
	int			i;

	for (i = 0; array->values && i < n; i++)
		if (!array->nulls[i])
			queue_not_supported(name);
}

/*
 * read_array
 *		Read an optional array, which must have one element a message.
 */
static void
read_array(FunctionCallInfo fcinfo, int argno, const char *name,
		   const Content *content, int expected, OptionalArray *array)
{
	ArrayType  *arg;
	int			nvalues;

	array->values = NULL;
	array->nulls = NULL;
	if (PG_ARGISNULL(argno))
		return;
	arg = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(arg) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a one-dimensional array", name)));
	/* text and jsonb are laid out alike */
	deconstruct_array(arg, ARR_ELEMTYPE(arg), -1, false, TYPALIGN_INT,
					  &array->values, &array->nulls, &nvalues);
	if (nvalues != expected)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arrays must have the same length"),
				 errdetail("There are %d %s, but %d %s.",
						   expected, content->argname, nvalues, name),
				 errhint("Put NULL where a message has none.")));
}

/* Return what the array has for this message. */
static NullableDatum
element(const OptionalArray *array, int i)
{
	NullableDatum result = {0, true};

	if (array->values != NULL && !array->nulls[i])
	{
		result.value = array->values[i];
		result.isnull = false;
	}
	return result;
}

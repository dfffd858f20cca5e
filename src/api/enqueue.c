/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *		Sending messages: enqueue(), enqueue_bytes(), both for batches, and
 *		enqueue_once().
 *
 * They find room for them in the queue; dispatch/send.c does the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "api/array.h"
#include "api/room.h"
#include "api/send_args.h"
#include "common/args.h"
#include "dispatch/send.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/member.h"

/* Arguments of functions for payloads, by place */
enum
{
	ARG_QUEUE, ARG_PAYLOAD, ARG_HEADERS, ARG_PRIORITY, ARG_DELAY,
	ARG_DELIVER_AT, ARG_EXPIRES_IN, ARG_GROUP_KEY, ARG_DEDUP_KEY,
	ARG_CORRELATION_ID, NARGS
};

/* What differs by message in a batch */
typedef struct Batch
{
	int			n;
	Datum	   *contents;
	OptionalArray headers;
	OptionalArray group_keys;
	OptionalArray dedup_keys;
	OptionalArray correlation_ids;
} Batch;

PG_FUNCTION_INFO_V1(queue_enqueue);
PG_FUNCTION_INFO_V1(queue_enqueue_text);
PG_FUNCTION_INFO_V1(queue_enqueue_batch);
PG_FUNCTION_INFO_V1(queue_enqueue_once);
PG_FUNCTION_INFO_V1(queue_enqueue_bytes);
PG_FUNCTION_INFO_V1(queue_enqueue_bytes_batch);

static int64 send_one(FunctionCallInfo fcinfo, const SendContent *content,
					  bool *is_new);
static ArrayType *send_batch(FunctionCallInfo fcinfo, const SendContent *content);
static void read_batch(FunctionCallInfo fcinfo, const SendContent *content,
					   Batch *batch);
static void make_draft(MessageDraft *draft, const SendContent *content,
					   const Batch *batch, int i);
static Amount measure(const Batch *batch);
static void set_content(MessageDraft *draft, const SendContent *content,
						Datum value);
static void check_enqueue(FunctionCallInfo fcinfo, const SendContent *content,
						  SendTerms *terms);
static Relation open_queue(FunctionCallInfo fcinfo, const Amount *amount,
						   SendTerms *terms, const NullableDatum *dedup_key,
						   int64 *first, QueueDef **def);
static void set_time(FunctionCallInfo fcinfo, SendTerms *terms);

/* enqueue(), with arguments as in the list above */
Datum
queue_enqueue(PG_FUNCTION_ARGS)
{
	SendContent content = {"queue.enqueue()", "payload", false, {0, true}};
	bool		is_new;

	PG_RETURN_INT64(send_one(fcinfo, &content, &is_new));
}

/*
 * enqueue_once(queue, payload, dedup_key, headers, priority, delay, deliver_at,
 * expires_in, group_key, correlation_id)
 */
Datum
queue_enqueue_once(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	SendContent content = {"queue.enqueue_once()", "payload", false, {0, true}};
	static const int places[NARGS] = {
		ARG_QUEUE, ARG_PAYLOAD, ARG_DEDUP_KEY, ARG_HEADERS, ARG_PRIORITY,
		ARG_DELAY, ARG_DELIVER_AT, ARG_EXPIRES_IN, ARG_GROUP_KEY,
		ARG_CORRELATION_ID
	};
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	bool		is_new;

	queue_require_preload();
	desc = queue_call_row_type(fcinfo);
	InitFunctionCallInfoData(*call, fcinfo->flinfo, NARGS, fcinfo->fncollation,
							 NULL, NULL);
	for (int i = 0; i < NARGS; i++)
		call->args[places[i]] = fcinfo->args[i];
	queue_require_arg(call, ARG_QUEUE, "queue");
	queue_require_arg(call, ARG_PAYLOAD, "payload");
	queue_require_arg(call, ARG_DEDUP_KEY, "dedup_key");
	values[0] = Int64GetDatum(send_one(call, &content, &is_new));
	values[1] = BoolGetDatum(is_new);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* enqueue() of a json or a text */
Datum
queue_enqueue_text(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);

	queue_send_read_text(fcinfo, call, NARGS);
	return queue_enqueue(call);
}

/* enqueue_batch(): the same, but arrays for all that differs by message */
Datum
queue_enqueue_batch(PG_FUNCTION_ARGS)
{
	SendContent content = {"queue.enqueue_batch()", "payloads", false, {0, true}};

	PG_RETURN_ARRAYTYPE_P(send_batch(fcinfo, &content));
}

/* enqueue_bytes(queue, body, content_type, ... as enqueue) */
Datum
queue_enqueue_bytes(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	SendContent content = {"queue.enqueue_bytes()", "body", true, {0, true}};
	bool		is_new;

	content.type = queue_send_split_type(fcinfo, call, NARGS);
	PG_RETURN_INT64(send_one(call, &content, &is_new));
}

/* enqueue_bytes_batch(queue, bodies, content_type, ... as enqueue_batch) */
Datum
queue_enqueue_bytes_batch(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, NARGS);
	SendContent content = {"queue.enqueue_bytes_batch()", "bodies", true, {0, true}};

	content.type = queue_send_split_type(fcinfo, call, NARGS);
	PG_RETURN_ARRAYTYPE_P(send_batch(call, &content));
}

/*
 * Send one message, and return its id; or if it is a duplicate, that of the
 * first one.
 */
static int64
send_one(FunctionCallInfo fcinfo, const SendContent *content, bool *is_new)
{
	Relation	rel;
	QueueDef   *def;
	MessageDraft draft;
	SendTerms	terms;
	Amount		amount;
	int64		first = 0;

	check_enqueue(fcinfo, content, &terms);
	if (!PG_ARGISNULL(ARG_GROUP_KEY))
		queue_check_group_key(PG_GETARG_DATUM(ARG_GROUP_KEY));
	if (!PG_ARGISNULL(ARG_CORRELATION_ID))
		queue_check_correlation_id(PG_GETARG_DATUM(ARG_CORRELATION_ID));
	if (!PG_ARGISNULL(ARG_DEDUP_KEY))
		queue_check_dedup_key(PG_GETARG_DATUM(ARG_DEDUP_KEY));
	if (!PG_ARGISNULL(ARG_HEADERS))
		queue_check_headers(PG_GETARG_DATUM(ARG_HEADERS));

	amount.messages = 1;
	amount.bytes = queue_value_bytes(fcinfo->args[ARG_PAYLOAD]) +
		queue_value_bytes(fcinfo->args[ARG_HEADERS]);
	rel = open_queue(fcinfo, &amount, &terms, &fcinfo->args[ARG_DEDUP_KEY],
					 &first, &def);
	*is_new = false;
	if (first != 0)
	{
		table_close(rel, NoLock);
		return first;
	}
	queue_draft_init(&draft, 0, terms.sent_at);
	set_content(&draft, content, PG_GETARG_DATUM(ARG_PAYLOAD));
	draft.headers = fcinfo->args[ARG_HEADERS];
	draft.group_key = fcinfo->args[ARG_GROUP_KEY];
	draft.dedup_key = fcinfo->args[ARG_DEDUP_KEY];
	draft.correlation_id = fcinfo->args[ARG_CORRELATION_ID];
	*is_new = queue_send_one(rel, def, &terms, &draft);
	table_close(rel, NoLock);
	return draft.id;
}

/* Send many messages, and return their ids. */
static ArrayType *
send_batch(FunctionCallInfo fcinfo, const SendContent *content)
{
	Relation	rel;
	QueueDef   *def;
	Batch		batch;
	SendTerms	terms;
	Amount		amount;
	MessageDraft *drafts;
	int64	   *ids;

	check_enqueue(fcinfo, content, &terms);
	read_batch(fcinfo, content, &batch);
	amount = measure(&batch);
	rel = open_queue(fcinfo, &amount, &terms, NULL, NULL, &def);
	if (batch.n == 0)
	{
		table_close(rel, NoLock);
		return construct_empty_array(INT8OID);
	}

	ids = palloc(batch.n * sizeof(int64));
	drafts = palloc(Min(batch.n, SEND_MANY) * sizeof(MessageDraft));
	for (int i = 0; i < batch.n; i += SEND_MANY)
	{
		int			n = Min(batch.n - i, SEND_MANY);

		for (int j = 0; j < n; j++)
			make_draft(&drafts[j], content, &batch, i + j);
		queue_send_many(rel, def, &terms, drafts, n);
		for (int j = 0; j < n; j++)
			ids[i + j] = drafts[j].id;
	}
	table_close(rel, NoLock);
	return queue_send_ids(ids, batch.n);
}

/* Read the arrays of a batch, and check what is in them. */
static void
read_batch(FunctionCallInfo fcinfo, const SendContent *content, Batch *batch)
{
	batch->contents = queue_send_contents(fcinfo, content, &batch->n);
	queue_array_read(fcinfo, ARG_HEADERS, "headers", content->argname, batch->n,
					 &batch->headers);
	queue_array_read(fcinfo, ARG_CORRELATION_ID, "correlation_ids", content->argname,
					 batch->n, &batch->correlation_ids);
	queue_array_read(fcinfo, ARG_GROUP_KEY, "group_keys", content->argname, batch->n,
					 &batch->group_keys);
	queue_array_check(&batch->correlation_ids, batch->n,
					  queue_check_correlation_id);
	queue_array_check(&batch->group_keys, batch->n, queue_check_group_key);
	queue_array_read(fcinfo, ARG_DEDUP_KEY, "dedup_keys", content->argname, batch->n,
					 &batch->dedup_keys);
	queue_array_check(&batch->dedup_keys, batch->n, queue_check_dedup_key);
	queue_array_check(&batch->headers, batch->n, queue_check_headers);
}

/* Make the draft of a message of a batch. */
static void
make_draft(MessageDraft *draft, const SendContent *content, const Batch *batch,
		   int i)
{
	queue_draft_init(draft, 0, 0);
	set_content(draft, content, batch->contents[i]);
	draft->headers = queue_array_element(&batch->headers, i);
	draft->group_key = queue_array_element(&batch->group_keys, i);
	draft->dedup_key = queue_array_element(&batch->dedup_keys, i);
	draft->correlation_id = queue_array_element(&batch->correlation_ids, i);
}

/* Return how much a batch is. */
static Amount
measure(const Batch *batch)
{
	Amount		amount = {batch->n, 0};

	for (int i = 0; i < batch->n; i++)
	{
		NullableDatum content = {batch->contents[i], false};

		amount.bytes += queue_value_bytes(content) +
			queue_value_bytes(queue_array_element(&batch->headers, i));
	}
	return amount;
}

/* Let a message have this payload, or this body. */
static void
set_content(MessageDraft *draft, const SendContent *content, Datum value)
{
	NullableDatum *place = content->is_body ? &draft->body : &draft->payload;

	place->value = value;
	place->isnull = false;
	draft->content_type = content->type;
}

/*
 * Check what all functions have in common, before the queue is opened, and
 * read the terms.
 */
static void
check_enqueue(FunctionCallInfo fcinfo, const SendContent *content, SendTerms *terms)
{
	queue_call_begin(fcinfo, content->funcname, CALL_WRITES,
					 "queue", content->argname);
	queue_require_arg(fcinfo, ARG_PRIORITY, "priority");

	terms->priority = PG_GETARG_INT32(ARG_PRIORITY);
	queue_check_priority(terms->priority);
	set_time(fcinfo, terms);
	terms->expires_in = PG_ARGISNULL(ARG_EXPIRES_IN) ? 0 :
		queue_expiry_usec(PG_GETARG_INTERVAL_P(ARG_EXPIRES_IN), "expires_in");
}

/*
 * open_queue
 *		Open the queue, with room for the messages, and complete the terms.
 *
 * The wait for room may have been longer than they are to live, so their time
 * begins after it.
 */
static Relation
open_queue(FunctionCallInfo fcinfo, const Amount *amount, SendTerms *terms,
		   const NullableDatum *dedup_key, int64 *first, QueueDef **def)
{
	Relation	rel = queue_open_with_room(PG_GETARG_OID(ARG_QUEUE), amount,
										   dedup_key, first, def);

	if ((*def)->on_full == FULL_WAIT && queue_def_is_limited(*def))
		set_time(fcinfo, terms);
	if (terms->expires_in == 0)
		terms->expires_in = (*def)->expires_in;
	return rel;
}

/* The messages are sent now. */
static void
set_time(FunctionCallInfo fcinfo, SendTerms *terms)
{
	terms->sent_at = GetCurrentTimestamp();
	terms->due = queue_send_due(fcinfo->args[ARG_DELAY],
								fcinfo->args[ARG_DELIVER_AT], terms->sent_at);
}

/*-------------------------------------------------------------------------
 *
 * draft.c
 *		A message before it is a row, and the columns that it becomes.
 *
 * Functions that make a message (enqueue(), the triggers of a queue table, the
 * move to a dead-letter queue) fill a draft; only this file knows which column
 * of the table each part of it is.  So a column that is added is added here,
 * in the white list (shape.c) and in the functions that give it a value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "common/ranges.h"
#include "table/draft.h"

static void check_key(Datum key, const char *name);
static NullableDatum get_copy(TupleTableSlot *row, int attnum);
static void check_key(Datum key, const char *name);

/* Make the draft of a new message without anything in it. */
void
queue_draft_init(MessageDraft *draft, int64 id, TimestampTz enqueued_at)
{
	static const NullableDatum none = {0, true};

	draft->id = id;
	draft->priority = QUEUE_DEFAULT_PRIORITY;
	draft->failures = 0;
	draft->enqueued_at = enqueued_at;
	draft->visible_at = none;
	draft->expires_at = none;
	draft->group_key = none;
	draft->correlation_id = none;
	draft->dedup_key = none;
	draft->sender = none;
	draft->content_type = none;
	draft->headers = none;
	draft->payload = none;
	draft->body = none;
	draft->failure_log = none;
}

/*
 * queue_draft_read
 *		Read a draft from a row that is inserted or was updated.
 *
 * A null in a column that only the server sets means what a new message has.
 */
void
queue_draft_read(MessageDraft *draft, const Datum *values, const bool *nulls)
{
	queue_draft_init(draft, 0, nulls[Anum_message_enqueued_at - 1] ?
					 GetCurrentTimestamp() :
					 DatumGetTimestampTz(values[Anum_message_enqueued_at - 1]));
	if (!nulls[Anum_message_id - 1])
		draft->id = DatumGetInt64(values[Anum_message_id - 1]);
	if (!nulls[Anum_message_priority - 1])
		draft->priority = DatumGetInt16(values[Anum_message_priority - 1]);
	if (!nulls[Anum_message_failures - 1])
		draft->failures = DatumGetInt16(values[Anum_message_failures - 1]);
	draft->visible_at = queue_column_get(values, nulls, Anum_message_visible_at);
	draft->expires_at = queue_column_get(values, nulls, Anum_message_expires_at);
	draft->group_key = queue_column_get(values, nulls, Anum_message_group_key);
	draft->correlation_id = queue_column_get(values, nulls, Anum_message_correlation_id);
	draft->dedup_key = queue_column_get(values, nulls, Anum_message_dedup_key);
	draft->sender = queue_column_get(values, nulls, Anum_message_sender);
	draft->content_type = queue_column_get(values, nulls, Anum_message_content_type);
	draft->headers = queue_column_get(values, nulls, Anum_message_headers);
	draft->payload = queue_column_get(values, nulls, Anum_message_payload);
	draft->body = queue_column_get(values, nulls, Anum_message_body);
	draft->failure_log = queue_column_get(values, nulls, Anum_message_failure_log);
}

/* Let a message expire so long after it is due. */
void
queue_draft_expire(MessageDraft *draft, int64 usec)
{
	TimestampTz due = draft->enqueued_at;

	if (!draft->visible_at.isnull)
		due = Max(due, DatumGetTimestampTz(draft->visible_at.value));
	draft->expires_at.value = TimestampTzGetDatum(due + usec);
	draft->expires_at.isnull = false;
}

/*
 * queue_draft_copy
 *		Let a draft have what a message takes with it into another queue.
 *
 * The values are copied, fetched from TOAST, because the row is deleted.
 */
void
queue_draft_copy(MessageDraft *draft, TupleTableSlot *row)
{
	slot_getallattrs(row);
	draft->priority =
		DatumGetInt16(row->tts_values[Anum_message_priority - 1]);
	draft->group_key = get_copy(row, Anum_message_group_key);
	draft->correlation_id = get_copy(row, Anum_message_correlation_id);
	draft->sender = get_copy(row, Anum_message_sender);
	draft->content_type = get_copy(row, Anum_message_content_type);
	draft->headers = get_copy(row, Anum_message_headers);
	draft->payload = get_copy(row, Anum_message_payload);
	draft->body = get_copy(row, Anum_message_body);
}

/*
 * queue_draft_columns
 *		Fill in the columns of the row: Natts_message values each.
 */
void
queue_draft_columns(const MessageDraft *draft, Datum *values, bool *nulls)
{
	queue_column_set(values, nulls, Anum_message_id, Int64GetDatum(draft->id));
	queue_column_set(values, nulls, Anum_message_priority, Int16GetDatum(draft->priority));
	queue_column_set(values, nulls, Anum_message_failures, Int16GetDatum(draft->failures));
	queue_column_set(values, nulls, Anum_message_enqueued_at,
					 TimestampTzGetDatum(draft->enqueued_at));
	queue_column_set_nullable(values, nulls, Anum_message_visible_at, draft->visible_at);
	queue_column_set_nullable(values, nulls, Anum_message_expires_at, draft->expires_at);
	queue_column_set_nullable(values, nulls, Anum_message_group_key, draft->group_key);
	queue_column_set_nullable(values, nulls, Anum_message_correlation_id,
							  draft->correlation_id);
	queue_column_set_nullable(values, nulls, Anum_message_dedup_key, draft->dedup_key);
	queue_column_set_nullable(values, nulls, Anum_message_sender, draft->sender);
	queue_column_set_nullable(values, nulls, Anum_message_content_type,
							  draft->content_type);
	queue_column_set_nullable(values, nulls, Anum_message_headers, draft->headers);
	queue_column_set_nullable(values, nulls, Anum_message_payload, draft->payload);
	queue_column_set_nullable(values, nulls, Anum_message_body, draft->body);
	queue_column_set_nullable(values, nulls, Anum_message_failure_log,
							  draft->failure_log);
}

/* The same for a type of variable length, copied */
static NullableDatum
get_copy(TupleTableSlot *row, int attnum)
{
	NullableDatum result = queue_column_get(row->tts_values, row->tts_isnull, attnum);

	if (!result.isnull)
		result.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(result.value));
	return result;
}

/*
 * queue_value_bytes
 *		Return the bytes of a value of variable length, as they are before it
 *		is compressed.
 *
 * The same for a value that is being sent and for one in a row.
 */
int64
queue_value_bytes(NullableDatum value)
{
	struct varlena *data = (struct varlena *) DatumGetPointer(value.value);

	if (value.isnull)
		return 0;

	/* most are neither compressed nor elsewhere */
	if (!VARATT_IS_EXTENDED(data))
		return (int64) VARSIZE(data) - VARHDRSZ;
	return (int64) toast_raw_datum_size(value.value) - VARHDRSZ;
}

/* Return the bytes of payload, body and headers. */
int64
queue_draft_bytes(const MessageDraft *draft)
{
	return queue_value_bytes(draft->payload) + queue_value_bytes(draft->body) +
		queue_value_bytes(draft->headers);
}

/* ----------------------------------------------------------------
 *		What no message may have
 * ----------------------------------------------------------------
 */

/*
 * queue_draft_check
 *		Raise 22023 for what no message may have, 22004 for what it may not
 *		lack.
 */
void
queue_draft_check(const MessageDraft *draft)
{
	queue_check_content(draft->payload, draft->body);
	queue_check_priority(draft->priority);
	if (draft->failures < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("failures must not be negative")));
	if (!draft->visible_at.isnull &&
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(draft->visible_at.value)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visible_at must be finite"),
				 errdetail("It is the time from which on a message is delivered."),
				 errhint("Leave it out to have the message delivered at once.")));
	if (!draft->group_key.isnull)
		queue_check_group_key(draft->group_key.value);
	if (!draft->correlation_id.isnull)
		queue_check_correlation_id(draft->correlation_id.value);
	if (!draft->dedup_key.isnull)
		queue_check_dedup_key(draft->dedup_key.value);
	if (!draft->expires_at.isnull &&
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(draft->expires_at.value)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at must be finite"),
				 errdetail("It is the time from which on a message is not delivered any more."),
				 errhint("Leave it out to have the message never expire.")));
	if (!draft->headers.isnull)
		queue_check_headers(draft->headers.value);
	queue_draft_check_size(draft);
}

/* Raise an error unless a message has a payload or a body. */
void
queue_check_content(NullableDatum payload, NullableDatum body)
{
	if (payload.isnull && body.isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("payload must not be null"),
				 errdetail("A message has a payload or a body."),
				 errhint("A JSON null is written as 'null'::jsonb, an empty body as ''::bytea.")));
	if (!payload.isnull && !body.isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a message cannot have both a payload and a body"),
				 errhint("Leave one of them out.")));
}

/* Raise 54000 if the message could be stored, but not be received. */
void
queue_draft_check_size(const MessageDraft *draft)
{
	const NullableDatum *values[] = {
		&draft->payload, &draft->body, &draft->headers, &draft->correlation_id,
		&draft->content_type
	};

	queue_check_size(values, lengthof(values));
}

/*
 * queue_check_size
 *		Raise 54000 if these values of a message are too many bytes.
 *
 * Each value may have 1 GB, but so may the row in which they are returned
 * together.  What the server adds to a dead letter has room beside.
 */
void
queue_check_size(const NullableDatum **values, int n)
{
	Size		size = 0;

	for (int i = 0; i < n; i++)
		if (!values[i]->isnull)
			size += toast_raw_datum_size(values[i]->value) - VARHDRSZ;
	if (size > QUEUE_MAX_MESSAGE_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("message is too large"),
				 errdetail("It has %zu bytes; the largest may have %zu.",
						   size, QUEUE_MAX_MESSAGE_SIZE),
				 errhint("Store the data in a table or a file, and send where it is.")));
}

/* Raise 22023 if this is too long for a group key, or a correlation_id. */
void
queue_check_group_key(Datum group_key)
{
	check_key(group_key, "group_key");
}

void
queue_check_correlation_id(Datum correlation_id)
{
	check_key(correlation_id, "correlation_id");
}

/* The same for a dedup key */
void
queue_check_dedup_key(Datum dedup_key)
{
	check_key(dedup_key, "dedup_key");
}

/* ... and for a routing key */
void
queue_check_routing_key(Datum routing_key)
{
	check_key(routing_key, "routing_key");
}

static void
check_key(Datum key, const char *name)
{
	Size		length = toast_raw_datum_size(key) - VARHDRSZ;

	if (length > QUEUE_MAX_KEY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long", name),
				 errdetail("It has %zu bytes; the longest may have %d.",
						   length, QUEUE_MAX_KEY),
				 errhint("Take a hash of it, such as md5(), if it cannot be shorter.")));
}

/* Raise 22023 unless this is a priority. */
void
queue_check_priority(int priority)
{
	if (priority < 0 || priority > QUEUE_MAX_PRIORITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid priority: %d", priority),
				 errdetail("Priorities are 0 to %d, higher ones first.",
						   QUEUE_MAX_PRIORITY)));
}

/* Raise 22023 unless these headers are an object. */
void
queue_check_headers(Datum headers)
{
	if (!JB_ROOT_IS_OBJECT(DatumGetJsonbP(headers)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("Write them as names and values, such as {\"trace\": \"a1\"}.")));
}

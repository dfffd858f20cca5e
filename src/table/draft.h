/*-------------------------------------------------------------------------
 *
 * draft.h
 *		A message before it is a row, and the columns that it becomes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DRAFT_H
#define QUEUE_DRAFT_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#include "table/column.h"

/* The longest key in bytes: it has to fit into an index entry */
#define QUEUE_MAX_KEY					1024

/* The largest message in bytes: it has to fit into a row of a result */
#define QUEUE_MAX_MESSAGE_SIZE			((Size) 1023 * 1024 * 1024)

/*
 * Everything that a row of a queue table consists of, in the order of its
 * columns.  What a message may lack is a NullableDatum, which points at memory
 * of the function that fills the draft.
 */
typedef struct MessageDraft
{
	int64		id;
	int			priority;
	int			failures;
	TimestampTz enqueued_at;
	NullableDatum visible_at;
	NullableDatum expires_at;
	NullableDatum group_key;
	NullableDatum correlation_id;
	NullableDatum dedup_key;
	NullableDatum sender;
	NullableDatum content_type;
	NullableDatum headers;
	NullableDatum payload;
	NullableDatum body;
	NullableDatum failure_log;
} MessageDraft;

/* A new message, sent at that time, without anything in it */
extern void queue_draft_init(MessageDraft *draft, int64 id,
							 TimestampTz enqueued_at);

/* From a row that is inserted or was updated */
extern void queue_draft_read(MessageDraft *draft, const Datum *values,
							 const bool *nulls);

/* It expires so many usec after it is due */
extern void queue_draft_expire(MessageDraft *draft, int64 usec);

/* What a message takes with it into another queue */
extern void queue_draft_copy(MessageDraft *draft, TupleTableSlot *row);

/* The columns: Natts_message values each */
extern void queue_draft_columns(const MessageDraft *draft, Datum *values,
								bool *nulls);

/* Bytes of payload, body and headers, as they are before they are compressed */
extern int64 queue_value_bytes(NullableDatum value);
extern int64 queue_draft_bytes(const MessageDraft *draft);

/* 22023 for what no message may have */
extern void queue_draft_check(const MessageDraft *draft);

/* 54000 for one that could not be received */
extern void queue_draft_check_size(const MessageDraft *draft);
extern void queue_check_size(const NullableDatum **values, int n);

/* 22004 or 22023 unless it has one of them */
extern void queue_check_content(NullableDatum payload, NullableDatum body);
extern void queue_check_priority(int priority);
extern void queue_check_headers(Datum headers);
extern void queue_check_group_key(Datum group_key);
extern void queue_check_correlation_id(Datum correlation_id);
extern void queue_check_dedup_key(Datum dedup_key);
extern void queue_check_routing_key(Datum routing_key);

/* ----------------------------------------------------------------
 *		Columns of a row, by number
 * ----------------------------------------------------------------
 */

static inline NullableDatum
queue_column_get(const Datum *values, const bool *nulls, int attnum)
{
	NullableDatum result = {values[attnum - 1], nulls[attnum - 1]};

	return result;
}

static inline void
queue_column_set(Datum *values, bool *nulls, int attnum, Datum value)
{
	values[attnum - 1] = value;
	nulls[attnum - 1] = false;
}

static inline void
queue_column_set_nullable(Datum *values, bool *nulls, int attnum,
						  NullableDatum value)
{
	values[attnum - 1] = value.isnull ? (Datum) 0 : value.value;
	nulls[attnum - 1] = value.isnull;
}

#endif							/* QUEUE_DRAFT_H */

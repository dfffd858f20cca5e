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

/* Columns of a queue table, in order */
#define Natts_message					11
#define Anum_message_id					1
#define Anum_message_priority			2
#define Anum_message_attempts			3
#define Anum_message_enqueued_at		4
#define Anum_message_visible_at			5
#define Anum_message_expires_at			6
#define Anum_message_group_key			7
#define Anum_message_correlation_id		8
#define Anum_message_headers			9
#define Anum_message_payload			10
#define Anum_message_last_error			11

/*
 * Everything that a row of a queue table consists of, in the order of its
 * columns.  What a message may lack is a NullableDatum, which points at memory
 * of the function that fills the draft.
 */
typedef struct MessageDraft
{
	int64		id;
	int			priority;
	int			attempts;
	TimestampTz enqueued_at;
	NullableDatum visible_at;
	NullableDatum expires_at;
	NullableDatum group_key;
	NullableDatum correlation_id;
	NullableDatum headers;
	NullableDatum payload;
	NullableDatum last_error;
} MessageDraft;

/* A new message, sent now, without anything in it */
extern void queue_draft_init(MessageDraft *draft, int64 id);

/* From a row that is inserted or was updated */
extern void queue_draft_read(MessageDraft *draft, const Datum *values,
							 const bool *nulls);

/* What a message takes with it into another queue */
extern void queue_draft_copy(MessageDraft *draft, TupleTableSlot *row);

/* The columns: Natts_message values each */
extern void queue_draft_columns(const MessageDraft *draft, Datum *values,
								bool *nulls);

/* 22023 for what no message may have */
extern void queue_draft_check(const MessageDraft *draft);
extern void queue_check_priority(int priority);
extern void queue_check_headers(Datum headers);

#endif							/* QUEUE_DRAFT_H */

/*-------------------------------------------------------------------------
 *
 * topic_draft.h
 *		A message of a topic before it is a row, and the columns it becomes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_DRAFT_H
#define QUEUE_TOPIC_DRAFT_H

#include "datatype/timestamp.h"

#include "table/topic_column.h"

/*
 * Everything that a row of a topic table consists of, in the order of its
 * columns; see MessageDraft
 */
typedef struct TopicDraft
{
	int			partition;		/* -1: by the id */
	int64		id;				/* 0: not drawn yet */
	TimestampTz published_at;
	NullableDatum routing_key;	/* never null */
	NullableDatum group_key;
	NullableDatum correlation_id;
	NullableDatum content_type;
	NullableDatum sender;
	NullableDatum headers;
	NullableDatum payload;
	NullableDatum body;
} TopicDraft;

/* A new message, published at that time, without anything in it */
extern void queue_topic_draft_init(TopicDraft *draft,
								   TimestampTz published_at);

/* From a row that is inserted */
extern void queue_topic_draft_read(TopicDraft *draft, const Datum *values,
								   const bool *nulls);

/* The columns: Natts_published values each */
extern void queue_topic_draft_columns(const TopicDraft *draft, Datum *values,
									  bool *nulls);

/* The partition that its group_key means, or -1: the id decides */
extern int	queue_topic_draft_partition(const TopicDraft *draft,
										int partitions);

/* 22023 for what no message may have */
extern void queue_topic_draft_check(const TopicDraft *draft);

#endif							/* QUEUE_TOPIC_DRAFT_H */

/*-------------------------------------------------------------------------
 *
 * fan_out.h
 *		Copies of what is published, for the queues that are bound.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAN_OUT_H
#define QUEUE_FAN_OUT_H

#include "utils/relcache.h"

#include "table/topic.h"
#include "table/topic_draft.h"

/* What a call says of the copies */
typedef struct FanOutTerms
{
	int			priority;
	TimestampTz due;			/* 0: at once */
	int64		expires_in;		/* usec after it is due; 0: not said */
	const NullableDatum *dedup_keys;	/* one a message; NULL: none has one */
} FanOutTerms;

/* What it says if it says nothing, as a plain INSERT */
extern const FanOutTerms queue_plain_terms;

/* The rows have their ids and partitions, and are in the topic or about to be */
extern void queue_fan_out(TopicDef *topic, Relation rel,
						  const TopicDraft *drafts, int n,
						  const FanOutTerms *terms);

#endif							/* QUEUE_FAN_OUT_H */

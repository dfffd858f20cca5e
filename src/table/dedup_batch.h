/*-------------------------------------------------------------------------
 *
 * dedup_batch.h
 *		Dedup keys of messages that are sent together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEDUP_BATCH_H
#define QUEUE_DEDUP_BATCH_H

#include "datatype/timestamp.h"
#include "utils/relcache.h"

#include "table/definition.h"

/* Messages that one call sends; those that have a key */
typedef struct KeyedMessages
{
	int			n;
	const Datum *keys;
	const bool *nulls;
	const int64 *ids;
	TimestampTz enqueued_at;
} KeyedMessages;

/*
 * Remember the keys of messages that are about to be sent.  Into "firsts" goes
 * what queue_dedup_one() would return of each, which raises the same errors, and
 * zero for those without a key
 */
extern void queue_dedup_many(Relation rel, QueueDef *def,
							 const KeyedMessages *messages, int64 *firsts);

#endif							/* QUEUE_DEDUP_BATCH_H */

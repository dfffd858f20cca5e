/*-------------------------------------------------------------------------
 *
 * send.h
 *		Messages that go into a queue, one or many at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SEND_H
#define QUEUE_SEND_H

#include "table/definition.h"
#include "table/draft.h"

/* What a call says of all its messages */
typedef struct SendTerms
{
	int			priority;
	TimestampTz sent_at;
	TimestampTz due;			/* 0: at once */
	int64		expires_in;		/* usec after it is due; 0: never */
} SendTerms;

/*
 * Drafts that are sent together are few enough to be in memory at a time; who
 * has more calls more than once
 */
#define SEND_MANY			10000

/*
 * Send a message to a queue, which is open; room for it was found, and it was
 * counted.  Only ids and what the terms say is filled in here.  Returns false if
 * it is a duplicate; then its id is that of the first one, and it is not
 * counted any more.  What drafts point at lives as long as the call
 */
extern bool queue_send_one(Relation rel, QueueDef *def, const SendTerms *terms,
						   MessageDraft *draft);

/* The same for many, of which some may be duplicates */
extern void queue_send_many(Relation rel, QueueDef *def,
							const SendTerms *terms, MessageDraft *drafts,
							int n);

#endif							/* QUEUE_SEND_H */

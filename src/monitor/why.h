/*-------------------------------------------------------------------------
 *
 * why.h
 *		Why is a message not delivered?  One file for each kind of table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WHY_H
#define QUEUE_WHY_H

#include "monitor/answer.h"
#include "table/definition.h"
#include "table/fate.h"
#include "table/subscription.h"
#include "table/topic.h"
#include "table/topic_scan.h"

/* The table is open; the first reason that is found is the answer */
extern void queue_why_message(Answer *answer, const Question *question,
							  Relation rel, QueueDef *def);
extern void queue_why_published(Answer *answer, const Question *question,
								Relation rel, TopicDef *topic);
extern void queue_why_unread(Answer *answer, const Question *question,
							 Relation rel, SubscriptionDef *def);

/* Of a queue: the message is not there, or is dead; "fate" is all it left */
extern void queue_why_gone(Answer *answer, const Question *question,
						   Relation rel, QueueDef *def, const Fate *fate);

/* A message of a topic that was found there */
typedef struct TopicMessage
{
	TopicScan  *scan;			/* which is at its row; to be ended */
	TupleTableSlot *slot;
	int			partition;
	Fate		fate;
} TopicMessage;

/* Find it; false: it is not there, and the answer says so */
extern bool queue_why_find_published(Answer *answer, const Question *question,
									 Relation rel, TopicDef *topic,
									 TopicMessage *message);

/* It is there, and readers may not come to it yet; false: they may */
extern bool queue_why_held_back(Answer *answer, TopicDef *topic,
								const TopicMessage *message, int64 id);

#endif							/* QUEUE_WHY_H */

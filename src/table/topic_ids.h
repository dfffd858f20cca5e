/*-------------------------------------------------------------------------
 *
 * topic_ids.h
 *		Ids of messages of topics: what the table and its sequence say of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_IDS_H
#define QUEUE_TOPIC_IDS_H

#include "table/topic.h"

/* Ids of the sequence, and the file of it that they come from */
typedef struct TopicBlock
{
	Oid			file;
	int64		first;
	int64		last;
} TopicBlock;

/* Take the next block of the sequence */
extern void queue_topic_next_block(TopicDef *topic, TopicBlock *block);

/* Let the sequence go on beyond an id: block->last is the last it passes */
extern void queue_topic_pass_id(TopicDef *topic, int64 id, TopicBlock *block);

/* The highest id that a row has, or had; 0: there is none */
extern int64 queue_topic_last_in_table(TopicDef *topic);

/* No id beyond this one was ever handed out, as far as is on disk */
extern int64 queue_topic_highest_id(TopicDef *topic);

#endif							/* QUEUE_TOPIC_IDS_H */

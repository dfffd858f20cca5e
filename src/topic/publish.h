/*-------------------------------------------------------------------------
 *
 * publish.h
 *		Messages put into a topic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PUBLISH_H
#define QUEUE_PUBLISH_H

#include "utils/relcache.h"

#include "table/topic.h"
#include "table/topic_draft.h"
#include "topic/fan_out.h"

/* Give them their partitions and ids */
extern void queue_publish_place(TopicDef *topic, TopicDraft *drafts, int n);

/* Place them, insert them, and send the copies; the topic is open */
extern void queue_publish_messages(Relation rel, TopicDef *topic,
								   TopicDraft *drafts, int n,
								   const FanOutTerms *terms);

#endif							/* QUEUE_PUBLISH_H */

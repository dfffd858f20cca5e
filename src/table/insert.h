/*-------------------------------------------------------------------------
 *
 * insert.h
 *		New rows of a queue or a topic, one or many at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_INSERT_H
#define QUEUE_INSERT_H

#include "utils/relcache.h"

#include "table/definition.h"
#include "table/draft.h"
#include "table/topic.h"
#include "table/topic_draft.h"

/* Insert rows; what drafts point at must live until the end */
typedef struct QueueInsert QueueInsert;
extern QueueInsert *queue_insert_begin(Relation rel,
									   const QueueDef *def);
extern QueueInsert *queue_insert_begin_topic(Relation rel,
											 const TopicDef *topic);
extern void queue_insert_row(QueueInsert *insert, const MessageDraft *draft);
extern void queue_insert_published(QueueInsert *insert,
								   const TopicDraft *draft);
extern void queue_insert_end(QueueInsert *insert);

#endif							/* QUEUE_INSERT_H */

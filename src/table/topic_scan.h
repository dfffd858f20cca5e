/*-------------------------------------------------------------------------
 *
 * topic_scan.h
 *		Messages of a topic, in the order of their ids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_SCAN_H
#define QUEUE_TOPIC_SCAN_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "table/topic.h"

/* What a snapshot sees of a row */
typedef enum TopicRowState
{
	TOPIC_ROW_SEEN,
	TOPIC_ROW_GONE,				/* deleted before it, or rolled back */
	TOPIC_ROW_DELETED,			/* ... by this transaction */
	TOPIC_ROW_NEWER				/* others see it, or may do so */
} TopicRowState;

typedef struct TopicScan TopicScan;

/*
 * Begin to scan the messages of a topic, as long as this snapshot is there, which
 * judges them; some "max" of each partition are likely to be wanted.  Then add
 * partitions: their messages with ids after the one and below the other; is there
 * any, and which id has the first?
 */
extern TopicScan *queue_topic_scan_begin(Relation rel, TopicDef *topic,
										 Snapshot snapshot, int64 max);
extern bool queue_topic_scan_add(TopicScan *scan, int partition, int64 after,
								 int64 below, int64 *first);

/* The next row of one that was added, dead or alive, or NULL; and its id */
extern TupleTableSlot *queue_topic_scan_next_of(TopicScan *scan,
												int partition, int64 *id);

/* The id of the next one, or which it is not below */
extern int64 queue_topic_scan_upcoming(TopicScan *scan, int partition);

/* The next row of all of them, in the order of ids */
extern TopicScan *queue_topic_scan_begin_all(Relation rel, TopicDef *topic,
											 Snapshot snapshot, int64 after,
											 int64 below, int64 max);
extern TopicScan *queue_topic_scan_begin_each(Relation rel, TopicDef *topic,
											  Snapshot snapshot,
											  const int64 *after, int64 below,
											  int64 max);
extern TupleTableSlot *queue_topic_scan_next(TopicScan *scan, int64 *id);

/*
 * How many entries the index has of a partition after one id and below another,
 * at most "max"; *last becomes the id of the last one
 */
extern int	queue_topic_scan_count(TopicScan *scan, int partition, int64 after,
								   int64 below, int max, int64 *last);

/* Nothing more of that partition */
extern void queue_topic_scan_stop(TopicScan *scan, int partition);

/* Is there another row with this id, in another partition? */
extern bool queue_topic_scan_has_twin(TopicScan *scan, int64 id);

/* What does the snapshot see of the row that was returned last? */
extern TopicRowState queue_topic_row_state(TopicScan *scan);

extern void queue_topic_scan_end(TopicScan *scan);

#endif							/* QUEUE_TOPIC_SCAN_H */

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
	TOPIC_ROW_NEWER				/* others see it, or may do so */
} TopicRowState;

typedef struct TopicScan TopicScan;

/*
 * Scan the messages of all partitions with ids after the one and below the
 * other; some "max" of them are likely to be wanted
 */
extern TopicScan *queue_topic_scan_begin(Relation rel, TopicDef *topic,
										 int64 after, int64 below, int64 max);

/* The next row, dead or alive, or NULL; and its id */
extern TupleTableSlot *queue_topic_scan_next(TopicScan *scan, int64 *id);

/* Is there another row with this id, in another partition? */
extern bool queue_topic_scan_has_twin(TopicScan *scan, int64 id);

/* What does a snapshot see of the row that was returned last? */
extern TopicRowState queue_topic_row_state(TopicScan *scan, Snapshot snapshot);

extern void queue_topic_scan_end(TopicScan *scan);

#endif							/* QUEUE_TOPIC_SCAN_H */

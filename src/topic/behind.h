/*-------------------------------------------------------------------------
 *
 * behind.h
 *		How much of its topic a subscription has not passed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BEHIND_H
#define QUEUE_BEHIND_H

#include "table/subscription.h"
#include "table/topic.h"
#include "table/topic_scan.h"

typedef struct Behind
{
	int64		n;				/* messages, beyond some of them estimated */
	TimestampTz since;			/* when the first of them was published; 0:
								 * not known, or there is none */
} Behind;

/* Of one partition, after this id; false: memory does not know the topic */
extern bool queue_behind_of(TopicScan *scan, TopicDef *topic, int partition,
							int64 after, Behind *behind);

/*
 * Count that of all partitions, for the statistics.  What memory does not know
 * of the positions is read from the rows, of a large table by the worker only.
 * Returns false if it is not known, or the topic is locked
 */
extern bool queue_behind_count(Relation rel, SubscriptionDef *def,
							   QueueSlot *slot, bool is_worker);

#endif							/* QUEUE_BEHIND_H */

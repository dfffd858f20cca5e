/*-------------------------------------------------------------------------
 *
 * count_partition.h
 *		Failures of what comes next in a partition of a subscription.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COUNT_PARTITION_H
#define QUEUE_COUNT_PARTITION_H

#include "shared/inflight.h"
#include "table/subscription.h"

typedef enum PartitionOutcome
{
	PARTITION_COUNTED,			/* the row tells it now */
	PARTITION_PASSED,			/* the message is passed: nothing is left */
	PARTITION_STUCK,			/* the row tells, and it has nowhere to go */
	PARTITION_BUSY,				/* another transaction is in the way, or what
								 * failed cannot be told now */
	PARTITION_LOOKS_ON			/* what is next has not been found yet */
} PartitionOutcome;

/*
 * Count them in the row of the position, or send the message to the dead letters
 * and move on.  The worker holds the entry.  *reason: why it is stuck
 */
extern PartitionOutcome queue_count_partition(Relation rel,
											  SubscriptionDef *def,
											  InflightEntry *entry,
											  bool marks_only, char **reason);

#endif							/* QUEUE_COUNT_PARTITION_H */

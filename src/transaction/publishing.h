/*-------------------------------------------------------------------------
 *
 * publishing.h
 *		What this transaction publishes, and under which ids.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PUBLISHING_H
#define QUEUE_PUBLISHING_H

#include "table/topic.h"

/*
 * Register for a partition (-1: the one that the first id drawn means), then
 * draw n ids, rising; returns the partition.  With n = 0 it only registers; an
 * id may be used in each partition that this transaction is registered for
 */
extern int	queue_publishing_draw(TopicDef *topic, int partition, int n,
								  int64 *ids);

/*
 * A row comes with its id: registers for that, and ids go on beyond it.  The
 * table may be no topic yet, because it is being restored; then, and in replica
 * role (may_refuse is false), no id is refused
 */
extern void queue_publishing_given(TopicDef *topic, int partition, int64 id,
								   bool may_refuse);

#endif							/* QUEUE_PUBLISHING_H */

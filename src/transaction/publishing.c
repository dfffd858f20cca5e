/*-------------------------------------------------------------------------
 *
 * publishing.c
 *		What this transaction publishes, and under which ids.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/sequence.h"

#include "table/ids.h"
#include "table/topic_draft.h"
#include "transaction/publishing.h"

/* Draw ids for a partition, and return which. */
int
queue_publishing_draw(TopicDef *topic, int partition, int n, int64 *ids)
{
	for (int i = 0; i < n;)
	{
		int64		id = nextval_internal(topic->sequence, false);

		for (int64 left = topic->id_block; left > 0 && i < n; left--)
			ids[i++] = id++;
	}
	return partition >= 0 || n == 0 ? partition :
		queue_topic_id_partition(ids[0], topic->partitions);
}

/* A row comes with its id. */
void
queue_publishing_given(TopicDef *topic, int partition, int64 id,
					   bool may_refuse)
{
	if (OidIsValid(topic->sequence))
		queue_sequence_pass(topic->sequence, id);
}

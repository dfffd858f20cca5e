/*-------------------------------------------------------------------------
 *
 * publish.c
 *		Messages put into a topic.
 *
 * A publish is an insert in the caller's transaction.  Readers go by the ids,
 * so the transaction is registered for a partition before it draws an id for it
 * (transaction/publishing.h); else a reader could pass an id that is yet to be
 * committed.
 *
 * A batch draws its ids at once, rising in its order, whatever the partitions.
 * Messages without a group key go to one partition together, so a reader gets
 * them in their order, and the batch registers once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "table/insert.h"
#include "table/topic_settings.h"
#include "topic/publish.h"
#include "transaction/publishing.h"

/*
 * queue_publish_place
 *		Give messages their partitions, and ids that rise in their order.
 *
 * A partition that a draft has stays.
 */
void
queue_publish_place(TopicDef *topic, TopicDraft *drafts, int n)
{
	int			one_partition = -1;
	int64		one_id = 0;
	int		   *partitions = n == 1 ? &one_partition : palloc(n * sizeof(int));
	int64	   *ids = n == 1 ? &one_id : palloc(n * sizeof(int64));

	for (int i = 0; i < n; i++)
		partitions[i] = drafts[i].partition >= 0 ? drafts[i].partition :
			queue_topic_draft_partition(&drafts[i], topic->partitions);
	queue_publishing_draw(topic, n, partitions, ids);
	for (int i = 0; i < n; i++)
	{
		drafts[i].id = ids[i];
		drafts[i].partition = partitions[i];
	}
	if (n > 1)
	{
		pfree(partitions);
		pfree(ids);
	}
}

/* Place messages, insert them, and send the copies. */
void
queue_publish_messages(Relation rel, TopicDef *topic, TopicDraft *drafts,
					   int n, const FanOutTerms *terms)
{
	QueueInsert *insert;

	queue_publish_place(topic, drafts, n);
	insert = queue_insert_begin_topic(rel, topic);
	for (int i = 0; i < n; i++)
		queue_insert_published(insert, &drafts[i]);
	queue_insert_end(insert);
	queue_fan_out(topic, rel, drafts, n, terms);
}

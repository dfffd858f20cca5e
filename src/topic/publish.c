/*-------------------------------------------------------------------------
 *
 * publish.c
 *		Messages put into a topic.
 *
 * A publish is an insert in the caller's transaction.  Readers go by the ids,
 * so the transaction is registered for each partition before it draws an id
 * that it may use there (transaction/publishing.h); else a reader could pass an
 * id that is yet to be committed.
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
	bool		is_used[MAX_PARTITIONS] = {false};
	bool		has_keyless = false;
	int			partition = -1;
	int64		one = 0;
	int64	   *ids = n == 1 ? &one : palloc(n * sizeof(int64));

	for (int i = 0; i < n; i++)
	{
		if (drafts[i].partition < 0)
			drafts[i].partition =
				queue_topic_draft_partition(&drafts[i], topic->partitions);
		if (drafts[i].partition < 0)
			has_keyless = true;
		else if (!is_used[drafts[i].partition])
		{
			/* with others than one to be drawn for */
			if (partition >= 0)
				(void) queue_publishing_draw(topic, partition, 0, NULL);
			partition = drafts[i].partition;
			is_used[partition] = true;
		}
	}
	if (has_keyless && partition >= 0)
	{
		(void) queue_publishing_draw(topic, partition, 0, NULL);
		partition = -1;
	}
	partition = queue_publishing_draw(topic, partition, n, ids);
	for (int i = 0; i < n; i++)
	{
		drafts[i].id = ids[i];
		if (drafts[i].partition < 0)
			drafts[i].partition = partition;
	}
	if (n > 1)
		pfree(ids);
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

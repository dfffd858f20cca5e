/*-------------------------------------------------------------------------
 *
 * topic_trigger.c
 *		The triggers of a topic table: plain INSERT, COPY and UPDATE.
 *
 * They make a plain INSERT a publish, as those of a queue make it an enqueue
 * (trigger.c): they give the row its id and partition, and send the copies.
 * publish() inserts below the executor and does not get here.
 *
 * A row that comes with an id is stored as it is, and not copied: it is
 * restored, or replicated, or its owner has chosen the id.  A restore brings
 * rows and settings in any order, so such rows are taken while the table has no
 * settings yet.
 *
 * A message is never updated, whoever asks: readers have read it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/rel.h"

#include "api/trigger_call.h"
#include "common/relation_name.h"
#include "table/topic_settings.h"
#include "topic/publish.h"
#include "transaction/publishing.h"

PG_FUNCTION_INFO_V1(queue_before_publish);
PG_FUNCTION_INFO_V1(queue_before_topic_update);

static void check_insert(Relation rel, TopicDef *topic,
						 const TopicDraft *draft, const bool *nulls);
static int	npartitions(const TopicDef *topic);
static bool has_partition(const TopicDef *topic, int partition);
static void keep_id(TopicDef *topic, TopicDraft *draft, bool is_replica);


/* before_publish(): trigger function */
Datum
queue_before_publish(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = queue_trigger_call(fcinfo,
											   &queue_topic_form.triggers[0]);
	Relation	rel = trigdata->tg_relation;
	TopicDef   *topic = queue_topic_def(rel);
	bool		is_replica = queue_trigger_is_replica();
	Datum		values[MaxHeapAttributeNumber];
	bool		nulls[MaxHeapAttributeNumber];
	TopicDraft	draft;
	bool		has_id;

	/* values are read by position, and any role may create this trigger */
	if (is_replica && (topic->problem != NULL || !topic->is_topic))
		return PointerGetDatum(trigdata->tg_trigtuple);
	if (topic->is_topic || topic->problem != NULL)
		queue_topic_check(topic);

	heap_deform_tuple(trigdata->tg_trigtuple, RelationGetDescr(rel),
					  values, nulls);
	has_id = !nulls[Anum_published_id - 1];
	if (!has_id)
		queue_topic_check(topic);	/* no restore: it must be a topic */

	queue_topic_draft_read(&draft, values, nulls);
	if (!is_replica)
		check_insert(rel, topic, &draft, nulls);
	if (has_id)
		keep_id(topic, &draft, is_replica);
	else
	{
		if (!has_partition(topic, draft.partition))
			draft.partition = -1;
		queue_publish_place(topic, &draft, 1);
		if (!is_replica)
			queue_fan_out(topic, rel, &draft, 1, &queue_plain_terms);
	}
	queue_topic_draft_columns(&draft, values, nulls);
	return PointerGetDatum(heap_form_tuple(RelationGetDescr(rel),
										   values, nulls));
}

/*
 * check_insert
 *		Refuse what publish() refuses, and to all but the owner what only the
 *		owner may do.
 */
static void
check_insert(Relation rel, TopicDef *topic, const TopicDraft *draft,
			 const bool *nulls)
{
	queue_trigger_check_setters(rel, &queue_topic_form, nulls);
	queue_topic_draft_check(draft);
	if (!nulls[Anum_published_partition - 1] &&
		!has_partition(topic, draft->partition))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" has no partition %d",
						queue_shown_name(RelationGetRelid(rel)),
						draft->partition),
				 errdetail("Its partitions are 0 to %d.",
						   npartitions(topic) - 1),
				 errhint("Leave the column \"partition\" out.")));
	if (!nulls[Anum_published_id - 1] && draft->id < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("id must be greater than zero"),
				 errhint("Leave the column \"id\" out.")));
}

/* How many partitions does the table have, or may it have if it is no topic? */
static int
npartitions(const TopicDef *topic)
{
	return topic->is_topic ? topic->partitions : MAX_PARTITIONS;
}

static bool
has_partition(const TopicDef *topic, int partition)
{
	return partition >= 0 && partition < npartitions(topic);
}

/*
 * The row comes with its id, which stays.  In replica role it may be in a
 * partition that there is not, where no reader looks for it.
 */
static void
keep_id(TopicDef *topic, TopicDraft *draft, bool is_replica)
{
	if (draft->partition < 0)
	{
		queue_topic_check(topic);
		draft->partition = queue_topic_draft_partition(draft,
													   topic->partitions);
	}
	if (draft->partition < 0)
		draft->partition = (int) ((uint64) draft->id %
								  (uint64) topic->partitions);
	queue_publishing_given(topic, has_partition(topic, draft->partition) ?
						   draft->partition : 0, draft->id, !is_replica);
}

/* before_topic_update(): trigger function */
Datum
queue_before_topic_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = queue_trigger_call(fcinfo,
											   &queue_topic_form.triggers[1]);

	if (!queue_trigger_is_replica())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("messages of topic \"%s\" cannot be updated",
						queue_shown_name(RelationGetRelid(trigdata->tg_relation))),
				 errdetail("A reader that has seen it would not learn of that."),
				 errhint("Publish another message; or DELETE this one, which leaves a hole.")));
	return PointerGetDatum(trigdata->tg_newtuple);
}

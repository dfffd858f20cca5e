/*-------------------------------------------------------------------------
 *
 * why_published.c
 *		Where is a message of a topic, and can readers come to it?
 *
 * An id does not tell the partition, so all of them are asked, a look-up each.
 *
 * On a standby memory knows of no publisher.  There the stable id is what the
 * snapshot sees written down, and nobody is named.
 *
 * Locks: that of the topic's slot, for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "monitor/why.h"
#include "table/access.h"
#include "table/published.h"
#include "table/removed_id.h"
#include "table/sequence.h"
#include "table/stable_id.h"
#include "table/topic_column.h"
#include "transaction/publishing.h"

static const Instead instead = {"", "", ""};

static void explain_missing(Answer *answer, const Question *question,
							TopicDef *topic, const Fate *fate);
static bool was_never_published(const Question *question, TopicDef *topic);

/* The message of a topic that is asked about. */
void
queue_why_published(Answer *answer, const Question *question, Relation rel,
					TopicDef *topic)
{
	TopicMessage message;

	if (!topic->is_topic)
		queue_access_refuse(question->relid, &queue_topic_form, &instead);
	if (topic->problem != NULL)
		queue_answer_unfit(answer, topic->problem);
	else if (queue_why_find_published(answer, question, rel, topic, &message))
	{
		if (!queue_why_held_back(answer, topic, &message, question->id))
		{
			queue_answer(answer, "published",
						 "It is in partition %d, and can be read; why() of a subscription says if that has read it.",
						 message.partition);
			answer->since =
				DatumGetTimestampTz(queue_published_column(message.slot,
														   Anum_published_at).value);
		}
		queue_topic_scan_end(message.scan);
	}
}

/*
 * queue_why_find_published
 *		Find a message by its id alone.
 *
 * If it is there, the caller ends the scan.  Otherwise the answer says what is
 * known of it.
 */
bool
queue_why_find_published(Answer *answer, const Question *question,
						 Relation rel, TopicDef *topic, TopicMessage *message)
{
	int64		id = question->id;
	Fate		best = {.fate = FATE_UNKNOWN};

	message->scan = queue_topic_scan_begin(rel, topic, GetActiveSnapshot(), 1);
	for (int i = 0; i < topic->partitions; i++)
	{
		int64		found;

		if (id < 1 || id == PG_INT64_MAX ||
			!queue_topic_scan_add(message->scan, i, id - 1, id + 1, &found))
			continue;
		while ((message->slot = queue_topic_scan_next_of(message->scan, i,
														 &found)) != NULL)
		{
			message->partition = i;
			queue_fate_read(message->slot, &message->fate);
			if (message->fate.fate >= FATE_BUSY)
				return true;
			if (message->fate.fate > best.fate)
				best = message->fate;
		}
	}
	queue_topic_scan_end(message->scan);
	if (best.fate == FATE_COMING)
		queue_answer_coming(answer, best.xid);
	else
		explain_missing(answer, question, topic, &best);
	return false;
}

/* It is not there. */
static void
explain_missing(Answer *answer, const Question *question, TopicDef *topic,
				const Fate *fate)
{
	int64		removed;

	if (fate->fate == FATE_DELETED_HERE)
	{
		queue_answer(answer, "being deleted",
					 "This session has deleted it, in this transaction.");
		answer->pid = MyProcPid;
		return;
	}
	if (fate->fate == FATE_ROLLED_BACK)
	{
		queue_answer(answer, "rolled back",
					 "The transaction that had published it was rolled back.");
		return;
	}
	if (fate->fate == FATE_UNKNOWN && was_never_published(question, topic))
	{
		queue_answer(answer, "never sent",
					 "No message of this topic has had this id so far.");
		return;
	}
	removed = queue_removed_id_highest(topic->relid, topic->partitions);
	if (question->id <= removed)
		queue_answer(answer, "removed",
					 "There is no such message, and retention has deleted messages up to id " INT64_FORMAT ".",
					 removed);
	else
		queue_answer(answer, "gone",
					 "There is no such message. Its id is below the next one, so it was deleted, or the transaction that had drawn the id was rolled back.");
}

/* Is the id beyond all that were handed out? */
static bool
was_never_published(const Question *question, TopicDef *topic)
{
	TopicLimit	limit;
	bool		is_called;
	int64		last;

	if (question->id < 1)
		return true;
	if (!RecoveryInProgress() &&
		queue_publishing_limit(topic, ANY_PARTITION, &limit,
							   true /* missing_ok */ ))
		return question->id >= limit.next_id;
	last = queue_sequence_last(topic->sequence, &is_called);
	if (!is_called)
		return question->id >= last;
	return question->id > last && question->id - last >= topic->id_block;
}

/*
 * queue_why_held_back
 *		Does another publisher hold readers back from a message that is there?
 */
bool
queue_why_held_back(Answer *answer, TopicDef *topic,
					const TopicMessage *message, int64 id)
{
	TopicLimit	limit = {.procno = NO_PROC};
	Who			who = {0};
	const char *holder;
	TimestampTz since = 0;

	if (RecoveryInProgress())
		limit.stable_id = queue_stable_id_read(topic->relid,
											   GetActiveSnapshot());
	else if (!queue_publishing_limit(topic, message->partition, &limit,
									 true /* missing_ok */ ))
	{
		queue_answer(answer, "no room",
					 "There is no room for the topic in shared memory, so it cannot be read: see queue.max_topics.");
		return true;
	}
	if (id < limit.stable_id)
		return false;
	if (TransactionIdIsValid(limit.xid))
		queue_who_runs(limit.xid, &who);
	else if (limit.procno != NO_PROC)
		queue_who_is(GetPGProcByNumber(limit.procno)->pid, &who);
	holder = queue_answer_who(answer, &who);
	since = answer->since;
	queue_answer(answer, "held back",
				 "%s has published to partition %d and has not ended; readers wait for that, as it may still add messages from id " INT64_FORMAT " on.",
				 holder, message->partition, limit.stable_id);
	answer->since = limit.since != 0 ? limit.since : since;
	return true;
}

/*-------------------------------------------------------------------------
 *
 * why_unread.c
 *		Why does a subscription not deliver a message of its topic?
 *
 * First the message in the topic, then the position of the subscription in its
 * partition, its filter, who holds the partition, then what is to be read
 * before it.
 *
 * Of what comes before it, some messages are looked at, as one call of a
 * consumer would do, so that the first one that is wanted can be named.
 *
 * Locks: AccessShareLock on the topic, if it can be had at once, given back at
 * the end; those of shared memory that is asked, for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "common/relation.h"
#include "dispatch/move.h"
#include "monitor/why.h"
#include "shared/availability.h"
#include "shared/place.h"
#include "table/access.h"
#include "table/position.h"
#include "table/published.h"
#include "table/removed_id.h"

/* Messages before it that are looked at */
#define MAX_LOOKED_AT		1000

static const Instead instead = {"", "", ""};

typedef struct UnreadLook
{
	const Question *question;
	Relation	rel;
	SubscriptionDef *def;
	TopicDef   *topic;
	TopicMessage message;
	Position   *position;
	PositionState state;
	TopicFilter filter;
	bool		has_entry;
	InflightEntry entry;
	int			failures;		/* of what is next */
	bool		is_seen;		/* by the snapshot of the statement */
} UnreadLook;

static void explain(Answer *answer, UnreadLook *look);
static char *name_partition(int partition);
static bool explain_position(Answer *answer, UnreadLook *look);
static bool explain_gap(Answer *answer, UnreadLook *look);
static bool explain_partition(Answer *answer, UnreadLook *look);
static void explain_exhausted(Answer *answer, UnreadLook *look);
static bool explain_behind(Answer *answer, UnreadLook *look);
static bool explain_snapshot(Answer *answer, UnreadLook *look);

/* The message of a subscription that is asked about. */
void
queue_why_unread(Answer *answer, const Question *question, Relation rel,
				 SubscriptionDef *def)
{
	UnreadLook	look = {0};
	Relation	topic_rel;
	bool		is_locked;

	if (!def->is_subscription)
		queue_access_refuse(question->relid, &queue_subscription_form,
							&instead);
	if (def->problem != NULL)
	{
		queue_answer_unfit(answer, def->problem);
		return;
	}
	topic_rel = queue_open_unless_locked(def->topic, AccessShareLock,
										 &is_locked);
	if (topic_rel == NULL)
	{
		Question	about = *question;

		about.relid = def->topic;
		if (!is_locked || !queue_answer_locked(answer, &about))
			queue_answer_unfit(answer, "Its topic cannot be opened.");
		return;
	}
	look.question = question;
	look.rel = rel;
	look.def = def;
	look.topic = queue_topic_def(topic_rel);
	if (!look.topic->is_topic || look.topic->problem != NULL)
		queue_answer_unfit(answer, look.topic->problem != NULL ?
						   look.topic->problem : "Its topic is no topic.");
	else if (queue_why_find_published(answer, question, topic_rel, look.topic,
									  &look.message))
	{
		explain(answer, &look);
		queue_topic_scan_end(look.message.scan);
	}
	table_close(topic_rel, AccessShareLock);
}

/* The message is there. */
static void
explain(Answer *answer, UnreadLook *look)
{
	MessageKey	key;

	look->is_seen = queue_topic_row_state(look->message.scan) ==
		TOPIC_ROW_SEEN;
	look->position = queue_position_make(look->rel);
	look->filter.pattern = look->def->pattern;
	look->filter.selector = look->def->selector;
	look->filter.context = AllocSetContextCreate(CurrentMemoryContext,
												 "queue message",
												 ALLOCSET_DEFAULT_SIZES);
	queue_message_key(&key, look->question->relid, look->message.partition);
	look->has_entry = queue_inflight_peek(&key, QUEUE_PARTITION_ROW,
										  &look->entry);
	look->state = queue_position_read(look->rel, look->def,
									  look->message.partition,
									  look->position);
	if (look->state == POSITION_MISSING)
		queue_answer_unfit(answer,
						   psprintf("The row of partition %d was deleted.",
									look->message.partition));
	else
	{
		look->failures = queue_add_failures(look->position->failures,
											look->has_entry ?
											look->entry.failures : 0);
		if (!explain_position(answer, look) &&
			!queue_why_held_back(answer, look->topic, &look->message,
								 look->question->id) &&
			!explain_gap(answer, look) &&
			!explain_partition(answer, look) &&
			!explain_behind(answer, look) &&
			!explain_snapshot(answer, look))
			queue_answer_waiters(answer,
								 queue_slot_find(look->question->relid));
	}
	queue_position_free(look->position);
	MemoryContextDelete(look->filter.context);
}

/* What is held, as the object of a sentence */
static char *
name_partition(int partition)
{
	return psprintf("its partition (%d)", partition);
}

/* Is the subscription done with it, or does it not want it? */
static bool
explain_position(Answer *answer, UnreadLook *look)
{
	bool		is_wanted =
		queue_published_is_wanted(&look->filter, look->message.slot,
								  look->question->id);
	bool		is_read = look->position->id >= look->question->id;

	if (is_wanted && !is_read)
		return false;

	/* this transaction has moved the position, and may go back */
	if (is_wanted && look->position->is_own && look->has_entry &&
		queue_answer_held(answer, &look->entry, look->question->now,
						  name_partition(look->message.partition)))
		return true;
	if (!is_wanted)
		queue_answer(answer, "filtered",
					 "The subscription passes it over: its pattern or its selector does not match.");
	else
	{
		queue_answer(answer, "read",
					 "The subscription is done with it, by consuming, skipping or dead-lettering it: its position in partition %d is " INT64_FORMAT ".",
					 look->message.partition, look->position->id);
		answer->since = look->position->moved_at;
	}
	return true;
}

/* Does it stop because messages before this one were removed? */
static bool
explain_gap(Answer *answer, UnreadLook *look)
{
	Snapshot	snapshot;
	int64		removed;

	if (look->def->on_gap != ON_GAP_ERROR)
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	removed = queue_removed_id_read(look->topic->relid,
									look->message.partition, snapshot);
	UnregisterSnapshot(snapshot);
	if (removed <= look->position->id)
		return false;
	queue_answer(answer, "messages gone",
				 "Retention has deleted messages of partition %d up to id " INT64_FORMAT " before the subscription had read them, and it goes no further until queue.seek() moves it, or on_gap lets it skip them.",
				 look->message.partition, removed);
	queue_answer_remedy(answer, "SELECT queue.alter_subscription(%s, on_gap => 'skip')",
						look->question->literal);
	return true;
}

/* Does somebody hold the partition, or a failure, or a pause? */
static bool
explain_partition(Answer *answer, UnreadLook *look)
{
	int			partition = look->message.partition;
	const InflightEntry *entry = look->has_entry ? &look->entry : NULL;

	if (entry != NULL &&
		queue_answer_held(answer, entry, look->question->now,
						  name_partition(partition)))
		return true;
	if (look->state == POSITION_BUSY)
	{
		const char *who = queue_answer_xid(answer, look->position->changer);

		queue_answer(answer, answer->gid != NULL ? "prepared" : "being changed",
					 "%s has changed the position in partition %d, in a transaction that has not ended.",
					 who, partition);
		return true;
	}
	if (queue_is_at_limit(look->def->retry.max_attempts, look->failures))
	{
		if (look->def->on_failure == ON_FAILURE_DEAD_LETTER)
		{
			explain_exhausted(answer, look);
			return true;
		}
		queue_answer(answer, "partition held",
					 "The next message of partition %d has failed %s and holds it, because the subscription has on_failure = 'hold'.",
					 partition, queue_answer_times(look->failures));
		queue_answer_remedy(answer, "SELECT queue.skip(%s, %d)",
							look->question->literal, partition);
		return true;
	}
	if (entry != NULL && entry->state == INFLIGHT_IDLE &&
		entry->deadline > look->question->now)
	{
		queue_answer(answer, "backing off",
					 "The next message of partition %d has failed %s, and is tried again after a while.",
					 partition, queue_answer_times(look->failures));
		answer->since = entry->since;
		answer->until = entry->deadline;
		return true;
	}
	if (look->def->paused)
	{
		queue_answer(answer, "paused",
					 "The subscription is paused, by queue.pause().");
		queue_answer_remedy(answer, "SELECT queue.resume(%s)",
							look->question->literal);
		return true;
	}
	return queue_answer_locked(answer, look->question);
}

/* What is next is to go to the dead letters. */
static void
explain_exhausted(Answer *answer, UnreadLook *look)
{
	char	   *problem =
		queue_dead_letter_problem_of(look->def->dead_letter,
									 look->def->retry.max_attempts,
									 look->rel->rd_rel->relowner);
	char	   *name = OidIsValid(look->def->dead_letter) ?
		get_rel_name(look->def->dead_letter) : NULL;

	if (problem == NULL)
	{
		queue_answer(answer, "exhausted",
					 "The next message of partition %d has failed %s, which is the limit, and the worker is to move it to the dead letters.",
					 look->message.partition, queue_answer_times(look->failures));
		queue_answer_worker(answer);
		return;
	}
	queue_answer(answer, name == NULL ? "dead-letter queue missing" :
				 "exhausted",
				 "The next message of partition %d has failed %s, which is the limit, and cannot be moved to the dead letters. %s",
				 look->message.partition, queue_answer_times(look->failures), problem);
	queue_answer_remedy(answer, "SELECT queue.skip(%s, %d)",
						look->question->literal, look->message.partition);
}

/* Is there something that is to be read before it? */
static bool
explain_behind(Answer *answer, UnreadLook *look)
{
	int			partition = look->message.partition;
	int64		id = look->question->id;
	int64		after = look->position->id;
	int64		found;
	Place		place;
	TupleTableSlot *slot;

	if (!RecoveryInProgress() &&
		queue_place_get(look->question->relid, partition, &place))
		after = queue_place_look_after(&place, look->def->filter, after);
	if (after + 1 >= id ||
		!queue_topic_scan_add(look->message.scan, partition, after, id,
							  &found))
		return false;
	for (int i = 0; i < MAX_LOOKED_AT &&
		 (slot = queue_topic_scan_next_of(look->message.scan, partition,
										  &found)) != NULL; i++)
	{
		Fate		fate;

		queue_fate_read(slot, &fate);
		if (fate.fate < FATE_BUSY ||
			!queue_published_is_wanted(&look->filter, slot, found))
			continue;
		queue_answer(answer, "behind",
					 "Message " INT64_FORMAT " of partition %d is to be read before it.",
					 found, partition);
		return true;
	}
	return false;
}

/* Is it too new for the transaction that asks? */
static bool
explain_snapshot(Answer *answer, UnreadLook *look)
{
	if (!IsolationUsesXactSnapshot() || look->is_seen)
		return false;
	queue_answer(answer, "snapshot",
				 "Others can read it, but it was committed after the snapshot of this transaction, which therefore does not get it.");
	return true;
}

/*-------------------------------------------------------------------------
 *
 * letter.c
 *		Messages of a topic that a subscription makes dead letters.
 *
 * The message stays in the topic, for others; the dead letter is a copy, with
 * the headers that a copy has, and those that a dead letter has.  The caller
 * moves the position past the message in the same transaction.
 *
 * Locks: the dead-letter queue is opened like any queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/relation_name.h"
#include "dispatch/move.h"
#include "table/failure_log.h"
#include "table/setting_row.h"
#include "topic/copy.h"
#include "topic/letter.h"

static NullableDatum detoasted(NullableDatum value);

/* Send a message to the dead letters of a subscription. */
void
queue_letter_send(Relation rel, SubscriptionDef *def, TupleTableSlot *message,
				  const char *reason, int attempts, NullableDatum log,
				  const FailureNews *news)
{
	TopicDraft	published;
	MessageDraft draft;
	DeadLetter	letter = {
		.source = RelationGetRelid(rel),
		.reason = reason,
		.attempts = attempts
	};

	slot_getallattrs(message);
	queue_topic_draft_read(&published, message->tts_values,
						   message->tts_isnull);
	letter.source_id = published.id;
	letter.log.value = queue_failure_log_add(log, news);

	queue_draft_init(&draft, 0, GetCurrentTimestamp());
	draft.group_key = detoasted(published.group_key);
	draft.correlation_id = detoasted(published.correlation_id);
	draft.content_type = detoasted(published.content_type);
	draft.payload = detoasted(published.payload);
	draft.body = detoasted(published.body);
	published.headers = detoasted(published.headers);
	draft.headers.value = queue_copy_headers(&published,
											 queue_qualified_name(def->topic));
	draft.headers.isnull = false;
	queue_dead_letter_send(def->dead_letter, rel->rd_rel->relowner, &draft,
						   &letter);
}

/* Fetch a value from TOAST. */
static NullableDatum
detoasted(NullableDatum value)
{
	if (!value.isnull)
		value.value = PointerGetDatum(PG_DETOAST_DATUM(value.value));
	return value;
}

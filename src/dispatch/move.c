/*-------------------------------------------------------------------------
 *
 * move.c
 *		Messages that go from one queue to another.
 *
 * To the dead letters; redrive.c brings them back.  The row is deleted here and
 * a new one inserted there, in one transaction, so that no crash loses or
 * doubles a message.  The new row says where it comes from (origin.c).
 *
 * Locks: the target is opened like any queue.  The caller holds a claim on the
 * message, so no other process moves or takes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "common/json.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "dispatch/move.h"
#include "table/definition.h"
#include "table/failure_log.h"
#include "table/ids.h"
#include "table/insert.h"
#include "table/key_end.h"
#include "table/origin.h"
#include "table/settings.h"
#include "transaction/announce.h"
#include "transaction/charge.h"

static Datum dead_letter_headers(NullableDatum headers,
								 const DeadLetter *letter);

/*
 * queue_message_dead_letter
 *		Move a message to the dead letters of its queue.
 *
 * Deletes the row and inserts a new one there, whose headers say where it
 * comes from and why.  Returns false, with nothing done, if the row cannot be
 * deleted because another transaction has changed it.  Throws if the
 * dead-letter queue cannot take the message.
 */
bool
queue_message_dead_letter(Relation rel, QueueDef *def, MessageRow *row,
						  const char *reason, int attempts,
						  const FailureNews *news, bool is_expired)
{
	MessageDraft draft;
	NullableDatum log = queue_origin_strip(queue_row_failure_log(row));
	bool		was_delivered = row->failures > 0 || !log.isnull;
	DeadLetter	letter = {
		.source = RelationGetRelid(rel),
		.source_id = row->id,
		.reason = reason,
		.attempts = attempts,
		.expires_at = row->expires_at,
		.deliver_at = was_delivered ? 0 : row->visible_at
	};

	letter.log.value = news == NULL ? queue_failure_log_normal(log) :
		queue_failure_log_add(log, news);

	/* first the values: the row's pages may be pruned after it is gone */
	queue_draft_init(&draft, 0, GetCurrentTimestamp());
	queue_draft_copy(&draft, row->slot);
	draft.failure_log.value = queue_origin_make(rel, row);
	draft.failure_log.isnull = false;

	if (!queue_charge_delete(rel, def, row,
							 is_expired ? GONE_EXPIRED_DEAD : GONE_DEAD))
		return false;
	queue_dedup_left(def, row);
	queue_dead_letter_send(def->dead_letter, rel->rd_rel->relowner, &draft,
						   &letter);
	return true;
}

/*
 * queue_dead_letter_send
 *		Send a dead letter, of which the draft has all but its id and what the
 *		headers are to say.
 *
 * What a queue does by itself, it does with its owner's rights.
 */
void
queue_dead_letter_send(Oid target, Oid owner, MessageDraft *draft,
					   const DeadLetter *letter)
{
	Amount		amount;
	QueueDef   *def;
	Relation	rel = queue_open(target, QUEUE_SYSTEM, &def);
	AclResult	aclresult = pg_class_aclcheck(target, owner, ACL_INSERT);
	QueueInsert *insert;

	if (aclresult != ACLCHECK_OK)
		aclcheck_error(aclresult, OBJECT_TABLE, RelationGetRelationName(rel));
	queue_next_ids(def, 1, &draft->id);
	draft->headers.value = dead_letter_headers(draft->headers, letter);
	draft->headers.isnull = false;
	amount.messages = 1;
	amount.bytes = queue_draft_bytes(draft);
	queue_charge_exempt(def, &amount);
	queue_charge_sent(def, 1, amount.bytes, 0, 0);
	queue_announce_sent(target, draft->priority, draft->id, draft->id);
	insert = queue_insert_begin(rel, def);
	queue_insert_row(insert, draft);
	queue_insert_end(insert);
	table_close(rel, NoLock);
}

/*
 * queue_dead_letter_problem
 *		Return why messages at the limit of attempts have nowhere to go, as a
 *		sentence.
 *
 * Returns NULL if they have, or if a lock is in the way of finding out.  What
 * queue_message_dead_letter() raises as an error is told here before, by
 * queue.problem() and in the worker's log.  Waits for no lock.
 */
char *
queue_dead_letter_problem(const QueueDef *def, Oid owner)
{
	return queue_dead_letter_problem_of(def->dead_letter,
										def->retry.max_attempts, owner);
}

/* The same for what has this dead-letter queue, this limit and this owner */
char *
queue_dead_letter_problem_of(Oid target, int max_attempts, Oid owner)
{
	Relation	dead;
	QueueDef   *dead_def;
	bool		is_locked;
	char	   *problem = NULL;

	/* a dead-letter queue has neither */
	if (!OidIsValid(target))
		return max_attempts == 0 ? NULL :
			pstrdup("It has no dead-letter queue; messages that have used up max_attempts stay where they are.");
	if (get_rel_relkind(target) != RELKIND_RELATION)
		return pstrdup("Its dead-letter queue does not exist.");
	dead = queue_open_unless_locked(target, AccessShareLock, &is_locked);
	if (dead == NULL)
		return is_locked ? NULL :
			pstrdup("Its dead-letter queue does not exist.");

	dead_def = queue_def(dead);
	if (dead_def->problem != NULL)
		problem = psprintf("Its dead-letter queue %s cannot be used: %s",
						   queue_qualified_name(target), dead_def->problem);
	else if (!dead_def->is_queue)
		problem = psprintf("Its dead-letter queue %s is not a queue.",
						   queue_qualified_name(target));
	else if (pg_class_aclcheck(target, owner, ACL_INSERT) != ACLCHECK_OK)
		problem = psprintf("Its owner %s may not INSERT into its dead-letter queue %s.",
						   quote_identifier(GetUserNameFromId(owner, false)),
						   queue_qualified_name(target));
	table_close(dead, AccessShareLock);
	return problem;
}

/* Return the message's headers with one key more, "dead_letter". */
static Datum
dead_letter_headers(NullableDatum headers, const DeadLetter *letter)
{
	JsonbInState state = {0};
	Datum		added;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	queue_json_key(&state, "dead_letter");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	queue_json_string(&state, "source", queue_qualified_name(letter->source));
	queue_json_int(&state, "source_id", letter->source_id);
	queue_json_string(&state, "reason", letter->reason);
	queue_json_int(&state, "attempts", letter->attempts);
	queue_json_string(&state, "last_error",
					  queue_failure_log_message(letter->log));
	queue_json_time(&state, "died_at", GetCurrentTimestamp());
	if (letter->expires_at != 0)
		queue_json_time(&state, "expires_at", letter->expires_at);
	if (letter->deliver_at != 0)
		queue_json_time(&state, "deliver_at", letter->deliver_at);
	queue_json_jsonb(&state, "failures", DatumGetJsonbP(letter->log.value));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	added = JsonbPGetDatum(JsonbValueToJsonb(state.result));

	return headers.isnull ? added :
		DirectFunctionCall2(jsonb_concat, headers.value, added);
}

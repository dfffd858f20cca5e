/*-------------------------------------------------------------------------
 *
 * why_gone.c
 *		Where is a message of a queue that is not there?
 *
 * Nothing is kept of what was consumed, so there are only traces: what is left
 * of its row until that is vacuumed, the next id, and the dead letters, each of
 * which says where it comes from (origin.c).  These have no index by that, so
 * only those with the newest ids are looked at: some thousand rows, however many
 * there are.
 *
 * Locks: AccessShareLock on the dead-letter queue, if it can be had at once,
 * given back at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "monitor/why.h"
#include "table/ids.h"
#include "table/origin.h"
#include "table/scan.h"
#include "table/sequence.h"

/* Ids of dead letters that are looked at */
#define MAX_LOOKED_AT		10000

static bool was_never_sent(const Question *question, QueueDef *def);
static bool find_dead_letter(const Question *question, QueueDef *def,
							 int64 *dead_id, bool *is_certain);
static bool scan_dead_letters(const Question *question, Relation dead,
							  QueueDef *dead_def, int64 *dead_id,
							  bool *is_certain);
static bool is_from(const Question *question, MessageRow *row);

/* Say what is known of it. */
void
queue_why_gone(Answer *answer, const Question *question, Relation rel,
			   QueueDef *def, const Fate *fate)
{
	int64		dead_id;
	bool		is_certain;

	if (fate->fate == FATE_UNKNOWN && was_never_sent(question, def))
	{
		queue_answer(answer, "never sent",
					 "No message of this queue has had this id so far.");
		return;
	}
	if (fate->fate == FATE_ROLLED_BACK)
	{
		queue_answer(answer, "rolled back",
					 "The transaction that had sent it was rolled back.");
		return;
	}
	if (find_dead_letter(question, def, &dead_id, &is_certain))
	{
		char	   *dead = quote_literal_cstr(queue_qualified_name(def->dead_letter));

		queue_answer(answer, "dead-lettered",
					 "It is a dead letter: message " INT64_FORMAT " of queue %s.",
					 dead_id, queue_qualified_name(def->dead_letter));
		queue_answer_remedy(answer, "SELECT queue.redrive(%s, id => " INT64_FORMAT ")",
							dead, dead_id);
		return;
	}
	if (fate->fate == FATE_DELETED)
		queue_answer(answer, "consumed",
					 "It was consumed or deleted, and that has been committed.");
	else
		queue_answer(answer, "gone",
					 "There is no such message. Its id is below the next one, so it was consumed or deleted, or the transaction that had drawn the id was rolled back.");
	if (!is_certain)
		queue_answer_add(answer,
						 "It may also be a dead letter, of which only the newest ids were looked at, or none for want of the privilege.");
}

/* Is the id beyond all that were handed out? */
static bool
was_never_sent(const Question *question, QueueDef *def)
{
	bool		is_called;
	int64		last;

	if (question->id < 1)
		return true;
	if (queue_slot_find(question->relid) != NULL &&
		queue_id_is_new(def, question->id))
		return true;
	last = queue_sequence_last(def->sequence, &is_called);
	if (!is_called)
		return question->id >= last;
	return question->id > last && question->id - last >= def->id_block;
}

/*
 * find_dead_letter
 *		Find it in the dead-letter queue of its queue.
 *
 * *is_certain becomes false if it may be there, and was not looked for.
 */
static bool
find_dead_letter(const Question *question, QueueDef *def, int64 *dead_id,
				 bool *is_certain)
{
	Relation	dead;
	QueueDef   *dead_def;
	bool		is_locked;
	bool		found = false;

	*is_certain = true;
	if (!OidIsValid(def->dead_letter) ||
		get_rel_relkind(def->dead_letter) == '\0')
		return false;
	*is_certain = false;
	if (!queue_may_watch(def->dead_letter) &&
		!object_ownercheck(RelationRelationId, def->dead_letter, GetUserId()))
		return false;
	dead = queue_open_unless_locked(def->dead_letter, AccessShareLock,
									&is_locked);
	if (dead == NULL)
		return false;
	dead_def = queue_def(dead);
	if (dead_def->is_queue && dead_def->problem == NULL)
		found = scan_dead_letters(question, dead, dead_def, dead_id,
								  is_certain);
	table_close(dead, AccessShareLock);
	return found;
}

/* Look at those with the newest ids, in each priority. */
static bool
scan_dead_letters(const Question *question, Relation dead,
				  QueueDef *dead_def, int64 *dead_id, bool *is_certain)
{
	QueueScan  *scan = queue_scan_begin(dead, dead_def);
	QueueRange	range;
	bool		found = false;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "queue dead letter",
												  ALLOCSET_SMALL_SIZES);

	scan->wants_busy = true;
	range.high = queue_scan_last_id(scan);
	range.low = range.high > MAX_LOOKED_AT ? range.high - MAX_LOOKED_AT + 1 :
		PG_INT64_MIN;
	*is_certain = range.low == PG_INT64_MIN;
	for (range.rank = 0; range.rank < NUM_RANKS && !found; range.rank++)
	{
		MessageRow *row;

		queue_scan_range(scan, &range);
		while (!found && (row = queue_scan_next(scan)) != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			found = is_from(question, row);
			*dead_id = row->id;
			MemoryContextSwitchTo(old);
			MemoryContextReset(context);
		}
	}
	MemoryContextDelete(context);
	queue_scan_end(scan);
	return found;
}

/* Was this dead letter the message that is asked about? */
static bool
is_from(const Question *question, MessageRow *row)
{
	Origin		origin;

	return queue_origin_read(queue_row_failure_log(row), &origin) &&
		origin.id == question->id && origin.relid == question->relid;
}

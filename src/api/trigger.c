/*-------------------------------------------------------------------------
 *
 * trigger.c
 *		The triggers of a queue table: plain INSERT, COPY and UPDATE.
 *
 * They make a plain INSERT an enqueue: they fill what only the server sets,
 * and note the queue so that its waiters are woken at the commit.  The
 * functions of this extension insert below the executor and do not get here.
 *
 * Both triggers are enabled ALWAYS, so that rows that arrive by logical
 * replication are announced too; in replica role nothing is refused.  A row
 * that comes with an id is taken as it is: it is restored, or the owner has
 * chosen the id.
 *
 * A restore brings the rows of a queue and its settings in any order, so rows
 * with ids are taken while the table has no settings yet.  They are announced,
 * and ids go on beyond them.  That is needed if another transaction commits
 * the settings first.  Otherwise the transaction that makes the table a queue
 * announces every id (make_settings(), the trigger on queue.queue).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "utils/datum.h"
#include "utils/rel.h"

#include "api/room.h"
#include "api/trigger_call.h"
#include "common/compat.h"
#include "common/ranges.h"
#include "common/relation_name.h"
#include "table/dedup.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/rows.h"
#include "transaction/announce.h"
#include "transaction/admit.h"
#include "transaction/charge.h"

PG_FUNCTION_INFO_V1(queue_before_insert);
PG_FUNCTION_INFO_V1(queue_before_update);

static Datum take_as_it_is(Relation rel, HeapTuple tuple);
static void note_new_version(Relation rel, QueueDef *def,
							 const MessageDraft *old,
							 const MessageDraft *new);
static void charge_nothing(QueueDef *def, const MessageDraft *draft);
static void charge(Relation rel, QueueDef *def, const MessageDraft *draft,
				   bool is_exempt);
static void check_insert(Relation rel, QueueDef *def,
						 const MessageDraft *draft, const bool *nulls);
static void check_update(Relation rel, const Datum *old_values,
						 const bool *old_nulls, const Datum *new_values,
						 const bool *new_nulls);
static void check_twin(Relation rel, QueueDef *def,
					   const MessageDraft *draft);

/* before_insert(): trigger function */
Datum
queue_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = queue_trigger_call(fcinfo,
											   &queue_form.triggers[0]);
	Relation	rel = trigdata->tg_relation;
	QueueDef   *def = queue_def(rel);
	Datum		values[MaxHeapAttributeNumber];
	bool		nulls[MaxHeapAttributeNumber];
	MessageDraft draft;
	bool		is_replica = queue_trigger_is_replica();
	bool		has_id;

	/* values are read by position, and any role may create this trigger */
	if (is_replica && def->problem != NULL)
		return take_as_it_is(rel, trigdata->tg_trigtuple);
	if (def->is_queue || def->problem != NULL)
		queue_check_shape(rel, def);

	heap_deform_tuple(trigdata->tg_trigtuple, RelationGetDescr(rel),
					  values, nulls);
	has_id = !nulls[Anum_message_id - 1];
	if (!has_id && !is_replica)
		queue_check_shape(rel, def);	/* no restore: it must be a queue */

	queue_draft_read(&draft, values, nulls);
	if (!is_replica)
		check_insert(rel, def, &draft, nulls);
	charge(rel, def, &draft, is_replica || has_id);
	if (has_id)
		queue_advance_id(def, draft.id);
	else
		queue_next_ids(def, 1, &draft.id);
	if (!has_id && !is_replica && !draft.dedup_key.isnull &&
		queue_dedup_one(rel, def, &draft) != 0)
	{
		charge_nothing(def, &draft);
		return PointerGetDatum(NULL);	/* a duplicate: not inserted */
	}
	if (!has_id && draft.expires_at.isnull && def->expires_in > 0)
		queue_draft_expire(&draft, def->expires_in);
	queue_announce_row(RelationGetRelid(rel), &draft);
	queue_charge_sent_draft(def, &draft);
	queue_draft_columns(&draft, values, nulls);
	return PointerGetDatum(heap_form_tuple(RelationGetDescr(rel),
										   values, nulls));
}

/* The message is not sent after all: take back what charge() has counted. */
static void
charge_nothing(QueueDef *def, const MessageDraft *draft)
{
	Amount		amount;

	if (!queue_def_is_limited(def))
		return;
	amount.messages = 1;
	amount.bytes = queue_draft_bytes(draft);
	queue_charge_undo(def, &amount);
}

/*
 * charge
 *		Count the message, and raise QU003 if there is no room for it.
 *
 * A row that comes with an id, or from another server, is let in all the same.
 * Nothing waits here, because the statement holds a lock on the table.
 */
static void
charge(Relation rel, QueueDef *def, const MessageDraft *draft, bool is_exempt)
{
	Amount		amount;

	if (!queue_def_is_limited(def))
		return;
	amount.messages = 1;
	amount.bytes = queue_draft_bytes(draft);
	if (is_exempt)
		queue_charge_exempt(def, &amount);
	else if (!queue_admit(rel, def, &amount))
		queue_raise_full(def, &amount, ROOM_OF_STATEMENT);
}

/*
 * check_insert
 *		Refuse what enqueue() refuses, and to all but the owner what only the
 *		owner may do.
 */
static void
check_insert(Relation rel, QueueDef *def, const MessageDraft *draft,
			 const bool *nulls)
{
	queue_trigger_check_setters(rel, &queue_form, nulls);
	queue_draft_check(draft);
	if (!nulls[Anum_message_id - 1])
	{
		check_twin(rel, def, draft);
		return;
	}
	queue_check_not_paused(rel, def, QUEUE_ENQUEUE);
}

/* before_update(): trigger function */
Datum
queue_before_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = queue_trigger_call(fcinfo,
											   &queue_form.triggers[1]);
	Relation	rel = trigdata->tg_relation;
	QueueDef   *def = queue_def(rel);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		is_replica = queue_trigger_is_replica();
	Datum		old_values[MaxHeapAttributeNumber];
	Datum		new_values[MaxHeapAttributeNumber];
	bool		old_nulls[MaxHeapAttributeNumber];
	bool		new_nulls[MaxHeapAttributeNumber];
	MessageDraft old;
	MessageDraft new;

	if (!is_replica)
		queue_check_shape(rel, def);
	else if (def->problem != NULL)
		return take_as_it_is(rel, trigdata->tg_newtuple);
	heap_deform_tuple(trigdata->tg_trigtuple, desc, old_values, old_nulls);
	heap_deform_tuple(trigdata->tg_newtuple, desc, new_values, new_nulls);
	queue_draft_read(&old, old_values, old_nulls);
	queue_draft_read(&new, new_values, new_nulls);
	note_new_version(rel, def, &old, &new);
	queue_charge_version(def, queue_draft_bytes(&old),
						 queue_draft_bytes(&new));
	if (!is_replica)
	{
		check_update(rel, old_values, old_nulls, new_values, new_nulls);
		queue_draft_check(&new);
	}
	return PointerGetDatum(trigdata->tg_newtuple);
}

/*
 * check_update
 *		Raise an error unless only columns differ that every role may change.
 */
static void
check_update(Relation rel, const Datum *old_values, const bool *old_nulls,
			 const Datum *new_values, const bool *new_nulls)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			i;

	for (i = 0; i < Natts_message; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (queue_column(i + 1)->setter == COLUMN_OF_ANYBODY ||
			(old_nulls[i] && new_nulls[i]))
			continue;
		if (old_nulls[i] != new_nulls[i] ||
			!datum_image_eq(old_values[i], new_values[i],
							att->attbyval, att->attlen))
			queue_trigger_refuse_column(rel, &queue_form, i + 1);
	}
}

/*
 * take_as_it_is
 *		Take a row as it is, in replica role, and announce all messages of the
 *		table.
 *
 * In replica role nothing is refused, not even for a table that cannot be used
 * as a queue at the moment.  Its columns may be others, so it is not known
 * which message this is.
 */
static Datum
take_as_it_is(Relation rel, HeapTuple tuple)
{
	queue_announce_all(RelationGetRelid(rel));
	return PointerGetDatum(tuple);
}

/*
 * note_new_version
 *		Announce the new version: a consumer that met the old one while it was
 *		being updated skipped it.
 *
 * If its priority is another, that is noted, because the process that holds
 * the message now, or an entry with a failure of it, knows the old one.
 */
static void
note_new_version(Relation rel, QueueDef *def, const MessageDraft *old,
				 const MessageDraft *new)
{
	if (new->priority < 0 || new->priority > QUEUE_MAX_PRIORITY)
		return;					/* no scan will ever find it */
	if (old->priority != new->priority)
		queue_cover_priorities_vary(queue_def_slot(def),
									RelationGetRelid(rel));
	queue_announce_row(RelationGetRelid(rel), new);
}

/*
 * check_twin
 *		Raise 23505 if the queue has a message with this id in another
 *		priority.
 *
 * An id is to exist once, whatever the priority, but the primary key has both
 * columns, so it does not ensure that.  Two transactions that give one id at
 * the same time are not noticed.
 */
static void
check_twin(Relation rel, QueueDef *def, const MessageDraft *draft)
{
	if (queue_id_is_new(def, draft->id) ||
		!queue_row_has_twin(rel, def, draft->id, draft->priority))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("queue \"%s\" has a message with id " INT64_FORMAT " already",
					queue_shown_name(RelationGetRelid(rel)), draft->id),
			 errdetail("It has another priority than %d.", draft->priority),
			 errhint("Leave the column \"id\" out.")));
}

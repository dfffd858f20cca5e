/*-------------------------------------------------------------------------
 *
 * turn_name.c
 *		By what memory knows the group of a row.
 *
 * And what follows from that for those who have a row of a group, and take no
 * turn: those that pass it over, delete it, or find that it has expired.
 *
 * Locks: none of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "dispatch/turn.h"
#include "table/definition.h"
#include "transaction/holds.h"

static void name_group(const MessageRow *row, bool is_fair, GroupName *name);

/* By what memory knows the group of a row.  Good as long as the row is. */
void
queue_turn_name(const QueueDef *def, const MessageRow *row, GroupName *name)
{
	name_group(row, queue_def_is_fair(def), name);
}

/* The same in a queue whose groups take turns, or do not. */
static void
name_group(const MessageRow *row, bool is_fair, GroupName *name)
{
	const char *bytes = NULL;
	int			length = 0;

	if (row->has_group)
	{
		text	   *key = DatumGetTextPP(row->group_key);

		bytes = VARDATA_ANY(key);
		length = VARSIZE_ANY_EXHDR(key);
	}
	if (is_fair)
		queue_fair_name(name, bytes, length, queue_rank(row->priority));
	else
		queue_group_name(name, bytes, length);
}

/* Return a copy of the key of a group. */
Datum
queue_turn_copy_key(Datum key)
{
	return PointerGetDatum(PG_DETOAST_DATUM_COPY(key));
}

/*
 * queue_turn_find_key
 *		Find the key of the group that is out.
 *
 * A long one is read from the message whose turn it is.  Returns false if that
 * is gone.
 */
bool
queue_turn_find_key(CandidateScan *look, Datum *key)
{
	GroupEntry *group = look->group.entry;
	MessageRow *row;
	GroupName	name;
	bool		found = false;

	if (group->length >= 0)
	{
		*key = PointerGetDatum(cstring_to_text_with_len(group->text,
														group->length));
		return true;
	}
	row = queue_row_make(look->rel);
	row->id = group->out.id;
	row->enqueued_at = QUEUE_ANY_ROW;
	row->priority = queue_rank_priority(group->out.rank);
	if (queue_row_find(look->rel, look->def, row) != ROW_GONE &&
		row->has_group)
	{
		queue_turn_name(look->def, row, &name);
		found = name.hash == (uint64) group->key.id &&
			(group->check == 0 || name.check == group->check);
		if (found)
			*key = queue_turn_copy_key(row->group_key);
	}
	ExecDropSingleTupleTableSlot(row->slot);
	return found;
}

/*
 * queue_turn_note
 *		Hand a row to its group, without judging it.
 */
bool
queue_turn_note(CandidateScan *look, MessageRow *row)
{
	GroupName	name;

	queue_turn_name(look->def, row, &name);
	return queue_group_note(look->slot, look->def->relid, &name,
							queue_rank(row->priority), row->id);
}

/*
 * queue_turn_is_known
 *		Returns true if it is known that this message waits for others of its
 *		group, or for the next look, or somebody is looking at these.
 *
 * What was in flight while group_mode was changed has come back to a group of
 * the mode of then.  The next look takes it apart; nobody waits there for
 * those that hold it.
 */
bool
queue_turn_is_known(const QueueDef *def, const MessageRow *row)
{
	bool		is_fair = queue_def_is_fair(def);
	GroupName	name;

	name_group(row, true, &name);
	if (queue_group_has(def->relid, &name, row->id, is_fair))
		return true;
	if (!row->has_group)
		return false;
	name_group(row, false, &name);
	return queue_group_has(def->relid, &name, row->id,
						   queue_def_keeps_order(def));
}

/*
 * queue_turn_note_end
 *		This transaction has deleted a message, or moved its due time: its group
 *		need not wait for it.
 *
 * A consumer that has met it meanwhile has found it busy, and the group waits to
 * be looked at again; or it backed off.
 */
void
queue_turn_note_end(const QueueDef *def, MessageRow *row)
{
	GroupName	name;

	if (!queue_def_keeps_order(def) || !row->has_group)
		return;
	queue_turn_name(def, row, &name);
	queue_xact_note_group(def->relid, name.hash);
}

/*
 * queue_turn_try
 *		A message has expired: its group need not wait for it.
 */
void
queue_turn_try(const QueueDef *def, const MessageRow *row)
{
	GroupName	name;
	MessageKey	key;

	if (!queue_def_keeps_order(def) || !row->has_group)
		return;
	queue_turn_name(def, row, &name);
	queue_message_key(&key, def->relid, (int64) name.hash);
	queue_group_try(&key);
}

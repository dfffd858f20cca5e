/*-------------------------------------------------------------------------
 *
 * why_message.c
 *		Why is a message of a queue not delivered?
 *
 * First what withholds the message itself, by the one rule of availability and
 * by what the row tells of transactions that have not ended.  Then its group,
 * then the queue, then who waits.  The first that holds is the answer: nothing
 * behind it matters before that has ended.
 *
 * A group is asked as a consumer would ask it (turn.c): of messages before this
 * one only those count that hold the group, or that are covered, in a window or
 * noted.  So what was consumed long ago is not gone over.
 *
 * Locks: those of shared memory that is asked, for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/blocker.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "dispatch/move.h"
#include "dispatch/turn.h"
#include "monitor/why.h"
#include "shared/availability.h"
#include "shared/cover.h"
#include "shared/group.h"
#include "shared/held.h"
#include "shared/window.h"
#include "table/access.h"
#include "table/scan.h"
#include "transaction/recovered.h"

/* A step of the worker is waited for, so many milliseconds */
#define MAX_LOOKS			100

/* A message, and what is known of it */
typedef struct MessageLook
{
	const Question *question;
	Relation	rel;
	QueueDef   *def;
	QueueSlot  *slot;			/* NULL: none */
	MessageRow *row;
	Fate		fate;
	bool		has_entry;
	InflightEntry entry;
	MessageStatus status;
} MessageLook;

static const Instead instead = {"", "", ""};

static bool find(MessageLook *look, int64 id);
static void read_row(MessageLook *look, int64 id);
static bool is_changing(const MessageLook *look, const InflightEntry *before,
						bool had_entry);
static bool explain_message(Answer *answer, MessageLook *look);
static bool is_in_doubt(const MessageLook *look);
static bool explain_row(Answer *answer, MessageLook *look);
static void explain_exhausted(Answer *answer, MessageLook *look);
static void explain_expired(Answer *answer, MessageLook *look);
static void explain_stuck(Answer *answer, const char *reason,
						  const MessageLook *look);
static void explain_not_due(Answer *answer, MessageLook *look);
static bool explain_group(Answer *answer, MessageLook *look);
static bool find_earlier(MessageLook *look, int64 *id);
static bool keeps_none(const MessageLook *look, MessageRow *row);
static bool explain_queue(Answer *answer, MessageLook *look);
static bool explain_snapshot(Answer *answer, MessageLook *look);
static bool explain_turn(Answer *answer, MessageLook *look);
static bool explain_silence(Answer *answer, MessageLook *look);
static bool is_covered(MessageLook *look);

/* The message of a queue that is asked about. */
void
queue_why_message(Answer *answer, const Question *question, Relation rel,
				  QueueDef *def)
{
	MessageLook look = {0};

	if (!def->is_queue)
		queue_access_refuse(question->relid, &queue_form, &instead);
	if (def->problem != NULL)
	{
		queue_answer_unfit(answer, def->problem);
		return;
	}
	look.question = question;
	look.rel = rel;
	look.def = def;
	look.slot = queue_slot_find(question->relid);
	look.row = queue_row_make(rel);

	if (!find(&look, question->id))
		queue_why_gone(answer, question, rel, def, &look.fate);
	else if (explain_message(answer, &look))
	{
		if (def->dequeue_paused)
			queue_answer_add(answer, "Besides, dequeue is paused.");
	}
	else if (!explain_group(answer, &look) && !explain_queue(answer, &look) &&
			 !explain_snapshot(answer, &look) && !explain_turn(answer, &look) &&
			 !explain_silence(answer, &look))
		queue_answer_waiters(answer, look.slot);
	ExecDropSingleTupleTableSlot(look.row->slot);
}

/*
 * find
 *		Find a message, and what memory knows of it.
 *
 * Returns false if nobody can get it any more.  What this transaction has taken
 * is dead to it, and held.
 *
 * The worker counts failures in the row, and then memory forgets them.  So both
 * are read until neither has changed; a step of the worker is over in a moment.
 */
static bool
find(MessageLook *look, int64 id)
{
	InflightEntry before;
	bool		had_entry;

	read_row(look, id);
	for (int i = 0; i < MAX_LOOKS; i++)
	{
		before = look->entry;
		had_entry = look->has_entry;
		read_row(look, id);
		if (!is_changing(look, &before, had_entry))
			break;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
	if (look->fate.fate < FATE_DELETED_HERE)
		return false;
	queue_row_status(look->def, look->row,
					 look->has_entry ? &look->entry : NULL,
					 look->question->now, &look->status);
	return true;
}

/* Read its row, and then its entry. */
static void
read_row(MessageLook *look, int64 id)
{
	MessageKey	key;

	ExecClearTuple(look->row->slot);
	queue_fate_find(look->rel, look->def, id, look->row, &look->fate);
	queue_message_key(&key, look->question->relid, id);
	look->has_entry = look->fate.fate != FATE_UNKNOWN &&
		queue_inflight_peek(&key, look->row->enqueued_at, &look->entry);
}

/* Is the entry another one than before, or does the worker make a step? */
static bool
is_changing(const MessageLook *look, const InflightEntry *before,
			bool had_entry)
{
	if (!look->has_entry)
		return had_entry;
	return !had_entry || before->state != look->entry.state ||
		before->failures != look->entry.failures ||
		(look->entry.state == INFLIGHT_CLAIMED && look->entry.is_step);
}

/* ----------------------------------------------------------------
 *		The message itself
 * ----------------------------------------------------------------
 */

/* Does something withhold the message itself? */
static bool
explain_message(Answer *answer, MessageLook *look)
{
	if (look->fate.fate == FATE_COMING)
	{
		queue_answer_coming(answer, look->fate.xid);
		return true;
	}
	if (look->status.availability == MESSAGE_HELD && !is_in_doubt(look) &&
		queue_answer_held(answer, &look->entry, look->question->now, "it"))
	{
		if (look->entry.state == INFLIGHT_LEASED && !look->entry.is_settling)
			queue_answer_remedy(answer,
								"SELECT queue.end_lease(%s, " INT64_FORMAT ")",
								look->question->literal, look->entry.key.id);
		return true;
	}
	if (look->fate.fate <= FATE_BUSY)
		return explain_row(answer, look);
	switch (look->status.availability)
	{
		case MESSAGE_EXHAUSTED:
			if (queue_is_at_limit(look->def->retry.max_attempts,
								  look->status.failures))
				explain_exhausted(answer, look);
			else if (queue_has_expired(look->row->expires_at,
									   look->question->now))
				explain_expired(answer, look);
			else
			{
				queue_answer(answer, "exhausted",
							 "It had failed as often as its queue allowed, and the worker is to look at it again, because the settings have changed.");
				queue_answer_worker(answer);
			}
			return true;
		case MESSAGE_EXPIRED:
			explain_expired(answer, look);
			return true;
		case MESSAGE_NOT_DUE:
			explain_not_due(answer, look);
			return true;
		case MESSAGE_HELD:
		case MESSAGE_AVAILABLE:
			break;
	}
	return explain_row(answer, look);
}

/*
 * is_in_doubt
 *		Has a prepared transaction deleted a message that is leased?
 *
 * After a restart memory does not know that it has settled the lease.  The end
 * of that brings nothing back, so it is not the answer.
 */
static bool
is_in_doubt(const MessageLook *look)
{
	return look->fate.fate == FATE_BUSY && look->has_entry &&
		look->entry.state == INFLIGHT_LEASED && !look->entry.is_settling &&
		queue_blocker_gid(look->fate.xid) != NULL;
}

/* Does somebody do something to the row, or examine it at this moment? */
static bool
explain_row(Answer *answer, MessageLook *look)
{
	bool		is_gone = look->fate.fate <= FATE_BUSY;
	const char *who;

	if (look->status.is_claimed && look->entry.is_step)
	{
		queue_answer(answer, "examined",
					 "The worker is counting a failure of it, or moving it, which is over in a moment, unless its commit waits for a standby.");
		answer->pid = look->entry.holder_pid;
		answer->since = look->entry.since;
		return true;
	}
	if (is_gone || look->fate.fate == FATE_LOCKED)
	{
		who = queue_answer_xid(answer, look->fate.xid);
		if (is_gone && answer->gid != NULL)
			queue_answer(answer, "prepared",
						 "%s has taken, deleted or changed it, and has been neither committed nor rolled back.",
						 who);
		else if (!is_gone)
			queue_answer(answer, "locked",
						 "%s has locked its row, by SELECT FOR UPDATE or the like.",
						 who);
		else if (look->fate.is_change)
			queue_answer(answer, "being changed",
						 "%s has changed it, by UPDATE or queue.reschedule(), in a transaction that has not ended.",
						 who);
		else
			queue_answer(answer, "being deleted",
						 "%s has deleted it, by DELETE, queue.purge() or queue.cancel(), in a transaction that has not ended.",
						 who);
		return true;
	}
	if (look->status.is_claimed)
	{
		queue_answer(answer, "examined",
					 "Process %d is examining it at this moment.",
					 look->entry.holder_pid);
		answer->pid = look->entry.holder_pid;
		answer->since = look->entry.since;
		return true;
	}
	return false;
}

/* It has failed as often as its queue allows. */
static void
explain_exhausted(Answer *answer, MessageLook *look)
{
	char	   *problem;

	if (queue_def_stops_groups(look->def) && look->row->has_group)
	{
		queue_answer(answer, "group held",
					 "It has failed %s and stops its group, because the queue has group_failure = 'hold'.",
					 queue_answer_times(look->status.failures));
		if (look->question->may_read)
			queue_answer_remedy(answer, "SELECT queue.release_group(%s, %s)",
								look->question->literal,
								quote_literal_cstr(TextDatumGetCString(look->row->group_key)));
		return;
	}
	problem = queue_dead_letter_problem(look->def,
										look->rel->rd_rel->relowner);
	if (problem == NULL)
	{
		queue_answer(answer, "exhausted",
					 "It has failed %s, which is the limit, and the worker is to move it to the dead letters.",
					 queue_answer_times(look->status.failures));
		queue_answer_worker(answer);
		return;
	}
	explain_stuck(answer, "exhausted", look);
	queue_answer(answer, answer->reason,
				 "It has failed %s, which is the limit, and cannot be moved to the dead letters. %s",
				 queue_answer_times(look->status.failures), problem);
	queue_answer_remedy(answer, "SELECT queue.alter_queue(%s, max_attempts => %d)",
						look->question->literal, look->status.failures + 10);
}

/* It is beyond its time. */
static void
explain_expired(Answer *answer, MessageLook *look)
{
	char	   *problem = NULL;

	if (look->def->on_expiry == EXPIRY_DEAD_LETTER)
		problem = queue_dead_letter_problem(look->def,
											look->rel->rd_rel->relowner);
	if (problem == NULL)
	{
		queue_answer(answer, "expired",
					 "It has expired, and the worker is to %s.",
					 look->def->on_expiry == EXPIRY_DEAD_LETTER ?
					 "move it to the dead letters" : "delete it");
		queue_answer_worker(answer);
	}
	else
	{
		explain_stuck(answer, "expired", look);
		queue_answer(answer, answer->reason,
					 "It has expired, and cannot be moved to the dead letters. %s",
					 problem);
	}
	answer->since = look->row->expires_at;
}

/* It has nowhere to go: is that because there is no dead-letter queue? */
static void
explain_stuck(Answer *answer, const char *reason, const MessageLook *look)
{
	char	   *name = OidIsValid(look->def->dead_letter) ?
		get_rel_name(look->def->dead_letter) : NULL;

	answer->reason = name == NULL ? "dead-letter queue missing" : reason;
}

/* It is due later. */
static void
explain_not_due(Answer *answer, MessageLook *look)
{
	if (look->status.failures > 0)
		queue_answer(answer, "backing off",
					 "It has failed %s, and is tried again after a while.",
					 queue_answer_times(look->status.failures));
	else if (queue_row_was_delivered(look->rel, look->row))
		queue_answer(answer, "delayed",
					 "Its consumer has given it back for later, by queue.release().");
	else
	{
		queue_answer(answer, "delayed", "It was sent for later.");
		queue_answer_remedy(answer, "SELECT queue.reschedule(%s, " INT64_FORMAT
							", now())", look->question->literal,
							look->row->id);
	}
	answer->until = look->status.due;
}

/* ----------------------------------------------------------------
 *		Its group
 * ----------------------------------------------------------------
 */

/*
 * explain_group
 *		Does it wait for another message of its group?
 *
 * What is said of that one is said here, too: when it ends, and by whom.
 */
static bool
explain_group(Answer *answer, MessageLook *look)
{
	MessageLook first = *look;
	Answer		about = {0};
	int64		id;
	bool		found;

	if (!queue_def_keeps_order(look->def) || !look->row->has_group ||
		!find_earlier(look, &id))
		return false;
	first.row = queue_row_make(look->rel);
	found = find(&first, id) && explain_message(&about, &first);
	ExecDropSingleTupleTableSlot(first.row->slot);

	*answer = about;
	queue_answer(answer,
				 found && strcmp(about.reason, "group held") == 0 ?
				 about.reason : "behind",
				 "Message " INT64_FORMAT " of its group comes first%s%s", id,
				 found ? ". Of that one: " : ", and can be taken.",
				 found ? about.explanation : "");
	return true;
}

/*
 * find_earlier
 *		Find the message of its group that it waits for.
 *
 * First those that hold the group, whatever their ids; then those before it
 * that can be taken, or hold the group as soon as somebody looks at them.
 */
static bool
find_earlier(MessageLook *look, int64 *id)
{
	Oid			relid = look->question->relid;
	GroupName	name;
	MessageKey	key;
	MessageKey	holder;
	QueueRange	ranges[RANGE_PLACES(COVER_ROOM)];
	RangeSet	below;
	QueueScan  *scan;
	bool		found = false;

	queue_turn_name(look->def, look->row, &name);
	queue_message_key(&key, relid, PG_INT64_MIN);
	while (queue_group_next_member(&key, name.hash, &holder))
	{
		*id = key.id = holder.id;
		if (*id != look->row->id)
			return true;
	}
	if (look->row->id == PG_INT64_MIN)
		return false;

	queue_ranges_init(&below, ranges, COVER_ROOM);
	if (queue_recovered_holds(relid))
		queue_ranges_add(&below, 0, PG_INT64_MIN, look->row->id - 1);
	queue_window_below(look->slot, relid, look->row->id, &below);
	queue_group_add_waiting(relid, &name, look->row->id, &below);
	scan = queue_scan_begin_group(look->rel, look->def);
	for (int i = 0; i < below.nranges && !found; i++)
	{
		MessageRow *row;

		queue_scan_group(scan, look->row->group_key, below.ranges[i].low,
						 below.ranges[i].high);
		while (!found && (row = queue_scan_next(scan)) != NULL)
			if (!keeps_none(look, row))
			{
				*id = row->id;
				found = true;
			}
	}
	queue_scan_end(scan);
	return found;
}

/* Does a message keep none of its group waiting? (turn.c) */
static bool
keeps_none(const MessageLook *look, MessageRow *row)
{
	return (row->visible_at > look->question->now &&
			!queue_row_was_delivered(look->rel, row)) ||
		queue_has_expired(row->expires_at, look->question->now);
}

/* ----------------------------------------------------------------
 *		The queue, and who asks
 * ----------------------------------------------------------------
 */

/* Does the queue let nothing be taken? */
static bool
explain_queue(Answer *answer, MessageLook *look)
{
	int			limit = look->def->max_in_flight;

	if (look->def->dequeue_paused)
	{
		queue_answer(answer, "paused",
					 "Dequeue on the queue is paused, by queue.pause().");
		queue_answer_remedy(answer, "SELECT queue.resume(%s, enqueue => false)",
							look->question->literal);
		return true;
	}
	if (queue_answer_locked(answer, look->question))
		return true;
	if (limit > 0 && look->slot != NULL &&
		queue_held_count(look->slot) >= limit)
	{
		queue_answer(answer, "limit",
					 "As many messages are dequeued or leased as max_in_flight of the queue allows: %d.",
					 limit);
		queue_answer_remedy(answer,
							"SELECT * FROM queue.in_flight WHERE queue = %s::regclass",
							look->question->literal);
		return true;
	}
	return false;
}

/* Is it too new for the transaction that asks? */
static bool
explain_snapshot(Answer *answer, MessageLook *look)
{
	if (!IsolationUsesXactSnapshot() ||
		queue_row_is_visible(look->rel, look->row, GetActiveSnapshot()))
		return false;
	queue_answer(answer, "snapshot",
				 "Others can take it, but it was committed or changed after the snapshot of this transaction, which therefore does not get it.");
	return true;
}

/* Do groups take turns, and others come first? */
static bool
explain_turn(Answer *answer, MessageLook *look)
{
	GroupName	name;

	if (!queue_def_is_fair(look->def) || look->slot == NULL)
		return false;
	queue_turn_name(look->def, look->row, &name);
	if (!queue_group_is_others_turn(look->slot, look->question->relid, &name))
		return false;
	queue_answer(answer, "fair turn",
				 "It can be taken when it is the turn of its group: groups of this queue take turns, and another one is first.");
	return true;
}

/*
 * explain_silence
 *		Did it come without a word, so that consumers do not know of it yet?
 *
 * What has just been committed is announced in a moment.
 */
static bool
explain_silence(Answer *answer, MessageLook *look)
{
	for (int i = 0; i < MAX_LOOKS; i++)
	{
		if (is_covered(look))
			return false;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
	queue_answer(answer, "unannounced",
				 "It can be taken, but consumers do not know of it before the worker has found it: it came past the trigger of the queue, or nobody saw how its transaction ended.");
	queue_answer_worker(answer);
	if (look->def->deaf_trigger != NULL)
		queue_answer_remedy(answer,
							"ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
							queue_qualified_name(look->question->relid),
							quote_identifier(look->def->deaf_trigger));
	return true;
}

/*
 * is_covered
 *		Will a consumer come to it, as far as memory can tell?
 *
 * What has an entry is found by that: a lease that has run out, say, of which
 * nobody has taken notice yet.
 */
static bool
is_covered(MessageLook *look)
{
	bool		is_window_out;

	return look->slot == NULL || look->has_entry || look->row->has_group ||
		queue_def_is_fair(look->def) ||
		queue_cover_has(look->slot, queue_rank(look->row->priority),
						look->row->id, look->row->visible_at,
						&is_window_out) ||
		is_window_out;
}

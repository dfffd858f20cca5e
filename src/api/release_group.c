/*-------------------------------------------------------------------------
 *
 * release_group.c
 *		Letting a group go on that a message stops.
 *
 * With group_failure = 'hold' a message that has failed max_attempts times
 * stops its group.  Its row says so, and stays as it is until somebody decides:
 * to try it again, as if it had not failed, or to skip it, which moves it to
 * the dead letters.  Either happens in the caller's transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "dispatch/move.h"
#include "shared/availability.h"
#include "shared/counters.h"
#include "shared/group.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/scan.h"
#include "transaction/announce.h"
#include "transaction/holds.h"

PG_FUNCTION_INFO_V1(queue_release_group);

static bool release_first(Relation rel, QueueDef *def, text *key, bool skip);
static bool stops_group(QueueDef *def, MessageRow *row);
static void check_dead_letter(Relation rel, const QueueDef *def);
pg_noreturn static void report_busy(Relation rel);

/* release_group(queue, group_key, skip): was there one that stops it? */
Datum
queue_release_group(PG_FUNCTION_ARGS)
{
	Relation	rel;
	QueueDef   *def;
	bool		skip;
	bool		found = false;

	queue_call_begin(fcinfo, "queue.release_group()", CALL_WRITES,
					 "queue", "group_key", "skip");
	skip = PG_GETARG_BOOL(2);

	rel = queue_open(PG_GETARG_OID(0), QUEUE_SETTLE, &def);
	queue_lease_load();
	if (queue_def_stops_groups(def))
	{
		if (skip)
			check_dead_letter(rel, def);
		found = release_first(rel, def, PG_GETARG_TEXT_PP(1), skip);
	}
	table_close(rel, NoLock);
	PG_RETURN_BOOL(found);
}

/*
 * release_first
 *		Release the first message of the group that stops it, or skip it.
 *
 * Returns false if there is none.  That the group is to be looked at is noted
 * for the commit.
 */
static bool
release_first(Relation rel, QueueDef *def, text *key, bool skip)
{
	QueueScan  *scan = queue_scan_begin_group(rel, def);
	MessageRow *row;
	GroupName	name;
	bool		found = false;

	queue_scan_group(scan, PointerGetDatum(key), PG_INT64_MIN, PG_INT64_MAX);
	while (!found && (row = queue_scan_next(scan)) != NULL)
	{
		if (!stops_group(def, row))
			continue;
		if (row->state == ROW_BUSY)
			report_busy(rel);
		queue_group_name(&name, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
		queue_xact_note_group(def->relid, name.hash);
		if (skip)
			found = queue_message_dead_letter(rel, def, row,
											  "max_attempts reached",
											  row->failures, NULL,
											  false /* is expired */ );
		else
		{
			queue_announce_sent(def->relid, row->priority, row->id, row->id);
			found = queue_row_rewrite(rel, def, row, 0 /* failures */ ,
									  true, 0 /* at once */ , NULL);
		}
		if (!found)
			report_busy(rel);
	}
	queue_scan_end(scan);
	if (found && queue_def_slot(def) != NULL)
		queue_counters_doubt(queue_def_slot(def));
	return found;
}

/*
 * stops_group
 *		Has this message failed as often as it may?
 *
 * If only memory knows of the last failure, the worker is about to tell the
 * row, and the caller has to come again.
 */
static bool
stops_group(QueueDef *def, MessageRow *row)
{
	MessageKey	key;
	InflightEntry entry;

	if (queue_is_at_limit(def->retry.max_attempts, row->failures))
		return true;
	queue_message_key(&key, def->relid, row->id);
	if (!queue_inflight_peek(&key, row->enqueued_at, &entry) ||
		entry.state == INFLIGHT_LEASED || entry.state == INFLIGHT_DEQUEUED ||
		!queue_is_at_limit(def->retry.max_attempts,
						   row->failures + entry.failures))
		return false;
	row->state = ROW_BUSY;
	return true;
}

/* Raise an error if the queue has no dead letters to move a message to. */
static void
check_dead_letter(Relation rel, const QueueDef *def)
{
	if (!OidIsValid(def->dead_letter))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" has no dead-letter queue",
						queue_shown_name(RelationGetRelid(rel))),
				 errdetail("A message that is skipped goes there."),
				 errhint("Give it one with queue.alter_queue(), or delete the message.")));
}

/* Raise 55P03: another transaction is in the way. */
static void
report_busy(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not release the group in queue \"%s\"",
					queue_shown_name(RelationGetRelid(rel))),
			 errdetail("Another transaction is changing or counting the message that stops it."),
			 errhint("Try again when that transaction has ended.")));
}

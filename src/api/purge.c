/*-------------------------------------------------------------------------
 *
 * purge.c
 *		Deleting all messages of a queue, or those that a selector matches.
 *
 * In the caller's transaction.  What another open transaction holds, prepared
 * ones included, is skipped.  The exception is a row that the worker is just
 * rewriting: that is over in a moment, so it is waited for.  Leases end at the
 * commit.
 *
 * The table is read in its own order, with a snapshot, as DELETE would do.
 * That takes two thirds of the time of looking each row up in the index, and
 * misses no row that is moved meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/progress.h"
#include "dispatch/lease.h"
#include "shared/queue_slot.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "table/scan.h"
#include "table/selector.h"
#include "transaction/announce.h"
#include "transaction/charge.h"
#include "transaction/holds.h"

/* How often one message may be rewritten meanwhile */
#define MAX_TRIES			3

PG_FUNCTION_INFO_V1(queue_purge);

typedef enum PurgeResult
{
	PURGE_DONE,
	PURGE_GONE,					/* another transaction has deleted it */
	PURGE_HELD
} PurgeResult;

static bool is_meant(Relation rel, QueueDef *def, MessageRow *row,
					 QueueSelector *selector);
static PurgeResult purge_row(Relation rel, QueueDef *def, MessageRow *row,
							 QueueSelector *selector);
static bool delete_row(Relation rel, QueueDef *def, MessageRow *row,
					   const MessageKey *key);

/* purge(queue, selector) */
Datum
queue_purge(PG_FUNCTION_ARGS)
{
	Relation	rel;
	QueueDef   *def;
	Snapshot	snapshot;
	QueueTableScan *pass;
	MessageRow *row;
	QueueSelector *selector = NULL;
	int64		count = 0;
	int64		nheld = 0;
	bool		has_groups = false;

	queue_call_begin(fcinfo, "queue.purge()", CALL_WRITES, "queue");
	if (!PG_ARGISNULL(1))
		selector = queue_selector_make(PG_GETARG_DATUM(1), false /* raises */ );

	rel = queue_open(PG_GETARG_OID(0), QUEUE_OWN, &def);
	queue_lease_load();

	/* what this transaction deleted, in this statement too, is gone already */
	snapshot = GetActiveSnapshot();
	if (IsolationUsesXactSnapshot())
	{
		PushCopiedSnapshot(snapshot);
		UpdateActiveSnapshotCommandId();
	}
	else
		PushActiveSnapshot(GetLatestSnapshot());
	queue_progress_begin(PROGRESS_OF_PURGE, RelationGetRelid(rel),
						 queue_progress_estimate(RelationGetRelid(rel)));
	pass = queue_table_scan_begin(rel, GetActiveSnapshot());
	while ((row = queue_table_scan_next(pass)) != NULL)
	{
		/* of what it wrote, a statement deletes what it sees */
		if (row->state == ROW_OWN && !queue_row_is_visible(rel, row, snapshot))
			continue;
		if (!is_meant(rel, def, row, selector))
			continue;
		switch (purge_row(rel, def, row, selector))
		{
			case PURGE_DONE:
				has_groups |= row->has_group;
				queue_progress_update(++count);
				break;
			case PURGE_HELD:
				nheld++;
				break;
			case PURGE_GONE:
				break;
		}
	}
	queue_table_scan_end(pass);
	queue_progress_end();
	PopActiveSnapshot();
	queue_slot_note_purge(RelationGetRelid(rel));

	/* consumers have met them, and leave those behind alone for a while */
	if (has_groups && queue_def_keeps_order(def))
		queue_xact_note_group(def->relid, 0 /* all */ );
	if (nheld > 0)
		ereport(NOTICE,
				(errmsg_plural("purge skipped %lld message that another transaction holds",
							   "purge skipped %lld messages that other transactions hold",
							   (unsigned long) nheld, (long long) nheld),
				 errhint("View queue.in_doubt shows prepared transactions.")));
	table_close(rel, NoLock);
	PG_RETURN_INT64(count);
}

/* Is this message to be deleted? */
static bool
is_meant(Relation rel, QueueDef *def, MessageRow *row, QueueSelector *selector)
{
	MessageKey	key;
	InflightEntry entry;
	MessageStatus status;
	bool		has_entry;

	if (!queue_selector_wants_attempt(selector))
		return queue_selector_matches(selector, row, row->failures + 1);
	queue_message_key(&key, RelationGetRelid(rel), row->id);
	has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
	queue_row_status(def, row, has_entry ? &entry : NULL,
					 GetCurrentTimestamp(), &status);
	return queue_selector_matches(selector, row, status.failures + 1);
}

/*
 * purge_row
 *		Delete one message.
 *
 * If it has another version meanwhile, or the worker is about to make one,
 * that version is deleted.  But an older snapshot deletes only what it sees,
 * unless the worker's version is all that it misses.
 */
static PurgeResult
purge_row(Relation rel, QueueDef *def, MessageRow *row,
		  QueueSelector *selector)
{
	MessageKey	key;
	bool		has_waited = false;
	int			tries;

	queue_message_key(&key, RelationGetRelid(rel), row->id);
	for (tries = 0; tries < MAX_TRIES; tries++)
	{
		int			holder;

		if (row->state != ROW_BUSY && delete_row(rel, def, row, &key))
		{
			queue_dedup_forget(def, row);
			queue_announce_changed(def->relid, row->priority, row->id);
			return PURGE_DONE;
		}
		if (row->state == ROW_GONE)
			return PURGE_GONE;
		if (queue_inflight_is_step(&key, row->enqueued_at, &holder))
		{
			queue_row_wait(rel, row, holder);
			has_waited = true;
		}
		else if (row->state == ROW_BUSY)
			return PURGE_HELD;
		row->state = queue_row_find(rel, def, row);
		if (row->state == ROW_GONE)
			return PURGE_GONE;
		if (IsolationUsesXactSnapshot() && !has_waited &&
			!queue_row_is_visible(rel, row, GetActiveSnapshot()))
			return PURGE_GONE;
		if (row->state == ROW_LIVE && !is_meant(rel, def, row, selector))
			return PURGE_GONE;
	}
	return PURGE_HELD;
}

/*
 * delete_row
 *		Delete a row; its lease ends when this transaction commits.
 *
 * Returns false, with nothing done, if another transaction is in the way.
 */
static bool
delete_row(Relation rel, QueueDef *def, MessageRow *row,
		   const MessageKey *key)
{
	InflightEntry *entry;
	Hold	   *hold;

	queue_xact_reserve();
	if (queue_inflight_settle_any(key, row->enqueued_at, &entry) !=
		SETTLE_OK)
		return queue_charge_delete(rel, def, row, GONE_REMOVED);
	hold = queue_xact_push(HOLD_SETTLE, key, entry);
	if (queue_charge_delete(rel, def, row, GONE_REMOVED))
		return true;
	queue_inflight_undo_settle(entry);
	queue_xact_pop(hold);
	return false;
}

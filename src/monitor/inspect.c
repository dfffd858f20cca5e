/*-------------------------------------------------------------------------
 *
 * inspect.c
 *		What users look at: queue.counts(), and views
 *		queue.in_flight, queue.cover, queue.in_doubt.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "dispatch/lease.h"
#include "monitor/walk.h"
#include "shared/availability.h"
#include "shared/deadline.h"
#include "shared/expiry.h"
#include "shared/inflight.h"
#include "shared/waiter.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/scan.h"
#include "transaction/in_doubt_note.h"
#include "transaction/prepared.h"

#define Natts_counts		4
#define Natts_in_flight		7
#define Natts_cover			10
#define Natts_prepared		(3 + NPREPARED_HOLDS)

PG_FUNCTION_INFO_V1(queue_counts);
PG_FUNCTION_INFO_V1(queue_in_flight);
PG_FUNCTION_INFO_V1(queue_cover);
PG_FUNCTION_INFO_V1(queue_prepared);

static void count_messages(Relation rel, QueueDef *def, int64 *ready,
						   int64 *leased, int64 *delayed, int64 *exhausted);
static Relation open_to_inspect(Oid relid);
static void put_entry(const InflightEntry *entry, void *arg);
static void put_prepared(TransactionId xid, Oid dbid, Oid relid,
						 PreparedHold kind, int64 n, void *arg);
static const char *state_name(const InflightEntry *entry);

/*
 * counts(queue) returns (ready, leased, delayed, exhausted)
 *
 * The columns are null where the user may not look, and for a queue that is
 * broken: one that goes over all queues must not fail on it.
 *
 * The lock is given back at once, because a query over ten thousand queues
 * must not hold as many locks.
 */
Datum
queue_counts(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Relation	rel = NULL;
	Datum		values[Natts_counts] = {0};
	bool		nulls[Natts_counts] = {true, true, true, true};

	queue_require_preload();
	desc = queue_call_row_type(fcinfo);

	if (!PG_ARGISNULL(0))
		rel = open_to_inspect(PG_GETARG_OID(0));
	if (rel != NULL)
	{
		QueueDef   *def = queue_def(rel);
		int64		counts[Natts_counts];

		if (def->is_queue && def->problem == NULL &&
			queue_may_watch(RelationGetRelid(rel)))
		{
			queue_lease_load_to_look();
			count_messages(rel, def, &counts[0], &counts[1], &counts[2],
						   &counts[3]);
			for (int i = 0; i < Natts_counts; i++)
			{
				values[i] = Int64GetDatum(counts[i]);
				nulls[i] = false;
			}
		}
		table_close(rel, AccessShareLock);
	}

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * count_messages
 *		Count the messages by state, as this moment sees them.
 *
 * A snapshot finds each of them once, also those that are being rewritten,
 * whose new version is somewhere else in the index.  What this transaction has
 * sent is not counted.
 */
static void
count_messages(Relation rel, QueueDef *def, int64 *ready, int64 *leased,
			   int64 *delayed, int64 *exhausted)
{
	TimestampTz now = GetCurrentTimestamp();
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueScan  *scan = queue_scan_begin_snapshot(rel, def, snapshot);
	MessageRow *row;

	*ready = *leased = *delayed = *exhausted = 0;
	while ((row = queue_scan_next(scan)) != NULL)
	{
		MessageKey	key;
		InflightEntry entry;
		MessageStatus status;
		bool		has_entry;

		if (queue_row_is_own(row))
			continue;
		queue_message_key(&key, RelationGetRelid(rel), row->id);
		has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
		queue_row_status(def, row, has_entry ? &entry : NULL, now, &status);

		/*
		 * the transaction that changes the row holds it, unless it is the
		 * worker
		 */
		if (queue_row_recheck(rel, row) == ROW_BUSY &&
			!(status.is_claimed && entry.is_step))
			status.availability = MESSAGE_HELD;
		switch (status.availability)
		{
			case MESSAGE_AVAILABLE:
				(*ready)++;
				break;
			case MESSAGE_HELD:
				(*leased)++;
				break;
			case MESSAGE_EXHAUSTED:
			case MESSAGE_EXPIRED:
				(*exhausted)++;
				break;
			case MESSAGE_NOT_DUE:
				(*delayed)++;
				break;
		}
	}
	queue_scan_end(scan);
	UnregisterSnapshot(snapshot);
}

/* Open a table that should be a queue; NULL if there is no such table. */
static Relation
open_to_inspect(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_RELATION)
		return NULL;
	return try_table_open(relid, AccessShareLock);
}

/* in_flight(): this database's part of the in-flight table */
Datum
queue_in_flight(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);

	queue_walk_entries(put_entry, rsinfo);
	return (Datum) 0;
}

/* Return one entry as a row. */
static void
put_entry(const InflightEntry *entry, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	Datum		values[Natts_in_flight] = {0};
	bool		nulls[Natts_in_flight] = {0};
	bool		is_leased = entry->state == INFLIGHT_LEASED;

	values[0] = ObjectIdGetDatum(entry->key.relid);
	values[1] = Int64GetDatum(entry->key.id);
	values[2] = CStringGetTextDatum(state_name(entry));
	values[3] = Int32GetDatum(entry->holder_pid);
	nulls[3] = entry->holder_pid == 0 ||
		entry->state == INFLIGHT_IDLE || (is_leased && !entry->is_settling);
	values[4] = TimestampTzGetDatum(entry->deadline);
	nulls[4] = !is_leased;
	values[5] = Int32GetDatum(entry->failures);
	values[6] = TimestampTzGetDatum(entry->deadline);
	nulls[6] = entry->state != INFLIGHT_IDLE || entry->deadline == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* cover(): for view queue.cover */
Datum
queue_cover(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	int			i;

	for (i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);
		Datum		values[Natts_cover] = {0};
		bool		nulls[Natts_cover] = {0};
		CoverCounts counts;
		Oid			relid;
		int			nwaiters;

		if (slot == NULL)
			continue;
		nwaiters = queue_waiter_count(slot);
		LWLockAcquire(slot->lock, LW_SHARED);
		relid = slot->dbid == MyDatabaseId && slot->kind == SLOT_QUEUE ?
			slot->relid : InvalidOid;
		queue_cover_count(slot, &counts);
		values[0] = ObjectIdGetDatum(relid);
		values[1] = Int32GetDatum(counts.nranges);
		values[2] = Int32GetDatum(queue_slot_nready_groups(slot));
		values[3] = Int32GetDatum(counts.ndelayed);
		values[4] = Int32GetDatum(counts.nbusy);
		values[5] = Int32GetDatum(counts.nwindows);
		values[6] = Int32GetDatum(nwaiters);
		values[7] = TimestampTzGetDatum(counts.due);
		nulls[7] = counts.due == TIMESTAMP_INFINITY;
		values[8] = Int64GetDatum(queue_slot_nrepaired(slot));
		values[9] = Int64GetDatum(queue_expiry_count(slot));
		LWLockRelease(slot->lock);

		if (!OidIsValid(relid) || !queue_may_watch(relid))
			continue;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* prepared(): for view queue.in_doubt, whose rows are to be added up */
Datum
queue_prepared(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);

	queue_xact_visit_prepared(put_prepared, rsinfo);
	queue_in_doubt_note_visit(put_prepared, rsinfo);
	return (Datum) 0;
}

/*
 * put_prepared
 *		Visitor of the registry of prepared transactions: return a row.
 *
 * A user that may not browse or watch the queue learns nothing of its
 * messages; a queue of another database has no name here.
 */
static void
put_prepared(TransactionId xid, Oid dbid, Oid relid, PreparedHold kind, int64 n,
			 void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	Datum		values[Natts_prepared] = {0};
	bool		nulls[Natts_prepared] = {0};

	if (OidIsValid(relid) && (dbid != MyDatabaseId || !queue_may_watch(relid)))
		return;
	values[0] = TransactionIdGetDatum(xid);
	values[1] = ObjectIdGetDatum(dbid);
	values[2] = ObjectIdGetDatum(relid);
	nulls[2] = !OidIsValid(relid);
	for (int i = 0; i < NPREPARED_HOLDS; i++)
		values[3 + i] = Int64GetDatum(i == (int) kind ? n : 0);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

#ifdef USE_ASSERT_CHECKING
/*
 * test_forget(queue): forget all hints about a queue
 *
 * Neither in the install script nor in ordinary builds; for a test of what
 * repairs that.
 */
PG_FUNCTION_INFO_V1(queue_test_forget);

Datum
queue_test_forget(PG_FUNCTION_ARGS)
{
	queue_deadline_forget(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}
#endif

/* The word that column "state" has for an entry */
static const char *
state_name(const InflightEntry *entry)
{
	switch ((InflightState) entry->state)
	{
		case INFLIGHT_IDLE:
			return entry->is_exhausted ? "exhausted" :
				entry->failures > 0 || entry->nnotes > 0 ? "failed" :
				entry->is_delayed ? "released" :
				entry->is_lapsed ? "lapsed" : "ended";
		case INFLIGHT_CLAIMED:
			return "claimed";
		case INFLIGHT_DEQUEUED:
			return entry->is_prepared ? "prepared" : "dequeued";
		case INFLIGHT_LEASED:
			return !entry->is_settling ? "leased" :
				entry->is_prepared ? "prepared" : "settling";
	}
	return NULL;
}

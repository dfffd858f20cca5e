/*-------------------------------------------------------------------------
 *
 * inspect.c
 *		What people look at: views queue.queues, queue.in_flight, queue.cover,
 *		queue.in_doubt.
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

#include "catalog.h"
#include "inflight.h"
#include "lease.h"
#include "queue.h"
#include "storage.h"
#include "waiter.h"
#include "xact.h"

#define Natts_in_flight		7
#define Natts_cover			8
#define Natts_prepared		(3 + NPREPARED_HOLDS)

/* Entries copied while the table is locked: no allocation there */
typedef struct Copies
{
	InflightEntry *entries;
	int			n;
	int			max;
} Copies;

PG_FUNCTION_INFO_V1(queue_counts);
PG_FUNCTION_INFO_V1(queue_in_flight);
PG_FUNCTION_INFO_V1(queue_cover);
PG_FUNCTION_INFO_V1(queue_prepared);

static void counts_of(Oid relid, Datum *values, bool *nulls);
static bool copy_entry(InflightEntry *entry, void *arg);
static void put_prepared(TransactionId xid, Oid dbid, Oid relid,
						 PreparedHold kind, int64 n, void *arg);
static const char *state_name(const InflightEntry *entry);

/*
 * counts(queue) returns (ready, leased, delayed, exhausted, problem), for the
 * view queue.queues: NULL where the user may not look, and no error for a
 * queue that is broken, which the view is there to show.
 */
Datum
queue_counts(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[5] = {0};
	bool		nulls[5] = {true, true, true, true, true};

	queue_require_preload();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	if (!PG_ARGISNULL(0))
		counts_of(PG_GETARG_OID(0), values, nulls);

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * What queue_counts() returns.  The lock is given back at once: a view over
 * ten thousand queues must not hold as many locks.
 */
static void
counts_of(Oid relid, Datum *values, bool *nulls)
{
	Relation	rel = NULL;
	QueueDef   *def;
	int64		counts[4];

	if (get_rel_relkind(relid) == RELKIND_RELATION)
		rel = try_table_open(relid, AccessShareLock);
	if (rel == NULL)
	{
		values[4] = CStringGetTextDatum("There is no such table.");
		nulls[4] = false;
		return;
	}

	def = queue_def(rel);
	if (def->problem != NULL)
	{
		values[4] = CStringGetTextDatum(def->problem);
		nulls[4] = false;
	}
	else if (def->is_queue && queue_may_watch(relid))
	{
		queue_lease_load_to_look();
		queue_count_messages(rel, def, &counts[0], &counts[1], &counts[2],
							 &counts[3]);
		for (int i = 0; i < 4; i++)
		{
			values[i] = Int64GetDatum(counts[i]);
			nulls[i] = false;
		}
	}
	table_close(rel, AccessShareLock);
}

/* in_flight() */
Datum
queue_in_flight(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Copies		copies = {NULL, 0, 0};
	int			i;

	queue_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	/* again, if it has grown meanwhile */
	do
	{
		copies.max = queue_inflight_size() + 100;
		copies.n = 0;
		if (copies.entries)
			pfree(copies.entries);
		copies.entries =
			palloc_extended(copies.max * sizeof(InflightEntry),
							MCXT_ALLOC_HUGE);
		queue_inflight_visit(copy_entry, &copies);
	} while (copies.n == copies.max);

	for (i = 0; i < copies.n; i++)
	{
		InflightEntry *entry = &copies.entries[i];
		Datum		values[Natts_in_flight] = {0};
		bool		nulls[Natts_in_flight] = {0};
		bool		is_leased = entry->state == INFLIGHT_LEASED;

		/* who may not browse or watch the queue learns nothing of it */
		if (!queue_may_watch(entry->key.relid))
			continue;

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
	return (Datum) 0;
}

/* Visitor of the in-flight table */
static bool
copy_entry(InflightEntry *entry, void *arg)
{
	Copies	   *copies = arg;

	copies->entries[copies->n++] = *entry;
	return copies->n < copies->max;
}

/* cover() */
Datum
queue_cover(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;

	queue_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < queue_state_count(); i++)
	{
		QueueState *state = queue_state_at(i);
		Datum		values[Natts_cover] = {0};
		bool		nulls[Natts_cover] = {0};
		TimestampTz due;
		Oid			relid;
		int			nwaiters;

		if (state == NULL)
			continue;
		nwaiters = queue_waiter_count(state);
		LWLockAcquire(state->lock, LW_SHARED);
		relid = state->dbid == MyDatabaseId ? state->relid : InvalidOid;
		due = state->first_due;
		values[0] = ObjectIdGetDatum(relid);
		values[1] = Int32GetDatum(state->cover.nranges);
		values[2] = Int32GetDatum(state->nlater);
		values[3] = Int32GetDatum(state->busy.nranges);
		values[4] = Int32GetDatum(state->nwindows);
		values[5] = Int32GetDatum(nwaiters);
		values[6] = TimestampTzGetDatum(due);
		nulls[6] = due == TIMESTAMP_INFINITY;
		values[7] = Int64GetDatum(state->nhealed);
		LWLockRelease(state->lock);

		if (!OidIsValid(relid) || !queue_may_watch(relid))
			continue;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* prepared(), whose rows are to be added up */
Datum
queue_prepared(PG_FUNCTION_ARGS)
{
	queue_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	queue_xact_visit_prepared(put_prepared, fcinfo->resultinfo);
	return (Datum) 0;
}

/*
 * Visitor of the registry.  Who may not browse or watch the queue learns nothing
 * of its messages; a queue of another database has no name here.
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
 * Forget all hints about a queue.  Not in the install script, and not there in
 * ordinary builds: for a test of what heals them.
 */
PG_FUNCTION_INFO_V1(queue_test_forget);

Datum
queue_test_forget(PG_FUNCTION_ARGS)
{
	queue_cover_forget(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}
#endif

/* The words of column "state" */
static const char *
state_name(const InflightEntry *entry)
{
	switch ((InflightState) entry->state)
	{
		case INFLIGHT_IDLE:
			return entry->is_exhausted ? "exhausted" :
				entry->failures > 0 ? "failed" : "ended";
		case INFLIGHT_CLAIMED:
			return "claimed";
		case INFLIGHT_TAKEN:
			return entry->is_prepared ? "prepared" : "dequeued";
		case INFLIGHT_LEASED:
			return !entry->is_settling ? "leased" :
				entry->is_prepared ? "prepared" : "settling";
	}
	return NULL;
}

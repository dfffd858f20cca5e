/*-------------------------------------------------------------------------
 *
 * health.c
 *		What queue.health() has to ask memory: how much room there is, and
 *		whether the processes are there.
 *
 * The rules are SQL (sql/parts/50-health.sql); here are figures.  They are
 * copied under a lock, or read without one, so those of one call may be of
 * different moments.
 *
 * server_state() is asked first, and raises no error where the library is not
 * preloaded or of another version than the extension, because these are what it
 * has to tell.
 *
 * Locks: those of memory, for the moment of a copy.  Changes nothing, so
 * nothing is left if this process dies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/extension.h"
#include "shared/database.h"
#include "shared/inflight.h"
#include "shared/queue_slot.h"
#include "shared/quota.h"
#include "shared/topic_slot.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/member.h"

/* Queues whose stuck messages are counted: a power of two */
#define MAX_STUCK_QUEUES		1024

/*
 * is_preloaded, library_version, problem, leader_pid, worker_pid, round_age,
 * databases, waiting_databases, lacks_databases, queues, topics, in_flight,
 * refused_prepares
 */
#define Natts_server_state		13

/* queue, messages */
#define Natts_stuck				2

/* Messages that cannot be moved, by queue: a hash table without deletions */
typedef struct StuckCounts
{
	TimestampTz now;
	Oid			relids[MAX_STUCK_QUEUES];
	int64		counts[MAX_STUCK_QUEUES];
} StuckCounts;

PG_FUNCTION_INFO_V1(queue_server_state);
PG_FUNCTION_INFO_V1(queue_in_flight_used);
PG_FUNCTION_INFO_V1(queue_stuck_messages);
PG_FUNCTION_INFO_V1(queue_topic_violations);

static void add_census(Datum *values, bool *nulls);
static bool count_stuck(InflightEntry *entry, void *arg);

/* server_state() */
Datum
queue_server_state(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[Natts_server_state] = {0};
	bool		nulls[Natts_server_state];
	char	   *problem;

	desc = queue_call_row_type(fcinfo);
	memset(nulls, true, sizeof(nulls));
	values[0] = BoolGetDatum(queue_is_preloaded);
	values[1] = CStringGetTextDatum(QUEUE_VERSION);
	nulls[0] = nulls[1] = false;
	if (queue_is_preloaded)
	{
		problem = queue_member_problem();
		if (problem != NULL)
		{
			values[2] = CStringGetTextDatum(problem);
			nulls[2] = false;
		}
		add_census(values, nulls);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* Add what memory knows of processes, and how much of it is in use. */
static void
add_census(Datum *values, bool *nulls)
{
	DatabaseCensus census;
	int			nqueues = 0;

	queue_database_count(&census);
	for (int i = 0; i < queue_slot_count(); i++)
		if (queue_slot_at(i) != NULL)
			nqueues++;
	values[3] = Int32GetDatum(census.leader_pid);
	values[4] = Int32GetDatum(census.worker_pid);
	if (census.round_age >= 0)
	{
		Interval   *age = palloc0(sizeof(Interval));

		age->time = census.round_age;
		values[5] = IntervalPGetDatum(age);
	}
	values[6] = Int32GetDatum(census.ndatabases);
	values[7] = Int32GetDatum(census.nwaiting);
	values[8] = BoolGetDatum(census.lacks_room);
	values[9] = Int32GetDatum(nqueues);
	values[10] = Int32GetDatum(queue_topic_slot_nused());
	values[11] = Int64GetDatum(queue_quota_used(InvalidOid, InvalidOid));
	values[12] = Int64GetDatum(census.nrefused);
	for (int i = 3; i < Natts_server_state; i++)
		nulls[i] = false;
	nulls[3] = census.leader_pid == 0;
	nulls[4] = census.worker_pid == 0;
	nulls[5] = census.round_age < 0;
}

/*
 * in_flight_used(database, queue)
 *
 * How many messages of a database, or of a queue of it, memory knows something
 * of.  Others may share the counter, so it is an estimate from above.
 */
Datum
queue_in_flight_used(PG_FUNCTION_ARGS)
{
	queue_require_preload();
	queue_require_arg(fcinfo, 0, "database");
	queue_require_arg(fcinfo, 1, "queue");
	PG_RETURN_INT64(queue_quota_used(PG_GETARG_OID(0), PG_GETARG_OID(1)));
}

/* topic_violations(topic) */
Datum
queue_topic_violations(PG_FUNCTION_ARGS)
{
	queue_require_preload();
	queue_require_arg(fcinfo, 0, "topic");
	PG_RETURN_INT64(queue_topic_slot_nviolations(PG_GETARG_OID(0)));
}

/*
 * stuck_messages(): messages at the limit of failures that could not be moved,
 * by queue
 *
 * The first of so many queues that there is room for; the others show when
 * these are mended.
 */
Datum
queue_stuck_messages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	StuckCounts *stuck = palloc0(sizeof(StuckCounts));

	stuck->now = GetCurrentTimestamp();
	queue_inflight_visit(count_stuck, stuck);
	for (int i = 0; i < MAX_STUCK_QUEUES; i++)
	{
		Datum		values[Natts_stuck];
		bool		nulls[Natts_stuck] = {0};

		if (!OidIsValid(stuck->relids[i]) || !queue_may_watch(stuck->relids[i]))
			continue;
		values[0] = ObjectIdGetDatum(stuck->relids[i]);
		values[1] = Int64GetDatum(stuck->counts[i]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	pfree(stuck);
	return (Datum) 0;
}

/*
 * count_stuck
 *		Visitor of the in-flight table: count the entry if the worker has put
 *		off its move.
 *
 * One that the worker has not come to yet is not stuck.  The partition is
 * locked, so there is no allocation.
 */
static bool
count_stuck(InflightEntry *entry, void *arg)
{
	StuckCounts *stuck = arg;
	uint32		i = murmurhash32(entry->key.relid);

	if (entry->state != INFLIGHT_IDLE || !entry->is_exhausted ||
		entry->since <= stuck->now)
		return true;
	for (int tries = 0; tries < MAX_STUCK_QUEUES; tries++, i++)
	{
		int			place = i % MAX_STUCK_QUEUES;

		if (!OidIsValid(stuck->relids[place]))
			stuck->relids[place] = entry->key.relid;
		if (stuck->relids[place] == entry->key.relid)
		{
			stuck->counts[place]++;
			break;
		}
	}
	return true;
}

/*-------------------------------------------------------------------------
 *
 * inspect.c
 *		What shared memory knows, for people: view queue.in_flight.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "inflight.h"
#include "queue.h"

#define Natts_in_flight		7

/* Entries copied while the table is locked: no allocation there */
typedef struct Copies
{
	InflightEntry *entries;
	int			n;
	int			max;
} Copies;

PG_FUNCTION_INFO_V1(queue_in_flight);

static bool copy_entry(InflightEntry *entry, void *arg);
static const char *state_name(const InflightEntry *entry);

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
		bool		is_missing = false;

		/* who may not browse the queue learns nothing of its messages */
		if (pg_class_aclcheck_ext(entry->key.relid, GetUserId(), ACL_SELECT,
								  &is_missing) != ACLCHECK_OK || is_missing)
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

static bool
copy_entry(InflightEntry *entry, void *arg)
{
	Copies	   *copies = arg;

	copies->entries[copies->n++] = *entry;
	return copies->n < copies->max;
}

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

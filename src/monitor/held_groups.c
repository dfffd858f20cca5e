/*-------------------------------------------------------------------------
 *
 * held_groups.c
 *		Groups that a failed message stops, for view queue.held_groups.
 *
 * The rows are asked, by the index of groups, because they alone know for
 * certain: memory learns of such a group only when a consumer comes to it.  The
 * lock is given back at once, as in inspect.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "shared/availability.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/scan.h"

#define Natts_held			5

/* The group that a scan is at */
typedef struct HeldGroup
{
	text	   *key;			/* NULL: none yet */
	bool		is_stopped;
	int64		id;				/* of the message that stops it */
	int			failures;
	NullableDatum failure_log;
	int64		nwaiting;		/* behind it */
} HeldGroup;

PG_FUNCTION_INFO_V1(queue_stopped_groups);

static void scan_groups(ReturnSetInfo *rsinfo, Relation rel, QueueDef *def,
						bool may_read);
static bool is_of_group(const HeldGroup *group, const MessageRow *row);
static void begin_group(HeldGroup *group, const MessageRow *row);
static void put_group(ReturnSetInfo *rsinfo, const HeldGroup *group,
					  bool may_read);

/*
 * stopped_groups(queue)
 *
 * Keys and texts are for those who may read the messages.
 */
Datum
queue_stopped_groups(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	Relation	rel;
	QueueDef   *def;
	Oid			relid;

	if (PG_ARGISNULL(0))
		return (Datum) 0;
	relid = PG_GETARG_OID(0);
	if (get_rel_relkind(relid) != RELKIND_RELATION)
		return (Datum) 0;
	rel = try_table_open(relid, AccessShareLock);
	if (rel == NULL)
		return (Datum) 0;
	def = queue_def(rel);
	if (def->is_queue && def->problem == NULL && queue_may_watch(relid) &&
		queue_def_stops_groups(def))
		scan_groups(rsinfo, rel, def,
					pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) ==
					ACLCHECK_OK);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* Return a row for each group that is stopped. */
static void
scan_groups(ReturnSetInfo *rsinfo, Relation rel, QueueDef *def, bool may_read)
{
	QueueScan  *scan = queue_scan_begin_group(rel, def);
	HeldGroup	group = {0};
	MessageRow *row;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "queue held group",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old;

	queue_scan_groups(scan);
	while ((row = queue_scan_next(scan)) != NULL)
	{
		old = MemoryContextSwitchTo(context);
		if (!is_of_group(&group, row))
		{
			put_group(rsinfo, &group, may_read);
			MemoryContextReset(context);
			begin_group(&group, row);
		}
		if (group.is_stopped)
			group.nwaiting++;
		else if (queue_is_at_limit(def->retry.max_attempts, row->failures))
		{
			group.is_stopped = true;
			group.id = row->id;
			group.failures = row->failures;
			group.failure_log = queue_row_failure_log(row);
			if (!group.failure_log.isnull)
				group.failure_log.value =
					PointerGetDatum(PG_DETOAST_DATUM_COPY(group.failure_log.value));
		}
		MemoryContextSwitchTo(old);
	}
	put_group(rsinfo, &group, may_read);
	MemoryContextDelete(context);
	queue_scan_end(scan);
}

/* Is this row of the group that the scan is at? */
static bool
is_of_group(const HeldGroup *group, const MessageRow *row)
{
	text	   *key;

	if (group->key == NULL)
		return false;
	key = DatumGetTextPP(row->group_key);
	return VARSIZE_ANY_EXHDR(key) == VARSIZE_ANY_EXHDR(group->key) &&
		memcmp(VARDATA_ANY(key), VARDATA_ANY(group->key),
			   VARSIZE_ANY_EXHDR(key)) == 0;
}

/* The scan has come to another group. */
static void
begin_group(HeldGroup *group, const MessageRow *row)
{
	memset(group, 0, sizeof(HeldGroup));
	group->key = DatumGetTextPCopy(row->group_key);
}

/* Return a row, if the group is stopped. */
static void
put_group(ReturnSetInfo *rsinfo, const HeldGroup *group, bool may_read)
{
	Datum		values[Natts_held] = {0};
	bool		nulls[Natts_held] = {0};

	if (!group->is_stopped)
		return;
	values[0] = PointerGetDatum(group->key);
	nulls[0] = !may_read;
	values[1] = Int64GetDatum(group->id);
	values[2] = Int32GetDatum(group->failures);
	values[3] = Int64GetDatum(group->nwaiting);
	values[4] = group->failure_log.value;
	nulls[4] = !may_read || group->failure_log.isnull;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

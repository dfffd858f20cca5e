/*-------------------------------------------------------------------------
 *
 * topics.c
 *		How far the partitions of a topic can be read, and who holds them back.
 *
 * It is asked for by users that may read the topic, or all statistics.  That
 * makes a place for the topic in shared memory, as reading it would, if there
 * is room.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "common/relation.h"
#include "table/call.h"
#include "table/topic.h"
#include "transaction/publishing.h"

/* partition, limit_id, next_id, pid, xid, since */
#define Natts_limits			6

PG_FUNCTION_INFO_V1(queue_partition_limits);

static bool may_see(Oid relid);
static void show_limit(ReturnSetInfo *rsinfo, int partition,
					   const TopicLimit *limit);

/* partition_limits(topic) */
Datum
queue_partition_limits(PG_FUNCTION_ARGS)
{
	Relation	rel;
	TopicDef   *topic;
	Oid			relid;
	bool		is_locked;

	queue_call_begin(fcinfo, "queue_internal.partition_limits()", CALL_READS,
					 "topic");
	relid = PG_GETARG_OID(0);
	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress() || !may_see(relid))
		return (Datum) 0;
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel == NULL)
		return (Datum) 0;
	topic = queue_topic_def(rel);
	for (int i = 0; topic->is_topic && topic->problem == NULL &&
		 i < topic->partitions; i++)
	{
		TopicLimit	limit;

		if (!queue_publishing_limit(topic, i, &limit, true /* missing_ok */ ))
			break;
		show_limit((ReturnSetInfo *) fcinfo->resultinfo, i, &limit);
	}
	table_close(rel, NoLock);
	return (Datum) 0;
}

/* May the current user see how far this topic can be read? */
static bool
may_see(Oid relid)
{
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

/* Add one row to the result. */
static void
show_limit(ReturnSetInfo *rsinfo, int partition, const TopicLimit *limit)
{
	Datum		values[Natts_limits] = {0};
	bool		nulls[Natts_limits] = {0};
	int			pid = 0;

	/* it may have ended, and its place be another's, as in pg_stat_activity */
	if (limit->procno != NO_PROC)
		pid = GetPGProcByNumber(limit->procno)->pid;
	values[0] = Int16GetDatum(partition);
	values[1] = Int64GetDatum(limit->stable_id);
	values[2] = Int64GetDatum(limit->next_id);
	values[3] = Int32GetDatum(pid);
	nulls[3] = pid == 0;
	values[4] = TransactionIdGetDatum(limit->xid);
	nulls[4] = !TransactionIdIsValid(limit->xid);
	values[5] = TimestampTzGetDatum(limit->since);
	nulls[5] = limit->since == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

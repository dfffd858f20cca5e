/*-------------------------------------------------------------------------
 *
 * sessions.c
 *		Who has messages, who waits for them, and who works for all: views
 *		queue.leases, queue.waiters, queue.workers.
 *
 * All of it is what memory knows at this moment.  A lease is shown while no other
 * consumer can take its message: as long as its time is not over, or a
 * transaction is settling it.  Nothing here is a receipt.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/activity.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "monitor/holder.h"
#include "monitor/walk.h"
#include "shared/availability.h"
#include "shared/sleeper.h"
#include "table/call.h"
#include "table/definition.h"

/* queue, id, partition, last_id, then the holder, then since, until */
#define Natts_leases		(4 + Natts_holder + 2)

/* queue, then the session, then since, until, wants */
#define Natts_waiters		(1 + Natts_holder + 3)

/* pid, kind, database, activity, since, started_at, last_error_at, last_error */
#define Natts_workers		8

PG_FUNCTION_INFO_V1(queue_show_leases);
PG_FUNCTION_INFO_V1(queue_show_waiters);
PG_FUNCTION_INFO_V1(queue_show_workers);
PG_FUNCTION_INFO_V1(queue_is_vacuum);

static void put_lease(const InflightEntry *entry, void *arg);
static void put_waiter(ReturnSetInfo *rsinfo, const WaitSign *sign, Oid relid);
static const char *name_of(WaitWants wants);
static void put_worker(ReturnSetInfo *rsinfo, const Activity *worker,
					   bool may_see_errors);
static char *readable(const Activity *worker);

/* leases(): for view queue.leases */
Datum
queue_show_leases(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);

	queue_lease_load_to_look();
	queue_walk_entries(put_lease, rsinfo);
	return (Datum) 0;
}

/* Return an entry as a row, if it is a lease. */
static void
put_lease(const InflightEntry *entry, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	bool		is_partition = entry->enqueued_at == QUEUE_PARTITION_ROW;
	Client		receiver = queue_inflight_receiver(entry);
	Datum		values[Natts_leases] = {0};
	bool		nulls[Natts_leases] = {0};
	int			i = 4;

	if (entry->state != INFLIGHT_LEASED ||
		queue_lease_has_run_out(entry, GetCurrentTimestamp()))
		return;
	values[0] = ObjectIdGetDatum(entry->key.relid);
	values[1] = Int64GetDatum(is_partition ? entry->first_id : entry->key.id);
	nulls[1] = is_partition && entry->first_id == 0;
	values[2] = Int16GetDatum((int16) entry->key.id);
	nulls[2] = !is_partition;
	values[3] = Int64GetDatum(entry->last_id);
	nulls[3] = !is_partition || entry->last_id == 0;
	queue_put_holder(&receiver, &values[i], &nulls[i]);
	i += Natts_holder;
	values[i] = TimestampTzGetDatum(entry->since);
	values[i + 1] = TimestampTzGetDatum(entry->deadline);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * waiters(): for view queue.waiters
 *
 * A session whose queues are not known is shown to those that may see it.
 */
Datum
queue_show_waiters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);

	for (int i = 0; i < queue_sleeper_count(); i++)
	{
		Sleeper		sleeper;

		if (!queue_sleeper_copy(i, &sleeper))
			continue;
		for (int j = 0; j < sleeper.nrelids; j++)
			if (queue_may_watch(sleeper.relids[j]))
				put_waiter(rsinfo, &sleeper.sign, sleeper.relids[j]);
		if (sleeper.nrelids == 0 &&
			queue_may_see_session(sleeper.sign.client.role))
			put_waiter(rsinfo, &sleeper.sign, InvalidOid);
		pfree(sleeper.relids);
	}
	return (Datum) 0;
}

/* Return a row: a session that waits for a queue, or InvalidOid. */
static void
put_waiter(ReturnSetInfo *rsinfo, const WaitSign *sign, Oid relid)
{
	Datum		values[Natts_waiters] = {0};
	bool		nulls[Natts_waiters] = {0};
	int			i = 1;

	values[0] = ObjectIdGetDatum(relid);
	nulls[0] = !OidIsValid(relid);
	queue_put_holder(&sign->client, &values[i], &nulls[i]);
	i += Natts_holder;
	values[i] = TimestampTzGetDatum(sign->since);
	values[i + 1] = TimestampTzGetDatum(sign->until);
	values[i + 2] = CStringGetTextDatum(name_of(sign->wants));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The word for what kind of message is wanted */
static const char *
name_of(WaitWants wants)
{
	switch (wants)
	{
		case WANTS_ANY:
			return "any";
		case WANTS_SELECTED:
			return "selector";
		case WANTS_ID:
			return "id";
		case WANTS_CORRELATION_ID:
			return "correlation_id";
	}
	return NULL;
}

/* workers(): for view queue.workers; what went wrong is for monitors */
Datum
queue_show_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	bool		may_see_errors = has_privs_of_role(GetUserId(), ROLE_PG_MONITOR);

	for (int i = 0; i < queue_activity_count(); i++)
	{
		Activity	worker;

		if (queue_activity_copy(i, &worker))
			put_worker(rsinfo, &worker, may_see_errors);
	}
	return (Datum) 0;
}

/*
 * put_worker
 *		Return a process as a row.
 *
 * A table of another database has no name here.
 */
static void
put_worker(ReturnSetInfo *rsinfo, const Activity *worker, bool may_see_errors)
{
	Datum		values[Natts_workers] = {0};
	bool		nulls[Natts_workers] = {0};
	char	   *database = OidIsValid(worker->dbid) ?
		get_database_name(worker->dbid) : NULL;
	const char *doing = worker->doing[0] != '\0' ? worker->doing : "idle";

	if (worker->dbid == MyDatabaseId && OidIsValid(worker->relid) &&
		get_rel_name(worker->relid) != NULL)
		doing = psprintf("%s %s", doing, queue_qualified_name(worker->relid));
	values[0] = Int32GetDatum(worker->pid);
	values[1] = CStringGetTextDatum(worker->kind);
	nulls[2] = database == NULL;
	if (database != NULL)
		values[2] = DirectFunctionCall1(namein, CStringGetDatum(database));
	values[3] = CStringGetTextDatum(doing);
	values[4] = TimestampTzGetDatum(worker->since);
	values[5] = TimestampTzGetDatum(worker->started_at);
	values[6] = TimestampTzGetDatum(worker->error_at);
	nulls[6] = worker->error_at == 0;
	nulls[7] = worker->error_at == 0 || !may_see_errors;
	if (!nulls[7])
		values[7] = CStringGetTextDatum(readable(worker));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The text of its error, of which another encoding leaves only ASCII */
static char *
readable(const Activity *worker)
{
	char	   *text = pstrdup(worker->error);

	if (worker->error_encoding != GetDatabaseEncoding())
		for (char *c = text; *c != '\0'; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return text;
}

/*
 * is_vacuum(pid): is this session in a VACUUM, whose snapshots the server leaves
 * out?
 *
 * pg_stat_progress_vacuum has one only when it has its lock.  An unlocked look,
 * since it may end at any moment.
 */
Datum
queue_is_vacuum(PG_FUNCTION_ARGS)
{
	PGPROC	   *proc = BackendPidGetProc(PG_GETARG_INT32(0));

	PG_RETURN_BOOL(proc != NULL && (proc->statusFlags & PROC_IN_VACUUM) != 0);
}

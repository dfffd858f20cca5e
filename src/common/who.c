/*-------------------------------------------------------------------------
 *
 * who.c
 *		Who runs a transaction, or has locked a table?
 *
 * For who explains what somebody waits for.  The server's own functions are
 * asked, so whoever may not see when the transaction of another role began
 * does not learn it here.
 *
 * Locks: those of the process array, the lock table and the prepared
 * transactions, each for the time of one look.  An answer may be out of date
 * at once: then nobody is named.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/blocker.h"
#include "common/who.h"

static bool ask(const char *query, Oid type, Datum argument);
static Datum answer(int column, bool *isnull);
static TimestampTz answer_time(int column);
static void end(void);

/* Find out who runs a transaction, or the one that it is a part of. */
void
queue_who_runs(TransactionId xid, Who *who)
{
	memset(who, 0, sizeof(Who));
	if (TransactionIdIsCurrentTransactionId(xid))
	{
		queue_who_is(MyProcPid, who);
		return;
	}
	if (!TransactionIdIsNormal(xid) || !TransactionIdIsInProgress(xid))
		return;
	xid = SubTransGetTopmostTransaction(xid);
	who->gid = queue_blocker_prepared(xid, &who->since);
	if (who->gid == NULL)
		queue_who_is(BackendXidGetPid(xid), who);
}

/* Find out since when the transaction of a process runs; 0: of none. */
void
queue_who_is(int pid, Who *who)
{
	memset(who, 0, sizeof(Who));
	who->pid = pid;
	if (pid == MyProcPid)
		who->since = GetCurrentTransactionStartTimestamp();
	else if (pid != 0)
	{
		if (ask("SELECT a.xact_start"
				" FROM pg_catalog.pg_stat_get_activity($1) a",
				INT4OID, Int32GetDatum(pid)))
			who->since = answer_time(1);
		end();
	}
}

/*
 * queue_who_locks
 *		Find the first lock on a table that conflicts with RowExclusiveLock.
 *
 * Returns false if no other transaction has one, which is found out without a
 * look at all locks of the server.  A prepared transaction has no process, but
 * a lock on its own id.
 */
bool
queue_who_locks(Oid relid, Who *who, char **mode)
{
	MemoryContext context = CurrentMemoryContext;
	LOCKTAG		tag;
	int			nholders;
	TransactionId xid = InvalidTransactionId;
	int			pid = 0;
	bool		found;

	memset(who, 0, sizeof(Who));
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	(void) GetLockConflicts(&tag, RowExclusiveLock, &nholders);
	if (nholders == 0)
		return false;
	found = ask("WITH l AS MATERIALIZED (SELECT * FROM pg_catalog.pg_lock_status())"
				" SELECT l.mode, l.pid, (SELECT t.transactionid FROM l t"
				" WHERE l.pid IS NULL AND t.pid IS NULL"
				" AND t.locktype OPERATOR(pg_catalog.=) 'transactionid'"
				" AND t.virtualtransaction OPERATOR(pg_catalog.=)"
				" l.virtualtransaction LIMIT 1)"
				" FROM l WHERE l.locktype OPERATOR(pg_catalog.=) 'relation'"
				" AND l.relation OPERATOR(pg_catalog.=) $1"
				" AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid"
				" FROM pg_catalog.pg_database d WHERE d.datname"
				" OPERATOR(pg_catalog.=) pg_catalog.current_database())"
				" AND l.granted AND l.pid IS DISTINCT FROM"
				" pg_catalog.pg_backend_pid() AND l.mode OPERATOR(pg_catalog.=) ANY"
				" (ARRAY['ShareLock', 'ShareRowExclusiveLock',"
				" 'ExclusiveLock', 'AccessExclusiveLock']) LIMIT 1",
				OIDOID, ObjectIdGetDatum(relid));
	if (found)
	{
		bool		isnull;
		Datum		value;

		*mode = MemoryContextStrdup(context,
									SPI_getvalue(SPI_tuptable->vals[0],
												 SPI_tuptable->tupdesc, 1));
		value = answer(2, &isnull);
		if (!isnull)
			pid = DatumGetInt32(value);
		value = answer(3, &isnull);
		if (!isnull)
			xid = DatumGetTransactionId(value);
	}
	end();
	if (TransactionIdIsValid(xid))
		queue_who_runs(xid, who);
	else if (pid != 0)
		queue_who_is(pid, who);
	return found;
}

/*
 * ask
 *		Run a query; returns false if it has no row.
 *
 * To be ended whatever it returns.  As the statement that asks it sees the
 * catalogs, so that nothing becomes visible to that on the way.
 */
static bool
ask(const char *query, Oid type, Datum argument)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, 1, &type, &argument, NULL,
							  true /* read_only */ , 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a transaction");
	return SPI_processed > 0;
}

/* A column of its row. */
static Datum
answer(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column,
						 isnull);
}

/* The same of a time; 0: null */
static TimestampTz
answer_time(int column)
{
	bool		isnull;
	Datum		value = answer(column, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* The query is done with. */
static void
end(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

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
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/blocker.h"
#include "common/sql.h"
#include "common/who.h"

static bool ask(const char *query, Oid type, Datum argument);

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
			who->since = queue_sql_time(0, 1);
		queue_sql_end();
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

		*mode = queue_sql_text(0, 1, context);
		value = queue_sql_value(0, 2, &isnull);
		if (!isnull)
			pid = DatumGetInt32(value);
		value = queue_sql_value(0, 3, &isnull);
		if (!isnull)
			xid = DatumGetTransactionId(value);
	}
	queue_sql_end();
	if (TransactionIdIsValid(xid))
		queue_who_runs(xid, who);
	else if (pid != 0)
		queue_who_is(pid, who);
	return found;
}

/* Run a query with one parameter; returns false if it has no row. */
static bool
ask(const char *query, Oid type, Datum argument)
{
	return queue_sql_ask(query, 1, &type, &argument) > 0;
}

/*-------------------------------------------------------------------------
 *
 * blocker.c
 *		Prepared transactions that a statement would have to wait for.
 *
 * A prepared transaction keeps its locks until it is committed or rolled back,
 * over restarts too, and that may be never.  A statement that needs a lock
 * which conflicts would wait silently.  So it is refused, with the name of the
 * transaction and the commands that end it.  This is a look beforehand and
 * takes no lock itself.  A transaction that is prepared between the look and
 * the lock is waited for, under lock_timeout, as one that is still open.
 *
 * The heavyweight locks tell what is in the way, because they exist after a
 * restart, when the registry of prepared.c does not.
 *
 * Locks: those of the lock table and of the prepared transactions, each for
 * the time of one look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/blocker.h"
#include "common/compat.h"
#include "common/sql.h"

static TransactionId prepared_xid(VirtualTransactionId vxid);
static char *find_prepared(TransactionId xid, char **owner,
						   TimestampTz *prepared_at);

/*
 * queue_blocker_refuse_lock
 *		Raise 55006 if a prepared transaction holds a lock that conflicts with
 *		this one.
 *
 * "noun" and "name" are of what is to be locked.
 */
void
queue_blocker_refuse_lock(const LOCKTAG *tag, LOCKMODE mode,
						  const char *noun, const char *name)
{
	VirtualTransactionId *holders;
	int			nholders;

	if (max_prepared_xacts == 0)
		return;
	holders = GetLockConflicts(tag, mode, &nholders);
	for (int i = 0; i < nholders; i++)
	{
		TransactionId xid = prepared_xid(holders[i]);

		if (TransactionIdIsValid(xid))
			queue_blocker_refuse_xid(noun, name, xid);
	}
	pfree(holders);
}

/* Return the transaction's id, InvalidTransactionId unless it is prepared. */
static TransactionId
prepared_xid(VirtualTransactionId vxid)
{
	bool		have_more;

	/* one from before a restart has no virtual transaction */
	if (VirtualTransactionIdIsRecoveredPreparedXact(vxid))
		return vxid.localTransactionId;
	return TwoPhaseGetXidByVirtualXID(vxid, &have_more);
}

/*
 * queue_blocker_refuse_xid
 *		Raise 55006 if this transaction, or the one that it is a part of, is
 *		prepared.
 */
void
queue_blocker_refuse_xid(const char *noun, const char *name,
						 TransactionId xid)
{
	char	   *owner;
	char	   *gid = find_prepared(xid, &owner, NULL);
	char	   *command;

	if (gid == NULL)
		return;
	command = quote_literal_cstr(gid);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("%s \"%s\" is in use by prepared transaction \"%s\"",
					noun, name, gid),
			 errdetail("Role \"%s\" has prepared it, and nobody has ended it.",
					   owner),
			 errhint("Run COMMIT PREPARED %s or ROLLBACK PREPARED %s, as its transaction manager decided, and try again; see view queue.in_doubt.",
					 command, command)));
}

/*
 * queue_blocker_gid
 *		Return the name of this transaction, or the one that it is a part of,
 *		if it is prepared; NULL otherwise.
 */
char *
queue_blocker_gid(TransactionId xid)
{
	return find_prepared(xid, NULL, NULL);
}

/* The same, and when it was prepared */
char *
queue_blocker_prepared(TransactionId xid, TimestampTz *prepared_at)
{
	return find_prepared(xid, NULL, prepared_at);
}

/*
 * find_prepared
 *		The same, with the role that has prepared it, and when, as far as that
 *		is wanted (not NULL); palloc'd.
 */
static char *
find_prepared(TransactionId xid, char **owner, TimestampTz *prepared_at)
{
	Oid			argtypes[] = {XIDOID};
	Datum		args[1];
	MemoryContext context = CurrentMemoryContext;
	char	   *gid = NULL;

	if (max_prepared_xacts == 0 || !TransactionIdIsInProgress(xid))
		return NULL;
	args[0] = TransactionIdGetDatum(SubTransGetTopmostTransaction(xid));

	if (queue_sql_ask("SELECT p.gid, pg_catalog.pg_get_userbyid(p.ownerid), p.prepared"
					  " FROM pg_catalog.pg_prepared_xact() p"
					  " WHERE p.transaction OPERATOR(pg_catalog.=) $1",
					  1, argtypes, args) > 0)
	{
		gid = queue_sql_text(0, 1, context);
		if (owner != NULL)
			*owner = queue_sql_text(0, 2, context);
		if (prepared_at != NULL)
			*prepared_at = queue_sql_time(0, 3);
	}
	queue_sql_end();
	return gid;
}

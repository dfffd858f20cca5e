/*-------------------------------------------------------------------------
 *
 * standby.c
 *		What must outlive the loss of this server.
 *
 * A decision that others rely on, and whatever they can see of it, has to be
 * on the synchronous standbys as well, if there are to be any.  Transactions
 * wait for them as the server does.  But a wait that is cancelled ends with no
 * more than a warning, so code that relies on it asks how far the standbys
 * are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#include "common/standby.h"

/*
 * queue_standby_wait
 *		Let this transaction wait for synchronous standbys when it commits or
 *		is prepared, whatever the session prefers.
 */
void
queue_standby_wait(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
}

/*
 * queue_standby_is_durable
 *		Returns true if WAL up to here is on the synchronous standbys as well,
 *		if it should be.
 */
bool
queue_standby_is_durable(XLogRecPtr lsn)
{
	bool		is_durable;

	if (max_wal_senders == 0 ||
		SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0')
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	is_durable = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH] >= lsn;
	LWLockRelease(SyncRepLock);
	return is_durable;
}

/*
 * queue_standby_require_durable
 *		Raise 08007 if WAL up to here is not known to be durable.
 *
 * The server waits for standbys, but if the wait is cancelled it only warns,
 * so look how far they are.
 */
void
queue_standby_require_durable(XLogRecPtr lsn)
{
	if (!queue_standby_is_durable(lsn))
		ereport(ERROR,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("decision is not known to be durable"),
				 errdetail("No synchronous standby has confirmed it."),
				 errhint("Ask again: the decision does not change.")));
}

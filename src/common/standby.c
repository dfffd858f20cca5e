/*-------------------------------------------------------------------------
 *
 * standby.c
 *		What must outlive the loss of this server.
 *
 * A decision that others rely on, and whatever they can see of it, has to be on
 * the synchronous standbys as well, if there are to be any.  Transactions wait
 * for them as the server does; but a wait that is cancelled ends with no more
 * than a warning, so whoever relies on it asks how far they are.
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

void
queue_standby_wait(void)
{
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
}

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
 * The server waits for standbys, but if it is cancelled it says no more than a
 * warning.  So look how far they are.
 */
void
queue_standby_require_durable(XLogRecPtr lsn)
{
	if (!queue_standby_is_durable(lsn))
		ereport(ERROR,
				(errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
				 errmsg("what was decided is not known to be durable"),
				 errdetail("No synchronous standby has confirmed it."),
				 errhint("Ask again: the decision does not change.")));
}

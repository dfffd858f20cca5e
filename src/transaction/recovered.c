/*-------------------------------------------------------------------------
 *
 * recovered.c
 *		Transactions that were prepared before the server started.
 *
 * The registry (prepared.c) does not know them.  Their rows are protected by
 * their xmax, and that is enough but for one thing: of a group that keeps an
 * order they hold more than their rows.  So as long as there is one with a lock
 * on the queue, consumers ask the rows of the group (turn.c).
 *
 * Nor does memory know what such a one has settled.  The leases come back from
 * their log, and hold their groups when the messages are gone.  So when one has
 * ended the worker looks for leases of messages that are gone (gone.c).
 *
 * Mostly there is none, and that is known without a look at any lock, because
 * no transaction that runs is as old as the server's start.
 *
 * Locks: those of the lock table, for the time of one look.  What if memory is
 * new?  So is what it says of the start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/database.h"
#include "shared/group.h"
#include "transaction/recovered.h"

typedef struct RecoveredShared
{
	/*
	 * Older ones may be of before the start; Invalid: nobody has asked yet;
	 * Bootstrap: none of them runs any more
	 */
	pg_atomic_uint32 first_xid;

	/* How often one may have ended */
	pg_atomic_uint32 nends;
} RecoveredShared;

static RecoveredShared *shared = NULL;

static bool may_run(TransactionId oldest);

/* Shared memory needed */
Size
queue_recovered_shmem_size(void)
{
	return sizeof(RecoveredShared);
}

/* Create or attach to it.  The caller holds AddinShmemInitLock. */
void
queue_recovered_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue recovered transactions",
							 sizeof(RecoveredShared), &found);
	if (!found)
	{
		pg_atomic_init_u32(&shared->first_xid, InvalidTransactionId);
		pg_atomic_init_u32(&shared->nends, 0);
	}
}

/*
 * queue_recovered_holds
 *		Returns true if one may hold messages of this queue.
 */
bool
queue_recovered_holds(Oid relid)
{
	VirtualTransactionId *holders;
	LOCKTAG		tag;
	bool		found = false;
	int			i;

	/* the next id of a standby must not become the first one */
	if (max_prepared_xacts == 0 || RecoveryInProgress() ||
		!may_run(RecentXmin))
		return false;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	holders = GetLockConflicts(&tag, AccessExclusiveLock, NULL);
	for (i = 0; VirtualTransactionIdIsValid(holders[i]) && !found; i++)
		found = VirtualTransactionIdIsRecoveredPreparedXact(holders[i]);
	pfree(holders);
	return found;
}

/*
 * queue_recovered_is_old
 *		Returns true if this transaction began before anybody asked that, after
 *		the start.
 */
bool
queue_recovered_is_old(TransactionId xid)
{
	uint32		first = pg_atomic_read_u32(&shared->first_xid);

	if (first == InvalidTransactionId)
	{
		TransactionId next = ReadNextTransactionId();

		if (pg_atomic_compare_exchange_u32(&shared->first_xid, &first, next))
			first = next;
	}
	return TransactionIdPrecedes(xid, first);
}

/*
 * queue_recovered_are_there
 *		Returns true if there may be any, in whatever database.
 */
bool
queue_recovered_are_there(void)
{
	return max_prepared_xacts > 0 && !RecoveryInProgress() &&
		may_run(queue_oldest_active_xid());
}

/*
 * may_run
 *		May one of them be running, if the oldest that runs is this one, or newer?
 *
 * If not, that is so for good, although the numbers come again.
 */
static bool
may_run(TransactionId oldest)
{
	if (queue_recovered_is_old(oldest))
		return true;
	if (pg_atomic_read_u32(&shared->first_xid) != BootstrapTransactionId)
		pg_atomic_write_u32(&shared->first_xid, BootstrapTransactionId);
	return false;
}

/*
 * queue_recovered_note_end
 *		A prepared transaction of this database has ended, which may have been
 *		one of these.
 *
 * Consumers that met its rows have noted them as busy.
 */
void
queue_recovered_note_end(bool were_there)
{
	queue_cover_recheck_busy(MyDatabaseId);
	queue_group_recheck(MyDatabaseId);
	if (!were_there)
		return;
	pg_atomic_fetch_add_u32(&shared->nends, 1);
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
}

/* Return how often that was noted. */
uint32
queue_recovered_ends(void)
{
	return pg_atomic_read_u32(&shared->nends);
}

/*-------------------------------------------------------------------------
 *
 * truncate.c
 *		Returns the empty end of a table to the system, under traffic.
 *
 * That needs AccessExclusiveLock for an instant.  vacuum() does not wait for
 * it, but tries now and then.  Under traffic some session always has the table
 * locked, if each only for a millisecond, so that never succeeds.  Therefore
 * vacuum() is told not to try, and this waits in line as LOCK TABLE does.
 * Sessions that come later wait behind it, and none must wait for long, hence:
 *
 * - nothing is tried before the end of the table was seen to be empty, under a
 *	 lock that is in no session's way;
 * - nor before all transactions that have the table locked have left since
 *	 they were seen, soon: one that lasts, or is prepared, makes this give up;
 * - the wait ends with lock_timeout, which is short here;
 * - with the lock, only as many pages are gone over as take some milliseconds;
 *	 they were just read without it, so the system has them at least.  Then the
 *	 others get their turn, and the next step begins from the start;
 * - there are only some steps in a row, because each of them goes over
 *	 shared_buffers, by RelationTruncate(), and it is never certain that there
 *	 is no traffic.
 *
 * What is cut off is what vacuum() would cut off, by RelationTruncate(), which
 * logs it and tells all sessions.  If this process dies, the table is as long
 * as the last step left it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/storage.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/process.h"
#include "shared/bound.h"
#include "worker/truncate.h"

/*
 * Worth truncating: this many pages, or 1/16 of the table (the limits of
 * vacuum())
 */
#define WORTH_PAGES		1000
#define WORTH_PART		16

/* The pages that a step goes over, and the steps that are made in a row */
#define STEP_PAGES		4096
#define MAX_STEPS		10

/*
 * Holders of locks on the table are looked at this often, and must have left
 * by then
 */
#define HOLDERS_NAP		1		/* ms */
#define HOLDERS_STAY	50		/* ms */

/* A session behind the request for the lock waits no longer than that */
#define LOCK_PATIENCE	"50ms"

static BlockNumber look_for_end(Oid relid, bool final);
static bool holders_leave(Oid relid, uint32 wait_event);
static bool is_any_left(const VirtualTransactionId *before,
						const VirtualTransactionId *now);
static void cut_off(Oid relid, BlockNumber first);
static bool is_for_us(Relation rel);
static BlockNumber first_of_end(Relation rel, BlockNumber nblocks,
								BlockNumber first);
static bool page_is_empty(Relation rel, BlockNumber block,
						  BufferAccessStrategy strategy);

/*
 * queue_truncate
 *		Return the empty end of a table to the system.
 *
 * Called by the vacuum worker, outside a transaction.  Unless it was needless,
 * it should not be called again for a while.  If it is "final", with no
 * traffic that would use the space, a small end is worth it, too.  Throws
 * ERRCODE_LOCK_NOT_AVAILABLE if the lock was not to be had.
 */
TruncateResult
queue_truncate(Oid relid, bool final)
{
	uint32		wait_event = WaitEventExtensionNew("QueueTruncate");
	int			nsteps;

	for (nsteps = 0; nsteps < MAX_STEPS; nsteps++)
	{
		BlockNumber first;

		/* an error of another table may have taken the signal */
		if (ShutdownRequestPending)
			break;
		first = look_for_end(relid, final);
		if (first == InvalidBlockNumber)
			return nsteps > 0 ? TRUNCATE_DONE : TRUNCATE_NEEDLESS;
		if (!holders_leave(relid, wait_event))
			break;
		INJECTION_POINT("queue-cut-off", NULL);
		cut_off(relid, first);
	}
	return TRUNCATE_UNFINISHED;
}

/*
 * look_for_end
 *		Return from which block on the table is empty, as far as one step
 *		goes.
 *
 * Returns InvalidBlockNumber if that is not worth it.
 */
static BlockNumber
look_for_end(Oid relid, bool final)
{
	BlockNumber result = InvalidBlockNumber;
	Relation	rel;

	StartTransactionCommand();
	LockRelationOid(relid, AccessShareLock);
	rel = try_relation_open(relid, NoLock);
	if (rel != NULL && is_for_us(rel))
	{
		BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
		BlockNumber worth = WORTH_PAGES;
		BlockNumber first;

		first = first_of_end(rel, nblocks,
							 nblocks > STEP_PAGES ? nblocks - STEP_PAGES : 0);
		if (final)
			worth = Min(worth, nblocks / WORTH_PART);
		if (first < nblocks && nblocks - first >= worth)
			result = first;
	}
	if (rel != NULL)
		relation_close(rel, NoLock);
	CommitTransactionCommand();
	return result;
}

/*
 * holders_leave
 *		Returns true if the transactions that have the table locked leave it
 *		soon.
 *
 * Others may come meanwhile, which are taken to be as quick.  Returns false if
 * this process is asked to leave, because the nap has taken the signal.
 */
static bool
holders_leave(Oid relid, uint32 wait_event)
{
	LOCKTAG		tag;
	TimestampTz give_up_at;
	VirtualTransactionId *before;
	bool		is_any;

	StartTransactionCommand();
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	give_up_at = TimestampTzPlusMilliseconds(queue_clock(), HOLDERS_STAY);
	before = GetLockConflicts(&tag, AccessExclusiveLock, NULL);
	for (;;)
	{
		is_any = is_any_left(before,
							 GetLockConflicts(&tag, AccessExclusiveLock, NULL));
		if (!is_any || ShutdownRequestPending ||
			queue_clock() >= give_up_at)
			break;
		queue_process_nap(TimestampTzPlusMilliseconds(queue_clock(),
													  HOLDERS_NAP),
						  wait_event);
	}
	CommitTransactionCommand();
	return !is_any && !ShutdownRequestPending;
}

/*
 * is_any_left
 *		Is a transaction in both arrays?  Each ends with an invalid one.
 */
static bool
is_any_left(const VirtualTransactionId *before, const VirtualTransactionId *now)
{
	for (; VirtualTransactionIdIsValid(*before); before++)
	{
		const VirtualTransactionId *other;

		for (other = now; VirtualTransactionIdIsValid(*other); other++)
			if (VirtualTransactionIdEquals(*before, *other))
				return true;
	}
	return false;
}

/*
 * cut_off
 *		Cut the table off from this block on, or from where it is empty by
 *		now.
 *
 * The lock is released at once: the next session that gets it learns first
 * that the table is shorter.
 */
static void
cut_off(Oid relid, BlockNumber first)
{
	Relation	rel;

	StartTransactionCommand();
	(void) set_config_option("lock_timeout", LOCK_PATIENCE, PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	queue_bound_cut(relid);
	PG_TRY();
	{
		LockRelationOid(relid, AccessExclusiveLock);
		rel = try_relation_open(relid, NoLock);
		if (rel != NULL && is_for_us(rel))
		{
			BlockNumber nblocks = RelationGetNumberOfBlocks(rel);

			first = first_of_end(rel, nblocks, first);
			if (first < nblocks)
				RelationTruncate(rel, first);
		}
		if (rel != NULL)
			relation_close(rel, NoLock);
		UnlockRelationOid(relid, AccessExclusiveLock);
	}
	PG_FINALLY();
	{
		queue_bound_cut(relid);
	}
	PG_END_TRY();
	CommitTransactionCommand();
}

/*
 * is_for_us
 *		Is this a table that may be cut?  It is locked, so that does not
 *		change.
 */
static bool
is_for_us(Relation rel)
{
	return rel->rd_rel->relam == HEAP_TABLE_AM_OID &&
		!RELATION_IS_OTHER_TEMP(rel);
}

/* Return from which block on it is empty.  Goes back as far as "first". */
static BlockNumber
first_of_end(Relation rel, BlockNumber nblocks, BlockNumber first)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_VACUUM);

	while (nblocks > first && page_is_empty(rel, nblocks - 1, strategy))
		nblocks--;
	FreeAccessStrategy(strategy);
	return nblocks;
}

/*
 * page_is_empty
 *		Returns true if there is nothing on the page.
 *
 * A dead row counts until its line pointer has been vacuumed away, because an
 * index may still have an entry for it.
 */
static bool
page_is_empty(Relation rel, BlockNumber block, BufferAccessStrategy strategy)
{
	bool		is_empty = true;
	OffsetNumber offset;
	OffsetNumber last;
	Buffer		buffer;
	Page		page;

	CHECK_FOR_INTERRUPTS();
	buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	last = PageGetMaxOffsetNumber(page);
	for (offset = FirstOffsetNumber; offset <= last && is_empty; offset++)
		is_empty = !ItemIdIsUsed(PageGetItemId(page, offset));
	UnlockReleaseBuffer(buffer);
	return is_empty;
}

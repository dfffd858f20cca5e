/*-------------------------------------------------------------------------
 *
 * announcer.c
 *		Transactions that will announce what they send.
 *
 * Each is registered in shared memory by its transaction id before it writes
 * its first row.  So a consumer that meets a row of it knows that its end will
 * be announced, and can forget the row (cover.c).  Until then others can ask
 * which ids it has sent, because it may have committed, and not have come to
 * its callbacks.
 *
 * Locks: none.  What there is of a transaction is written by its own process
 * alone.  What if that dies?  By an error or exit, its callbacks strike the
 * transaction off; by kill -9, memory is new.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "transaction/announcer.h"

/* By proc number: transaction that will announce what it sends, or Invalid */
static volatile TransactionId *announcing = NULL;

/*
 * A bit for each proc number: a transaction is registered there.  There may be
 * a thousand sessions of which few are in a transaction, and a process that
 * looks at a message of a group goes over those that are.
 */
static pg_atomic_uint64 *registered = NULL;

#define REGISTERED_WORDS	((MaxBackends + 63) / 64)

/* Queues of which others can ask what a transaction has sent */
#define SENT_QUEUES			4

/*
 * The ids that a registered transaction has sent to some queues, from the
 * first to the last.  Written by its owner alone, without a lock.
 */
typedef struct SentIds
{
	volatile int nqueues;		/* more than SENT_QUEUES: any ids of any */
	volatile Oid relids[SENT_QUEUES];
	pg_atomic_uint64 low[SENT_QUEUES];
	pg_atomic_uint64 high[SENT_QUEUES];
} SentIds;

/* By proc number, too */
static SentIds *sent_ids = NULL;

static int	next_registered(int from);


/*
 * queue_announcer_shmem_size
 *		Shared memory needed for the registered transactions.
 */
Size
queue_announcer_shmem_size(void)
{
	Size		size = MAXALIGN(mul_size(MaxBackends, sizeof(TransactionId)));

	size = add_size(size, mul_size(MaxBackends, sizeof(SentIds)));
	return add_size(size, mul_size(REGISTERED_WORDS, sizeof(pg_atomic_uint64)));
}

/*
 * queue_announcer_shmem_init
 *		Create or attach to the registered transactions.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_announcer_shmem_init(void)
{
	bool		found;

	announcing = ShmemInitStruct("queue announcing transactions",
								 queue_announcer_shmem_size(), &found);
	if (!found)
		memset((void *) announcing, 0, queue_announcer_shmem_size());
	sent_ids = (SentIds *) ((char *) announcing +
							MAXALIGN(MaxBackends * sizeof(TransactionId)));
	registered = (pg_atomic_uint64 *) (sent_ids + MaxBackends);
	for (int i = 0; i < REGISTERED_WORDS && !found; i++)
		pg_atomic_init_u64(&registered[i], 0);
	for (int i = 0; i < MaxBackends && !found; i++)
		for (int j = 0; j < SENT_QUEUES; j++)
		{
			pg_atomic_init_u64(&sent_ids[i].low[j], 0);
			pg_atomic_init_u64(&sent_ids[i].high[j], 0);
		}
}

/*
 * queue_announcer_register
 *		Register this transaction.  May throw.
 *
 * From now on a consumer that meets a row of it knows that its end is
 * announced.
 */
void
queue_announcer_register(void)
{
	if (announcing[MyProcNumber] != InvalidTransactionId)
		return;
	announcing[MyProcNumber] = GetTopTransactionId();
	pg_atomic_fetch_or_u64(&registered[MyProcNumber / 64],
						   UINT64CONST(1) << (MyProcNumber % 64));
}

/*
 * queue_announcer_publish
 *		Let others know the ids that this transaction is about to send.
 *
 * Before it registers, so that a process that sees it registered sees them.
 */
void
queue_announcer_publish(Oid relid, int64 low, int64 high)
{
	SentIds    *sent = &sent_ids[MyProcNumber];
	int			i;

	for (i = 0; i < Min(sent->nqueues, SENT_QUEUES); i++)
		if (sent->relids[i] == relid)
		{
			if (low < (int64) pg_atomic_read_u64(&sent->low[i]))
				pg_atomic_write_u64(&sent->low[i], (uint64) low);
			if (high > (int64) pg_atomic_read_u64(&sent->high[i]))
				pg_atomic_write_u64(&sent->high[i], (uint64) high);
			return;
		}
	if (i < SENT_QUEUES)
	{
		sent->relids[i] = relid;
		pg_atomic_write_u64(&sent->low[i], (uint64) low);
		pg_atomic_write_u64(&sent->high[i], (uint64) high);
		pg_write_barrier();
	}
	sent->nqueues = i + 1;
	pg_write_barrier();
}

/*
 * queue_announcer_add_below
 *		Add to a set, as ids of rank 0, what registered transactions have sent
 *		to this queue and not announced yet, and comes before this id.
 *
 * Such a transaction may have committed, so that others see its messages, and
 * not have come to its callbacks.  To be called before the cover is asked, as
 * what is announced meanwhile is there.
 */
void
queue_announcer_add_below(Oid relid, int64 id, RangeSet *set)
{
	int			i;

	for (i = next_registered(0); i < MaxBackends; i = next_registered(i + 1))
	{
		const SentIds *sent = &sent_ids[i];
		int			j;

		if (announcing[i] == InvalidTransactionId || i == MyProcNumber)
			continue;
		pg_read_barrier();
		if (sent->nqueues > SENT_QUEUES)
			queue_ranges_add(set, 0, PG_INT64_MIN, id - 1);
		for (j = 0; j < Min(sent->nqueues, SENT_QUEUES); j++)
		{
			int64		low;
			int64		high;

			if (sent->relids[j] != relid)
				continue;
			low = (int64) pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &sent->low[j]));
			high = (int64) pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &sent->high[j]));
			if (low < id && low <= high)
				queue_ranges_add(set, 0, low, Min(high, id - 1));
		}
	}
	pg_read_barrier();
}

/* Strike this transaction off. */
void
queue_announcer_unregister(void)
{
	if (announcing[MyProcNumber] != InvalidTransactionId)
	{
		announcing[MyProcNumber] = InvalidTransactionId;
		pg_atomic_fetch_and_u64(&registered[MyProcNumber / 64],
								~(UINT64CONST(1) << (MyProcNumber % 64)));
	}
	sent_ids[MyProcNumber].nqueues = 0;
}

/*
 * queue_announcer_is_registered
 *		Returns true if this transaction has registered to announce what it
 *		sends.
 *
 * "xid" is a top-level transaction.
 */
bool
queue_announcer_is_registered(TransactionId xid)
{
	int			i;

	for (i = next_registered(0); i < MaxBackends; i = next_registered(i + 1))
		if (announcing[i] == xid)
			return true;
	return false;
}

/*
 * queue_announcer_is_under_way
 *		Returns true if a transaction has ended and may still have to
 *		announce.
 */
bool
queue_announcer_is_under_way(void)
{
	int			i;

	for (i = next_registered(0); i < MaxBackends; i = next_registered(i + 1))
	{
		TransactionId xid = announcing[i];

		if (TransactionIdIsValid(xid) && !TransactionIdIsInProgress(xid))
			return true;
	}
	return false;
}

/*
 * next_registered
 *		Return the first proc number from this one on where a transaction is
 *		registered, MaxBackends if there is none.
 *
 * Without a lock: one that registers or leaves meanwhile may be among them or
 * not.
 */
static int
next_registered(int from)
{
	for (int word = from / 64; word < REGISTERED_WORDS; word++)
	{
		uint64		bits = pg_atomic_read_u64(&registered[word]);

		if (word == from / 64)
			bits &= PG_UINT64_MAX << (from % 64);
		if (bits != 0)
			return word * 64 + pg_rightmost_one_pos64(bits);
	}
	return MaxBackends;
}

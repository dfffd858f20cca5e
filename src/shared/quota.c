/*-------------------------------------------------------------------------
 *
 * quota.c
 *		Shares of the in-flight table, by database and queue.
 *
 * No queue may use up the room of the others: a queue may have up to
 * QUEUE_SHARE times as many entries as are free, a database up to
 * DATABASE_SHARE times.  The more of them are large, the less each may have.
 *
 * This rule alone would leave nothing to a small queue while the other queues
 * of its database have everything that the database may have, until their
 * leases end.  So a sixteenth of the table is reserved for small queues.  It
 * does not count as free.  A queue with only a few entries may use the first
 * half of it whatever its database has.  It may use the second half only if
 * its database has few entries as well.  A queue that is alone thus gets three
 * quarters of the table.
 *
 * A refusal is counted, because the workers then look for entries that have
 * outlived their rows (gone.c).
 *
 * Counters are found by hashing what they count; two queues (or databases)
 * with the same counter share it.  The counters are atomic and read without a
 * lock, so a share may be exceeded by as many entries as there are backends
 * adding one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/quota.h"

#define QUEUE_SHARE			4
#define DATABASE_SHARE		8
#define RESERVE				16	/* 1 in n, for small queues */

/* What counts as few entries of a queue, and of a database */
#define FEW_OF_QUEUE		Min(Max(queue_max_in_flight / 4096, 1), 16)
#define FEW_OF_DATABASE		(4 * FEW_OF_QUEUE)

#define QUEUE_COUNTERS		16384
#define DATABASE_COUNTERS	1024

typedef struct ShareShared
{
	pg_atomic_uint32 nentries;
	pg_atomic_uint32 nrefused;
	pg_atomic_uint32 queues[QUEUE_COUNTERS];
	pg_atomic_uint32 databases[DATABASE_COUNTERS];
} ShareShared;

static ShareShared *shared = NULL;

static bool is_room(uint32 nqueue, uint32 ndatabase);
static pg_atomic_uint32 *queue_counter(Oid dbid, Oid relid);
static pg_atomic_uint32 *database_counter(Oid dbid);

/*
 * queue_quota_shmem_size
 *		Shared memory needed for the counters.
 */
Size
queue_quota_shmem_size(void)
{
	return sizeof(ShareShared);
}

/*
 * queue_quota_shmem_init
 *		Create or attach to the counters.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_quota_shmem_init(void)
{
	bool		found;
	int			i;

	shared = ShmemInitStruct("queue shares", queue_quota_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u32(&shared->nentries, 0);
	pg_atomic_init_u32(&shared->nrefused, 0);
	for (i = 0; i < QUEUE_COUNTERS; i++)
		pg_atomic_init_u32(&shared->queues[i], 0);
	for (i = 0; i < DATABASE_COUNTERS; i++)
		pg_atomic_init_u32(&shared->databases[i], 0);
}

/*
 * queue_quota_charge
 *		Count a new entry of this queue.
 *
 * Returns false, and counts nothing, if that would exceed the share of the
 * queue or of its database.  With enforce = false it is counted all the
 * same.
 */
bool
queue_quota_charge(Oid dbid, Oid relid, bool enforce)
{
	if (enforce &&
		!is_room(pg_atomic_read_u32(queue_counter(dbid, relid)),
				 pg_atomic_read_u32(database_counter(dbid))))
		return false;
	pg_atomic_fetch_add_u32(&shared->nentries, 1);
	pg_atomic_fetch_add_u32(queue_counter(dbid, relid), 1);
	pg_atomic_fetch_add_u32(database_counter(dbid), 1);
	return true;
}

/* May a queue and its database that have so many entries get one more? */
static bool
is_room(uint32 nqueue, uint32 ndatabase)
{
	int64		left = (int64) queue_max_in_flight -
		pg_atomic_read_u32(&shared->nentries);
	int64		reserve = queue_max_in_flight / RESERVE;

	if (nqueue < FEW_OF_QUEUE &&
		(left > reserve / 2 || ndatabase < FEW_OF_DATABASE))
		return true;
	left = Max(left - reserve, 0);
	return nqueue < left * QUEUE_SHARE && ndatabase < left * DATABASE_SHARE;
}

/*
 * queue_quota_note_refused
 *		Note that a claim was refused, so that the workers make room.
 */
void
queue_quota_note_refused(void)
{
	pg_atomic_fetch_add_u32(&shared->nrefused, 1);
}

/*
 * queue_quota_refused
 *		Return how often a claim was refused since the start of the server.
 */
uint32
queue_quota_refused(void)
{
	return pg_atomic_read_u32(&shared->nrefused);
}

/*
 * queue_quota_refund
 *		Count an entry of this queue as removed.
 */
void
queue_quota_refund(Oid dbid, Oid relid)
{
	pg_atomic_fetch_sub_u32(&shared->nentries, 1);
	pg_atomic_fetch_sub_u32(queue_counter(dbid, relid), 1);
	pg_atomic_fetch_sub_u32(database_counter(dbid), 1);
}

/*
 * queue_quota_is_unused
 *		Returns true if the queue certainly has no entry.
 *
 * It returns false for a queue without entries, too, if the counter is shared
 * with another queue that has some.
 */
bool
queue_quota_is_unused(Oid dbid, Oid relid)
{
	return pg_atomic_read_u32(queue_counter(dbid, relid)) == 0;
}

/*
 * queue_quota_used
 *		Return how many entries a queue has; without it, its database; without
 *		both, all.
 *
 * Others that share the counter are among them.
 */
uint32
queue_quota_used(Oid dbid, Oid relid)
{
	return pg_atomic_read_u32(OidIsValid(relid) ? queue_counter(dbid, relid) :
							  OidIsValid(dbid) ? database_counter(dbid) :
							  &shared->nentries);
}

static pg_atomic_uint32 *
queue_counter(Oid dbid, Oid relid)
{
	uint32		hash = hash_combine(murmurhash32(dbid), murmurhash32(relid));

	return &shared->queues[hash % QUEUE_COUNTERS];
}

static pg_atomic_uint32 *
database_counter(Oid dbid)
{
	return &shared->databases[murmurhash32(dbid) % DATABASE_COUNTERS];
}

/* Raise 53400, because the in-flight table is full. */
void
queue_quota_raise_full(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many messages in flight"),
			 errdetail("Shared memory has room for %d messages that are leased or being dequeued, and the queue or the database has its share of it.",
					   queue_max_in_flight),
			 errhint("You might need to increase queue.max_in_flight.")));
}

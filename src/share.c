/*-------------------------------------------------------------------------
 *
 * share.c
 *		Shares of the in-flight table, by database and queue.
 *
 * Nobody is to use up the room of the others: a queue may have up to
 * QUEUE_SHARE times the entries that are free, a database up to DATABASE_SHARE
 * times.  Alone, a queue thus gets at most four fifths of the table; the more
 * of them are large, the less each may have, and there is always room left for
 * one that has nothing yet.
 *
 * Counters are found by a hash of what they count; two that fall together
 * share.  They are atomic and read without a lock, so a share may be exceeded
 * by as many entries as there are backends at it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "queue.h"
#include "share.h"

#define QUEUE_SHARE			4
#define DATABASE_SHARE		8
#define NUM_COUNTERS		1024

typedef struct ShareShared
{
	pg_atomic_uint32 nentries;
	pg_atomic_uint32 queues[NUM_COUNTERS];
	pg_atomic_uint32 databases[NUM_COUNTERS];
} ShareShared;

static ShareShared *shared = NULL;

static pg_atomic_uint32 *queue_counter(Oid dbid, Oid relid);
static pg_atomic_uint32 *database_counter(Oid dbid);

Size
queue_share_shmem_size(void)
{
	return sizeof(ShareShared);
}

/* Called with AddinShmemInitLock held. */
void
queue_share_shmem_init(void)
{
	bool		found;
	int			i;

	shared = ShmemInitStruct("queue shares", queue_share_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u32(&shared->nentries, 0);
	for (i = 0; i < NUM_COUNTERS; i++)
	{
		pg_atomic_init_u32(&shared->queues[i], 0);
		pg_atomic_init_u32(&shared->databases[i], 0);
	}
}

bool
queue_share_take(Oid dbid, Oid relid, bool obeys_shares)
{
	if (obeys_shares)
	{
		int64		left = (int64) queue_max_in_flight -
			pg_atomic_read_u32(&shared->nentries);

		if (pg_atomic_read_u32(queue_counter(dbid, relid)) >=
			left * QUEUE_SHARE ||
			pg_atomic_read_u32(database_counter(dbid)) >=
			left * DATABASE_SHARE)
			return false;
	}
	pg_atomic_fetch_add_u32(&shared->nentries, 1);
	pg_atomic_fetch_add_u32(queue_counter(dbid, relid), 1);
	pg_atomic_fetch_add_u32(database_counter(dbid), 1);
	return true;
}

void
queue_share_give_back(Oid dbid, Oid relid)
{
	pg_atomic_fetch_sub_u32(&shared->nentries, 1);
	pg_atomic_fetch_sub_u32(queue_counter(dbid, relid), 1);
	pg_atomic_fetch_sub_u32(database_counter(dbid), 1);
}

bool
queue_share_is_empty(Oid dbid, Oid relid)
{
	return pg_atomic_read_u32(queue_counter(dbid, relid)) == 0;
}

static pg_atomic_uint32 *
queue_counter(Oid dbid, Oid relid)
{
	uint32		hash = hash_combine(murmurhash32(dbid), murmurhash32(relid));

	return &shared->queues[hash % NUM_COUNTERS];
}

static pg_atomic_uint32 *
database_counter(Oid dbid)
{
	return &shared->databases[murmurhash32(dbid) % NUM_COUNTERS];
}

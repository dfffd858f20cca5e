/*-------------------------------------------------------------------------
 *
 * place.c
 *		Where subscriptions stand in their topics, as memory knows.
 *
 * The position of a subscription in a partition is a row of its table, which is
 * updated whenever messages are consumed.  While an old snapshot is held, none
 * of its versions can be removed, and a look-up by key goes over all of them.
 * So memory has where the newest one was when it was last seen: from there it
 * is one step, or a few, to what is the newest now (table/position.c).
 *
 * What a filter does not want is not looked at twice either, although the
 * position stays before it until the worker has moved it.
 *
 * All of it is a hint.  Places are as many as there are; which one a partition
 * has follows from a hash, and who comes there last has it.  So there is no
 * case of too little room, and none of a place that is left behind: what is
 * known is lost, and the row is looked up by its key, or messages are passed
 * over again.
 *
 * What if this process dies here?  A place is changed under a spinlock, by
 * assignments alone.  What if the message commits here?  A place says what was
 * committed; who reads follows the row from there.
 *
 * Locks: a spinlock for each place, held for a few assignments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "shared/place.h"

#define NUM_PLACES			16384

/* Whose place it is */
typedef struct PlaceKey
{
	Oid			dbid;			/* InvalidOid: nobody's */
	Oid			relid;
	int			partition;
} PlaceKey;

typedef struct SharedPlace
{
	slock_t		lock;
	PlaceKey	key;
	Place		place;
} SharedPlace;

static SharedPlace *places = NULL;

static SharedPlace *lock_place(Oid dbid, Oid relid, int partition,
							   bool *is_its);
static void take(SharedPlace *shared, Oid dbid, Oid relid, int partition);

/* Shared memory needed */
Size
queue_place_shmem_size(void)
{
	return mul_size(NUM_PLACES, sizeof(SharedPlace));
}

/* Create or attach to it; the caller holds AddinShmemInitLock. */
void
queue_place_shmem_init(void)
{
	bool		found;

	places = ShmemInitStruct("queue places", queue_place_shmem_size(), &found);
	if (found)
		return;
	memset(places, 0, queue_place_shmem_size());
	for (int i = 0; i < NUM_PLACES; i++)
		SpinLockInit(&places[i].lock);
}

/* Lock where a partition has its place; is that one its own? */
static SharedPlace *
lock_place(Oid dbid, Oid relid, int partition, bool *is_its)
{
	PlaceKey	key = {dbid, relid, partition};
	uint32		hash = hash_bytes((unsigned char *) &key, sizeof(key));
	SharedPlace *shared = &places[hash % NUM_PLACES];

	SpinLockAcquire(&shared->lock);
	*is_its = shared->key.relid == relid && shared->key.dbid == dbid &&
		shared->key.partition == partition;
	return shared;
}

/* Make it this partition's, of which nothing is known. */
static void
take(SharedPlace *shared, Oid dbid, Oid relid, int partition)
{
	shared->key.dbid = dbid;
	shared->key.relid = relid;
	shared->key.partition = partition;
	ItemPointerSetInvalid(&shared->place.tid);
	shared->place.position = -1;
	shared->place.filter = 0;
	shared->place.after = shared->place.passed = shared->place.nrows = 0;
}

/* Copy what is known of a partition; false if that is nothing. */
bool
queue_place_get(Oid relid, int partition, Place *place)
{
	bool		is_its;
	SharedPlace *shared = lock_place(MyDatabaseId, relid, partition, &is_its);

	if (is_its)
		*place = shared->place;
	SpinLockRelease(&shared->lock);
	return is_its;
}

/* Note where the newest committed version of its row is, and what it says. */
void
queue_place_set(Oid relid, int partition, const ItemPointerData * tid,
				int64 position)
{
	bool		is_its;
	SharedPlace *shared = lock_place(MyDatabaseId, relid, partition, &is_its);

	if (!is_its)
		take(shared, MyDatabaseId, relid, partition);
	shared->place.tid = *tid;
	shared->place.position = position;
	SpinLockRelease(&shared->lock);
}

/*
 * queue_place_moved
 *		A transaction that moved a position has committed.
 *
 * Where the row is now, the next reader finds.  No allocation, no error.
 */
void
queue_place_moved(Oid dbid, Oid relid, int partition, int64 position)
{
	bool		is_its;
	SharedPlace *shared = lock_place(dbid, relid, partition, &is_its);

	if (is_its)
		shared->place.position = position;
	SpinLockRelease(&shared->lock);
}

/*
 * queue_place_pass
 *		Note that a filter wants nothing after one id, up to another.
 *
 * That is true whatever becomes of the position.
 */
void
queue_place_pass(Oid relid, int partition, uint32 filter, int64 after,
				 int64 passed, int64 nrows)
{
	bool		is_its;
	SharedPlace *shared = lock_place(MyDatabaseId, relid, partition, &is_its);
	Place	   *place = &shared->place;

	if (!is_its)
		take(shared, MyDatabaseId, relid, partition);
	if (place->filter == filter && place->after <= after &&
		after <= place->passed)
	{
		place->passed = Max(place->passed, passed);
		place->nrows += nrows;
	}
	else
	{
		place->filter = filter;
		place->after = after;
		place->passed = passed;
		place->nrows = nrows;
	}
	SpinLockRelease(&shared->lock);
}

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
 * position stays before it until the worker has moved it (worker/passed.c).
 *
 * All of it is a hint.  Places are as many as there are; which one a partition
 * has follows from a hash, and the partition that comes there last has it.  So
 * there is no case of too little room, and none of a place that is left
 * behind: what is known is lost, and the row is looked up by its key, or
 * messages are passed over again.
 *
 * What if this process dies here?  A place is changed under a spinlock, by
 * assignments alone.  What if the message commits here?  A place says what was
 * committed; a reader follows the row from there.  One that has read a row
 * before it was moved, and comes to say so after that, is not listened to:
 * consumers would not look before a position that was moved back.  So moves
 * are counted, of whichever partitions share the place.
 *
 * Locks: a spinlock for each place, held for a few assignments; the worker is
 * called after that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "shared/database.h"
#include "shared/failure.h"
#include "shared/place.h"
#include "shared/registration.h"

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
	uint32		nmoves;			/* how often what it says was moved */
	Place		place;
} SharedPlace;

typedef struct SharedPlaces
{
	pg_atomic_uint64 npassed;	/* how often a position came to be before
								 * messages that were passed over */
	SharedPlace places[NUM_PLACES];
} SharedPlaces;

static SharedPlaces *shared = NULL;

static SharedPlace *lock_place(Oid dbid, Oid relid, int partition,
							   bool *is_its);
static bool is_behind_passed(const Place *place);
static void call_worker(Oid dbid);
static void take(SharedPlace *its, Oid dbid, Oid relid, int partition);

/* Shared memory needed */
Size
queue_place_shmem_size(void)
{
	return sizeof(SharedPlaces);
}

/* Create or attach to it; the caller holds AddinShmemInitLock. */
void
queue_place_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue places", queue_place_shmem_size(), &found);
	if (found)
		return;
	memset(shared, 0, queue_place_shmem_size());
	pg_atomic_init_u64(&shared->npassed, 0);
	for (int i = 0; i < NUM_PLACES; i++)
		SpinLockInit(&shared->places[i].lock);
}

/* Lock where a partition has its place; is that one its own? */
static SharedPlace *
lock_place(Oid dbid, Oid relid, int partition, bool *is_its)
{
	PlaceKey	key = {dbid, relid, partition};
	uint32		hash = hash_bytes((unsigned char *) &key, sizeof(key));
	SharedPlace *its = &shared->places[hash % NUM_PLACES];

	SpinLockAcquire(&its->lock);
	*is_its = its->key.relid == relid && its->key.dbid == dbid &&
		its->key.partition == partition;
	return its;
}

/* Make it this partition's, of which nothing is known. */
static void
take(SharedPlace *its, Oid dbid, Oid relid, int partition)
{
	its->key.dbid = dbid;
	its->key.relid = relid;
	its->key.partition = partition;
	memset(&its->place, 0, sizeof(Place));
	ItemPointerSetInvalid(&its->place.tid);
	its->place.position = -1;
}

/* Is a position just before messages that were passed over? */
static bool
is_behind_passed(const Place *place)
{
	return place->position >= place->after && place->unwanted > place->position;
}

/* Let the worker look in a while for such positions. */
static void
call_worker(Oid dbid)
{
	pg_atomic_fetch_add_u64(&shared->npassed, 1);
	queue_database_wake_by(dbid, GetCurrentTimestamp() + PLACE_WRITE_DELAY);
}

/* Copy what is known of a partition; false if that is nothing. */
bool
queue_place_get(Oid relid, int partition, Place *place)
{
	uint32		nmoves;

	return queue_place_get_to_read(relid, partition, place, &nmoves);
}

/* The same for a process that then reads the row, for queue_place_set(). */
bool
queue_place_get_to_read(Oid relid, int partition, Place *place, uint32 *nmoves)
{
	bool		is_its;
	SharedPlace *its = lock_place(MyDatabaseId, relid, partition, &is_its);

	*nmoves = its->nmoves;
	if (is_its)
		*place = its->place;
	SpinLockRelease(&its->lock);
	return is_its;
}

/*
 * queue_place_set
 *		Note where the newest committed version of its row is, and what that
 *		says.
 *
 * "nmoves" is of before the row was read.  If it has been moved since, what was
 * read may be of the past, and nothing is noted.
 */
void
queue_place_set(Oid relid, int partition, const ItemPointerData * tid,
				int64 position, int failures, uint32 nmoves)
{
	bool		calls_worker;
	bool		is_its;
	SharedPlace *its = lock_place(MyDatabaseId, relid, partition, &is_its);

	if (its->nmoves != nmoves)
	{
		SpinLockRelease(&its->lock);
		return;
	}
	if (!is_its)
		take(its, MyDatabaseId, relid, partition);
	calls_worker = its->place.position != position;
	its->place.tid = *tid;
	its->place.position = position;
	its->place.failures = failures;
	calls_worker &= is_behind_passed(&its->place);
	SpinLockRelease(&its->lock);
	if (calls_worker)
		call_worker(MyDatabaseId);
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
	bool		calls_worker = false;
	bool		is_its;
	SharedPlace *its = lock_place(dbid, relid, partition, &is_its);

	its->nmoves++;
	if (is_its)
	{
		its->place.position = position;
		its->place.failures = 0;
		calls_worker = is_behind_passed(&its->place);
	}
	SpinLockRelease(&its->lock);
	if (calls_worker)
		call_worker(dbid);
}

/* One that counted failures of what is next has committed; as above. */
void
queue_place_failed(Oid dbid, Oid relid, int partition, int failures)
{
	bool		is_its;
	SharedPlace *its = lock_place(dbid, relid, partition, &is_its);

	its->nmoves++;
	if (is_its)
		its->place.failures =
			queue_add_failures(its->place.failures, failures);
	SpinLockRelease(&its->lock);
}

/*
 * queue_place_pass
 *		Note that a filter wants nothing after one id, up to another.
 *
 * That is true whatever becomes of the position, because nothing can appear
 * there any more.  Each process that looks notes it, so one that looked from
 * further back may overwrite what one that holds the partition has noted
 * since, as may one that shares the place.  By that nothing is lost or
 * delivered again: less is known, so the next look passes over the same
 * messages again, and notes it again.  Until then the worker does not move the
 * position past them.
 */
void
queue_place_pass(Oid relid, int partition, uint32 filter, int64 after,
				 int64 passed, int64 unwanted)
{
	bool		calls_worker;
	bool		is_its;
	SharedPlace *its = lock_place(MyDatabaseId, relid, partition, &is_its);
	Place	   *place = &its->place;

	if (!is_its)
		take(its, MyDatabaseId, relid, partition);
	if (place->filter == filter && place->after <= after &&
		after <= place->passed)
	{
		place->passed = Max(place->passed, passed);
		place->unwanted = Max(place->unwanted, unwanted);
	}
	else
	{
		place->filter = filter;
		place->after = after;
		place->passed = passed;
		place->unwanted = unwanted;
	}
	calls_worker = unwanted > 0 && is_behind_passed(place);
	SpinLockRelease(&its->lock);
	if (calls_worker)
		call_worker(MyDatabaseId);
}

/* Return how often that became so, in all databases. */
uint64
queue_place_npassed(void)
{
	return pg_atomic_read_u64(&shared->npassed);
}

/*
 * queue_place_next_passed
 *		Find the next partition of this database, from the place *i on, behind
 *		whose position messages were passed over.
 *
 * By which filter, and whether nobody has moved the position since, is up to the
 * caller.  *i is then the place after that one.
 */
bool
queue_place_next_passed(int *i, Oid *relid, int *partition)
{
	while (*i < NUM_PLACES)
	{
		SharedPlace *its = &shared->places[(*i)++];
		bool		is_found;

		/* an unlocked look at what mostly tells */
		if (its->key.dbid != MyDatabaseId || its->place.unwanted == 0)
			continue;
		SpinLockAcquire(&its->lock);
		is_found = its->key.dbid == MyDatabaseId &&
			is_behind_passed(&its->place);
		*relid = its->key.relid;
		*partition = its->key.partition;
		SpinLockRelease(&its->lock);
		if (is_found)
			return true;
	}
	return false;
}

/*
 * queue_place_drop
 *		Forget a subscription that is dropped: another one may get its number.
 *
 * No allocation, no error.
 */
void
queue_place_drop(Oid dbid, Oid relid)
{
	for (int i = 0; i < TOPIC_MAX_PARTITIONS; i++)
	{
		bool		is_its;
		SharedPlace *its = lock_place(dbid, relid, i, &is_its);

		if (is_its)
			take(its, InvalidOid, InvalidOid, 0);
		SpinLockRelease(&its->lock);
	}
}

/* The same for all of a database. */
void
queue_place_drop_database(Oid dbid)
{
	for (int i = 0; i < NUM_PLACES; i++)
	{
		SharedPlace *its = &shared->places[i];

		SpinLockAcquire(&its->lock);
		if (its->key.dbid == dbid)
			take(its, InvalidOid, InvalidOid, 0);
		SpinLockRelease(&its->lock);
	}
}

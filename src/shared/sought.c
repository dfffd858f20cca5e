/*-------------------------------------------------------------------------
 *
 * sought.c
 *		What is left of a queue to be looked at by a selector.
 *
 * Consumers with the same selector share a set of ids that none of them has
 * looked at.  They take windows out of it as others do of the cover
 * (window.c), so that a row is judged once, however many they are.  What
 * belongs into it, and why, is in dispatch/selection.c.
 *
 * A selector is known by a hash of 128 bits.  A place for a queue
 * (queue_slot.c) gets room for a few selectors with the first look by one, and
 * keeps it, as it does with its log of news.  One that has not been used for a
 * while gives way to another.
 *
 * Locks: that of the queue's slot.  What if the process dies?  Its window comes
 * back as one of the cover does.  What if memory is full, or there are more
 * selectors?  Then a session has a set of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/atomics.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "shared/news.h"
#include "shared/sought.h"

/* Selectors of one queue, and the ranges of each */
#define NUM_SOUGHT			8
#define SOUGHT_ROOM			COVER_ROOM

/* A selector that was not used for so long gives way to another */
#define UNUSED_FOR			(10 * USECS_PER_SEC)

struct SoughtPlace
{
	Sought		sets[NUM_SOUGHT];
	QueueRange	ranges[NUM_SOUGHT][RANGE_PLACES(SOUGHT_ROOM)];
};

typedef struct SoughtShared
{
	pg_atomic_uint32 nused;
	SoughtPlace places[FLEXIBLE_ARRAY_MEMBER];
} SoughtShared;

static SoughtShared *shared = NULL;

static SoughtPlace *make_place(void);

/* Shared memory needed: a place for each log of news */
Size
queue_sought_shmem_size(void)
{
	return add_size(offsetof(SoughtShared, places),
					mul_size(queue_news_num_logs(), sizeof(SoughtPlace)));
}

/* Create or attach to the places.  The caller holds AddinShmemInitLock. */
void
queue_sought_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue sought", queue_sought_shmem_size(),
							 &found);
	if (!found)
	{
		memset(shared, 0, queue_sought_shmem_size());
		pg_atomic_init_u32(&shared->nused, 0);
	}
}

/* Return a place that no slot has, and is all zeros; or NULL. */
static SoughtPlace *
make_place(void)
{
	uint32		i = pg_atomic_read_u32(&shared->nused);

	while (i < queue_news_num_logs())
		if (pg_atomic_compare_exchange_u32(&shared->nused, &i, i + 1))
			return &shared->places[i];
	return NULL;
}

/*
 * queue_sought_restart
 *		The slot is another queue's now.
 */
void
queue_sought_restart(QueueSlot *slot)
{
	SoughtPlace *place = slot->sought.place;

	for (int i = 0; place != NULL && i < NUM_SOUGHT; i++)
		queue_sought_forget(&place->sets[i]);
}

/* The set is no selector's. */
void
queue_sought_forget(Sought *sought)
{
	sought->is_used = false;
}

/* Return the set of a selector, or NULL. */
Sought *
queue_sought_find(QueueSlot *slot, const SoughtKey *key)
{
	SoughtPlace *place = slot->sought.place;

	for (int i = 0; place != NULL && i < NUM_SOUGHT; i++)
	{
		Sought	   *sought = &place->sets[i];

		if (sought->is_used && sought->key.hash[0] == key->hash[0] &&
			sought->key.hash[1] == key->hash[1])
			return sought;
	}
	return NULL;
}

/*
 * queue_sought_open
 *		Return the set of a selector for a look, made if need be; NULL: there
 *		is no room.
 *
 * If *is_new, it is empty, and the caller is to fill it.  Windows of the
 * selector that gives way may be out; they are forgotten, since the one that
 * comes back to that begins with what is covered.
 */
Sought *
queue_sought_open(QueueSlot *slot, const SoughtKey *key, TimestampTz now,
				  bool *is_new)
{
	Sought	   *sought = queue_sought_find(slot, key);
	SoughtPlace *place;

	*is_new = sought == NULL || sought->began_at < now - SOUGHT_LIFETIME;
	if (slot->sought.place == NULL)
		slot->sought.place = make_place();
	place = slot->sought.place;
	for (int i = 0; sought == NULL && place != NULL && i < NUM_SOUGHT; i++)
	{
		if (place->sets[i].is_used &&
			place->sets[i].used_at > now - UNUSED_FOR)
			continue;
		sought = &place->sets[i];
		sought->is_used = true;
		sought->key = *key;
		sought->nout = 0;
		queue_ranges_init(&sought->left, place->ranges[i], SOUGHT_ROOM);
	}
	if (sought == NULL)
		return NULL;
	if (*is_new)
	{
		sought->left.nranges = 0;
		sought->began_at = now;
	}
	sought->used_at = now;
	return sought;
}

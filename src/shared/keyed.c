/*-------------------------------------------------------------------------
 *
 * keyed.c
 *		Hash tables in shared memory, by what a message is known by.
 *
 * The in-flight table and that of groups are alike: partitioned, as large as
 * queue.max_in_flight says, with an LWLock for each partition, under which its
 * entries are made, changed and removed.  What there is beside the entries
 * (lists of those of a partition) is for the owner of the table.
 *
 * Room is fixed, so that a full table is noticed by who wants an entry; nothing
 * here allocates or throws once the table is made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/keyed.h"

/* Return how much shared memory a table takes. */
Size
queue_keyed_shmem_size(Size entrysize)
{
	return hash_estimate_size(queue_max_in_flight, entrysize);
}

/*
 * queue_keyed_shmem_init
 *		Create or attach to the table of this name.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_keyed_shmem_init(KeyedTable *table, const char *name, Size entrysize,
					   const char *tranche)
{
	HASHCTL		info;

	info.keysize = sizeof(MessageKey);
	info.entrysize = entrysize;
	info.num_partitions = NUM_PARTITIONS;
	table->entries = ShmemInitHash(name, queue_max_in_flight, &info,
								   HASH_ELEM | HASH_BLOBS | HASH_PARTITION |
								   HASH_FIXED_SIZE);
	table->locks = GetNamedLWLockTranche(tranche);
}

/* Lock the partition of the keys with this hash. */
LWLock *
queue_keyed_lock(const KeyedTable *table, uint32 hashcode)
{
	LWLock	   *lock = &table->locks[queue_keyed_partition(hashcode)].lock;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	return lock;
}

/*
 * queue_keyed_find
 *		Look an entry up.
 *
 * The partition is locked whether there is one or not.
 */
void *
queue_keyed_find(const KeyedTable *table, const MessageKey *key, LWLock **lock)
{
	uint32		hashcode = get_hash_value(table->entries, key);

	*lock = queue_keyed_lock(table, hashcode);
	return hash_search_with_hash_value(table->entries, key, hashcode,
									   HASH_FIND, NULL);
}

/*
 * queue_keyed_make
 *		Look an entry up, or make one, of which only the key is set.
 *
 * Returns NULL if there is no room for it.  The partition is locked in any
 * case.
 */
void *
queue_keyed_make(const KeyedTable *table, const MessageKey *key, LWLock **lock,
				 uint32 *hashcode, bool *found)
{
	*hashcode = get_hash_value(table->entries, key);
	*lock = queue_keyed_lock(table, *hashcode);
	return hash_search_with_hash_value(table->entries, key, *hashcode,
									   HASH_ENTER_NULL, found);
}

/* Remove an entry, the partition of which is locked. */
void
queue_keyed_remove(const KeyedTable *table, const MessageKey *key,
				   uint32 hashcode)
{
	hash_search_with_hash_value(table->entries, key, hashcode, HASH_REMOVE,
								NULL);
}

/* Return the number of entries. */
int
queue_keyed_count(const KeyedTable *table)
{
	return (int) hash_get_num_entries(table->entries);
}

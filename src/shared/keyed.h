/*-------------------------------------------------------------------------
 *
 * keyed.h
 *		Hash tables in shared memory, by what a message is known by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_KEYED_H
#define QUEUE_KEYED_H

#include "storage/lwlock.h"
#include "utils/hsearch.h"

#include "shared/key.h"

#define NUM_PARTITIONS		32

/* Where a process finds such a table */
typedef struct KeyedTable
{
	HTAB	   *entries;		/* each begins with its MessageKey */
	LWLockPadded *locks;		/* one a partition */
} KeyedTable;

/* Shared memory needed; create it, or attach to it */
extern Size queue_keyed_shmem_size(Size entrysize);
extern void queue_keyed_shmem_init(KeyedTable *table, const char *name,
								   Size entrysize, const char *tranche);

/* The partition of a key with this hash, and its lock, which is taken */
static inline int
queue_keyed_partition(uint32 hashcode)
{
	return hashcode % NUM_PARTITIONS;
}

extern LWLock *queue_keyed_lock(const KeyedTable *table, uint32 hashcode);

/* Look an entry up; its partition is locked whether there is one or not */
extern void *queue_keyed_find(const KeyedTable *table, const MessageKey *key,
							  LWLock **lock);

/*
 * The same, made if need be, and then all but the key is undefined; NULL: no
 * room.  The entry is to remember the hash of its key
 */
extern void *queue_keyed_make(const KeyedTable *table, const MessageKey *key,
							  LWLock **lock, uint32 *hashcode, bool *found);

/* Remove an entry, the partition of which is locked */
extern void queue_keyed_remove(const KeyedTable *table, const MessageKey *key,
							   uint32 hashcode);

/* How many entries there are */
extern int	queue_keyed_count(const KeyedTable *table);

#endif							/* QUEUE_KEYED_H */

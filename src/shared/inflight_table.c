/*-------------------------------------------------------------------------
 *
 * inflight_table.c
 *		Where the entries of the in-flight table are, and what locks them.
 *
 * Locks: the hash table is partitioned.  An entry is created, changed and
 * removed under the LWLock of its partition.  That is held for a few
 * instructions, with nothing below it but the lock of the queue's slot: no
 * allocation, no error.  The entries of a partition are in a list as well, for
 * processes that go over all of them; they lock one partition after the other.
 *
 * Another list has the entries that have changed since the worker had nothing
 * to do about them, so that its rounds cost what there is to do, and not what
 * there is.  A process that locks an entry to change it puts it there, and the
 * worker takes it off.
 *
 * An entry whose holder is a process (CLAIMED, DEQUEUED, settling) is moved to
 * another state and removed by that process alone, so the holder may keep a
 * pointer; the worker only notes in it what queue.lease has.  All other
 * processes look entries up by key.  The texts of failures have a lock of
 * their own, taken under a partition's when a lease runs out.
 *
 * If memory is full, a claim says so and nothing has happened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"
#include "shared/keyed.h"
#include "shared/quota.h"

typedef struct InflightShared
{
	uint64		epoch;			/* random; fences receipts of earlier lives */
	pg_atomic_uint64 next_number;
	pg_atomic_uint32 has_lapsed;	/* entries may be there for a fence alone */
	dlist_head	entries[NUM_PARTITIONS];
	dlist_head	changed[NUM_PARTITIONS];
} InflightShared;

static InflightShared *shared = NULL;
static KeyedTable table;

static void init_entry(InflightEntry *entry, TimestampTz enqueued_at,
					   uint32 hashcode);

/*
 * queue_inflight_shmem_size
 *		Shared memory needed for the table.
 */
Size
queue_inflight_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(InflightShared)),
					queue_keyed_shmem_size(sizeof(InflightEntry)));
}

/* Number of LWLocks needed. */
int
queue_inflight_nlocks(void)
{
	return NUM_PARTITIONS;
}

/*
 * queue_inflight_shmem_init
 *		Create or attach to the table.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_inflight_shmem_init(void)
{
	bool		found;
	int			i;

	shared = ShmemInitStruct("queue in-flight", sizeof(InflightShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(InflightShared));
		if (!pg_strong_random(&shared->epoch, sizeof(shared->epoch)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random number")));
		pg_atomic_init_u64(&shared->next_number, 1);
		pg_atomic_init_u32(&shared->has_lapsed, 0);
		for (i = 0; i < NUM_PARTITIONS; i++)
		{
			dlist_init(&shared->entries[i]);
			dlist_init(&shared->changed[i]);
		}
	}

	queue_keyed_shmem_init(&table, "queue in-flight messages",
						   sizeof(InflightEntry), "queue_inflight");
}

/* Return the number of entries, of all databases. */
int
queue_inflight_size(void)
{
	return queue_keyed_count(&table);
}

/* Return the fence of all leases that are given while shared memory lives. */
uint64
queue_inflight_epoch(void)
{
	return shared->epoch;
}

/* Return the number that a lease is to have. */
uint64
queue_inflight_new_number(void)
{
	return pg_atomic_fetch_add_u64(&shared->next_number, 1);
}

/* Return the number that the next lease is to have, if it is given now. */
uint64
queue_inflight_next_number(void)
{
	return pg_atomic_read_u64(&shared->next_number);
}

/* There may be an entry for a late receipt alone.  Its partition is locked. */
void
queue_inflight_note_lapsed(void)
{
	pg_atomic_write_u32(&shared->has_lapsed, 1);
}

/* Forget that; returns true if there may be one. */
bool
queue_inflight_clear_lapsed(void)
{
	return pg_atomic_exchange_u32(&shared->has_lapsed, 0) != 0;
}

/*
 * queue_inflight_visit
 *		Show each entry of this database to the visitor.
 *
 * The visitor may change flags but neither state nor existence.  It must not
 * allocate, because a partition is locked.  It returns false to end the visit.
 */
void
queue_inflight_visit(InflightVisitor visitor, void *arg)
{
	queue_inflight_walk(MyDatabaseId, visitor, arg);
}

/*
 * queue_inflight_walk
 *		Show all entries of a database, or all there are.
 *
 * The visitor may remove the entry that it is shown.  Its partition is locked.
 */
void
queue_inflight_walk(Oid dbid, InflightVisitor visitor, void *arg)
{
	bool		goes_on = true;
	int			i;

	for (i = 0; i < NUM_PARTITIONS && goes_on; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&table.locks[i].lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &shared->entries[i])
		{
			InflightEntry *entry =
				dlist_container(InflightEntry, node, iter.cur);

			if (OidIsValid(dbid) && entry->key.dbid != dbid)
				continue;
			goes_on = visitor(entry, arg);
			if (!goes_on)
				break;
		}
		LWLockRelease(&table.locks[i].lock);
	}
}

/*
 * queue_inflight_visit_changed
 *		The same for entries that have changed.
 *
 * The visitor returns true if there is still something to do about the entry.
 * Otherwise it is shown again when it changes.
 */
void
queue_inflight_visit_changed(InflightVisitor visitor, void *arg)
{
	int			i;

	for (i = 0; i < NUM_PARTITIONS; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&table.locks[i].lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &shared->changed[i])
		{
			InflightEntry *entry =
				dlist_container(InflightEntry, changed, iter.cur);

			if (entry->key.dbid != MyDatabaseId || visitor(entry, arg))
				continue;
			dlist_delete(&entry->changed);
			entry->is_changed = false;
		}
		LWLockRelease(&table.locks[i].lock);
	}
}

/*
 * queue_inflight_keys
 *		For views: fill in keys of this database in a partition, at most
 *		"max".
 *
 * Returns how many there are.
 */
int
queue_inflight_keys(int partition, MessageKey *keys, int max)
{
	dlist_iter	iter;
	int			n = 0;

	LWLockAcquire(&table.locks[partition].lock, LW_SHARED);
	dlist_foreach(iter, &shared->entries[partition])
	{
		const InflightEntry *entry =
			dlist_container(InflightEntry, node, iter.cur);

		if (entry->key.dbid != MyDatabaseId)
			continue;
		if (n < max)
			keys[n] = entry->key;
		n++;
	}
	LWLockRelease(&table.locks[partition].lock);
	return n;
}

/*
 * queue_inflight_copy
 *		For views: copy an entry, whatever row it is about.
 *
 * Returns false if there is none.
 */
bool
queue_inflight_copy(const MessageKey *key, InflightEntry *copy)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find_to_read(key, &lock);

	if (entry != NULL)
		*copy = *entry;
	LWLockRelease(lock);
	return entry != NULL;
}

/*
 * queue_inflight_peek
 *		Copy the entry about this row.
 *
 * Returns false if there is none.  It may be out of date at once.
 */
bool
queue_inflight_peek(const MessageKey *key, TimestampTz enqueued_at,
					InflightEntry *copy)
{
	LWLock	   *lock;
	InflightEntry *entry;
	bool		found;

	/* a scan of all rows of a queue mostly finds none: spare the look-up */
	if (queue_quota_is_unused(key->dbid, key->relid))
		return false;

	entry = queue_entry_find_to_read(key, &lock);
	found = entry != NULL && entry->enqueued_at == enqueued_at;
	if (found)
		*copy = *entry;
	LWLockRelease(lock);
	return found;
}

/*
 * queue_inflight_is_step
 *		Returns true if a worker is rewriting or moving this row right now.
 *
 * *holder is then its proc number.
 */
bool
queue_inflight_is_step(const MessageKey *key, TimestampTz enqueued_at,
					   int *holder)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find_to_read(key, &lock);
	bool		is_step;

	/* a row that the step is rewriting may not have been read */
	is_step = entry != NULL && entry->state == INFLIGHT_CLAIMED &&
		entry->is_step && (enqueued_at == DT_NOBEGIN ||
						   entry->enqueued_at == enqueued_at);
	if (is_step)
		*holder = entry->holder;
	LWLockRelease(lock);
	return is_step;
}

/*
 * queue_inflight_is_durable
 *		Returns true if queue.lease may have a row of this message.
 */
bool
queue_inflight_is_durable(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find_to_read(key, &lock);
	bool		is_durable = entry != NULL && entry->is_durable;

	LWLockRelease(lock);
	return is_durable;
}

/*
 * queue_entry_make
 *		Look an entry up, or make one about this row.
 *
 * Returns NULL if there is no room for it, or if it would exceed a share and
 * that is to be enforced.  The partition is locked in any case.
 */
InflightEntry *
queue_entry_make(const MessageKey *key, TimestampTz enqueued_at, bool enforce,
				 LWLock **lock, bool *found)
{
	uint32		hashcode;
	InflightEntry *entry = queue_keyed_make(&table, key, lock, &hashcode,
											found);

	if (entry == NULL || *found)
		return entry;
	if (!queue_quota_charge(key->dbid, key->relid, enforce))
	{
		queue_keyed_remove(&table, key, hashcode);
		return NULL;
	}
	init_entry(entry, enqueued_at, hashcode);
	return entry;
}

/* Initialise an entry just made, all but the key.  Its partition is locked. */
static void
init_entry(InflightEntry *entry, TimestampTz enqueued_at, uint32 hashcode)
{
	memset((char *) entry + sizeof(MessageKey), 0,
		   sizeof(InflightEntry) - sizeof(MessageKey));
	entry->hashcode = hashcode;
	entry->enqueued_at = enqueued_at;
	entry->priority = -1;
	ItemPointerSetInvalid(&entry->tid);
	dlist_push_head(&shared->entries[queue_keyed_partition(hashcode)],
					&entry->node);
	queue_entry_note_change(entry);
}

/*
 * queue_entry_remove
 *		Remove an entry that is linked nowhere else.
 *
 * The partition is locked.
 */
void
queue_entry_remove(InflightEntry *entry)
{
	queue_quota_refund(entry->key.dbid, entry->key.relid);
	dlist_delete(&entry->node);
	if (entry->is_changed)
		dlist_delete(&entry->changed);
	queue_keyed_remove(&table, &entry->key, entry->hashcode);
}

/*
 * queue_entry_lock
 *		Lock the partition of an entry that this process holds, to change it.
 */
LWLock *
queue_entry_lock(InflightEntry *entry)
{
	LWLock	   *lock = queue_keyed_lock(&table, entry->hashcode);

	queue_entry_note_change(entry);
	return lock;
}

/*
 * queue_entry_find
 *		Look an entry up, to change it.
 *
 * The partition is locked whether there is one or not.
 */
InflightEntry *
queue_entry_find(const MessageKey *key, LWLock **lock)
{
	InflightEntry *entry = queue_entry_find_to_read(key, lock);

	if (entry != NULL)
		queue_entry_note_change(entry);
	return entry;
}

/*
 * queue_entry_find_to_read
 *		The same for a caller that changes nothing.
 */
InflightEntry *
queue_entry_find_to_read(const MessageKey *key, LWLock **lock)
{
	return queue_keyed_find(&table, key, lock);
}

/*
 * queue_entry_note_change
 *		There may be something to do for the worker.
 *
 * The partition is locked.
 */
void
queue_entry_note_change(InflightEntry *entry)
{
	if (entry->is_changed)
		return;
	dlist_push_tail(&shared->changed[queue_keyed_partition(entry->hashcode)],
					&entry->changed);
	entry->is_changed = true;
}

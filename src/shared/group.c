/*-------------------------------------------------------------------------
 *
 * group.c
 *		Groups of messages that are delivered in order: whose turn is it?
 *
 * One transaction or lease at a time has messages of a group.  What else there
 * is of the group waits, and is not in the cover: a consumer that meets such a
 * message notes its id here and passes it over, once.  So a million messages
 * behind one that backs off cost one entry, and no look.
 *
 * A group has an entry while
 *
 * - it has members: entries of the in-flight table (inflight.c) of messages
 *	 that are dequeued, leased, back off in memory or are to be moved to the
 *	 dead letters.  They hold the group;
 *
 * - a process has it out: it examines what waits;
 *
 * - messages wait.  Of these the first is known, and from which id on there
 *	 may be others (GroupWait).  Two numbers, so that a message that commits
 *	 late or fails, with a low id, makes nobody go over the dead rows between
 *	 itself and the others.
 *
 * A group with waiting messages and neither members nor a looker is ready.
 * Ready groups are in a heap, a part of the queue's slot, in the order of
 * priority and id of the first that waits.  Consumers take what is first, the
 * top of the heap or the first range of the cover.  If it is known that it is
 * of no use to try before some time, the group is not in the heap but linked
 * by that time, as leases are (deadline.c).
 *
 * A process that looks takes the group out (group_out.c).  What was noted may
 * be gone when it is looked at, because a plain DELETE tells nobody; the looker
 * then goes on with the next row of the index of groups.  So each message that
 * waits is found, whatever became of those before it.
 *
 * Locks: the table is partitioned, and an entry guarded by its partition's
 * LWLock.  That comes after a partition of the in-flight table and before the
 * lock of a queue's slot, which guards heap and list.  Nothing below
 * allocates or throws.
 *
 * A queue without a slot has no heap.  An entry then only tells that the group
 * is held, and nothing is noted, because every look goes over all rows.
 *
 * What if the process dies?  By an error or exit, the abort callback puts back
 * what it has out, and its members leave with their entries; by kill -9,
 * memory is new, the cover is everything, and leases come back from their log.
 * What if memory is full?  The message stays in the cover.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/cover.h"
#include "shared/group.h"
#include "shared/keyed.h"
#include "shared/waiter.h"

/* A group that waits for a time is looked at after this at the latest */
#define MAX_WAIT			(30 * USECS_PER_SEC)

/* Seeds of the two hashes; the log of leases has the first */
#define HASH_SEED			0
#define CHECK_SEED			UINT64CONST(0x9e3779b97f4a7c15)

typedef struct GroupShared
{
	pg_atomic_uint64 next_call;
	dlist_head	entries[NUM_PARTITIONS];

	/* by proc number: something was noted of a group that it owns */
	bool		has_news[FLEXIBLE_ARRAY_MEMBER];
} GroupShared;

static GroupShared *shared = NULL;
static KeyedTable table;

static void link_waiting(QueueSlot *slot, GroupEntry *group);

/* ----------------------------------------------------------------
 *		Shared memory
 * ----------------------------------------------------------------
 */

/* Shared memory needed: as many groups as messages may be in flight */
Size
queue_group_shmem_size(void)
{
	return add_size(offsetof(GroupShared, has_news) + MaxBackends,
					queue_keyed_shmem_size(sizeof(GroupEntry)));
}

/* Number of LWLocks needed */
int
queue_group_nlocks(void)
{
	return NUM_PARTITIONS;
}

/* Create or attach to the table.  The caller holds AddinShmemInitLock. */
void
queue_group_shmem_init(void)
{
	bool		found;
	Size		size = offsetof(GroupShared, has_news) + MaxBackends;
	int			i;

	shared = ShmemInitStruct("queue groups", size, &found);
	if (!found)
	{
		memset(shared, 0, size);
		pg_atomic_init_u64(&shared->next_call, 1);
		for (i = 0; i < NUM_PARTITIONS; i++)
			dlist_init(&shared->entries[i]);
	}
	queue_keyed_shmem_init(&table, "queue groups of messages",
						   sizeof(GroupEntry), "queue_group");
}

/* ----------------------------------------------------------------
 *		Names
 * ----------------------------------------------------------------
 */

/*
 * queue_group_name
 *		Fill in by what memory knows the group with this key.
 *
 * "text" must live as long as the name does.
 */
void
queue_group_name(GroupName *name, const char *text, int length)
{
	const unsigned char *bytes = (const unsigned char *) text;

	name->hash = hash_bytes_extended(bytes, length, HASH_SEED);
	name->check = hash_bytes_extended(bytes, length, CHECK_SEED);
	if (name->hash == 0)
		name->hash = 1;
	if (name->check == 0)
		name->check = 1;
	name->length = length;
	name->is_fair = false;
	name->text = text;
}

/* Return a number that no other call of receive() has. */
uint64
queue_group_new_call(void)
{
	return pg_atomic_fetch_add_u64(&shared->next_call, 1);
}

/* ----------------------------------------------------------------
 *		Time, and ends
 * ----------------------------------------------------------------
 */

/*
 * queue_group_recheck
 *		A transaction has ended in this database that announces nothing: look
 *		again at groups that may have waited for it.
 */
void
queue_group_recheck(Oid dbid)
{
	for (int i = 0; i < NUM_PARTITIONS; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&table.locks[i].lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &shared->entries[i])
		{
			GroupEntry *group = dlist_container(GroupEntry, node, iter.cur);

			if (group->key.dbid != dbid || group->delay == 0)
				continue;
			group->until = 0;
			queue_group_rest(group, true /* wakes */ );
		}
		LWLockRelease(&table.locks[i].lock);
	}
}

/*
 * queue_group_drop
 *		Nothing of a queue that is dropped or truncated waits any more.
 *
 * InvalidOid: of none of the database.
 */
void
queue_group_drop(Oid dbid, Oid relid)
{
	if (queue_keyed_count(&table) == 0)
		return;
	for (int i = 0; i < NUM_PARTITIONS; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&table.locks[i].lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &shared->entries[i])
		{
			GroupEntry *group = dlist_container(GroupEntry, node, iter.cur);

			if (group->key.dbid != dbid ||
				(OidIsValid(relid) && group->key.relid != relid))
				continue;
			queue_group_unlink(group);
			queue_group_wait_init(&group->wait);
			queue_group_rest(group, false /* wakes */ );
		}
		LWLockRelease(&table.locks[i].lock);
	}
}

/* ----------------------------------------------------------------
 *		Questions
 * ----------------------------------------------------------------
 */

/*
 * queue_group_has
 *		Returns true if this message is known to wait, if_held also for those
 *		that hold the group, or is being examined.
 */
bool
queue_group_has(Oid relid, const GroupName *name, int64 id, bool if_held)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *group;
	bool		has;

	queue_group_key(&key, MyDatabaseId, relid, name->hash);
	group = queue_group_find(&key, &lock);
	has = group != NULL &&
		(group->check == 0 || group->check == name->check) &&
		(group->looker != NO_PROC ||
		 (!group->wait.is_empty && (if_held || group->nmembers == 0) &&
		  (group->wait.id == id || group->wait.others <= id)));
	LWLockRelease(lock);
	return has;
}

/*
 * queue_group_has_news
 *		Returns true if a message was noted of a group that this session's
 *		transaction owns, since queue_group_clear_news().
 */
bool
queue_group_has_news(void)
{
	return shared->has_news[MyProcNumber];
}

/* It is about to be looked for: noting another one sets it again. */
void
queue_group_clear_news(void)
{
	shared->has_news[MyProcNumber] = false;
	pg_memory_barrier();
}

/*
 * queue_group_owned_wait
 *		Copy what waits of a group; returns false if this session's
 *		transaction does not own it, or nothing does.
 */
bool
queue_group_owned_wait(Oid relid, uint64 hash, GroupWait *wait)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *group;
	bool		found;

	queue_group_key(&key, MyDatabaseId, relid, hash);
	group = queue_group_find(&key, &lock);
	found = group != NULL && queue_group_is_owned(group, 0) && !group->wait.is_empty;
	if (found)
		*wait = group->wait;
	LWLockRelease(lock);
	return found;
}

/* ----------------------------------------------------------------
 *		Helpers
 * ----------------------------------------------------------------
 */

/* Lock the partition of an entry that cannot go meanwhile. */
LWLock *
queue_group_lock(GroupEntry *group)
{
	return queue_keyed_lock(&table, group->hashcode);
}

/* Look a group up.  The partition is locked whether there is one or not. */
GroupEntry *
queue_group_find(const MessageKey *key, LWLock **lock)
{
	return queue_keyed_find(&table, key, lock);
}

/* The same, made if need be; NULL: no room */
GroupEntry *
queue_group_make(const MessageKey *key, QueueSlot *slot, LWLock **lock)
{
	bool		found;
	uint32		hashcode;
	GroupEntry *group = queue_keyed_make(&table, key, lock, &hashcode, &found);

	if (group == NULL)
		return NULL;
	if (!found)
	{
		memset((char *) group + sizeof(MessageKey), 0,
			   sizeof(GroupEntry) - sizeof(MessageKey));
		group->hashcode = hashcode;
		dlist_init(&group->members);
		queue_group_wait_init(&group->wait);
		queue_group_wait_init(&group->out);
		group->owner = NO_PROC;
		group->looker = NO_PROC;
		group->length = -1;
		dlist_push_head(&shared->entries[queue_keyed_partition(hashcode)],
						&group->node);
	}
	if (slot != NULL)
		group->slot = slot;
	return group;
}

/*
 * Are there so many groups that those which can do without an entry are to
 * have none?
 */
bool
queue_group_is_crowded(void)
{
	return queue_keyed_count(&table) >= queue_max_in_flight / 2;
}

/* A group is known as a message is, with the hash in place of the id. */
void
queue_group_key(MessageKey *key, Oid dbid, Oid relid, uint64 hash)
{
	queue_message_key(key, relid, (int64) hash);
	key->dbid = dbid;
}

/* May this session take more of the group, although it is held? */
bool
queue_group_is_owned(const GroupEntry *group, uint64 call)
{
	return group->nmembers > 0 && group->looker == NO_PROC &&
		group->owner == MyProcNumber && group->owner_call == call;
}

/*
 * queue_group_add
 *		Add to what waits, and tell the owner, if there is one.
 *
 * If this is the first that waits now, it is looked at anew: the time was that
 * of another one, or is out of date.
 */
void
queue_group_add(GroupEntry *group, int rank, int64 id, int64 others)
{
	if (id <= group->wait.id)
		group->until = 0;
	if (group->slot != NULL)
		group->slot->groups.has_waited = true;

	/* its place in the heap may change */
	if (group->is_ready && !group->is_fair && id <= group->wait.id)
		queue_group_unlink(group);
	queue_group_wait_add(&group->wait, rank, id, others);
	if (group->owner != NO_PROC && group->owner_call == 0)
	{
		shared->has_news[group->owner] = true;
		pg_memory_barrier();
	}
}

/*
 * queue_group_rest
 *		Put a group where it belongs: into the heap, among those that wait for
 *		a time, or nowhere.
 *
 * A group of which nothing is left to remember is removed.  If it becomes
 * ready and "wakes", one waiter is woken.
 */
void
queue_group_rest(GroupEntry *group, bool wakes)
{
	QueueSlot  *slot;
	WakeList	list;
	TimestampTz now;

	if (group->looker != NO_PROC || group->is_ready)
		return;
	if (group->nmembers > 0)
		return;
	queue_group_unlink(group);
	slot = group->wait.is_empty ? NULL :
		queue_cover_lock(group->slot, group->key.dbid, group->key.relid);
	if (slot == NULL)
	{
		if (!group->wait.is_empty && wakes)
		{
			queue_waiter_start_wakes(&list, group->key.dbid);
			queue_waiter_wake_anyone(&list);
		}
		dlist_delete(&group->node);
		queue_keyed_remove(&table, &group->key, group->hashcode);
		return;
	}
	group->slot = slot;
	queue_waiter_start_wakes(&list, group->key.dbid);
	now = GetCurrentTimestamp();
	if (group->until > now)
	{
		/* a plain DELETE of what it waits for tells nobody */
		group->until = Min(group->until, now + MAX_WAIT);
		link_waiting(slot, group);
		queue_waiter_pick_guardian(slot, &list);
	}
	else
	{
		queue_group_link_ready(slot, group);
		if (wakes)
		{
			(void) queue_waiter_pick(slot, 1, 0, &list);
			queue_waiter_unlock_added(slot, NULL, &list);
			return;
		}
	}
	queue_cover_unlock(slot, &list);
}

/* Link it by its time.  The slot is locked. */
static void
link_waiting(QueueSlot *slot, GroupEntry *group)
{
	group->waiting.key = &group->key;
	group->waiting.slot = slot;
	group->waiting.due = group->until;
	queue_due_link(&slot->groups.waiting, &group->waiting);
	(void) queue_cover_is_due_first(slot, group->until);
}

/*
 * queue_group_unlink
 *		Unlink it from wherever it is.
 *
 * Its partition is locked, so nobody links it meanwhile.  Somebody may unlink
 * it, so that is checked again under the lock of the slot.
 */
void
queue_group_unlink(GroupEntry *group)
{
	QueueSlot  *slot = group->waiting.slot;

	if (slot != NULL)
	{
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (group->waiting.slot != NULL)
		{
			queue_due_unlink(&slot->groups.waiting, &group->waiting);
			group->waiting.slot = NULL;
			queue_cover_compute_due(slot);
		}
		LWLockRelease(slot->lock);
	}
	if (group->is_ready)
	{
		slot = group->ready_slot;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (group->is_ready)
			queue_group_unlink_ready(slot, group);
		LWLockRelease(slot->lock);
	}
}

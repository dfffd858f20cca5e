/*-------------------------------------------------------------------------
 *
 * queue_slot.c
 *		What shared memory knows of each queue: its slot, and the lock of that.
 *
 * The slots are an array of queue.max_queues, found through a hash table.  A
 * queue gets one on its first use after a start.  Its table must have been
 * opened and found to be a queue, by a role with a privilege on it, by the worker,
 * or for leases that the log has of it: each caller of queue_slot_make() sees to
 * that.  So no role can fill the slots with queues that it may not use, or with
 * numbers.  If no slot is left, a queue does without.  It then has no cover, so that consumers scan
 * all of its rows.  It wakes only sessions that wait for any queue, and draws ids
 * one by one.  All of that is slower, and right.
 *
 * Locks: the directory's, for the hash table and the identity of a slot, then
 * that of a slot.  Both are the last in every lock order and held for a few
 * instructions, and nothing below them allocates, does I/O or throws.  A
 * process that has found a slot may keep the pointer.  When it locks the
 * slot again it compares the identity, which changes only under both locks.
 *
 * Most queues of a large database are idle.  Those that are not have a bit set
 * in a map, so that the others need not be looked at.  A change of a cover
 * sets the bit, and the worker clears it when nothing is left to do
 * (vacuum.c).  A second map has the queues with leases and back-offs that will
 * end (cover.c).
 *
 * The slot of a dropped queue is freed by the commit of the DROP.  Otherwise
 * the worker frees it, when it finds that the table is no queue any more
 * (repair.c), or that the extension has gone.  Entries of the in-flight table
 * may be linked to it for a little longer; the links stay valid because the
 * slot never moves.  Waiters of the earlier queue likewise stay in its list.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/counters.h"
#include "shared/queue_slot.h"
#include "shared/sought.h"

typedef struct SlotKey
{
	Oid			dbid;
	Oid			relid;
} SlotKey;

typedef struct SlotName
{
	SlotKey		key;			/* must be first */
	int			index;
} SlotName;

typedef struct SlotArray
{
	int			nused;			/* slots below this have been in use */
	int			first_free;		/* the last one given up, -1: none */
	QueueSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} SlotArray;

/* Of the maps of active, timed and expiring slots */
#define NUM_MAPS			3
#define WORD_BITS			32
#define NUM_WORDS			(queue_max_queues / WORD_BITS + 1)

static SlotArray *shared = NULL;
static pg_atomic_uint32 *active = NULL;
static pg_atomic_uint32 *timed = NULL;
static pg_atomic_uint32 *expiring = NULL;
static HTAB *directory = NULL;
static LWLockPadded *locks = NULL;	/* the directory's, and one a slot */

static bool is_full(void);
static int	take_free_slot(void);
static void init_slot(QueueSlot *slot, const SlotKey *key, SlotKind kind);
static void init_cover(CoverPart *cover, DuePart *due);
static void init_groups(GroupPart *groups);
static void init_numbers(QueueSlot *slot);
static void reset_numbers(QueueSlot *slot);
static void free_slot(QueueSlot *slot);
static void set_bit(pg_atomic_uint32 *map, int i, bool is_set);
static int	next_bit(pg_atomic_uint32 *map, int i);

/* Shared memory needed for the slots, the maps and the directory */
Size
queue_slot_shmem_size(void)
{
	Size		size = add_size(offsetof(SlotArray, slots),
								mul_size(queue_max_queues, sizeof(QueueSlot)));

	size = add_size(size, mul_size(NUM_MAPS * NUM_WORDS, sizeof(pg_atomic_uint32)));
	return add_size(size, hash_estimate_size(queue_max_queues,
											 sizeof(SlotName)));
}

/*
 * queue_slot_nlocks
 *		Number of LWLocks needed: the directory's, and one a slot.
 */
int
queue_slot_nlocks(void)
{
	return 1 + queue_max_queues;
}

/*
 * queue_slot_shmem_init
 *		Create or attach to the slots, the maps and the directory.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_slot_shmem_init(void)
{
	HASHCTL		info;
	bool		found;
	int			i;

	locks = GetNamedLWLockTranche("queue_slot");
	shared = ShmemInitStruct("queue slots",
							 offsetof(SlotArray, slots) +
							 queue_max_queues * sizeof(QueueSlot), &found);
	if (!found)
	{
		memset(shared, 0, offsetof(SlotArray, slots) +
			   queue_max_queues * sizeof(QueueSlot));
		shared->first_free = -1;
		for (i = 0; i < queue_max_queues; i++)
		{
			shared->slots[i].lock = &locks[1 + i].lock;
			init_numbers(&shared->slots[i]);
		}
	}
	active = ShmemInitStruct("queue slots that are active",
							 NUM_MAPS * NUM_WORDS * sizeof(pg_atomic_uint32),
							 &found);
	timed = &active[NUM_WORDS];
	expiring = &active[2 * NUM_WORDS];
	for (i = 0; i < NUM_MAPS * NUM_WORDS && !found; i++)
		pg_atomic_init_u32(&active[i], 0);
	info.keysize = sizeof(SlotKey);
	info.entrysize = sizeof(SlotName);
	directory = ShmemInitHash("queue slot directory", queue_max_queues, &info,
							  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

/*
 * queue_slot_find
 *		Return the slot of a queue of this database, or NULL if it has none.
 *
 * Every caller must be able to do without.  The slot is not locked, and may
 * be another queue's by the time that it is; see queue_slot_lock().
 */
QueueSlot *
queue_slot_find(Oid relid)
{
	SlotKey		key = {MyDatabaseId, relid};
	SlotName   *name;
	QueueSlot  *slot = NULL;

	LWLockAcquire(&locks[0].lock, LW_SHARED);
	name = hash_search(directory, &key, HASH_FIND, NULL);
	if (name != NULL)
		slot = &shared->slots[name->index];
	LWLockRelease(&locks[0].lock);
	return slot;
}

/*
 * queue_slot_make
 *		Return the slot of a queue of this database, made if need be.
 *
 * Returns NULL if there is no room (queue.max_queues).  The caller knows what it
 * is, and that it may have a slot.
 */
QueueSlot *
queue_slot_make(Oid relid, SlotKind kind)
{
	SlotKey		key = {MyDatabaseId, relid};
	SlotName   *name;
	QueueSlot  *slot = queue_slot_find(relid);

	/* an unlocked look, because without a slot things are slow enough */
	if (slot != NULL || is_full())
		return slot;

	LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
	name = hash_search(directory, &key, HASH_FIND, NULL);
	if (name == NULL && !is_full())
	{
		name = hash_search(directory, &key, HASH_ENTER_NULL, NULL);
		if (name != NULL)
		{
			name->index = take_free_slot();
			init_slot(&shared->slots[name->index], &key, kind);
		}
	}
	if (name != NULL)
		slot = &shared->slots[name->index];
	LWLockRelease(&locks[0].lock);
	return slot;
}

/* Are all slots in use? */
static bool
is_full(void)
{
	return shared->nused == queue_max_queues && shared->first_free < 0;
}

/* Return the index of a free slot.  The directory is locked, and not full. */
static int
take_free_slot(void)
{
	int			i = shared->first_free;

	if (i < 0)
		return shared->nused++;
	shared->first_free = shared->slots[i].next_free;
	return i;
}

/*
 * init_slot
 *		Give a slot to a queue, with a cover of everything.
 *
 * Where the messages of the queue are is not known.  The directory is locked.
 */
static void
init_slot(QueueSlot *slot, const SlotKey *key, SlotKind kind)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	init_cover(&slot->cover, &slot->due);
	init_groups(&slot->groups);
	slot->sort.is_used = false;
	queue_sought_restart(slot);
	slot->cover.first_due = Min(slot->cover.first_due,
								queue_slot_group_due(slot));
	if (slot->wait.list.head.next == NULL)
		dlist_init(&slot->wait.list);	/* else waiters of an earlier queue */
	if (slot->wait.selecting.head.next == NULL)
		dlist_init(&slot->wait.selecting);
	slot->wait.guardian = NO_PROC;
	slot->wait.guarded_until = TIMESTAMP_INFINITY;
	memset(&slot->ids, 0, sizeof(slot->ids));
	slot->ids.last = -1;
	memset(&slot->vacuum, 0, sizeof(slot->vacuum));
	slot->vacuum.mark = InvalidFullTransactionId;
	slot->expiry.from = slot->expiry.look_at = DT_NOBEGIN;
	slot->expiry.nexpired = slot->bound.nskipped = 0;
	reset_numbers(slot);
	memset(&slot->care, 0, sizeof(slot->care));
	slot->care.is_repaired = true;	/* a cover of everything cannot be wrong */
	slot->care.repaired_at = GetCurrentTimestamp();
	slot->dbid = key->dbid;
	slot->relid = key->relid;
	slot->kind = kind;
	queue_counters_begin(slot, key->dbid, key->relid);
	queue_slot_set_active(slot, true);
	queue_slot_set_expiring(slot, kind == SLOT_QUEUE);
	LWLockRelease(slot->lock);
}

/*
 * init_cover
 *		Begin with a cover of everything.
 *
 * The counts of windows stay, because a consumer of an earlier queue may still
 * give its window back.
 */
static void
init_cover(CoverPart *cover, DuePart *due)
{
	DueNode    *node;

	queue_ranges_init(&cover->set, cover->ranges, COVER_ROOM);
	queue_ranges_init(&cover->busy, cover->busy_ranges, BUSY_ROOM);
	queue_ranges_add_all(&cover->set);
	for (int rank = 0; rank < NUM_RANKS; rank++)
		cover->delayed_from[rank] = TIMESTAMP_INFINITY;
	cover->busy_due = TIMESTAMP_INFINITY;
	cover->busy_delay = FIRST_BUSY_DELAY;
	cover->priorities_vary = false;
	queue_news_restart(cover->news);
	queue_due_init(due);
	node = queue_due_first(due);
	cover->first_due = node != NULL ? node->due : TIMESTAMP_INFINITY;
}

/* Groups of an earlier queue may be linked; the next look forgets them. */
static void
init_groups(GroupPart *groups)
{
	queue_due_init(&groups->waiting);
	groups->has_waited = false;
}

/* Make the numbers of a slot. */
static void
init_numbers(QueueSlot *slot)
{
	pg_atomic_init_u64(&slot->usage.messages, 0);
	pg_atomic_init_u64(&slot->usage.bytes, 0);
	pg_atomic_init_u64(&slot->usage.coming, 0);
	pg_atomic_init_u64(&slot->usage.coming_bytes, 0);
	pg_atomic_init_u32(&slot->held.n, 0);
	pg_atomic_init_u32(&slot->bound.ncuts, 0);
	ConditionVariableInit(&slot->usage.room);
	queue_counters_init(slot);
}

/* Nothing is counted yet.  Senders that wait for an earlier queue find it gone. */
static void
reset_numbers(QueueSlot *slot)
{
	pg_atomic_write_u64(&slot->usage.messages, 0);
	pg_atomic_write_u64(&slot->usage.bytes, 0);
	pg_atomic_write_u64(&slot->usage.coming, 0);
	pg_atomic_write_u64(&slot->usage.coming_bytes, 0);
	pg_atomic_write_u32(&slot->held.n, 0);
	pg_atomic_write_u32(&slot->bound.ncuts, 0);
	slot->usage.counted_at = slot->usage.cost = 0;
	slot->usage.unsettled = InvalidTransactionId;
	slot->held.limit = 0;
	slot->held.is_complete = false;
}

/*
 * queue_slot_lock
 *		Lock the slot of a queue exclusively, and return it.
 *
 * "hint" is where it was when last seen, or NULL.  Returns NULL, with nothing
 * locked, if the queue has none.
 */
QueueSlot *
queue_slot_lock(QueueSlot *hint, Oid dbid, Oid relid)
{
	SlotKey		key = {dbid, relid};
	SlotName   *name;
	QueueSlot  *slot = NULL;

	if (hint != NULL)
	{
		LWLockAcquire(hint->lock, LW_EXCLUSIVE);
		if (hint->relid == relid && hint->dbid == dbid)
			return hint;
		LWLockRelease(hint->lock);
	}

	/* it has another slot, or none */
	LWLockAcquire(&locks[0].lock, LW_SHARED);
	name = hash_search(directory, &key, HASH_FIND, NULL);
	if (name != NULL)
	{
		slot = &shared->slots[name->index];
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	}
	LWLockRelease(&locks[0].lock);
	return slot;
}

/*
 * queue_slot_drop
 *		Free the slot of a dropped queue.
 *
 * If relid is InvalidOid, free those of all queues of the database.
 */
void
queue_slot_drop(Oid dbid, Oid relid)
{
	LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
	if (OidIsValid(relid))
	{
		SlotKey		key = {dbid, relid};
		SlotName   *name = hash_search(directory, &key, HASH_FIND, NULL);

		if (name != NULL)
			free_slot(&shared->slots[name->index]);
	}
	for (int i = 0; i < shared->nused && !OidIsValid(relid); i++)
		if (shared->slots[i].dbid == dbid)
			free_slot(&shared->slots[i]);
	LWLockRelease(&locks[0].lock);
}

/* Free a slot.  The directory is locked. */
static void
free_slot(QueueSlot *slot)
{
	SlotKey		key = {slot->dbid, slot->relid};

	hash_search(directory, &key, HASH_REMOVE, NULL);
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->dbid = InvalidOid;
	slot->relid = InvalidOid;
	queue_slot_set_active(slot, false);
	LWLockRelease(slot->lock);
	slot->next_free = shared->first_free;
	shared->first_free = slot - shared->slots;
}

/*
 * queue_slot_count
 *		Return the number of slots that have ever been in use.
 */
int
queue_slot_count(void)
{
	/* a server that could not start writes the counters without slots */
	return shared != NULL ? shared->nused : 0;
}

/*
 * queue_slot_at
 *		Return the i-th slot, or NULL if it is free.
 *
 * It is not locked, so what it is may change at any time.
 */
QueueSlot *
queue_slot_at(int i)
{
	return OidIsValid(shared->slots[i].dbid) ? &shared->slots[i] : NULL;
}

/* Return which of the slots this is. */
int
queue_slot_index(const QueueSlot *slot)
{
	return slot - shared->slots;
}

/*
 * queue_slot_set_active
 *		Note whether the worker may have something to do for this queue.
 *
 * The caller holds the lock of the slot.
 */
void
queue_slot_set_active(QueueSlot *slot, bool is_active)
{
	set_bit(active, queue_slot_index(slot), is_active);
}

/*
 * queue_slot_next_active
 *		Return the first active slot from "i" on, the number in use if there
 *		is none.
 */
int
queue_slot_next_active(int i)
{
	return next_bit(active, i);
}

/*
 * queue_slot_set_timed
 *		Note whether the queue has entries with due times.
 *
 * The caller holds the lock of the slot.
 */
void
queue_slot_set_timed(QueueSlot *slot, bool is_timed)
{
	set_bit(timed, queue_slot_index(slot), is_timed);
}

/* The same as queue_slot_next_active() for these. */
int
queue_slot_next_timed(int i)
{
	return next_bit(timed, i);
}

/*
 * queue_slot_set_expiring
 *		Note whether the queue may have messages that expire.
 *
 * The caller holds the lock of the slot.
 */
void
queue_slot_set_expiring(QueueSlot *slot, bool is_expiring)
{
	set_bit(expiring, queue_slot_index(slot), is_expiring);
}

/* The same as queue_slot_next_active() for these. */
int
queue_slot_next_expiring(int i)
{
	return next_bit(expiring, i);
}

/* Set or clear the bit of a slot. */
static void
set_bit(pg_atomic_uint32 *map, int i, bool is_set)
{
	uint32		bit = (uint32) 1 << (i % WORD_BITS);

	if (is_set)
		pg_atomic_fetch_or_u32(&map[i / WORD_BITS], bit);
	else
		pg_atomic_fetch_and_u32(&map[i / WORD_BITS], ~bit);
}

/*
 * next_bit
 *		Return the first slot from this one on whose bit is set.
 *
 * Unlocked, because whatever makes a change calls for the worker again.
 */
static int
next_bit(pg_atomic_uint32 *map, int i)
{
	int			n = shared->nused;

	while (i < n)
	{
		uint32		word = pg_atomic_read_u32(&map[i / WORD_BITS]) >>
			(i % WORD_BITS);

		if (word != 0)
			return Min(i + pg_rightmost_one_pos32(word), n);
		i += WORD_BITS - i % WORD_BITS;
	}
	return n;
}

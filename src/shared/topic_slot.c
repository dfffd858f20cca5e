/*-------------------------------------------------------------------------
 *
 * topic_slot.c
 *		What shared memory knows of each topic: its ids, and who publishes.
 *
 * Readers go by the stable id of a partition: nothing below it can appear any
 * more.  It is the least of the first ids of those that have registered for the
 * partition, and of the next id.  This is the one thing in memory that must be
 * right, because a reader that has passed an id does not come back.  It is, by
 * these rules, all under the lock of the topic:
 *
 * - a publisher registers first, with the next id, and draws then.
 *
 * - each id that is drawn is above all that were handed out.  A block of the
 *	 sequence that is not is dropped: another session was quicker with the next
 *	 one, or somebody has set the sequence back.
 *
 * - an id that is given by hand is registered like one that is drawn.  If a
 *	 reader may have passed it, it is refused; so it is if another transaction
 *	 has drawn it, whose row may not be there yet.
 *
 * - a publisher is struck off when others see how its transaction has ended,
 *	 never before, and is passed on at PREPARE (publishing.c).
 *
 * - a slot that is made is closed until somebody has found which ids were
 *	 handed out before, and which prepared transactions have some of them.
 *	 Until then nobody draws and nobody reads.
 *
 * Of each partition the greatest id is noted under the same lock, so that nobody
 * looks for messages where there are none: when it is drawn or given, and of what
 * was there before, the highest of all.
 *
 * What was told to a reader is kept, to see whether the rules hold: a publisher
 * that ends with an id below it is counted as a violation, which should never
 * be above 0.
 *
 * Slots are an array of queue.max_topics.  A session looks for the slot of a
 * topic once, and remembers it; when it locks it again it compares the topic.
 *
 * What if this process dies?  By an error or exit, the callbacks strike it off.
 * What if the message commits here?  It is registered until it has.  What if
 * memory is full?  Without a slot, or a registration, the topic cannot be
 * published to, nor read without a slot: 53400.
 *
 * Locks: the directory's, for which topic has which slot, then that of a slot;
 * held for a few instructions, and nothing below them allocates, does I/O or
 * throws.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/topic_slot.h"

typedef struct TopicArray
{
	pg_atomic_uint32 nprepared; /* registrations of prepared transactions */
	TopicSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} TopicArray;

static TopicArray *shared = NULL;
static LWLockPadded *locks = NULL;	/* the directory's, and one a slot */

static TopicSlot *find(Oid dbid, Oid relid);
static void init_slot(TopicSlot *slot, Oid relid, int npartitions);
static void free_slot(TopicSlot *slot);

/* Number of LWLocks needed: the directory's, and one a slot */
int
queue_topic_slot_nlocks(void)
{
	return 1 + queue_max_topics;
}

/* Shared memory needed for the slots */
Size
queue_topic_slot_shmem_size(void)
{
	return add_size(offsetof(TopicArray, slots),
					mul_size(queue_max_topics, sizeof(TopicSlot)));
}

/* Create or attach to the slots.  The caller holds AddinShmemInitLock. */
void
queue_topic_slot_shmem_init(void)
{
	bool		found;

	locks = GetNamedLWLockTranche("queue_topic");
	shared = ShmemInitStruct("queue topics", queue_topic_slot_shmem_size(),
							 &found);
	if (found)
		return;
	memset(shared, 0, queue_topic_slot_shmem_size());
	pg_atomic_init_u32(&shared->nprepared, 0);
	for (int i = 0; i < queue_max_topics; i++)
		shared->slots[i].lock = &locks[1 + i].lock;
}

/* ----------------------------------------------------------------
 *		Which slot
 * ----------------------------------------------------------------
 */

/*
 * queue_topic_slot_make
 *		Return the slot of a topic of this database, made if need be.
 *
 * Returns NULL if there is no room.  The caller has found that this is a topic.
 */
TopicSlot *
queue_topic_slot_make(Oid relid, int npartitions)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);

	if (slot != NULL)
		return slot;

	LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
	slot = find(MyDatabaseId, relid);
	if (slot == NULL)
	{
		slot = find(InvalidOid, InvalidOid);
		if (slot != NULL)
			init_slot(slot, relid, npartitions);
	}
	LWLockRelease(&locks[0].lock);
	return slot;
}

/* Return the slot of a topic of this database, or NULL. */
TopicSlot *
queue_topic_slot_find(Oid relid)
{
	TopicSlot  *slot;

	LWLockAcquire(&locks[0].lock, LW_SHARED);
	slot = find(MyDatabaseId, relid);
	LWLockRelease(&locks[0].lock);
	return slot;
}

/* Return how many are in use. */
int
queue_topic_slot_nused(void)
{
	int			n = 0;

	LWLockAcquire(&locks[0].lock, LW_SHARED);
	for (int i = 0; i < queue_max_topics; i++)
		if (OidIsValid(shared->slots[i].dbid))
			n++;
	LWLockRelease(&locks[0].lock);
	return n;
}

/* Return how often a publisher of a topic ended below what was told. */
uint64
queue_topic_slot_nviolations(Oid relid)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);
	uint64		nviolations;

	if (slot == NULL || !queue_topic_slot_lock(slot, relid))
		return 0;
	nviolations = slot->nviolations;
	LWLockRelease(slot->lock);
	return nviolations;
}

/* Return one by its number. */
TopicSlot *
queue_topic_slot_at(int i)
{
	return &shared->slots[i];
}

/* Return the number of one. */
int
queue_topic_slot_number(const TopicSlot *slot)
{
	return slot - shared->slots;
}

/* Find the slot of a topic, or a free one, or NULL.  The directory is locked. */
static TopicSlot *
find(Oid dbid, Oid relid)
{
	for (int i = 0; i < queue_max_topics; i++)
		if (shared->slots[i].relid == relid && shared->slots[i].dbid == dbid)
			return &shared->slots[i];
	return NULL;
}

/* Give a slot to a topic; it is closed.  The directory is locked. */
static void
init_slot(TopicSlot *slot, Oid relid, int npartitions)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->generation++;
	slot->is_open = slot->is_changed = false;
	slot->npartitions = npartitions;
	slot->highest = 0;
	slot->file = InvalidOid;
	slot->next = 0;
	slot->last = -1;
	slot->reserved = 0;
	slot->naltered = slot->nlooked = 0;
	slot->told_all = slot->told_most = 0;
	slot->removed = -1;
	memset(slot->told, 0, sizeof(slot->told));
	memset(slot->greatest, 0, sizeof(slot->greatest));
	slot->nviolations = slot->nreported = slot->nends = 0;
	queue_registrations_init(&slot->lists);
	slot->dbid = MyDatabaseId;
	slot->relid = relid;
	LWLockRelease(slot->lock);
}

/* Lock the slot of a topic; false, and nothing is locked: it is another's. */
bool
queue_topic_slot_lock(TopicSlot *slot, Oid relid)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->relid == relid && slot->dbid == MyDatabaseId)
		return true;
	LWLockRelease(slot->lock);
	return false;
}

/*
 * queue_topic_slot_is_open
 *		Return true if this is the topic's slot, and open.
 *
 * If it is not, *generation is what has to be told to open it.
 */
bool
queue_topic_slot_is_open(TopicSlot *slot, Oid relid, uint64 *generation)
{
	bool		is_open;

	LWLockAcquire(slot->lock, LW_SHARED);
	is_open = slot->is_open && slot->relid == relid &&
		slot->dbid == MyDatabaseId;
	*generation = slot->generation;
	LWLockRelease(slot->lock);
	return is_open;
}

/* Each partition may have ids up to this one.  The slot is locked. */
void
queue_topic_slot_note_unknown(TopicSlot *slot, int64 id)
{
	for (int i = 0; i < TOPIC_MAX_PARTITIONS; i++)
		slot->greatest[i] = Max(slot->greatest[i], id);
}

/*
 * queue_topic_slot_note_removed
 *		Note how far retention deletes.
 *
 * Before it has committed that, so that no reader misses it.  A process that
 * reads it from disk, because it is not known, does not overwrite that.
 */
void
queue_topic_slot_note_removed(Oid relid, int64 id, bool if_unknown)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);

	if (slot == NULL || !queue_topic_slot_lock(slot, relid))
		return;
	if (!if_unknown || slot->removed < 0)
		slot->removed = Max(slot->removed, id);
	LWLockRelease(slot->lock);
}

/* Return how far it has come, -1 if that is not known. */
int64
queue_topic_slot_removed(Oid relid)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);
	int64		removed = -1;

	if (slot == NULL || !queue_topic_slot_lock(slot, relid))
		return -1;
	removed = slot->removed;
	LWLockRelease(slot->lock);
	return removed;
}

/*
 * queue_topic_slot_nends
 *		Return how many publishers have ended, 0 if the topic has no slot.
 *
 * An unlocked look, to see whether there are new messages since the last one.
 */
uint64
queue_topic_slot_nends(Oid relid)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);

	return slot != NULL ? slot->nends : 0;
}

/*
 * queue_topic_slot_note_gone
 *		The table of a topic was altered, or truncated: how far its subscriptions
 *		are behind may be wrong.
 *
 * That counts as the end of a publisher, after which it is looked for.  No
 * allocation, no error.
 */
void
queue_topic_slot_note_gone(Oid dbid, Oid relid)
{
	TopicSlot  *slot;

	LWLockAcquire(&locks[0].lock, LW_SHARED);
	slot = find(dbid, relid);
	LWLockRelease(&locks[0].lock);
	if (slot == NULL)
		return;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (slot->relid == relid && slot->dbid == dbid)
		slot->nends++;
	LWLockRelease(slot->lock);
}

/*
 * queue_topic_slot_note_all_gone
 *		The same, where it is not known of which topic of a database.
 */
void
queue_topic_slot_note_all_gone(Oid dbid)
{
	for (int i = 0; i < queue_max_topics; i++)
	{
		TopicSlot  *slot = &shared->slots[i];

		/* an unlocked look; a topic that comes later begins anew */
		if (slot->dbid == dbid)
			queue_topic_slot_note_gone(dbid, slot->relid);
	}
}

/*
 * queue_topic_slot_note_altered
 *		The table of a topic of this database was altered, or adopted: it may
 *		have rows with ids that no trigger has told of.
 *
 * The caller has a lock on it that excludes publishers, or else there are none.
 * Who draws ids next looks for them (publishing.c).
 */
void
queue_topic_slot_note_altered(Oid relid)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);

	if (slot == NULL || !queue_topic_slot_lock(slot, relid))
		return;
	slot->naltered++;
	LWLockRelease(slot->lock);
}

/*
 * queue_topic_slot_open
 *		Open a slot, unless another session has done so.
 *
 * "highest" is the highest id that may have been handed out before, and those
 * that were prepared with some of them register.  They may have ended since, so
 * the caller looks at prepared transactions afterwards.  What readers were told
 * before is not known, so it counts as all that they may have been told.
 */
TopicOutcome
queue_topic_slot_open(TopicSlot *slot, Oid relid, uint64 generation,
					  int64 highest, const RecoveredPublisher *recovered,
					  int n)
{
	TopicOutcome outcome = TOPIC_DONE;
	int64		told = highest + 1;

	if (!queue_topic_slot_lock(slot, relid))
		return TOPIC_GONE;
	if (slot->generation != generation)
		outcome = TOPIC_GONE;
	for (int i = 0; i < n && !slot->is_open && outcome == TOPIC_DONE; i++)
	{
		Registration *registration =
			queue_registration_take(recovered[i].partition);

		if (registration == NULL)
			registration = queue_registration_take(ANY_PARTITION);
		if (registration == NULL)
		{
			outcome = TOPIC_NO_ROOM;
			break;
		}
		registration->topic = slot - shared->slots;
		registration->first = registration->least = recovered[i].first;
		registration->greatest = recovered[i].greatest;
		registration->nids = recovered[i].nids;
		registration->since = recovered[i].since;
		registration->xid = recovered[i].xid;
		pg_atomic_fetch_add_u32(&shared->nprepared, 1);
		queue_registration_link(&slot->lists, registration);
		told = Min(told, registration->first);
	}
	if (outcome == TOPIC_NO_ROOM)
		while (!dlist_is_empty(&slot->lists.all))
		{
			Registration *registration =
				queue_registration_first(&slot->lists, ANY_PARTITION);

			queue_registration_unlink(&slot->lists, registration);
			queue_registration_free(registration);
			pg_atomic_fetch_sub_u32(&shared->nprepared, 1);
		}
	else if (outcome == TOPIC_DONE && !slot->is_open)
	{
		slot->highest = highest;
		queue_topic_slot_note_unknown(slot, highest);
		slot->told_all = slot->told_most = told;
		slot->is_open = slot->is_changed = true;
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/* So many registrations of prepared transactions have come, or gone. */
void
queue_topic_slot_count_prepared(int change)
{
	pg_atomic_fetch_add_u32(&shared->nprepared, change);
}

/* Return true if there are registrations of prepared transactions. */
bool
queue_topic_slot_has_prepared(void)
{
	return pg_atomic_read_u32(&shared->nprepared) > 0;
}

/*
 * queue_topic_slot_next_changed
 *		Return the next topic of this database whose stable id may have
 *		changed since it was written down; InvalidOid: no more.
 *
 * *place is where to go on, 0 at first.  An unlocked look.
 */
Oid
queue_topic_slot_next_changed(int *place)
{
	while (*place < queue_max_topics)
	{
		TopicSlot  *slot = &shared->slots[(*place)++];
		Oid			relid = slot->relid;

		if (slot->is_changed && slot->is_open && OidIsValid(relid) &&
			slot->dbid == MyDatabaseId)
			return relid;
	}
	return InvalidOid;
}

/* Have the worker write down all stable ids of this database again. */
void
queue_topic_slot_write_again(void)
{
	for (int i = 0; i < queue_max_topics; i++)
	{
		TopicSlot  *slot = &shared->slots[i];

		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		if (slot->dbid == MyDatabaseId)
			slot->is_changed = slot->is_open;
		LWLockRelease(slot->lock);
	}
}

/* ----------------------------------------------------------------
 *		Topics that are gone
 * ----------------------------------------------------------------
 */

/*
 * queue_topic_slot_drop
 *		Free the slot of a topic; if relid is InvalidOid, those of all topics
 *		of the database.
 */
void
queue_topic_slot_drop(Oid dbid, Oid relid)
{
	LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
	for (int i = 0; i < queue_max_topics; i++)
	{
		TopicSlot  *slot = &shared->slots[i];

		if (OidIsValid(slot->dbid) && slot->dbid == dbid &&
			(!OidIsValid(relid) || slot->relid == relid))
			free_slot(slot);
	}
	LWLockRelease(&locks[0].lock);
}

/*
 * queue_topic_slot_drop_idle
 *		The same for one topic of this database, unless somebody is registered.
 *
 * Its table is not there, which may be so because the transaction that makes it
 * has not ended.  That one may come again, and finds another slot.
 */
void
queue_topic_slot_drop_idle(Oid relid)
{
	TopicSlot  *slot;
	bool		is_idle = false;

	LWLockAcquire(&locks[0].lock, LW_EXCLUSIVE);
	slot = find(MyDatabaseId, relid);
	if (slot != NULL && queue_topic_slot_lock(slot, relid))
	{
		/* a publisher finds the slot, and thus needs the lock after us */
		is_idle = dlist_is_empty(&slot->lists.all);
		if (is_idle)
			slot->is_open = false;
		LWLockRelease(slot->lock);
	}
	if (is_idle)
		free_slot(slot);
	LWLockRelease(&locks[0].lock);
}

/*
 * free_slot
 *		Free a slot.  The directory is locked.
 *
 * Transactions that are registered have lost the topic with the extension; they
 * give back their registrations themselves.  Those of prepared ones, whose end
 * was not noticed, are free now.
 */
static void
free_slot(TopicSlot *slot)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	while (!dlist_is_empty(&slot->lists.all))
	{
		Registration *registration =
			queue_registration_first(&slot->lists, ANY_PARTITION);

		queue_registration_unlink(&slot->lists, registration);
		registration->topic = NO_TOPIC;
		if (TransactionIdIsValid(registration->xid))
		{
			queue_registration_free(registration);
			pg_atomic_fetch_sub_u32(&shared->nprepared, 1);
		}
	}
	slot->dbid = slot->relid = InvalidOid;
	slot->is_open = slot->is_changed = false;
	LWLockRelease(slot->lock);
}

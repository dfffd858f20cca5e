/*-------------------------------------------------------------------------
 *
 * care.c
 *		Why the worker may have to look at a queue.
 *
 * Something has changed in its cover, so that it is to be repaired; it misses
 * messages that arrive in replica role; many of its rows were deleted.  Such a
 * queue is active.
 *
 * Locks: that of the slot, for what is not said to be unlocked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "shared/database.h"
#include "shared/queue_slot.h"

/* How soon the worker looks at a queue that was purged */
#define PURGE_DELAY			USECS_PER_SEC

/*
 * queue_slot_review_active
 *		The worker has found whether there is a reason of its own to look at
 *		the queue: note whether it is active.
 *
 * The queue stays active if it is to be repaired, deaf, purged, or has busy
 * rows.  Takes the lock of the slot.
 */
void
queue_slot_review_active(QueueSlot *slot, bool is_active)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (OidIsValid(slot->dbid))
		queue_slot_set_active(slot, is_active || !slot->care.is_repaired ||
							  slot->care.is_deaf || slot->care.is_purged ||
							  queue_slot_has_busy(slot));
	LWLockRelease(slot->lock);
}

/*
 * queue_slot_note_change
 *		Note that something has changed, so that the worker is to check the
 *		queue.
 *
 * Returns false if the worker is known to do so already.  The caller holds the
 * lock of the slot.
 */
bool
queue_slot_note_change(QueueSlot *slot)
{
	if (!slot->care.is_repaired)
		return false;
	slot->care.is_repaired = false;
	queue_slot_set_active(slot, true);
	return true;
}

/*
 * queue_slot_needs_repair
 *		Returns true if the worker is to go over the queue.
 *
 * It is if something has changed since the last pass began, or if that is
 * "idle" microseconds ago ("deaf" if the queue is deaf).  Takes no lock,
 * because whatever makes a change calls for the worker again.
 */
bool
queue_slot_needs_repair(const QueueSlot *slot, int64 idle, int64 deaf,
						TimestampTz now)
{
	return !slot->care.is_repaired || slot->care.repaired_at +
		(slot->care.is_deaf ? deaf : idle) <= now;
}

/* Note that a pass begins.  Takes the lock of the slot. */
void
queue_slot_begin_repair(QueueSlot *slot)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->care.is_repaired = true;
	slot->care.repaired_at = GetCurrentTimestamp();
	LWLockRelease(slot->lock);
}

/* Note that the pass has to be made again.  Takes the lock of the slot. */
void
queue_slot_repair_again(QueueSlot *slot)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->care.is_repaired = false;
	queue_slot_set_active(slot, OidIsValid(slot->dbid));
	LWLockRelease(slot->lock);
}

/* Count messages that the cover had lost.  Takes the lock of the slot. */
void
queue_slot_count_repaired(QueueSlot *slot, int n)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	slot->care.nrepaired += n;
	LWLockRelease(slot->lock);
}

/* Return how many there were.  Unlocked. */
uint64
queue_slot_nrepaired(const QueueSlot *slot)
{
	return slot->care.nrepaired;
}

/*
 * queue_slot_note_purge
 *		Note that many rows of a queue have been deleted by other means than a
 *		take, and call the worker to see whether it is worth a vacuum.
 *
 * The flag may be lost if the worker reads it just then, or if the transaction
 * lasts.  Then the queue is looked at within a minute all the same.
 */
void
queue_slot_note_purge(Oid relid)
{
	QueueSlot  *slot = queue_slot_lock(NULL, MyDatabaseId, relid);

	if (slot == NULL)
		return;
	slot->care.is_purged = true;
	queue_slot_set_active(slot, true);
	LWLockRelease(slot->lock);
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp() + PURGE_DELAY);
}

/* Have many rows been deleted?  Unlocked. */
bool
queue_slot_is_purged(const QueueSlot *slot)
{
	return slot->care.is_purged;
}

/*
 * queue_slot_clear_purge
 *		The worker has seen that rows were deleted.
 *
 * Unlocked, because losing a flag that is set just now costs no more than a
 * minute.
 */
void
queue_slot_clear_purge(QueueSlot *slot)
{
	slot->care.is_purged = false;
}

/*
 * queue_slot_set_deaf
 *		Note whether a queue misses what arrives in replica role, because one
 *		of its triggers does not fire there.
 *
 * A deaf queue stays active, and the worker looks for such messages.  If a
 * process dies before it gets here, the next one that opens the queue notes
 * it, or the worker when it comes by.
 */
void
queue_slot_set_deaf(QueueSlot *hint, Oid dbid, Oid relid, bool is_deaf)
{
	QueueSlot  *slot = queue_slot_lock(hint, dbid, relid);

	if (slot == NULL)
		return;
	if (is_deaf && !slot->care.is_deaf)
	{
		slot->care.is_repaired = false;
		queue_slot_set_active(slot, true);
	}
	slot->care.is_deaf = is_deaf;
	LWLockRelease(slot->lock);
}

/* May messages arrive unannounced?  Unlocked. */
bool
queue_slot_is_deaf(const QueueSlot *slot)
{
	return slot->care.is_deaf;
}

/*-------------------------------------------------------------------------
 *
 * held.c
 *		How many messages of a queue are held: dequeued or leased.
 *
 * The in-flight table counts them as they come and go.  A call that takes
 * messages of a queue with max_in_flight reserves as many places as it wants
 * first, so that the limit is never exceeded; what it takes uses these up, and
 * what it does not use it gives back.  A lease that ran out, and is settled all
 * the same, is let in again without a place.
 *
 * A consumer that finds no place sleeps like any other waiter, though there
 * are messages.  So a process that lets go of a message of such a queue, or
 * gives places back, wakes one.
 *
 * Not counted are messages of a queue that has no slot, and those
 * held by transactions that were prepared before the server started.
 *
 * If a process dies, the abort callback gives its places back, and the end of
 * what it held is the end of its entries.
 *
 * Locks: the number is atomic; the slot's for its waiters.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/held.h"
#include "shared/waiter.h"

/* Places that the present call has reserved */
static QueueSlot *reserved_slot = NULL;
static int	nreserved = 0;

static void note_limit(HeldPart *held, int limit);
static void wake_one(QueueSlot *slot);

/*
 * queue_held_reserve
 *		Reserve up to "want" places of those that are left, and return how
 *		many that are.
 */
int
queue_held_reserve(QueueSlot *slot, int want, int limit)
{
	HeldPart   *held = &slot->held;
	uint32		n;
	int			granted;

	note_limit(held, limit);
	n = pg_atomic_read_u32(&held->n);
	do
	{
		granted = n < (uint32) limit ? Min(want, (int) (limit - n)) : 0;
	} while (granted > 0 &&
			 !pg_atomic_compare_exchange_u32(&held->n, &n, n + granted));
	reserved_slot = slot;
	nreserved = granted;
	return granted;
}

/* From here on letting go of a message is known to make a place. */
static void
note_limit(HeldPart *held, int limit)
{
	held->limit = limit;
	pg_memory_barrier();
}

/*
 * queue_held_unreserve
 *		Give back the places that were not used.
 *
 * Somebody may have found none meanwhile.
 */
void
queue_held_unreserve(void)
{
	QueueSlot  *slot = reserved_slot;

	if (nreserved > 0)
	{
		pg_atomic_fetch_sub_u32(&slot->held.n, nreserved);
		nreserved = 0;
		wake_one(slot);
	}
	reserved_slot = NULL;
}

/* Is there no place left? */
bool
queue_held_is_at_limit(QueueSlot *slot, int limit)
{
	note_limit(&slot->held, limit);
	return pg_atomic_read_u32(&slot->held.n) >= (uint32) limit;
}

/* How many are held, and places reserved for more? */
int
queue_held_count(QueueSlot *slot)
{
	return (int) pg_atomic_read_u32(&slot->held.n);
}

/*
 * queue_held_is_complete
 *		Returns true if the leases have been counted that were loaded when the
 *		queue had no slot yet, as after a start.
 */
bool
queue_held_is_complete(const QueueSlot *slot)
{
	return slot->held.is_complete;
}

/* They have.  Two processes may see to it at one time. */
void
queue_held_set_complete(QueueSlot *slot)
{
	slot->held.is_complete = true;
}

/* A message is held from now on.  Returns false if that is not counted. */
bool
queue_held_add(QueueSlot *slot)
{
	if (slot == NULL)
		return false;
	if (slot == reserved_slot && nreserved > 0)
		nreserved--;
	else
		pg_atomic_fetch_add_u32(&slot->held.n, 1);
	return true;
}

/*
 * queue_held_remove
 *		A message that was counted is held no more.
 *
 * "slot" is where the queue was.  When the queue is dropped it may be another
 * one's.
 */
void
queue_held_remove(QueueSlot *slot, Oid relid)
{
	if (slot->relid != relid)
		return;
	pg_atomic_fetch_sub_u32(&slot->held.n, 1);
	if (slot->held.limit > 0)
		wake_one(slot);
}

/*
 * wake_one
 *		There is a place: wake a waiter, if there are messages.
 *
 * They may be in somebody's window.  A waiter that sleeps since before that
 * was taken out is not woken when it is given back; one that looks now and
 * sleeps again is.
 */
static void
wake_one(QueueSlot *slot)
{
	WakeList	wakes;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	queue_waiter_start_wakes(&wakes, slot->dbid);
	if (queue_slot_has_cover(slot) || queue_slot_has_window(slot))
		(void) queue_waiter_pick(slot, 1, 0, &wakes);
	LWLockRelease(slot->lock);
	queue_waiter_set_latches(&wakes);
}

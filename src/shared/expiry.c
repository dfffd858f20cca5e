/*-------------------------------------------------------------------------
 *
 * expiry.c
 *		When the worker looks for expired messages of a queue.
 *
 * An expired message is taken by nobody, whether the worker runs or not.  The
 * worker moves it or deletes it, and finds it by the index of expiry times.
 * Memory has, for each queue, the time from which on that index may have
 * messages that the worker has not yet dealt with.  Commits lower it, and so
 * does a consumer that meets such a message.  A new slot begins with "any",
 * so that nothing is missed after a restart.
 *
 * What if the process dies?  The worker takes the time out, and puts back what
 * is left; an error puts it back as it was.  Should it die by kill -9, memory
 * is new, and says "any" again.  What if a message commits while it is out?
 * Its commit lowers the time, whatever the worker puts back.
 *
 * Locks: that of the queue's slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/database.h"
#include "shared/expiry.h"

static bool set_earlier(QueueSlot *slot, TimestampTz from, TimestampTz look_at);

/*
 * queue_expiry_note
 *		Note that a message of this queue expires at this time.
 *
 * The worker is to look by then.  Returns false if the queue has no slot.  No
 * lock is held.
 */
bool
queue_expiry_note(QueueSlot *hint, Oid dbid, Oid relid, TimestampTz expires_at)
{
	QueueSlot  *slot = queue_slot_lock(hint, dbid, relid);
	bool		is_news;

	if (slot == NULL)
		return false;
	is_news = set_earlier(slot, expires_at, expires_at);
	LWLockRelease(slot->lock);
	if (is_news)
		queue_database_wake_by(dbid, Max(expires_at, GetCurrentTimestamp()));
	return true;
}

/* Lower both times; returns true if the worker is to come earlier. */
static bool
set_earlier(QueueSlot *slot, TimestampTz from, TimestampTz look_at)
{
	bool		is_news = look_at < slot->expiry.look_at;

	slot->expiry.from = Min(slot->expiry.from, from);
	slot->expiry.look_at = Min(slot->expiry.look_at, look_at);
	if (is_news)
		queue_slot_set_expiring(slot, true);
	return is_news;
}

/*
 * queue_expiry_look_at
 *		Return when the worker is to look; an unlocked look.
 */
TimestampTz
queue_expiry_look_at(const QueueSlot *slot)
{
	return slot->expiry.look_at;
}

/*
 * queue_expiry_take
 *		Take out from when on messages may have expired.
 *
 * Returns false if there is nothing to look for before "now".
 */
bool
queue_expiry_take(QueueSlot *hint, Oid relid, TimestampTz now,
				  TimestampTz *from)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
	bool		is_due;

	if (slot == NULL)
		return false;
	is_due = slot->expiry.look_at <= now;
	if (is_due)
	{
		*from = slot->expiry.from;
		slot->expiry.from = TIMESTAMP_INFINITY;
		slot->expiry.look_at = TIMESTAMP_INFINITY;
		queue_slot_set_expiring(slot, false);
	}
	LWLockRelease(slot->lock);
	return is_due;
}

/*
 * queue_expiry_put_back
 *		Put back from when on there is something, and when to look for it.
 */
void
queue_expiry_put_back(QueueSlot *hint, Oid relid, TimestampTz from,
					  TimestampTz look_at)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);

	if (slot == NULL)
		return;
	(void) set_earlier(slot, from, look_at);
	LWLockRelease(slot->lock);
}

/* Note that so many messages that had expired are gone. */
void
queue_expiry_note_done(Oid relid, int n)
{
	QueueSlot  *slot = queue_slot_lock(NULL, MyDatabaseId, relid);

	if (slot == NULL)
		return;
	slot->expiry.nexpired += n;
	LWLockRelease(slot->lock);
}

/* Return how many there were; the slot is locked. */
uint64
queue_expiry_count(const QueueSlot *slot)
{
	return slot->expiry.nexpired;
}

/*-------------------------------------------------------------------------
 *
 * overdue.c
 *		Delayed messages whose time has come, on their way into the cover.
 *
 * The cover has one time a priority from which on there may be delayed
 * messages that it does not include.  When it has come, the first process that
 * looks takes it out, so that no two go over the same part of the index, and
 * adds what it finds there (dispatch/schedule.c).  Until it has finished,
 * others do not see what it has not yet added; they are woken for it.
 *
 * An error on the way puts the times back.  A process has one such set of times
 * out, and remembers it in its own memory: should it die by kill -9, the server
 * restarts with a cover of everything.
 *
 * What if a message commits meanwhile?  Its commit lowers the time in the
 * cover, which is not this one, so another process goes over that part.
 *
 * Locks: that of the queue's slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/overdue.h"
#include "shared/waiter.h"

/* What this process has taken out */
static bool is_out = false;
static QueueSlot *out_slot = NULL;
static Oid	out_relid = InvalidOid;
static TimestampTz out_from[NUM_RANKS];

static void put_back(const TimestampTz *from);

/*
 * queue_overdue_begin
 *		Take out what is due by "now".
 *
 * Returns false if nothing is.  Otherwise the caller adds messages from
 * from[rank] on, where that is not TIMESTAMP_INFINITY, and must call
 * queue_overdue_end().
 */
bool
queue_overdue_begin(QueueSlot *hint, Oid relid, TimestampTz now,
					TimestampTz *from)
{
	QueueSlot  *slot;
	bool		found;

	/* nothing is out, unless an error did not run the abort callback */
	queue_overdue_return();
	slot = queue_slot_lock(hint, MyDatabaseId, relid);
	if (slot == NULL)
		return false;
	found = queue_cover_take_overdue(slot, now, from);
	LWLockRelease(slot->lock);
	if (found)
	{
		is_out = true;
		out_slot = slot;
		out_relid = relid;
		memcpy(out_from, from, sizeof(out_from));
	}
	return found;
}

/* End that: all of it is in the cover, and these are due next. */
void
queue_overdue_end(const TimestampTz *next)
{
	if (is_out)
		put_back(next);
}

/*
 * queue_overdue_return
 *		Put the times back, because the (sub)transaction is rolled back.
 *
 * No allocation, no error: called from callbacks.
 */
void
queue_overdue_return(void)
{
	if (is_out)
		put_back(out_from);
}

/* The same; the guardian of the queue is woken if it would sleep beyond. */
static void
put_back(const TimestampTz *from)
{
	QueueSlot  *slot = queue_cover_lock(out_slot, MyDatabaseId, out_relid);
	WakeList	wakes;

	is_out = false;
	if (slot == NULL)
		return;
	queue_waiter_start_wakes(&wakes, MyDatabaseId);
	queue_cover_end_overdue(slot, from);
	queue_waiter_pick_guardian(slot, &wakes);
	queue_cover_unlock(slot, &wakes);
}

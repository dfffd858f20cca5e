/*-------------------------------------------------------------------------
 *
 * cover.c
 *		Where to look for messages: the cover of each queue.
 *
 * The cover is a small set of id ranges that includes every message that is
 * available: committed, not consumed, held by no process, due, not exhausted.
 * So an empty queue is known to be empty without a look at its table, dead and
 * held rows are not scanned, and consumers keep apart.  It is a hint.  Too
 * wide, it costs a little scanning.  Too narrow, it would hide a message; that
 * must not happen, and repair.c sees to it that it does not last if it does.
 * After a start it is "everything".
 *
 * The rules that keep it right:
 *
 * - Adding ids is always safe.  Only a consumer removes them.
 *
 * - A consumer removes its window (window.c) under the lock and then scans it
 *	 without.  Messages that become available during the scan are added by the
 *	 transaction that makes them available, and stay.  What the consumer did
 *	 not take and may be available it gives back; an error on the way gives the
 *	 whole window back.
 *
 * - Every message that is not available has something that adds it when it is:
 *
 *	 not committed			the transaction that inserts it, if it registered
 *							(queue_announce_sent); else it is kept as "busy"
 *	 claimed by a consumer	it is in the window of that consumer; another one
 *							that meets it gives it back
 *	 taken, settled			the end of that transaction (inflight_end.c)
 *	 leased, backing off	the due time of its entry, see below
 *	 a step of the worker	the end of that step
 *	 exhausted				the worker's step; or the change of a setting,
 *							which adds everything
 *	 not due, says the row	delayed_from, see below
 *	 being changed by an	"busy": looked at again after 10 ms, doubling to a
 *	 unknown transaction	second, because its end may go unannounced
 *	 deleted by the same	if the scanning transaction has written, its end
 *	 transaction			adds the window when it rolls back
 *							(queue_announce_undone)
 *	 not seen by the		given back, because others see it
 *	 statement's snapshot
 *
 * - A transaction announces after it has left the process array.  A consumer
 *	 that saw it in progress had removed its window before, so the announcement
 *	 comes later and is not part of that window.
 *
 * A look for certain messages (dispatch/selection.c) takes no window out, but
 * removes ids from a set of its session's by the same rules.  So each addition
 * is told as news (news.c), and so is a message that becomes available without
 * one, because it waits with its group.  What is given back of a window is not:
 * nobody had to know that it was out.
 *
 * What is due in the future needs no announcement: it becomes part of the
 * cover with the first look after that time.  Entries of the in-flight table
 * are linked by due time (deadline.c).  Rows that say it themselves are in the
 * index by due time, however many.  Memory has one time a priority: no such
 * row that is not covered is due before it.  A process that commits such a
 * row, or leaves one that a look has met, lowers it; one that looks when it has
 * come takes it out, adds what that index has (overdue.c), and puts back the
 * next one.
 *
 * Wake-ups: a process that adds messages wakes as many waiters.  One that
 * gives ids back wakes only waiters that have looked since its window was
 * removed, because the others have seen those ids in the cover, or will.
 *
 * Locks: that of the queue's slot (queue_slot.c), nothing below it.  Latches are
 * set after it is released.
 *
 * What if the process dies?  By any error or exit, the abort callback gives
 * its window back; by kill -9, the server restarts with empty memory, that is,
 * with a cover of everything.  What if memory is full?  Ranges are merged; a
 * queue without a slot is scanned as a whole, each time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/attach.h"
#include "shared/cover.h"
#include "shared/database.h"
#include "shared/expiry.h"
#include "shared/waiter.h"

/* How soon the worker checks a queue that has changed */
#define REPAIR_DELAY			USECS_PER_SEC

/* The worker is to check a queue, and has not been told yet */
static bool is_worker_wanted = false;

static void add_key(QueueSlot *slot, int priority, int64 id);
static void move_busy(QueueSlot *slot, TimestampTz now);
static void delay_ranks(QueueSlot *slot, int ranks, TimestampTz due);

/* ----------------------------------------------------------------
 *		Adding
 * ----------------------------------------------------------------
 */

/*
 * queue_cover_lock
 *		Lock a queue's slot for a change, and note that it changes.
 *
 * Returns NULL if the queue has no slot.  That the worker is to check the
 * queue is only noted, because the lock of the databases must not be taken
 * here; see queue_cover_request_repair().
 */
QueueSlot *
queue_cover_lock(QueueSlot *hint, Oid dbid, Oid relid)
{
	QueueSlot  *slot = queue_slot_lock(hint, dbid, relid);

	if (slot != NULL && queue_slot_note_change(slot))
		is_worker_wanted = true;
	return slot;
}

/* Release the slot, then set the latches of the waiters picked. */
void
queue_cover_unlock(QueueSlot *slot, WakeList *wakes)
{
	LWLockRelease(slot->lock);
	queue_waiter_set_latches(wakes);
}

/*
 * queue_cover_request_repair
 *		Ask the worker to check the queues that have changed.
 *
 * Additions may run under the lock of a partition, where the worker cannot be
 * told; they only note it.  Call this with no lock held.
 */
void
queue_cover_request_repair(void)
{
	if (!is_worker_wanted)
		return;
	is_worker_wanted = false;
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp() + REPAIR_DELAY);
}

/* Add one id, to each priority if its own is unknown.  The slot is locked. */
static void
add_key(QueueSlot *slot, int priority, int64 id)
{
	if (priority >= 0 && !slot->cover.priorities_vary)
	{
		queue_ranges_add(&slot->cover.set, queue_rank(priority), id, id);
		queue_news_add(slot->cover.news, queue_rank(priority), id, id);
	}
	else
	{
		int			rank;

		for (rank = 0; rank < NUM_RANKS; rank++)
		{
			queue_ranges_add(&slot->cover.set, rank, id, id);
			queue_news_add(slot->cover.news, rank, id, id);
		}
	}
}

/*
 * queue_cover_add
 *		Add a message that may be available now to its queue's cover.
 *
 * "hint" is where the queue's slot was when last seen.  If "wakes", one
 * waiter of the queue is woken.  If the queue has no slot, all sessions that
 * wait for any queue of the database are.  No allocation, no error, so this
 * may be called from callbacks, and with a partition of the in-flight table
 * locked.
 */
void
queue_cover_add(QueueSlot *hint, const MessageKey *key, int priority,
				bool wakes)
{
	QueueSlot  *slot = queue_cover_lock(hint, key->dbid, key->relid);
	WakeList	list;

	queue_waiter_start_wakes(&list, key->dbid);
	if (slot == NULL)
	{
		queue_waiter_wake_anyone(&list);
		return;
	}
	add_key(slot, priority, key->id);
	queue_waiter_pick(slot, wakes ? 1 : 0, 0, &list);
	queue_waiter_unlock_added(slot, NULL, &list);
}

/*
 * queue_cover_add_set
 *		Add ranges that may have available messages to a queue's cover.
 *
 * Wakes up to "nwakes" of the queue's waiters, and if there are any to wake,
 * those that want certain messages, with these keys.  No allocation, no error.
 */
void
queue_cover_add_set(QueueSlot *hint, Oid dbid, Oid relid, const RangeSet *set,
					int nwakes, const WakeKeys *keys)
{
	bool		wakes_selecting = nwakes > 0;

	QueueSlot  *slot = queue_cover_lock(hint, dbid, relid);
	WakeList	wakes;

	queue_waiter_start_wakes(&wakes, dbid);
	if (slot == NULL)
	{
		if (nwakes > 0)
			queue_waiter_wake_anyone(&wakes);
		return;
	}
	queue_ranges_add_set(&slot->cover.set, set);
	queue_news_add_set(slot->cover.news, set);

	/*
	 * a few at a time, because the list is on the stack and latches take a
	 * while
	 */
	while (queue_waiter_pick(slot, nwakes, 0, &wakes))
	{
		nwakes -= wakes.n;
		queue_cover_unlock(slot, &wakes);
		queue_waiter_start_wakes(&wakes, dbid);
		slot = queue_slot_lock(slot, dbid, relid);
		if (slot == NULL)
			return;
	}
	if (wakes_selecting)
		queue_waiter_unlock_added(slot, keys, &wakes);
	else
		queue_cover_unlock(slot, &wakes);
}

/*
 * queue_cover_add_all
 *		Any message of the queue may be available, or have expired: cover all
 *		ids, and wake all of its waiters.
 *
 * If it has no slot, the worker is to see whether its messages expire.
 */
void
queue_cover_add_all(Oid dbid, Oid relid)
{
	QueueRange	ranges[RANGE_PLACES(NUM_RANKS + 1)];
	RangeSet	set;

	queue_ranges_init(&set, ranges, NUM_RANKS + 1);
	queue_ranges_add_all(&set);
	queue_cover_add_set(NULL, dbid, relid, &set, INT_MAX, NULL);
	if (!queue_expiry_note(NULL, dbid, relid, QUEUE_EXPIRY_UNKNOWN))
		queue_database_want_walk(dbid);
}

/*
 * queue_cover_add_everything
 *		The same for each queue of a database that has a slot.
 */
void
queue_cover_add_everything(Oid dbid)
{
	int			i;

	for (i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && slot->dbid == dbid)
			queue_cover_add_all(dbid, slot->relid);
	}
}

/*
 * queue_cover_priorities_vary
 *		Note that a message of the queue may have another priority than was
 *		noted when it was taken.
 *
 * From now on ids of the queue are added in all priorities.
 */
void
queue_cover_priorities_vary(QueueSlot *hint, Oid relid)
{
	QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);

	if (slot != NULL)
	{
		slot->cover.priorities_vary = true;
		LWLockRelease(slot->lock);
	}
}

/*
 * queue_cover_add_delayed
 *		Note a message whose row says that it is not due before "due".
 *
 * Its priority was noted earlier and may be wrong; if so, the id goes into the
 * cover instead, so that a consumer reads the row.
 */
void
queue_cover_add_delayed(QueueSlot *hint, const MessageKey *key, int priority,
						TimestampTz due)
{
	QueueSlot  *slot = queue_cover_lock(hint, key->dbid, key->relid);
	WakeList	wakes;

	queue_waiter_start_wakes(&wakes, key->dbid);
	if (slot == NULL)
	{
		queue_waiter_wake_anyone(&wakes);
		return;
	}
	if (priority < 0 || slot->cover.priorities_vary)
	{
		/* a consumer is to find out where it is */
		add_key(slot, priority, key->id);
		(void) queue_waiter_pick(slot, 1, 0, &wakes);
		queue_waiter_unlock_added(slot, NULL, &wakes);
		return;
	}
	delay_ranks(slot, 1 << queue_rank(priority), due);
	queue_waiter_pick_guardian(slot, &wakes);
	queue_cover_unlock(slot, &wakes);
}

/*
 * queue_cover_add_delayed_set
 *		Note messages of some priorities, none of which is due before "due".
 *
 * "ranks" has a bit for each rank.  The guardian is woken if it would sleep
 * beyond that.  No allocation, no error.
 */
void
queue_cover_add_delayed_set(QueueSlot *hint, Oid dbid, Oid relid, int ranks,
							TimestampTz due)
{
	QueueSlot  *slot = queue_cover_lock(hint, dbid, relid);
	WakeList	wakes;

	queue_waiter_start_wakes(&wakes, dbid);
	if (slot == NULL)
	{
		queue_waiter_wake_anyone(&wakes);
		return;
	}
	delay_ranks(slot, ranks, due);
	queue_waiter_pick_guardian(slot, &wakes);
	queue_cover_unlock(slot, &wakes);
}

/* The same, with the slot locked; wakes nobody. */
static void
delay_ranks(QueueSlot *slot, int ranks, TimestampTz due)
{
	for (int rank = 0; rank < NUM_RANKS; rank++)
		if ((ranks & (1 << rank)) != 0)
			slot->cover.delayed_from[rank] =
				Min(slot->cover.delayed_from[rank], due);
	(void) queue_cover_is_due_first(slot, due);
}

/*
 * queue_cover_take_overdue
 *		Take the times out that have come, because the caller adds the
 *		messages from there on.
 *
 * Each element of "from" is such a time, or TIMESTAMP_INFINITY.  Returns false
 * if there is none.  Until queue_cover_end_overdue() the messages are known to
 * nobody else.  The slot is locked, there as well.
 */
bool
queue_cover_take_overdue(QueueSlot *slot, TimestampTz now, TimestampTz *from)
{
	bool		found = false;

	for (int rank = 0; rank < NUM_RANKS; rank++)
	{
		from[rank] = TIMESTAMP_INFINITY;
		if (slot->cover.delayed_from[rank] > now)
			continue;
		from[rank] = slot->cover.delayed_from[rank];
		slot->cover.delayed_from[rank] = TIMESTAMP_INFINITY;
		found = true;
	}
	if (found)
	{
		slot->cover.noverdue++;
		queue_cover_compute_due(slot);
	}
	return found;
}

/*
 * queue_cover_end_overdue
 *		The caller cares for them no longer: nothing from these times on.
 */
void
queue_cover_end_overdue(QueueSlot *slot, const TimestampTz *from)
{
	slot->cover.noverdue = Max(slot->cover.noverdue - 1, 0);
	for (int rank = 0; rank < NUM_RANKS; rank++)
		delay_ranks(slot, 1 << rank, from[rank]);
}

/* ----------------------------------------------------------------
 *		Due times
 * ----------------------------------------------------------------
 */

/*
 * queue_cover_compute_due
 *		Compute the earliest time at which something becomes part of the cover.
 *
 * The slot is locked, as in queue_cover_is_due_first().
 */
void
queue_cover_compute_due(QueueSlot *slot)
{
	DueNode    *node = queue_due_first(&slot->due);
	TimestampTz first = node != NULL ? node->due : TIMESTAMP_INFINITY;

	for (int rank = 0; rank < NUM_RANKS; rank++)
		first = Min(first, slot->cover.delayed_from[rank]);
	if (slot->cover.busy.nranges > 0)
		first = Min(first, slot->cover.busy_due);
	first = Min(first, queue_slot_group_due(slot));
	slot->cover.first_due = first;
}

/*
 * queue_cover_is_due_first
 *		Note that something is due; returns true if nothing was due before it.
 */
bool
queue_cover_is_due_first(QueueSlot *slot, TimestampTz due)
{
	if (due >= slot->cover.first_due)
		return false;
	slot->cover.first_due = due;
	return true;
}

/*
 * move_busy
 *		Busy rows become part of the cover when it is time.
 *
 * No waiter is woken.  The guardian of the queue has a timer, and when it
 * leaves it wakes the next one if there is more than it takes.  The slot is
 * locked.
 */
static void
move_busy(QueueSlot *slot, TimestampTz now)
{
	if (slot->cover.busy.nranges == 0 || slot->cover.busy_due > now)
		return;
	queue_ranges_add_set(&slot->cover.set, &slot->cover.busy);
	slot->cover.busy.nranges = 0;
	queue_cover_compute_due(slot);
}

/*
 * queue_cover_recheck_busy
 *		A transaction has ended in this database that announces nothing: make
 *		all busy ids part of the cover at once, and wake their waiters.
 */
void
queue_cover_recheck_busy(Oid dbid)
{
	int			i;

	for (i = queue_slot_next_active(0); i < queue_slot_count();
		 i = queue_slot_next_active(i + 1))
	{
		QueueSlot  *slot = queue_slot_at(i);
		WakeList	wakes;

		/* an unlocked look: what becomes busy from now on is looked at soon */
		if (slot == NULL || slot->dbid != dbid ||
			slot->cover.busy.nranges == 0)
			continue;
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		(void) queue_slot_note_change(slot);
		queue_slot_set_active(slot, true);
		queue_waiter_start_wakes(&wakes, dbid);
		(void) queue_waiter_pick(slot, queue_ranges_count(&slot->cover.busy,
														  MAX_WAKES),
								 0, &wakes);
		queue_ranges_add_set(&slot->cover.set, &slot->cover.busy);
		slot->cover.busy.nranges = 0;
		slot->cover.busy_due = TIMESTAMP_INFINITY;
		queue_cover_compute_due(slot);
		queue_waiter_unlock_added(slot, NULL, &wakes);
	}
	queue_database_wake_by(dbid, GetCurrentTimestamp() + REPAIR_DELAY);
}

/* ----------------------------------------------------------------
 *		Windows, for window.c.  The slot is locked.
 * ----------------------------------------------------------------
 */

/*
 * queue_cover_find
 *		Find the first range that has something beyond (rank, id).
 *
 * Busy rows whose time has come become part of the cover first.  Returns its
 * number, good until the cover is changed, or -1 if there is none.
 */
int
queue_cover_find(QueueSlot *slot, int rank, int64 id, TimestampTz now,
				 QueueRange *range)
{
	int			i;

	move_busy(slot, now);
	i = queue_ranges_find(&slot->cover.set, rank, id);
	if (i >= 0)
		*range = slot->cover.set.ranges[i];
	return i;
}

/*
 * queue_cover_cut
 *		Remove a window from the range of this number, which includes it.
 */
void
queue_cover_cut(QueueSlot *slot, int i, const QueueRange *window)
{
	queue_ranges_cut(&slot->cover.set, i, window->low, window->high);
}

/*
 * queue_cover_put_back
 *		Cover these ids again.
 */
void
queue_cover_put_back(QueueSlot *slot, const RangeSet *set)
{
	queue_ranges_add_set(&slot->cover.set, set);
}

/*
 * queue_cover_put_range_back
 *		The same for one range.
 */
void
queue_cover_put_range_back(QueueSlot *slot, int rank, int64 low, int64 high)
{
	queue_ranges_add(&slot->cover.set, rank, low, high);
}

/*
 * queue_cover_add_busy
 *		Add rows that an unknown transaction is changing.
 *
 * All busy ids are looked at again together.  If some are still busy then, the
 * delay doubles; after a quiet time it is short again.  The slot is locked.
 */
void
queue_cover_add_busy(QueueSlot *slot, const RangeSet *busy, TimestampTz now)
{
	if (slot->cover.busy.nranges == 0)
	{
		if (slot->cover.busy_due == TIMESTAMP_INFINITY ||
			now - slot->cover.busy_due > 2 * MAX_BUSY_DELAY)
			slot->cover.busy_delay = FIRST_BUSY_DELAY;
		else
			slot->cover.busy_delay = Min(slot->cover.busy_delay * 2,
										 MAX_BUSY_DELAY);
		slot->cover.busy_due = now + slot->cover.busy_delay;
	}
	queue_ranges_add_set(&slot->cover.busy, busy);
	queue_cover_compute_due(slot);
}

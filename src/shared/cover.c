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
 * must not happen, and heal.c sees to it that it does not last if it does.
 * After a start it is "everything".
 *
 * The rules that keep it right:
 *
 * - Adding ids is always safe.  Only a consumer removes them.
 *
 * - A consumer removes its window under the lock and then scans it without.
 *	 Messages that become available during the scan are added by the
 *	 transaction that makes them available, and stay.  What the consumer did
 *	 not take and may be available it gives back; an error on the way gives the
 *	 whole window back.
 *
 * - Every message that is not available has something that adds it when it is:
 *
 *	 not committed			the transaction that inserts it, if it registered
 *							(queue_xact_note_sent); else it is kept as "busy"
 *	 claimed by a consumer	it is in the window of that consumer; another one
 *							that meets it gives it back
 *	 taken, settled			the end of that transaction (inflight.c)
 *	 leased, backing off	the due time of its entry, see below
 *	 a step of the worker	the end of that step
 *	 exhausted				the worker's step; or the change of a setting,
 *							which adds everything
 *	 not due, says the row	"later", with its due time
 *	 being changed by an	"busy": looked at again after 10 ms, doubling to a
 *	 unknown transaction	second, because its end may go unannounced
 *	 deleted by the same	if the scanning transaction has written, its end
 *	 transaction			adds the window when it rolls back
 *							(queue_xact_note_look)
 *	 not seen by the		given back, because others see it
 *	 statement's snapshot
 *
 * - A transaction announces after it has left the process array.  A consumer
 *	 that saw it in progress had removed its window before, so the announcement
 *	 comes later and is not part of that window.
 *
 * What is due in the future needs no announcement: it becomes part of the
 * cover with the first look after that time.  Entries of the in-flight table
 * are linked by due time; rows that say it themselves are in a small array.
 * The nodes lie in the entries.  A node is linked by a process that holds the
 * entry's partition lock, and unlinked under the queue's lock alone.
 *
 * Wake-ups: a process that adds messages wakes as many waiters.  One that
 * gives ids back wakes only waiters that have looked since its window was
 * removed, because the others have seen those ids in the cover, or will.
 *
 * Locks: that of the queue's state (state.c), nothing below it.  Latches are
 * set after it is released.
 *
 * What if the process dies?  By any error or exit, the abort callback gives
 * its window back; by kill -9, the server restarts with empty memory, that is,
 * with a cover of everything.  What if memory is full?  Ranges are merged; a
 * queue without a state is scanned as a whole, each time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/mutant.h"
#include "shared/cover.h"
#include "shared/database.h"
#include "shared/waiter.h"

/* Ranges wider than this are probed for their first row, unless it is near */
#define PROBE_WIDTH			1024

/* How soon the worker checks a queue that has changed */
#define HEAL_DELAY			USECS_PER_SEC

/* The window that this process has out */
static bool is_out = false;
static QueueState *out_state = NULL;
static Oid	out_relid = InvalidOid;
static QueueRange out;
static uint64 out_number;

/* The worker is to check a queue, and has not been told yet */
static bool is_worker_wanted = false;

static QueueState *lock_to_add(QueueState *hint, Oid dbid, Oid relid);
static void unlock_and_wake(QueueState *state, WakeList *wakes);
static void add_key(QueueState *state, int priority, int64 id);
static void add_later(QueueState *state, const QueueRange *range,
					  TimestampTz due);
static void add_busy(QueueState *state, const RangeSet *busy,
					 TimestampTz now);
static void move_due(QueueState *state, TimestampTz now);
static void reckon_first_due(QueueState *state);
static void link_due(QueueState *state, DueNode *node);
static void unlink_due(DueNode *node);

/* ----------------------------------------------------------------
 *		Adding
 * ----------------------------------------------------------------
 */

/*
 * lock_to_add
 *		Lock a queue's state for a change, and note that it changes.
 *
 * Returns NULL if the queue has no state.  That the worker is to check the
 * queue is only noted, because the lock of the databases must not be taken
 * here; see queue_cover_tell_worker().
 */
static QueueState *
lock_to_add(QueueState *hint, Oid dbid, Oid relid)
{
	QueueState *state = queue_state_lock(hint, dbid, relid);

	if (state != NULL && queue_state_note_change(state))
		is_worker_wanted = true;
	return state;
}

/* Release the state, then set the latches of the waiters picked. */
static void
unlock_and_wake(QueueState *state, WakeList *wakes)
{
	LWLockRelease(state->lock);
	queue_waiter_set_latches(wakes);
}

/*
 * queue_cover_tell_worker
 *		Ask the worker to check the queues that have changed.
 *
 * Additions may run under the lock of a partition, where the worker cannot be
 * told; they only note it.  Call this with no lock held.
 */
void
queue_cover_tell_worker(void)
{
	if (!is_worker_wanted)
		return;
	is_worker_wanted = false;
	queue_database_poke(MyDatabaseId, GetCurrentTimestamp() + HEAL_DELAY);
}

/* Add one id, to each priority if its own is unknown.  The state is locked. */
static void
add_key(QueueState *state, int priority, int64 id)
{
	if (priority >= 0 && !state->cover.priorities_vary)
		queue_ranges_add(&state->cover.set, queue_rank(priority), id, id);
	else
	{
		int			rank;

		for (rank = 0; rank < NUM_RANKS; rank++)
			queue_ranges_add(&state->cover.set, rank, id, id);
	}
}

/*
 * queue_cover_add
 *		Add a message that may be available now to its queue's cover.
 *
 * "hint" is where the queue's state was when last seen.  If "wakes", one
 * waiter of the queue is woken.  If the queue has no state, all sessions that
 * wait for any queue of the database are.  No allocation, no error, so this
 * may be called from callbacks, and with a partition of the in-flight table
 * locked.
 */
void
queue_cover_add(QueueState *hint, const MessageKey *key, int priority,
				bool wakes)
{
	QueueState *state = lock_to_add(hint, key->dbid, key->relid);
	WakeList	list;

	queue_waiter_start_wakes(&list, key->dbid);
	if (state == NULL)
	{
		queue_waiter_wake_anyone(&list);
		return;
	}
	if (!MUTANT_SOMETIMES(COVER_LOSES, 50))
		add_key(state, priority, key->id);
	queue_waiter_pick(state, wakes ? 1 : 0, 0, &list);
	unlock_and_wake(state, &list);
}

/*
 * queue_cover_add_set
 *		Add ranges that may have available messages to a queue's cover.
 *
 * Wakes up to "nwakes" of the queue's waiters.  No allocation, no error.
 */
void
queue_cover_add_set(QueueState *hint, Oid dbid, Oid relid, const RangeSet *set,
					int nwakes)
{
	QueueState *state = lock_to_add(hint, dbid, relid);
	WakeList	wakes;

	queue_waiter_start_wakes(&wakes, dbid);
	if (state == NULL)
	{
		if (nwakes > 0)
			queue_waiter_wake_anyone(&wakes);
		return;
	}
	queue_ranges_add_set(&state->cover.set, set);

	/*
	 * a few at a time, because the list is on the stack and latches take a
	 * while
	 */
	while (queue_waiter_pick(state, nwakes, 0, &wakes))
	{
		nwakes -= wakes.n;
		unlock_and_wake(state, &wakes);
		queue_waiter_start_wakes(&wakes, dbid);
		state = queue_state_lock(state, dbid, relid);
		if (state == NULL)
			return;
	}
	unlock_and_wake(state, &wakes);
}

/*
 * queue_cover_add_all
 *		Any message of the queue may be available: cover all ids, and wake all
 *		of its waiters.
 */
void
queue_cover_add_all(Oid dbid, Oid relid)
{
	QueueRange	ranges[RANGE_PLACES(NUM_RANKS + 1)];
	RangeSet	set;

	queue_ranges_init(&set, ranges, NUM_RANKS + 1);
	queue_ranges_add_all(&set);
	queue_cover_add_set(NULL, dbid, relid, &set, INT_MAX);
}

/*
 * queue_cover_add_everything
 *		The same for each queue of a database that has a state.
 */
void
queue_cover_add_everything(Oid dbid)
{
	int			i;

	for (i = 0; i < queue_state_count(); i++)
	{
		QueueState *state = queue_state_at(i);

		if (state != NULL && state->dbid == dbid)
			queue_cover_add_all(dbid, state->relid);
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
queue_cover_priorities_vary(QueueState *hint, Oid relid)
{
	QueueState *state = queue_state_lock(hint, MyDatabaseId, relid);

	if (state != NULL)
	{
		state->cover.priorities_vary = true;
		LWLockRelease(state->lock);
	}
}

/*
 * queue_cover_add_later
 *		Note a message whose row says that it is not due before "due".
 *
 * "is_read" tells that the priority has just been read from the row.
 * Otherwise it was noted earlier and may be wrong; if so, the id goes into the
 * cover instead, so that a consumer reads the row.
 */
void
queue_cover_add_later(QueueState *hint, const MessageKey *key, int priority,
					  TimestampTz due, bool is_read)
{
	QueueState *state = lock_to_add(hint, key->dbid, key->relid);
	WakeList	wakes;
	QueueRange	range;

	queue_waiter_start_wakes(&wakes, key->dbid);
	if (state == NULL)
	{
		queue_waiter_wake_anyone(&wakes);
		return;
	}
	if (!is_read && (priority < 0 || state->cover.priorities_vary))
	{
		/* a consumer is to find out where it is */
		add_key(state, priority, key->id);
		(void) queue_waiter_pick(state, 1, 0, &wakes);
	}
	else
	{
		range.rank = queue_rank(priority);
		range.low = range.high = key->id;
		add_later(state, &range, due);
		reckon_first_due(state);
		queue_waiter_pick_guardian(state, &wakes);
	}
	unlock_and_wake(state, &wakes);
}

/*
 * add_later
 *		Insert into the array of messages that are due later, by due time.
 *
 * If there is no room, the two neighbours of one priority that are closest in
 * time become one range.  It is due with the first of them; the consumer that
 * scans it then finds out more.  The state is locked.
 */
static void
add_later(QueueState *state, const QueueRange *range, TimestampTz due)
{
	LaterRange *later = state->cover.later;
	int64		smallest = PG_INT64_MAX;
	int			place;
	int			first = -1;
	int			second = -1;
	int			i;
	int			j;

	if (state->cover.nlater < MAX_LATER)
	{
		/* in order of due time */
		for (place = state->cover.nlater;
			 place > 0 && later[place - 1].due > due; place--)
			later[place] = later[place - 1];
		later[place].range = *range;
		later[place].due = due;
		state->cover.nlater++;
		return;
	}

	/* more than there are priorities, so two of them have the same */
	for (i = 0; i < MAX_LATER; i++)
		for (j = i + 1; j < MAX_LATER; j++)
			if (later[i].range.rank == later[j].range.rank)
			{
				if (later[j].due - later[i].due < smallest)
				{
					smallest = later[j].due - later[i].due;
					first = i;
					second = j;
				}
				break;
			}
	Assert(first >= 0);
	later[first].range.low = Min(later[first].range.low,
								 later[second].range.low);
	later[first].range.high = Max(later[first].range.high,
								  later[second].range.high);
	memmove(&later[second], &later[second + 1],
			(MAX_LATER - second - 1) * sizeof(LaterRange));
	state->cover.nlater--;
	add_later(state, range, due);
}

/* ----------------------------------------------------------------
 *		Due times
 * ----------------------------------------------------------------
 */

/*
 * link_due
 *		Link an entry of the in-flight table by its due time.
 *
 * The first one sets the queue's bit in the map of timed queues.  The state is
 * locked, here and in unlink_due().
 */
static void
link_due(QueueState *state, DueNode *node)
{
	if (queue_due_first(&state->due) == NULL)
		queue_state_set_timed(state, true);
	node->state = state;
	queue_due_link(&state->due, node);
}

/* Unlink it; the last one clears the bit. */
static void
unlink_due(DueNode *node)
{
	QueueState *state = node->state;

	queue_due_unlink(&state->due, node);
	if (queue_due_first(&state->due) == NULL)
		queue_state_set_timed(state, false);
	node->state = NULL;
}

/* Compute the earliest time at which something becomes part of the cover. */
static void
reckon_first_due(QueueState *state)
{
	DueNode    *node = queue_due_first(&state->due);
	TimestampTz first = node != NULL ? node->due : TIMESTAMP_INFINITY;

	if (state->cover.nlater > 0)
		first = Min(first, state->cover.later[0].due);
	if (state->cover.busy.nranges > 0)
		first = Min(first, state->cover.busy_due);
	state->cover.first_due = first;
}

/*
 * queue_cover_set_due
 *		Link an entry of the in-flight table by this due time, instead of the
 *		one it may have.
 *
 * The guardian of the queue is woken if it would sleep beyond that.  If the
 * queue has no state, nothing is linked and all sessions that wait for any
 * queue are woken.  The caller holds the lock of the entry's partition.
 */
void
queue_cover_set_due(QueueState *hint, const MessageKey *key, DueNode *node,
					TimestampTz due)
{
	QueueState *state;
	WakeList	wakes;

	if (node->state != NULL)
		queue_cover_clear_due(node);
	state = lock_to_add(hint, key->dbid, key->relid);
	queue_waiter_start_wakes(&wakes, key->dbid);
	if (state == NULL)
	{
		queue_waiter_wake_anyone(&wakes);
		return;
	}
	node->key = key;
	node->due = due;
	link_due(state, node);
	if (due < state->cover.first_due)
	{
		state->cover.first_due = due;
		queue_waiter_pick_guardian(state, &wakes);
	}
	unlock_and_wake(state, &wakes);
}

/*
 * queue_cover_clear_due
 *		Unlink an entry, if it is linked.
 *
 * The caller holds the lock of the entry's partition, so no other process can
 * link the node meanwhile.  One may have unlinked it, so that is checked again
 * under the lock of the state.
 */
void
queue_cover_clear_due(DueNode *node)
{
	QueueState *state = node->state;

	if (state == NULL)
		return;
	LWLockAcquire(state->lock, LW_EXCLUSIVE);
	if (node->state != NULL)
	{
		unlink_due(node);
		if (node->due <= state->cover.first_due)
			reckon_first_due(state);
	}
	LWLockRelease(state->lock);
}

/*
 * queue_cover_first_due
 *		Return when the first entry of the in-flight table is due,
 *		TIMESTAMP_INFINITY if there is none.
 */
TimestampTz
queue_cover_first_due(QueueState *state)
{
	DueNode    *node;
	TimestampTz due;

	LWLockAcquire(state->lock, LW_SHARED);
	node = queue_due_first(&state->due);
	due = node != NULL ? node->due : TIMESTAMP_INFINITY;
	LWLockRelease(state->lock);
	return due;
}

/*
 * queue_cover_pop_due
 *		Unlink up to "max" entries that are due by "now"; return how many, and
 *		their keys.
 *
 * The entries themselves are left to the caller, because their partitions
 * cannot be locked here.
 */
int
queue_cover_pop_due(QueueState *hint, Oid relid, TimestampTz now,
					MessageKey *keys, int max)
{
	QueueState *state = queue_state_lock(hint, MyDatabaseId, relid);
	int			n = 0;

	if (state == NULL)
		return 0;
	while (n < max)
	{
		DueNode    *node = queue_due_first(&state->due);

		if (node == NULL || node->due > now)
			break;
		keys[n++] = *node->key;
		unlink_due(node);
	}
	reckon_first_due(state);
	LWLockRelease(state->lock);
	return n;
}

/*
 * move_due
 *		What is due by now becomes part of the cover.
 *
 * No waiter is woken.  The guardian of the queue has a timer, and when it
 * leaves it wakes the next one if there is more than it takes.  The state is
 * locked.
 */
static void
move_due(QueueState *state, TimestampTz now)
{
	int			n = 0;

	while (n < state->cover.nlater && state->cover.later[n].due <= now)
	{
		const QueueRange *range = &state->cover.later[n++].range;

		queue_ranges_add(&state->cover.set, range->rank, range->low,
						 range->high);
	}
	state->cover.nlater -= n;
	memmove(&state->cover.later[0], &state->cover.later[n],
			state->cover.nlater * sizeof(LaterRange));

	if (state->cover.busy.nranges > 0 && state->cover.busy_due <= now)
	{
		queue_ranges_add_set(&state->cover.set, &state->cover.busy);
		state->cover.busy.nranges = 0;
	}
	reckon_first_due(state);
}

/*
 * add_busy
 *		Add rows that an unknown transaction is changing.
 *
 * All busy ids are looked at again together.  If some are still busy then, the
 * delay doubles; after a quiet time it is short again.  The state is locked.
 */
static void
add_busy(QueueState *state, const RangeSet *busy, TimestampTz now)
{
	if (state->cover.busy.nranges == 0)
	{
		if (state->cover.busy_due == TIMESTAMP_INFINITY ||
			now - state->cover.busy_due > 2 * MAX_BUSY_DELAY)
			state->cover.busy_delay = FIRST_BUSY_DELAY;
		else
			state->cover.busy_delay = Min(state->cover.busy_delay * 2,
										  MAX_BUSY_DELAY);
		state->cover.busy_due = now + state->cover.busy_delay;
	}
	queue_ranges_add_set(&state->cover.busy, busy);
}

/*
 * queue_cover_hurry
 *		A transaction has ended in this database that announces nothing: make
 *		all busy ids part of the cover at once, and wake their waiters.
 */
void
queue_cover_hurry(Oid dbid)
{
	int			i;

	for (i = queue_state_next_active(0); i < queue_state_count();
		 i = queue_state_next_active(i + 1))
	{
		QueueState *state = queue_state_at(i);
		WakeList	wakes;

		/* an unlocked look: what becomes busy from now on is looked at soon */
		if (state == NULL || state->dbid != dbid ||
			state->cover.busy.nranges == 0)
			continue;
		LWLockAcquire(state->lock, LW_EXCLUSIVE);
		(void) queue_state_note_change(state);
		queue_state_set_active(state, true);
		queue_waiter_start_wakes(&wakes, dbid);
		(void) queue_waiter_pick(state, queue_ranges_count(&state->cover.busy,
														   MAX_WAKES),
								 0, &wakes);
		queue_ranges_add_set(&state->cover.set, &state->cover.busy);
		state->cover.busy.nranges = 0;
		state->cover.busy_due = TIMESTAMP_INFINITY;
		reckon_first_due(state);
		unlock_and_wake(state, &wakes);
	}
	queue_database_poke(dbid, GetCurrentTimestamp() + HEAL_DELAY);
}

/* ----------------------------------------------------------------
 *		Looking
 * ----------------------------------------------------------------
 */

/*
 * queue_cover_begin
 *		Begin to go through the cover of a queue.
 *
 * "state" is NULL if the queue has none; then the windows are all rows, one
 * priority after the other.
 */
void
queue_cover_begin(CoverLook *look, QueueState *state, Oid relid,
				  TimestampTz now)
{
	/* no window is out, unless an error did not run the abort callback */
	queue_cover_abandon();
	look->state = state;
	look->relid = relid;
	look->now = now;
	look->rank = 0;
	look->id = PG_INT64_MIN;
	look->found_nothing = false;
	look->probed_rank = -1;
}

/*
 * queue_cover_take
 *		Remove the next window, about "want" ids, from the cover.
 *
 * The window has about "first" ids if it is of another priority than the last
 * one.  Returns false if nothing is left.  The caller scans the window and
 * must call queue_cover_give_back(); until then an error returns it as a
 * whole.
 *
 * If *needs_probe is set, nothing was removed: the last window had no rows and
 * the range is wide, so the caller first reports where its rows begin
 * (queue_cover_probed()).
 *
 * A queue without a state has nothing to remove from: the windows are its
 * priorities, and none is out.
 */
bool
queue_cover_take(CoverLook *look, int64 want, int64 first,
				 QueueRange *window, bool *needs_probe)
{
	QueueState *state = NULL;
	QueueRange	range;
	int			i;

	*needs_probe = false;
	if (look->state != NULL)
		state = queue_state_lock(look->state, MyDatabaseId, look->relid);
	if (state == NULL)
	{
		/* all rows, a priority at a time */
		if (look->rank > 0 || look->id != PG_INT64_MIN)
			look->rank++;
		if (look->rank >= NUM_RANKS)
			return false;
		look->id = PG_INT64_MAX;
		window->rank = look->rank;
		window->low = PG_INT64_MIN;
		window->high = PG_INT64_MAX;
		return true;
	}

	if (state->cover.first_due <= look->now)
		move_due(state, look->now);
	i = queue_ranges_find(&state->cover.set, look->rank, look->id);
	if (i < 0)
	{
		LWLockRelease(state->lock);
		return false;
	}
	range = state->cover.set.ranges[i];
	if (range.rank != look->rank)
		want = first;
	if (range.rank == look->rank && range.low <= look->id &&
		look->id != PG_INT64_MIN)
		range.low = look->id + 1;
	if ((uint64) range.high - (uint64) range.low >= (uint64) want)
	{
		int64		begin = range.low;

		if ((uint64) range.high - (uint64) range.low > PROBE_WIDTH &&
			look->found_nothing)
		{
			if (look->probed_rank != range.rank ||
				look->probed_low != range.low)
			{
				LWLockRelease(state->lock);
				*needs_probe = true;
				*window = range;
				return true;
			}
			begin = Max(range.low, look->probed_first);
		}
		if (begin <= range.high &&
			(uint64) range.high - (uint64) begin >= (uint64) want)
			range.high = begin + want - 1;
	}
	queue_ranges_cut(&state->cover.set, i, range.low, range.high);
	state->cover.nwindows++;
	is_out = true;
	out = range;
	out_state = state;
	out_relid = look->relid;
	out_number = ++state->cover.nremoved;
	LWLockRelease(state->lock);

	*window = range;
	return true;
}

/*
 * queue_cover_probed
 *		Report the first row of a wide range, as queue_cover_take() asked for.
 */
void
queue_cover_probed(CoverLook *look, const QueueRange *window, int64 first)
{
	look->probed_rank = window->rank;
	look->probed_low = window->low;
	look->probed_first = first;
}

/*
 * queue_cover_narrow
 *		Give back the part of the window beyond "high", because the scan ends
 *		there.
 *
 * Wakes waiters for it that have looked while it was out.  Returns false if no
 * window is out.
 */
bool
queue_cover_narrow(int64 high)
{
	QueueState *state;
	WakeList	wakes;
	uint64		width;

	if (!is_out)
		return false;
	Assert(out.low <= high && high < out.high);
	state = lock_to_add(out_state, MyDatabaseId, out_relid);
	if (state != NULL)
	{
		width = (uint64) out.high - (uint64) high;
		queue_waiter_start_wakes(&wakes, MyDatabaseId);
		queue_ranges_add(&state->cover.set, out.rank, high + 1, out.high);
		(void) queue_waiter_pick(state, (int) Min(width, MAX_WAKES),
								 out_number, &wakes);
		unlock_and_wake(state, &wakes);
	}
	out.high = high;
	return true;
}

/*
 * queue_cover_give_back
 *		End the scan of a window.
 *
 * The ids "kept" are covered again.  Those "busy" are looked at again later,
 * because they belong to rows that a transaction is changing whose end may go
 * unannounced.  If "wakes", waiters that have looked while the window was out
 * are woken for what was kept.
 */
void
queue_cover_give_back(CoverLook *look, const RangeSet *kept,
					  const RangeSet *busy, bool wakes)
{
	QueueState *state;
	WakeList	list;

	if (!is_out)
		return;
	look->rank = out.rank;
	look->id = out.high;
	is_out = false;
	state = lock_to_add(out_state, MyDatabaseId, out_relid);
	if (state == NULL)
		return;
	queue_waiter_start_wakes(&list, MyDatabaseId);
	state->cover.nwindows = Max(state->cover.nwindows - 1, 0);
	queue_ranges_add_set(&state->cover.set, kept);
	if (busy->nranges > 0)
	{
		add_busy(state, busy, look->now);
		reckon_first_due(state);
		queue_waiter_pick_guardian(state, &list);
	}
	if (wakes && kept->nranges > 0)
		(void) queue_waiter_pick(state, queue_ranges_count(kept, MAX_WAKES),
								 out_number, &list);
	unlock_and_wake(state, &list);
	queue_cover_tell_worker();
}

/*
 * queue_cover_abandon
 *		Give the whole window back, because its (sub)transaction is rolled
 *		back.
 *
 * No allocation, no error: called from callbacks.
 */
void
queue_cover_abandon(void)
{
	QueueState *state;
	WakeList	list;

	if (!is_out)
		return;
	is_out = false;
	state = lock_to_add(out_state, MyDatabaseId, out_relid);
	if (state == NULL)
		return;
	queue_waiter_start_wakes(&list, MyDatabaseId);
	state->cover.nwindows = Max(state->cover.nwindows - 1, 0);
	if (!MUTANT(WINDOW_LOST))
		queue_ranges_add(&state->cover.set, out.rank, out.low, out.high);
	(void) queue_waiter_pick(state, MAX_WAKES, out_number, &list);
	unlock_and_wake(state, &list);
}

/*
 * queue_cover_is_empty
 *		Returns true if the cover has nothing to scan now.
 *
 * *due is set to the time when something will be due, TIMESTAMP_INFINITY if
 * nothing is.  A queue without a state is never known to be empty.
 */
bool
queue_cover_is_empty(QueueState *hint, Oid relid, TimestampTz now,
					 TimestampTz *due)
{
	QueueState *state = queue_state_lock(hint, MyDatabaseId, relid);
	bool		is_empty;

	*due = TIMESTAMP_INFINITY;
	if (state == NULL)
		return false;
	is_empty = state->cover.set.nranges == 0 && state->cover.first_due > now;
	*due = state->cover.first_due;
	LWLockRelease(state->lock);
	return is_empty;
}

/*
 * queue_cover_has
 *		Returns true if the message is covered, busy, or noted as due later.
 *
 * *is_window_out is set if a window of the queue is out, which may include it.
 */
bool
queue_cover_has(QueueState *state, int rank, int64 id, bool *is_window_out)
{
	bool		has;
	int			i;

	LWLockAcquire(state->lock, LW_SHARED);
	has = queue_ranges_contain(&state->cover.set, rank, id) ||
		queue_ranges_contain(&state->cover.busy, rank, id);
	for (i = 0; i < state->cover.nlater && !has; i++)
		has = state->cover.later[i].range.rank == rank &&
			state->cover.later[i].range.low <= id &&
			state->cover.later[i].range.high >= id;
	*is_window_out = state->cover.nwindows > 0;
	LWLockRelease(state->lock);
	return has;
}

/*
 * queue_cover_gap
 *		Return the first id, from this one on, that the cover does not have,
 *		or PG_INT64_MAX.
 */
int64
queue_cover_gap(QueueState *state, int rank, int64 id)
{
	int64		gap = id;
	int			i;

	LWLockAcquire(state->lock, LW_SHARED);
	for (i = 0; i < state->cover.set.nranges; i++)
	{
		const QueueRange *range = &state->cover.set.ranges[i];

		if (range->rank == rank && range->low <= id && range->high >= id)
			gap = range->high < PG_INT64_MAX ? range->high + 1 : PG_INT64_MAX;
	}
	LWLockRelease(state->lock);
	return gap;
}

/*
 * queue_cover_count
 *		Counts for view queue.cover.  The state is locked.
 */
void
queue_cover_count(const QueueState *state, CoverCounts *counts)
{
	counts->nranges = state->cover.set.nranges;
	counts->nlater = state->cover.nlater;
	counts->nbusy = state->cover.busy.nranges;
	counts->nwindows = state->cover.nwindows;
	counts->due = state->cover.first_due;
}

#ifdef USE_ASSERT_CHECKING

/*
 * queue_cover_forget
 *		For tests: forget the cover and the due times of a queue, and let the
 *		worker repair that.
 */
void
queue_cover_forget(Oid relid)
{
	QueueState *state = lock_to_add(NULL, MyDatabaseId, relid);
	DueNode    *node;

	if (state == NULL)
		return;
	state->cover.set.nranges = 0;
	state->cover.busy.nranges = 0;
	state->cover.nlater = 0;
	while ((node = queue_due_first(&state->due)) != NULL)
		unlink_due(node);
	reckon_first_due(state);
	LWLockRelease(state->lock);
	queue_cover_tell_worker();
}
#endif

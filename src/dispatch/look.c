/*-------------------------------------------------------------------------
 *
 * look.c
 *		A look for messages: over the cover of a queue, and the rows in it.
 *
 * What taking messages (take.c) and waiting for them (wait.c) have in common.
 * A look takes window after window out of the cover, scans the rows of each,
 * and gives back what its caller has not taken; the rules are in cover.c.
 *
 * It begins with what is due: leases that have run out, back-offs that are
 * over, delayed messages.  The first consumer that looks deals with them.
 *
 * Windows are as wide as messages are wanted, because mostly each id in the
 * cover is one.  If a window had nothing to take, the next one of the same
 * priority is twice as wide.  If a window has become wide and has messages,
 * what lies beyond those wanted goes back at once, so that other consumers
 * need not wait for the end of this look.
 *
 * An error anywhere gives the window back (queue_window_return).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/clock.h"
#include "common/compat.h"
#include "dispatch/lease.h"
#include "dispatch/look.h"
#include "dispatch/schedule.h"
#include "shared/availability.h"
#include "shared/expiry.h"
#include "shared/inflight.h"
#include "shared/sort.h"
#include "table/definition.h"
#include "transaction/announce.h"
#include "transaction/prepared.h"

/* Ids in one window, at most */
#define MAX_WINDOW			65536

/* Looks of this process so far */
static uint32 nlooks = 0;

static bool is_passed_over(CandidateScan *look, MessageRow *row);
static void note_gap(CandidateScan *look, int64 id);
static bool is_announced(const QueueScan *scan);
static MessageRow *next_row(CandidateScan *look);
static int64 width_of(const QueueRange *window);
static int64 width_for(const CandidateScan *look, int64 want);
static void end_scan(QueueScan *scan);

/*
 * queue_look_begin
 *		Begin to look for messages in a queue, which is open.
 *
 * "want" messages are wanted.  Ends what is due first.  *next tells, after
 * queue_look_end(), when to look again.
 */
void
queue_look_begin(CandidateScan *look, Relation rel, QueueDef *def, int64 want,
				 RetryHint *next)
{
	look->rel = rel;
	look->def = def;
	look->slot = queue_def_slot(def);
	look->now = GetCurrentTimestamp();
	look->number = ((uint64) MyProcPid << 32) + ++nlooks;
	look->is_writer = TransactionIdIsValid(GetTopTransactionIdIfAny());
	look->is_ordered = queue_def_keeps_order(def);
	look->is_fair = queue_def_is_fair(def) && look->slot != NULL;
	look->selection = NULL;
	look->next = next;
	look->wants.width = look->wants.messages = Min(want, MAX_WINDOW);
	look->group.entry = NULL;
	look->group.key = PointerGetDatum(NULL);
	look->turn.call = 0;
	look->turn.only_row = NULL;
	memset(&look->fair, 0, sizeof(look->fair));
	look->tenant.has_window = false;
	memset(&look->scans, 0, sizeof(look->scans));

	next->due = TIMESTAMP_INFINITY;
	next->is_busy = next->saw_exhausted = next->goes_on = false;
	if (look->slot != NULL && queue_slot_first_due(look->slot) <= look->now)
	{
		queue_inflight_end_due(look->slot, def->relid, look->now);
		queue_group_end_due(look->slot, def->relid, look->now);
		queue_schedule_add_due(rel, def, look->slot, look->now);
	}
	queue_group_return();
	if (look->slot != NULL && queue_slot_is_sorting(look->slot) &&
		!look->is_fair)
		queue_sort_forget(look->slot, def->relid);
	queue_window_begin(&look->cover, look->slot, def->relid, look->now);
}

/*
 * queue_look_window
 *		Take the next window, and begin to scan it.
 *
 * Returns false if there is none.  The caller fetches rows and calls
 * queue_look_give_back().
 */
bool
queue_look_window(CandidateScan *look)
{
	QueueRange *ids = &look->window.ids;
	bool		needs_probe;

	for (;;)
	{
		if (!queue_window_take(&look->cover, look->wants.width,
							   look->wants.messages, ids, &needs_probe))
			return false;
		if (look->scans.pkey == NULL)
		{
			look->scans.pkey = queue_scan_begin(look->rel, look->def);
			look->scans.pkey->wants_busy = true;
			look->scans.pkey->wants_coming = true;
		}
		if (!needs_probe)
			break;
		queue_window_probed(&look->cover, ids,
							queue_scan_probe(look->scans.pkey, ids));
	}

	INJECTION_POINT("queue-window-out", NULL);
	queue_scan_range(look->scans.pkey, ids);
	queue_look_start_passing(look);
	queue_look_start(look, look->scans.pkey, NULL);
	return true;
}

/*
 * queue_look_start
 *		Begin with the rows of a window that is out; of those fetched before,
 *		"first_row" is the first, or NULL.
 */
void
queue_look_start(CandidateScan *look, QueueScan *rows, MessageRow *first_row)
{
	LookWindow *window = &look->window;

	window->rows = rows;
	window->first_row = first_row;
	if (look->is_writer)
		queue_announce_undone(look->def->relid, &window->ids);
	queue_ranges_init(&window->kept, window->kept_ranges, COVER_ROOM);
	queue_ranges_init(&window->busy, window->busy_ranges, BUSY_ROOM);
	window->has_rows = false;
	window->wakes = false;
	window->last_seen = window->ids.low - (window->ids.low > PG_INT64_MIN);
	window->gaps.low = PG_INT64_MAX;
	window->gaps.high = PG_INT64_MIN;
}

/* No row has been passed over yet. */
void
queue_look_start_passing(CandidateScan *look)
{
	look->passed.delayed = TIMESTAMP_INFINITY;
	look->passed.expired = TIMESTAMP_INFINITY;
}

/*
 * queue_look_row
 *		Return the next row of the window, or NULL.
 *
 * Only rows that are ROW_LIVE or ROW_OWN are returned, or are ROW_BUSY and of a
 * group that waits for them.  Other rows that another transaction inserts or
 * changes are left to that transaction, or kept as busy.
 *
 * Rows that are not due, or have expired, are noted and passed over without a
 * claim, because a start or a change of settings makes consumers meet any
 * number of them.  What their entries say does not matter, and a session that
 * changes such a row announces it after the window was taken out.  But one
 * that was delivered before keeps its group waiting.
 */
MessageRow *
queue_look_row(CandidateScan *look)
{
	MessageRow *row;

	while ((row = next_row(look)) != NULL)
	{
		if (look->is_ordered)
			note_gap(look, row->id);
		if ((row->state == ROW_BUSY || row->state == ROW_COMING) &&
			is_announced(look->window.rows))
			continue;
		if (row->id > look->window.ids.high)
			return NULL;		/* already given back */
		look->window.has_rows = true;
		if (row->state != ROW_BUSY && row->state != ROW_COMING &&
			is_passed_over(look, row))
			continue;
		if (row->state == ROW_LIVE || row->state == ROW_OWN)
			return row;
		if (row->state == ROW_BUSY && look->is_ordered && row->has_group)
			return row;
		queue_look_keep_busy(look, row->id);
	}
	return NULL;
}

/*
 * next_row
 *		Return the next row of the scan, or the one that was fetched before.
 *
 * A window of a group that takes turns has the messages of one rank; the index
 * of groups knows no rank, nor the primary key groups.  Nor does that of
 * correlation_ids.
 */
static MessageRow *
next_row(CandidateScan *look)
{
	MessageRow *row = look->window.first_row;

	look->window.first_row = NULL;
	if (row != NULL)
		return row;
	while ((row = queue_scan_next(look->window.rows)) != NULL)
	{
		if (look->selection != NULL &&
			queue_rank(row->priority) != look->window.ids.rank)
			continue;
		if (!look->tenant.has_window || row->id > look->window.ids.high ||
			queue_look_is_of_group(look, row))
			break;
	}
	return row;
}

/* Is this row of the group that has its turn, and of that rank? */
bool
queue_look_is_of_group(const CandidateScan *look, const MessageRow *row)
{
	return queue_rank(row->priority) == look->tenant.rank &&
		row->has_group == look->tenant.has_key;
}

/*
 * queue_look_passes_over
 *		Returns true if the present row of a scan is nothing for consumers,
 *		and others, or its time, will tell when it is.
 */
bool
queue_look_passes_over(CandidateScan *look, QueueScan *rows)
{
	MessageRow *row = &rows->row;

	if (row->state == ROW_BUSY || row->state == ROW_COMING)
		return is_announced(rows);
	return is_passed_over(look, row);
}

/*
 * is_passed_over
 *		Returns true if by its row alone a message is not to be taken now.
 */
static bool
is_passed_over(CandidateScan *look, MessageRow *row)
{
	if (queue_has_expired(row->expires_at, look->now))
		look->passed.expired = Min(look->passed.expired, row->expires_at);
	else if (row->visible_at > look->now &&
			 !(look->is_ordered && row->has_group &&
			   queue_row_was_delivered(look->rel, row)))
		look->passed.delayed = Min(look->passed.delayed, row->visible_at);
	else
		return false;
	return true;
}

/*
 * note_gap
 *		Note ids that the scan has not met.
 *
 * Mostly they do not exist.  But an update may have hidden the row from the
 * scan, and messages of its group must not overtake it.
 */
static void
note_gap(CandidateScan *look, int64 id)
{
	LookWindow *window = &look->window;

	if (window->last_seen < id - 1)
	{
		window->gaps.low = Min(window->gaps.low, window->last_seen + 1);
		window->gaps.high = id - 1;
	}
	window->last_seen = id;
}

/*
 * is_announced
 *		Returns true if the end of the transaction that inserts, deletes or
 *		changes the row just read will be announced.
 *
 * For rows that it inserts, the transaction as a whole must have registered.
 * For others there must be an entry in the in-flight table that it holds,
 * because plain DML on old rows announces nothing.
 */
static bool
is_announced(const QueueScan *scan)
{
	MessageKey	key;
	InflightEntry entry;

	if (scan->row.state == ROW_COMING)
		return queue_xact_will_announce(scan->dirty.xmin);
	queue_message_key(&key, RelationGetRelid(scan->rel), scan->row.id);
	return queue_inflight_peek(&key, scan->row.enqueued_at, &entry) &&
		(entry.state == INFLIGHT_DEQUEUED || entry.is_step || entry.is_settling);
}

/*
 * queue_look_give_back
 *		Give the window back, except for what the caller has taken.
 *
 * "want" is how many messages are wanted of the next window; 0 says that
 * nothing was taken from this one, so the next is twice as wide.
 */
void
queue_look_give_back(CandidateScan *look, int64 want)
{
	LookWindow *window = &look->window;

	INJECTION_POINT("queue-window-scanned", NULL);
	look->cover.found_nothing = !window->has_rows;
	queue_look_note_passed(look, window->ids.rank);
	queue_window_give_back(&look->cover, &window->kept, &window->busy,
						   window->wakes);
	if (look->slot == NULL && window->busy.nranges > 0)
		look->next->is_busy = true;
	if (want > 0)
		queue_look_want(look, want);
	else
		look->wants.width = Max(width_of(&window->ids) * 2,
								look->wants.messages);
}

/* Note the first times of rows of a rank that were passed over. */
void
queue_look_note_passed(CandidateScan *look, int rank)
{
	if (look->passed.delayed != TIMESTAMP_INFINITY)
	{
		look->next->due = Min(look->next->due, look->passed.delayed);
		if (look->slot != NULL)
			queue_cover_add_delayed_set(look->slot, MyDatabaseId,
										look->def->relid,
										1 << rank, look->passed.delayed);
	}
	if (look->passed.expired != TIMESTAMP_INFINITY)
		queue_expiry_note(look->slot, MyDatabaseId, look->def->relid,
						  look->passed.expired);
}

/* So many messages are wanted from here on. */
void
queue_look_want(CandidateScan *look, int64 want)
{
	look->wants.width = look->wants.messages = width_for(look, want);
}

/*
 * width_for
 *		Return how many ids to take out for so many messages.
 *
 * Mostly each is one.  By a selector some are not wanted, and what is too much
 * goes back; a few more are cheaper than one window after another.
 */
static int64
width_for(const CandidateScan *look, int64 want)
{
	return Min(look->selection == NULL ? want : 2 * want + 16, MAX_WINDOW);
}

/* Return the number of ids in a window, MAX_WINDOW / 2 at most. */
static int64
width_of(const QueueRange *window)
{
	uint64		width = (uint64) window->high - (uint64) window->low;

	return width < MAX_WINDOW / 2 ? (int64) width + 1 : MAX_WINDOW / 2;
}

/*
 * queue_look_narrow
 *		Give others the rest of the window.
 *
 * This message is claimed, and "want" are wanted from here on.
 */
void
queue_look_narrow(CandidateScan *look, int64 id, int64 want)
{
	int64		width = width_for(look, want);

	if ((uint64) look->window.ids.high - (uint64) id >= (uint64) width &&
		queue_window_narrow(id + width - 1))
		look->window.ids.high = id + width - 1;
}

/*
 * queue_look_end
 *		End the look, and lower next->due to what is due first in the queue.
 */
void
queue_look_end(CandidateScan *look)
{
	end_scan(look->scans.pkey);
	end_scan(look->scans.group);
	end_scan(look->scans.below);
	end_scan(look->scans.keys);
	end_scan(look->scans.keyless);
	end_scan(look->scans.correlated);
	queue_group_return();
	if (look->slot != NULL)
		look->next->due = Min(look->next->due,
							  queue_slot_first_due(look->slot));
}

/* End a scan that may not have been needed. */
static void
end_scan(QueueScan *scan)
{
	if (scan != NULL)
		queue_scan_end(scan);
}

/*
 * queue_look_keep
 *		The message stays in the cover, because others may take it; they are
 *		woken.
 */
void
queue_look_keep(CandidateScan *look, int64 id)
{
	queue_ranges_add(&look->window.kept, look->window.ids.rank, id, id);
	look->window.wakes = true;
}

/*
 * queue_look_keep_from
 *		The same for all ids of the window from this one on.
 */
void
queue_look_keep_from(CandidateScan *look, int64 id)
{
	LookWindow *window = &look->window;

	if (id > window->ids.high)
		return;
	queue_ranges_add(&window->kept, window->ids.rank, id, window->ids.high);
	window->wakes = true;
}

/*
 * queue_look_keep_quietly
 *		The message stays in the cover for the next look, but is of no use to
 *		waiters, so none is woken.
 */
void
queue_look_keep_quietly(CandidateScan *look, int64 id)
{
	queue_ranges_add(&look->window.kept, look->window.ids.rank, id, id);
}

/*
 * queue_look_keep_examined
 *		Another consumer is examining the message.
 *
 * It may give it up without announcing it, so keep it in the cover; but
 * quietly, or the two would wake each other for ever.
 */
void
queue_look_keep_examined(CandidateScan *look, int64 id)
{
	queue_look_keep_quietly(look, id);
	look->next->is_busy = true;
}

/*
 * queue_look_keep_busy
 *		A transaction is changing the row, and its end may go unannounced, so
 *		look at it again later.
 */
void
queue_look_keep_busy(CandidateScan *look, int64 id)
{
	queue_ranges_add(&look->window.busy, look->window.ids.rank, id, id);
}

/*
 * queue_is_known_empty
 *		Returns true if it is known, without a look at the table, that the
 *		current user may take messages from this queue, and that there is
 *		none.
 *
 * Otherwise the caller takes the long way, with all errors that there may be.
 * If true, *next tells when to look again.  If "also_out", other consumers have
 * no window out that might come back with messages, of which only waiters for
 * any message are told.
 */
bool
queue_is_known_empty(Oid relid, bool also_out, RetryHint *next)
{
	QueueDef   *def = queue_def_known(relid);

	queue_is_used = true;
	if (def == NULL || def->dequeue_paused || !queue_lease_is_loaded() ||
		!queue_may_take(relid) || queue_group_has_news())
		return false;
	if (!queue_cover_is_empty(queue_def_slot(def), relid, also_out,
							  GetCurrentTimestamp(), &next->due))
		return false;
	next->is_busy = next->saw_exhausted = next->goes_on = false;
	return true;
}

/*
 * queue_look_again_at
 *		Return when to look again, unless woken or something is due.
 *
 * That is soon if the look had to end; "end" if no row is busy; and otherwise
 * after a delay that doubles each time, *delay, which is 0 at first.  Times are
 * those of clock.h.
 */
TimestampTz
queue_look_again_at(const RetryHint *next, int64 *delay, TimestampTz end)
{
	if (next->goes_on)
		return Min(end, queue_clock() + LOOK_ON_DELAY);
	if (!next->is_busy)
		return end;
	*delay = *delay == 0 ? FIRST_BUSY_DELAY : Min(*delay * 2, MAX_BUSY_DELAY);
	return Min(end, queue_clock() + *delay);
}

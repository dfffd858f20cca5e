/*-------------------------------------------------------------------------
 *
 * turn.c
 *		Whose turn is it?  A look at the messages of a group.
 *
 * What of a look (look.c) is about groups that keep an order.  A consumer that
 * meets a row with a group, in a window of the cover, does not judge it but
 * hands it to the group (group.c).  If nothing was known of the group, it has
 * the group out then, and judges the row at once.  Otherwise the row waits.
 * Of groups whose turn has come, and windows, a look takes in the order of
 * priority and id.
 *
 * A group that is out is scanned by the index of groups, from the first id
 * that waits on.  Whatever became of that message, the scan comes to the next.
 *
 * The first message that is found is the group's next only if there is none
 * before it.  Those that waited are known.  Others may be in the cover, because
 * nobody has met them yet: theirs is a lower priority, say.  Or they are in
 * the window of another consumer, that will meet them in a moment, or has, and
 * has noted them since the group is out.  Or their transaction has committed,
 * and has not come to announce them.  So the index of groups is asked for the
 * ids below that are to be announced, covered, in a window, or noted; in this
 * order, because that is their way.  What has a lower id and is in none of these
 * is gone, in flight, not committed, or not due for the first time, and nobody
 * waits for those last two.  So the index entries of messages that were
 * consumed are not gone over, however long an old snapshot keeps them.
 *
 * A transaction that was prepared before the server started may hold the group,
 * and memory does not know that.  As long as there is such a one that has used
 * the queue, all rows of the group are asked.
 *
 * Locks: none of its own.  An error puts the groups back
 * (queue_group_return).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/rel.h"

#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/inflight.h"
#include "shared/waiter.h"
#include "table/definition.h"
#include "transaction/announce.h"
#include "transaction/announcer.h"
#include "transaction/holds.h"
#include "transaction/prepared.h"
#include "transaction/recovered.h"

/* What waits is scanned at one go if there are no more ids between */
#define NEAR_OTHERS			16

/* How often a row is looked for that updates may hide */
#define MAX_SCANS			10

/* A queue of which the cover begins with ids that were never there */
static Oid	untrimmed = InvalidOid;

static void start_scan(CandidateScan *look, Datum key);
static void scan_out(CandidateScan *look);
static void scan_ids(CandidateScan *look, int64 low, int64 high);
static bool find_earlier(CandidateScan *look, const MessageRow *row,
						 int64 low, int64 high);
static bool is_before(CandidateScan *look, MessageRow *row);

/* Does this message wait for others of its group? */
bool
queue_turn_is_grouped(const CandidateScan *look, const MessageRow *row)
{
	return look->is_ordered && row->has_group;
}

/*
 * queue_turn_prepare
 *		Before the first window of a look: cover nothing below the first row of
 *		each priority.
 *
 * After a start the cover is everything, and stays so for priorities that no
 * look comes to.  Nothing is found there, but each message of a group would
 * have to be looked for among ids that were consumed long ago.
 */
void
queue_turn_prepare(CandidateScan *look)
{
	CoverCursor cursor;
	QueueRange	window;
	QueueRange	ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	no_ranges[RANGE_PLACES(BUSY_ROOM)];
	RangeSet	kept;
	RangeSet	busy;
	QueueScan  *scan;
	bool		needs_probe;

	if (untrimmed != look->def->relid)
		return;
	untrimmed = InvalidOid;
	if (look->slot == NULL)
		return;
	scan = queue_scan_begin(look->rel, look->def);
	queue_window_begin(&cursor, look->slot, look->def->relid, look->now);
	queue_ranges_init(&busy, no_ranges, BUSY_ROOM);
	while (queue_window_take(&cursor, PG_INT64_MAX, PG_INT64_MAX, &window,
							 &needs_probe))
	{
		int64		first = queue_scan_probe(scan, &window);

		queue_ranges_init(&kept, ranges, COVER_ROOM);
		if (first <= window.high)
			queue_ranges_add(&kept, window.rank, first, window.high);
		queue_window_give_back(&cursor, &kept, &busy, true);
	}
	queue_scan_end(scan);
	queue_window_begin(&look->cover, look->slot, look->def->relid, look->now);
}

/*
 * queue_turn_begin
 *		Take out the first ready group, if it comes before the next window.
 *
 * Returns false if there is none.  The caller fetches rows and ends the turn.
 */
bool
queue_turn_begin(CandidateScan *look)
{
	QueueRange	next;
	Datum		key;

	while (look->slot != NULL && queue_slot_has_ready_group(look->slot))
	{
		if (!queue_window_peek(&look->cover, &next))
		{
			next.rank = NUM_RANKS;
			next.low = PG_INT64_MAX;
		}
		look->group.entry = queue_group_pop(look->slot, look->def->relid,
											next.rank, next.low);
		if (look->group.entry == NULL)
			return false;
		queue_group_wait_init(&look->group.left);
		if (!look->is_ordered || look->group.entry->is_fair ||
			!queue_turn_find_key(look, &key))
		{
			queue_turn_dissolve(look);
			continue;
		}
		look->turn.is_in_window = false;
		start_scan(look, key);
		return true;
	}
	return false;
}

/*
 * queue_turn_enter
 *		Hand a row that is in the window to its group.
 *
 * On GROUP_OURS its turn has begun: the caller fetches rows, of which this may
 * be the first, and ends the turn.
 *
 * A group that this transaction holds may wait with a message of a lower
 * priority: then it is not its turn yet.
 *
 * A message that holds its group is not noted as waiting.  It comes back by
 * itself, or it is gone, and then the group would compete with its priority.
 */
GroupTurn
queue_turn_enter(CandidateScan *look, MessageRow *row)
{
	MessageKey	key;
	InflightEntry entry;
	GroupName	name;
	GroupTurn	turn;
	GroupEntry *group = NULL;

	queue_message_key(&key, look->def->relid, row->id);
	if (queue_inflight_peek(&key, row->enqueued_at, &entry) &&
		entry.member.group != NULL)
	{
		/* a lease that was loaded before the queue had a slot */
		if (entry.due.slot == NULL && entry.state == INFLIGHT_LEASED)
			queue_inflight_watch(&key);
		return GROUP_BEHIND;
	}

	queue_turn_name(look->def, row, &name);
	turn = (look->selection != NULL ? queue_group_pick : queue_group_enter)
		(look->slot, look->def->relid, &name, queue_rank(row->priority),
		 row->id, look->turn.call, &group);
	if (turn != GROUP_OURS)
		return turn;
	if (group->out.rank > queue_rank(row->priority))
	{
		GroupWait	left = group->out;

		queue_group_put_back(group, &left, 0, false /* wakes */ );
		return GROUP_BEHIND;
	}
	look->group.entry = group;
	queue_group_wait_init(&look->group.left);
	look->turn.is_in_window = true;
	if (group->out.id == row->id && group->out.others == PG_INT64_MAX)
		look->turn.only_row = row;
	else
		start_scan(look, queue_turn_copy_key(row->group_key));
	look->turn.is_first = true;
	look->turn.rank = group->out.rank;
	return turn;
}

/*
 * queue_turn_look_at_own
 *		Cover what waits of groups that this transaction holds.
 *
 * It may take more of them, but what others have met waits, and is not in the
 * cover.  Of all queues, because one flag tells that there is something.
 */
void
queue_turn_look_at_own(void)
{
	int			i;

	if (!queue_group_has_news())
		return;
	queue_group_clear_news();
	for (i = 0; i < queue_holds_count(); i++)
	{
		const Hold *hold = queue_hold_at(i);
		GroupWait	wait;
		MessageKey	key;

		if (hold->kind != HOLD_DEQUEUE ||
			hold->entry->member.group == NULL ||
			!queue_group_owned_wait(hold->key.relid, hold->entry->group_hash,
									&wait))
			continue;
		queue_message_key(&key, hold->key.relid, wait.id);
		queue_cover_add(NULL, &key, -1, false /* wakes */ );
	}
}

/* ----------------------------------------------------------------
 *		The rows of the group that is out
 * ----------------------------------------------------------------
 */

/*
 * start_scan
 *		Begin to scan what waits of the group.
 *
 * What this transaction has deleted it does not see; if that is rolled back,
 * all there may be of the group is looked at again.
 */
static void
start_scan(CandidateScan *look, Datum key)
{
	const GroupWait *out = &look->group.entry->out;
	int			rank;

	look->turn.only_row = NULL;
	look->turn.rank = out->rank;
	look->group.key = key;
	look->turn.is_first = true;
	for (rank = 0; look->is_writer && rank < NUM_RANKS; rank++)
	{
		QueueRange	range = {rank, out->id, PG_INT64_MAX};

		queue_announce_undone(look->def->relid, &range);
	}
	if (look->scans.group == NULL)
		look->scans.group = queue_scan_begin_group(look->rel, look->def);
	look->turn.is_second_scan = false;
	scan_out(look);
}

/* Go over all that waits. */
static void
scan_out(CandidateScan *look)
{
	const GroupWait *out = &look->group.entry->out;

	look->turn.others = PG_INT64_MAX;
	if (out->others == PG_INT64_MAX)
		scan_ids(look, out->id, out->id);
	else if (out->others - out->id <= NEAR_OTHERS)
		scan_ids(look, out->id, PG_INT64_MAX);
	else
	{
		look->turn.others = out->others;
		scan_ids(look, out->id, out->id);
	}
}

/* Go over the messages of the group with these ids. */
static void
scan_ids(CandidateScan *look, int64 low, int64 high)
{
	queue_scan_group(look->scans.group, look->group.key, low, high);
}

/*
 * queue_turn_row
 *		Return the next row of the group that is out, or NULL.
 *
 * It is ROW_LIVE, or ROW_BUSY.  What another transaction inserts is left to
 * its commit.
 */
MessageRow *
queue_turn_row(CandidateScan *look)
{
	MessageRow *row = look->turn.only_row;

	if (DatumGetPointer(look->group.key) == NULL)
	{
		/* the row in the window is all there is */
		look->turn.only_row = NULL;
		return row;
	}
	for (;;)
	{
		row = queue_scan_next(look->scans.group);

		/* if it is not the one expected, an update may have hidden that */
		if (look->turn.is_first && !look->turn.is_second_scan &&
			(row == NULL ? look->turn.others == PG_INT64_MAX :
			 row->id != look->group.entry->out.id))
		{
			look->turn.is_second_scan = true;
			scan_out(look);
			continue;
		}
		if (row != NULL)
			return row;
		if (look->turn.others == PG_INT64_MAX)
			return NULL;
		scan_ids(look, look->turn.others, PG_INT64_MAX);
		look->turn.others = PG_INT64_MAX;
		look->scans.group->has_missed = true;	/* what is between */
	}
}

/*
 * queue_turn_has_earlier
 *		Returns true if another message of the group comes before this one.
 *
 * Both wait then.  For the first row that the turn has come to, that is asked
 * of all ids below that are covered or in a window; for the others, of those
 * that the scan has passed over since the row before, because an update may
 * have hidden a row from it.  There was an entry of the version before then,
 * which no vacuum removes as long as the statement's snapshot sees that: so if
 * the scan has met none without a row, there is nothing to ask for.  In a queue
 * with many groups each message has such ids before it.
 *
 * What this look has found out of the group before is not asked again.  What
 * has been committed since, its snapshot does not see, nor what was sent after
 * that.
 */
bool
queue_turn_has_earlier(CandidateScan *look, MessageRow *row)
{
	GroupEntry *group = look->group.entry;
	QueueRange	ranges[RANGE_PLACES(COVER_ROOM)];
	RangeSet	below;
	int64		checked = PG_INT64_MIN;
	bool		found = false;
	int			i;

	if (row->id == PG_INT64_MIN)
		return false;
	queue_ranges_init(&below, ranges, COVER_ROOM);
	if (!look->turn.is_first)
	{
		if (look->scans.group->has_missed && look->turn.last < row->id - 1)
			queue_ranges_add(&below, 0, look->turn.last + 1, row->id - 1);
	}
	else
	{
		if (group->checked_by == look->number)
			checked = group->checked;
		queue_announcer_add_below(look->def->relid, row->id, &below);
		if (queue_prepared_is_ending())
			queue_ranges_add(&below, 0, PG_INT64_MIN, row->id - 1);
		queue_window_below(look->slot, look->def->relid, row->id, &below);
		if (below.nranges > 0 && below.ranges[0].low == PG_INT64_MIN)
			untrimmed = look->def->relid;

		/* those that left a window meanwhile */
		queue_group_add_below(group, row->id, &below);
		if (look->turn.is_in_window && look->window.gaps.low < row->id)
			queue_ranges_add(&below, 0, look->window.gaps.low,
							 Min(look->window.gaps.high, row->id - 1));
	}
	group->checked_by = look->number;
	group->checked = row->id;
	look->turn.is_first = false;
	look->turn.last = row->id;
	if (look->scans.group != NULL)
		look->scans.group->has_missed = false;
	for (i = 0; i < below.nranges && !found; i++)
		if (below.ranges[i].high >= checked)
			found = find_earlier(look, row,
								 Max(below.ranges[i].low, checked),
								 below.ranges[i].high);
	return found;
}

/*
 * queue_turn_note_gone
 *		The row of which queue_turn_has_earlier() was asked has gone since.
 *
 * If it was updated, its new version is behind the scan: before the next row of
 * the group is taken, it is looked for.
 */
void
queue_turn_note_gone(CandidateScan *look, const MessageRow *row)
{
	if (look->scans.group == NULL || look->turn.is_first)
		return;
	look->turn.last = row->id - 1;
	look->scans.group->has_missed = true;
}

/*
 * find_earlier
 *		Is there one with these ids?  If so, it waits.
 *
 * An update may hide the row: the scan meets the entry of the old version only.
 * So scan again until a scan meets the same dead entries as the one before.  After
 * MAX_SCANS it is given up, and the later message may be taken first.
 */
static bool
find_earlier(CandidateScan *look, const MessageRow *row, int64 low, int64 high)
{
	MessageRow *earlier;
	uint64		missed = 0;

	if (look->scans.below == NULL)
		look->scans.below = queue_scan_begin_group(look->rel, look->def);
	for (int i = 0; i < MAX_SCANS; i++)
	{
		look->scans.below->missed = 0;
		queue_scan_group(look->scans.below, row->group_key, low, high);
		while ((earlier = queue_scan_next(look->scans.below)) != NULL)
			if (is_before(look, earlier))
			{
				queue_turn_leave(look, earlier);
				return true;
			}
		if (look->scans.below->missed == missed)
			break;
		missed = look->scans.below->missed;
	}
	return false;
}

/*
 * is_before
 *		Does a message with a lower id keep others of its group waiting?
 *
 * Not if it is not due yet and has not failed, if it has expired, or if it is
 * one of those that this process has just taken.
 */
static bool
is_before(CandidateScan *look, MessageRow *row)
{
	return !queue_turn_keeps_none(look, row) && !queue_turn_is_taken(look, row);
}

/*
 * queue_turn_keeps_none
 *		Returns true if by its row alone a message keeps none of its group
 *		waiting: it is not due for the first time, or has expired.
 *
 * So a group must not be known by it: it would compete with its priority.
 */
bool
queue_turn_keeps_none(const CandidateScan *look, MessageRow *row)
{
	return (row->visible_at > look->now &&
			!queue_row_was_delivered(look->rel, row)) ||
		queue_has_expired(row->expires_at, look->now);
}

/*
 * queue_turn_is_held_by_old
 *		Returns true if a transaction that was prepared before the server
 *		started changes a message of the group.
 *
 * Memory does not know that it holds the group.  What it has may have expired
 * since, or come after this message.
 */
bool
queue_turn_is_held_by_old(CandidateScan *look, const MessageRow *row)
{
	MessageRow *other;

	if (!look->turn.is_first || look->group.entry->nmembers > 0 ||
		!queue_recovered_holds(look->def->relid))
		return false;
	if (look->scans.below == NULL)
		look->scans.below = queue_scan_begin_group(look->rel, look->def);
	queue_scan_group(look->scans.below, row->group_key, PG_INT64_MIN,
					 PG_INT64_MAX);
	while ((other = queue_scan_next(look->scans.below)) != NULL)
		if (other->state == ROW_BUSY &&
			TransactionIdIsValid(look->scans.below->dirty.xmax) &&
			queue_recovered_is_old(look->scans.below->dirty.xmax))
			return true;
	return false;
}

/*
 * queue_turn_is_taken
 *		Is this one of the messages that hold the group that is out?
 *
 * Not if the worker is counting a failure of it, which holds the group too.
 */
bool
queue_turn_is_taken(const CandidateScan *look, const MessageRow *row)
{
	MessageKey	key;
	InflightEntry entry;

	queue_message_key(&key, look->def->relid, row->id);
	return queue_inflight_peek(&key, row->enqueued_at, &entry) &&
		entry.member.group == look->group.entry && !entry.is_step;
}

/*
 * queue_turn_is_late
 *		Returns true if this message is of a lower priority than the turn is
 *		for.
 *
 * It waits then for messages of other groups.
 */
bool
queue_turn_is_late(const CandidateScan *look, const MessageRow *row)
{
	return queue_rank(row->priority) > look->turn.rank;
}

/* This message waits, and so may others with higher ids. */
void
queue_turn_leave(CandidateScan *look, const MessageRow *row)
{
	queue_group_wait_add(&look->group.left, queue_rank(row->priority), row->id,
						 DatumGetPointer(look->group.key) == NULL ?
						 PG_INT64_MAX : row->id + 1);
}

/*
 * queue_turn_end
 *		End the turn: what is left waits, until then at least.
 *
 * A look for certain messages wakes none that looks for others, or the two
 * would wake each other for ever.
 */
void
queue_turn_end(CandidateScan *look, TimestampTz until)
{
	TimestampTz now = until != 0 ? GetCurrentTimestamp() : 0;

	if (until == TURN_BUSY)
		until = now + queue_group_delay(look->group.entry);
	if (until > 0 && look->slot == NULL)
	{
		look->next->is_busy = true;
		look->next->due = Min(look->next->due, until);
	}

	/* this look would not find that the time has come */
	if (until != 0 && until <= now)
		queue_group_keep_out(look->group.entry, &look->group.left);
	else
		queue_group_put_back(look->group.entry, &look->group.left, until,
							 look->selection == NULL);
	if (look->selection != NULL && look->slot != NULL &&
		!look->group.left.is_empty)
		queue_waiter_wake_taker(look->slot, look->def->relid);
	queue_turn_forget(look);
}

/*
 * queue_turn_end_unseen
 *		End it, because the statement's snapshot does not see the message
 *		whose turn it is.
 *
 * The group stays out until the end of the look.
 */
void
queue_turn_end_unseen(CandidateScan *look)
{
	queue_group_keep_out(look->group.entry, &look->group.left);
	queue_turn_forget(look);
}

/* Forget the turn, whose group is not out any more, or stays out. */
void
queue_turn_forget(CandidateScan *look)
{
	look->group.entry = NULL;
	look->turn.only_row = NULL;
	if (DatumGetPointer(look->group.key) != NULL)
		pfree(DatumGetPointer(look->group.key));
	look->group.key = PointerGetDatum(NULL);
}

/*
 * queue_turn_dissolve
 *		Cover what waits of the group that is out, and begin to look anew.
 *
 * Its key is not known, or groups of this queue are of another mode now.
 */
void
queue_turn_dissolve(CandidateScan *look)
{
	QueueRange	ranges[RANGE_PLACES(NUM_RANKS + 1)];
	RangeSet	set;
	int			rank;

	queue_ranges_init(&set, ranges, NUM_RANKS + 1);
	for (rank = 0; rank < NUM_RANKS; rank++)
		if (!look->group.entry->is_fair || rank == look->group.entry->out.rank)
			queue_ranges_add(&set, rank, look->group.entry->out.id,
							 PG_INT64_MAX);
	queue_cover_add_set(look->slot, MyDatabaseId, look->def->relid, &set, 1,
						NULL);
	queue_group_put_back(look->group.entry, &look->group.left, 0,
						 false /* wakes */ );
	queue_window_begin(&look->cover, look->slot, look->def->relid, look->now);
	queue_turn_forget(look);
}

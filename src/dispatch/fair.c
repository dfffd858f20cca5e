/*-------------------------------------------------------------------------
 *
 * fair.c
 *		A look at a queue whose groups take turns.
 *
 * What is covered is *sorted*: each row is noted with its group
 * (group_fair.c), and is not in the cover any more.  Then the group whose turn
 * it is is out for the moment in which its next message is looked for.  That,
 * with some ids behind it, becomes the window of the look, and what else waits
 * of the group goes back at once.  From there on all is as in any other queue:
 * the rows of the window are claimed, judged and taken, and what is left of it
 * is covered again.
 *
 * A call sorts some rows and no more.  If one tenant sends a million messages,
 * or after a start, when everything is covered, that would take too long to
 * come to those of another.  So a wide range is gone over group by group: the
 * index of groups has the first message of each in it, and from there on the
 * rest waits with it.  A call does that for some groups and leaves the rest to
 * the next one (sort.c).  But among what is due priority comes first, whatever
 * it takes: nothing is taken while something of a higher one is not sorted.
 *
 * Messages without a group are one more tenant.  They are not in the index of
 * groups, so they are looked for by the primary key.
 *
 * If one range is all there is, and all of it is wanted, nothing is sorted.
 * Nor is it if there is no room for another group.
 *
 * Locks: none of its own.  An error gives back the window, and the group.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "dispatch/fair.h"
#include "dispatch/turn.h"
#include "shared/sort.h"
#include "table/definition.h"
#include "transaction/announce.h"

/* What one call sorts: rows, of which a group of a wide range counts as many */
#define SORT_BUDGET			512
#define SORT_GROUP_COST		4

/* Rows of a window after which it is gone over by group, if it is wide */
#define SORT_ROWS			128

/* Ids of a window that is sorted; wider ranges are gone over by group */
#define SORT_WIDTH			64
#define SORT_WIDE			1024

/* Rows that a group may go over in a call without finding its next message */
#define WALK_ROWS			512

/*
 * Messages of a group that the statement's snapshot does not see, and groups
 * with such ones, that a call looks at
 */
#define MAX_UNSEEN			64

static void find_unsorted(CandidateScan *look, QueueRange *range);
static bool begin_plain(CandidateScan *look, int64 want);
static void sort(CandidateScan *look, const QueueRange *range);
static void sort_rows(CandidateScan *look);
static bool sort_groups(CandidateScan *look, SortPlace *place);
static bool note_row(CandidateScan *look, const MessageRow *row, int64 others);
static bool note_first(CandidateScan *look, Datum key,
					   const QueueRange *range);
static bool begin_turn(CandidateScan *look, GroupEntry *group, int64 want,
					   Snapshot snapshot);
static bool enter_group(CandidateScan *look, GroupEntry *group);
static bool open_window(CandidateScan *look, const MessageRow *row,
						int64 others, int64 want);
static MessageRow *find_row(CandidateScan *look, const GroupWait *out,
							Snapshot snapshot, int64 *others,
							bool *stays_out);
static void begin_scan(CandidateScan *look, QueueScan **scan);
static QueueScan *tenant_scan(const CandidateScan *look);
static void scan_ids(CandidateScan *look, int64 low, int64 high);
static void leave_rest(CandidateScan *look, GroupEntry *group, int64 from);

/*
 * queue_fair_window
 *		Begin with the window of those whose turn it is.
 *
 * Returns false if there is nothing.  The caller fetches rows and calls
 * queue_fair_give_back().
 */
bool
queue_fair_window(CandidateScan *look, Snapshot snapshot, int64 want)
{
	for (;;)
	{
		QueueRange	range;
		GroupEntry *group;

		find_unsorted(look, &range);
		if (range.rank < NUM_RANKS &&
			!queue_slot_has_ready_group(look->slot) &&
			(look->fair.is_crowded ||
			 (queue_slot_is_one_range(look->slot) &&
			  (uint64) range.high - (uint64) range.low < (uint64) want)))
		{
			if (begin_plain(look, want))
				return true;
			continue;
		}
		if (range.rank < NUM_RANKS && !look->fair.is_crowded &&
			look->fair.nsorted < SORT_BUDGET)
		{
			sort(look, &range);
			continue;
		}
		group = look->fair.nunseen >= MAX_UNSEEN ? NULL :
			queue_group_pop(look->slot, look->def->relid, range.rank,
							PG_INT64_MAX);
		if (group != NULL)
		{
			if (begin_turn(look, group, want, snapshot))
				return true;
		}
		else if (look->fair.nunseen >= MAX_UNSEEN)
			return false;
		else if (look->fair.nwalking > 0)
		{
			/* nobody else has anything: go on with these */
			look->fair.nwalking = 0;
			queue_group_return();
		}
		else if (range.rank == NUM_RANKS)
			return false;
		else if (look->fair.is_crowded)
		{
			if (begin_plain(look, want))
				return true;
		}
		else
			look->fair.nsorted = 0;
	}
}

/*
 * queue_fair_give_back
 *		Give the window back, of which the caller has taken "ntaken".
 *
 * "want" messages are wanted from here on.
 */
void
queue_fair_give_back(CandidateScan *look, int ntaken, int64 want)
{
	if (!look->tenant.has_window)
	{
		queue_look_give_back(look, ntaken > 0 ? want : 0);
		return;
	}
	queue_look_give_back(look, want);
	look->cover = look->tenant.before;
	if (ntaken > 1)
		queue_fair_charge(look->def->relid, look->tenant.hash, ntaken - 1);
	look->tenant.has_window = false;
	queue_turn_forget(look);
}

/*
 * find_unsorted
 *		Find what is to be sorted next; its rank is NUM_RANKS if nothing is.
 *
 * It is a range of the cover, unless something that has been put off comes
 * before.  That is not known to be narrow.
 */
static void
find_unsorted(CandidateScan *look, QueueRange *range)
{
	int			rank = queue_sort_rank(look->slot, look->def->relid);

	if (queue_window_peek(&look->cover, range) && range->rank <= rank)
		return;
	range->rank = rank;
	range->low = PG_INT64_MIN;
	range->high = PG_INT64_MAX;
}

/*
 * begin_plain
 *		Begin with a window of the cover, which is not sorted.
 *
 * Nor is what has been put off.
 */
static bool
begin_plain(CandidateScan *look, int64 want)
{
	if (queue_slot_is_sorting(look->slot))
	{
		queue_sort_forget(look->slot, look->def->relid);
		queue_window_begin(&look->cover, look->slot, look->def->relid,
						   look->now);
	}
	queue_look_want(look, want);
	return queue_look_window(look);
}

/* ----------------------------------------------------------------
 *		Sorting
 * ----------------------------------------------------------------
 */

/*
 * sort
 *		Sort what has been put off, if it comes first, or a part of this range.
 */
static void
sort(CandidateScan *look, const QueueRange *range)
{
	SortPlace	place;

	if (queue_sort_rank(look->slot, look->def->relid) <= range->rank)
	{
		CoverCursor before = look->cover;

		if (!queue_sort_resume(look->slot, look->def->relid, &place))
			return;
		look->window.ids = place.range;
		queue_look_start_passing(look);
		queue_look_start(look, NULL, NULL);
		if (!sort_groups(look, &place))
			queue_look_keep_from(look, place.range.low);
		queue_look_give_back(look, 1);
		look->cover = before;
	}
	else
	{
		look->wants.width = look->wants.messages =
			(uint64) range->high - (uint64) range->low >= SORT_WIDE ?
			PG_INT64_MAX : SORT_WIDTH;
		if (!queue_look_window(look))
			return;
		sort_rows(look);
		queue_look_give_back(look, 1);
	}

	/* what is not sorted is taken as it comes, from the beginning */
	if (look->fair.is_crowded)
		queue_window_begin(&look->cover, look->slot, look->def->relid,
						   look->now);
}

/*
 * sort_rows
 *		Sort the rows of the window.
 *
 * If there are many, group by group.
 */
static void
sort_rows(CandidateScan *look)
{
	MessageRow *row;
	int			n = 0;

	while ((row = queue_look_row(look)) != NULL)
	{
		if (n++ >= SORT_ROWS &&
			(uint64) look->window.ids.high - (uint64) row->id >= SORT_WIDE)
		{
			SortPlace	place;

			place.range = look->window.ids;
			place.range.low = row->id;
			place.length = -1;
			if (!sort_groups(look, &place))
				queue_look_keep_from(look, place.range.low);
			return;
		}
		look->fair.nsorted++;
		if (!note_row(look, row, PG_INT64_MAX))
		{
			queue_look_keep_from(look, row->id);
			return;
		}
	}
}

/*
 * sort_groups
 *		Note the first message in the range of each group, from that place on.
 *
 * Returns false if there is no room, for a group or to put the rest off, and
 * the range is to be covered again.
 */
static bool
sort_groups(CandidateScan *look, SortPlace *place)
{
	Datum		key = PointerGetDatum(NULL);
	Datum		next;
	text	   *name;
	bool		is_done = true;

	if (look->scans.keys == NULL)
		look->scans.keys = queue_scan_begin_group(look->rel, look->def);
	if (place->length < 0)
	{
		/* of those that have none it is not known whether there are any */
		MessageRow	none = {0};

		none.id = place->range.low;
		none.priority = queue_rank_priority(place->range.rank);
		if (!note_row(look, &none, none.id))
			return false;
	}
	else
		key = PointerGetDatum(cstring_to_text_with_len(place->text,
													   place->length));
	while (queue_scan_next_group(look->scans.keys, key, &next))
	{
		if (DatumGetPointer(key) != NULL)
			pfree(DatumGetPointer(key));
		key = next;
		if (!note_first(look, key, &place->range))
		{
			is_done = false;
			break;
		}
		look->fair.nsorted += SORT_GROUP_COST;

		/* a key that is not known in full would be come to again and again */
		name = (text *) DatumGetPointer(key);
		if (look->fair.nsorted < SORT_BUDGET ||
			VARSIZE_ANY_EXHDR(name) > GROUP_TEXT)
			continue;
		place->length = VARSIZE_ANY_EXHDR(name);
		memcpy(place->text, VARDATA_ANY(name), place->length);
		is_done = queue_sort_put_off(look->slot, look->def->relid, place);
		break;
	}
	if (DatumGetPointer(key) != NULL)
		pfree(DatumGetPointer(key));
	return is_done;
}

/*
 * note_first
 *		Note the first message of a group in the range, if there is one.
 *
 * Others may wait behind it.  Returns false if there is no room.
 */
static bool
note_first(CandidateScan *look, Datum key, const QueueRange *range)
{
	MessageRow *row;
	int			n = 0;

	begin_scan(look, &look->scans.below);
	queue_scan_group(look->scans.below, key, range->low, range->high);
	while ((row = queue_scan_next(look->scans.below)) != NULL)
	{
		if (queue_rank(row->priority) == range->rank)
			return note_row(look, row, row->id + (row->id < PG_INT64_MAX));
		if (n++ >= WALK_ROWS)
		{
			/* its turns go on from here */
			row->priority = queue_rank_priority(range->rank);
			return note_row(look, row, row->id);
		}
	}
	return true;
}

/*
 * note_row
 *		Note a row with its group.  Returns false if there is no room.
 */
static bool
note_row(CandidateScan *look, const MessageRow *row, int64 others)
{
	GroupName	name;

	queue_turn_name(look->def, row, &name);
	switch (queue_fair_note(look->slot, look->def->relid, &name,
							queue_rank(row->priority), row->id, others))
	{
		case GROUP_OTHER:
			queue_ranges_add(&look->window.busy, look->window.ids.rank,
							 row->id, others < PG_INT64_MAX ?
							 look->window.ids.high : row->id);
			break;
		case GROUP_FULL:
			look->fair.is_crowded = true;
			return false;
		default:
			break;
	}
	return true;
}

/* ----------------------------------------------------------------
 *		Turns
 * ----------------------------------------------------------------
 */

/*
 * begin_turn
 *		Make what is wanted of the group that is out the window of the look.
 *
 * Returns false if it has nothing now.
 */
static bool
begin_turn(CandidateScan *look, GroupEntry *group, int64 want,
		   Snapshot snapshot)
{
	GroupWait	out = group->out;
	int64		others;
	bool		stays_out;
	MessageRow *row;

	if (group->checked_by == look->number)
	{
		/* as it was before, because others were gone on with */
		queue_group_keep_out(group, &out);
		return false;
	}
	if (!enter_group(look, group))
		return false;
	row = find_row(look, &out, snapshot, &others, &stays_out);
	if (row != NULL && !open_window(look, row, others, want))
		row = NULL;
	if (stays_out)
		queue_group_keep_out(group, &look->group.left);
	else
		queue_group_put_back(group, &look->group.left, 0, true /* wakes */ );
	look->group.entry = NULL;
	if (row == NULL)
	{
		queue_look_note_passed(look, out.rank);
		queue_turn_forget(look);
		return false;
	}
	look->tenant.has_window = true;
	queue_look_start(look, tenant_scan(look), row);
	return true;
}

/*
 * enter_group
 *		Begin with the group that is out.
 *
 * Returns false if it is of no use as a group: what there is of it is sorted
 * with others, in the end.
 */
static bool
enter_group(CandidateScan *look, GroupEntry *group)
{
	look->group.entry = group;
	queue_group_wait_init(&look->group.left);
	if (!group->is_fair ||
		(!group->is_keyless && !queue_turn_find_key(look, &look->group.key)))
	{
		queue_turn_dissolve(look);
		look->fair.nsorted = SORT_BUDGET;
		return false;
	}
	look->tenant.hash = (uint64) group->key.id;
	look->tenant.rank = group->out.rank;
	look->tenant.has_key = !group->is_keyless;
	if (look->is_writer)
	{
		QueueRange	range = {group->out.rank, group->out.id, PG_INT64_MAX};

		queue_announce_undone(look->def->relid, &range);
	}
	queue_look_start_passing(look);
	return true;
}

/*
 * open_window
 *		Make the next message of the group the window, with some ids behind it
 *		if those are being scanned; the rest waits.
 *
 * "others" is as find_row() has it.  Returns false if the queue's slot is gone.
 */
static bool
open_window(CandidateScan *look, const MessageRow *row, int64 others,
			int64 want)
{
	int			nready = queue_slot_nready_groups(look->slot);
	int64		quantum = Max(want / (nready + 1), 1);
	int64		high = row->id;

	if (others <= row->id)
	{
		high = row->id <= PG_INT64_MAX - quantum ?
			row->id + quantum - 1 : PG_INT64_MAX;
		others = high < PG_INT64_MAX ? high + 1 : PG_INT64_MAX;
	}
	if (others < PG_INT64_MAX)
		leave_rest(look, look->group.entry, others);
	look->window.ids.rank = look->tenant.rank;
	look->window.ids.low = row->id;
	look->window.ids.high = high;
	look->tenant.before = look->cover;
	return queue_window_open(look->slot, look->def->relid, &look->window.ids);
}

/*
 * find_row
 *		Find the next message of the group that is out.
 *
 * *others is from where on there may be more, which is not beyond the message
 * if these are scanned already.
 *
 * What the statement's snapshot does not see is left, and the rest, if there
 * are many rows to go over.  Then *stays_out is set: this look does not come to
 * the group again, or not before others, and it keeps its turn.
 */
static MessageRow *
find_row(CandidateScan *look, const GroupWait *out, Snapshot snapshot,
		 int64 *others, bool *stays_out)
{
	bool		is_open = out->others <= out->id ||
		(uint64) out->others - (uint64) out->id == 1;
	int			nwalked = 0;
	int			nunseen = 0;

	*others = is_open ? out->id : out->others;
	*stays_out = false;
	scan_ids(look, out->id, is_open ? PG_INT64_MAX : out->id);
	for (;;)
	{
		QueueScan  *scan = tenant_scan(look);
		MessageRow *row = queue_scan_next(scan);

		if (row == NULL)
		{
			if (is_open || *others == PG_INT64_MAX)
				return NULL;
			scan_ids(look, *others, PG_INT64_MAX);
			is_open = true;
			continue;
		}
		if (queue_look_is_of_group(look, row) &&
			!queue_look_passes_over(look, scan))
		{
			if (row->state != ROW_LIVE ||
				queue_row_is_visible(look->rel, row, snapshot))
				return row;
			*stays_out = true;
			if (nunseen++ == 0)
			{
				look->fair.nunseen++;
				look->group.entry->checked_by = look->number;
			}
			queue_group_wait_add(&look->group.left, out->rank, row->id,
								 PG_INT64_MAX);
		}
		if (nunseen >= MAX_UNSEEN || ++nwalked >= WALK_ROWS)
		{
			*stays_out = true;
			if (nunseen == 0)
				look->fair.nwalking++;
			leave_rest(look, look->group.entry, !is_open ? *others :
					   row->id + (row->id < PG_INT64_MAX));
			return NULL;
		}
	}
}

/* Begin a scan of messages of groups, unless it is there. */
static void
begin_scan(CandidateScan *look, QueueScan **scan)
{
	if (*scan != NULL)
		return;
	*scan = queue_scan_begin_group(look->rel, look->def);
	(*scan)->wants_coming = true;
	(*scan)->wants_versions = false;
}

/* Return the scan that scan_ids() has begun. */
static QueueScan *
tenant_scan(const CandidateScan *look)
{
	return look->tenant.has_key ? look->scans.group : look->scans.keyless;
}

/* Scan the messages of the group with these ids. */
static void
scan_ids(CandidateScan *look, int64 low, int64 high)
{
	QueueRange	range = {look->tenant.rank, low, high};

	if (look->tenant.has_key)
	{
		begin_scan(look, &look->scans.group);
		queue_scan_group(look->scans.group, look->group.key, low, high);
		return;
	}
	if (look->scans.keyless == NULL)
	{
		look->scans.keyless = queue_scan_begin(look->rel, look->def);
		look->scans.keyless->wants_busy = true;
		look->scans.keyless->wants_coming = true;
	}
	queue_scan_range(look->scans.keyless, &range);
}

/*
 * leave_rest
 *		What there may be of the group from this id on waits.
 *
 * A long key is read from a message when its turn comes, so one must be known.
 */
static void
leave_rest(CandidateScan *look, GroupEntry *group, int64 from)
{
	MessageRow *row;

	if (group->length < 0)
	{
		begin_scan(look, &look->scans.below);
		queue_scan_group(look->scans.below, look->group.key, from,
						 PG_INT64_MAX);
		while ((row = queue_scan_next(look->scans.below)) != NULL &&
			   !queue_look_is_of_group(look, row))
			;
		if (row == NULL)
			return;
		from = row->id;
	}
	queue_group_wait_add(&look->group.left, look->tenant.rank, from, from);
}

/*-------------------------------------------------------------------------
 *
 * selection.c
 *		A look for certain messages: by selector, id or correlation_id.
 *
 * Such a look takes no window out, so whatever it passes over is there for
 * others all the time.  It judges the rows that it wants, and only these, as
 * any look does: claims arbitrate.  It removes nothing from the cover, either:
 * ids of what it takes stay until a consumer of anything comes by.
 *
 * One message is found by its id in the index of each priority, those with a
 * correlation_id by the index of these, whatever is covered.
 *
 * By a selector every row has to be looked at, but once, by any session.  So
 * sessions with one selector share what is left to be looked at, a set of ids
 * like the cover (sought.c).  It begins with what is covered, and what
 * consumers have out of that; each look adds what has been added to the cover
 * since (news.c), then takes windows out of the set, and puts back what it need
 * see again.  That is as safe as windows of the cover, for the same reason:
 * whatever becomes available after a window was taken out will be added by the
 * next look, so what the scan sees may be forgotten by the rules of cover.c.
 * With one difference.  What is not wanted is forgotten, too, because a message
 * changes only by an UPDATE, which is announced, and its attempt only while
 * somebody holds it, the end of which adds it.
 *
 * What a window has is out of reach of others with that selector until it is
 * given back.  A waiter is woken then, if it comes back with something; and
 * looks again, because what another consumer examines comes back silently.
 *
 * There is room for a few selectors of a queue.  For others a session keeps
 * such a set for itself.
 *
 * Messages of a group that keeps an order are taken in their turn only.  A look
 * that wants one takes its group out, if that is free, and goes on as in any
 * turn.  A message that it does not want keeps those behind it waiting.  What
 * waits stays in the set, and as nobody tells when such a message is cancelled or
 * deleted, waiters look again, within a second at the latest.  Where groups
 * take turns, messages are taken by priority and id, whatever their groups.
 *
 * A set is forgotten after some minutes, so that a row of which nobody was
 * told, as no row should be, is not passed over for good.
 *
 * Locks: none of its own.  What if the process dies?  Its window comes back as
 * one of the cover does; a set of its own hides nothing from others.  What if
 * memory is full?  Without a slot, or a log of news, everything is looked at
 * each time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "dispatch/selection.h"
#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/sought.h"
#include "table/definition.h"

/* Ids in one window, at most; what was passed over in it is remembered */
#define WINDOW_WIDTH		65536

/* Ranges that are wider are probed for their first row */
#define PROBE_WIDTH			1024

/* Sets that a session remembers, and their ranges */
#define NUM_MEMORIES		8
#define LEFT_ROOM			64

/* What is left to be looked at in a queue by a selector */
typedef struct Memory
{
	Oid			relid;			/* InvalidOid: none */
	SoughtKey	key;			/* the selector */
	QueueSlot  *slot;			/* where the queue was; NULL: nothing is known */
	uint64		number;			/* of the last addition that is in the set */
	TimestampTz began_at;
	uint64		used;			/* the least: not used for longest */
	RangeSet	left;
	QueueRange	ranges[RANGE_PLACES(LEFT_ROOM)];
} Memory;

static Memory *memories = NULL;
static uint64 nlooks = 0;

static void make_key(SoughtKey *key, Datum path);
static RangeSet *find_left(CandidateScan *look, const SoughtKey *key);
static Memory *find_memory(Oid relid, const SoughtKey *key);
static int	find_ranks(CandidateScan *look);
static bool next_correlated(CandidateScan *look);
static bool next_id(CandidateScan *look);
static bool next_left(CandidateScan *look);
static void start(CandidateScan *look, QueueScan *rows);
static bool is_correlated(const Selection *selection, MessageRow *row);

/* Is nothing wanted in particular? */
bool
queue_selection_is_any(const Selection *selection)
{
	return !selection->has_id && selection->correlation_id == NULL &&
		selection->selector == NULL;
}

/*
 * queue_selection_begin
 *		Begin to look for certain messages.
 */
void
queue_selection_begin(CandidateScan *look, Selection *selection)
{
	look->selection = selection;
	look->is_fair = false;
	look->scans.pkey = queue_scan_begin(look->rel, look->def);
	look->scans.pkey->wants_busy = true;
	look->scans.pkey->wants_coming = true;
	selection->is_shared = false;
	selection->left = NULL;
	selection->blocked = NULL;
	selection->rank = 0;
	selection->position = PG_INT64_MIN;
	if (selection->has_id)
		selection->ranks = 0;
	else if (selection->correlation_id != NULL)
		selection->ranks = find_ranks(look);
	else
	{
		make_key(&selection->sought, selection->path);
		selection->is_shared = queue_window_seek(&look->cover,
												 &selection->sought);
		if (selection->is_shared)
			queue_look_want(look, look->wants.messages);
		else
			selection->left = find_left(look, &selection->sought);
	}
}

/*
 * make_key
 *		Make the key by which a selector is known.
 *
 * The time zone of the session decides how dates compare with times.
 */
static void
make_key(SoughtKey *key, Datum path)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(path);
	const char *zone = pg_get_timezone_name(session_timezone);

	for (int i = 0; i < lengthof(key->hash); i++)
		key->hash[i] =
			hash_combine64(hash_bytes_extended((unsigned char *) VARDATA_ANY(bytes),
											   VARSIZE_ANY_EXHDR(bytes), i),
						   hash_bytes_extended((const unsigned char *) zone,
											   strlen(zone), i));
}

/*
 * find_left
 *		Return the set of what this session has left by this selector.
 */
static RangeSet *
find_left(CandidateScan *look, const SoughtKey *key)
{
	Oid			relid = look->def->relid;
	Memory	   *memory = find_memory(relid, key);

	memory->used = ++nlooks;
	if (memory->slot == NULL ||
		memory->began_at < look->now - SOUGHT_LIFETIME ||
		!queue_cover_read_news(memory->slot, relid, &memory->number,
							   &memory->left))
	{
		memory->began_at = look->now;
		memory->slot = queue_window_survey(look->slot, relid, &memory->left,
										   &memory->number);
	}
	return &memory->left;
}

/*
 * Return what is remembered of this selector, or an empty memory without a slot
 * in the place of another one.
 */
static Memory *
find_memory(Oid relid, const SoughtKey *key)
{
	Memory	   *oldest;

	if (memories == NULL)
		memories = MemoryContextAllocZero(TopMemoryContext,
										  NUM_MEMORIES * sizeof(Memory));
	oldest = &memories[0];
	for (int i = 0; i < NUM_MEMORIES; i++)
	{
		Memory	   *memory = &memories[i];

		if (memory->relid == relid &&
			memcmp(&memory->key, key, sizeof(SoughtKey)) == 0)
			return memory;
		if (memory->used < oldest->used)
			oldest = memory;
	}
	oldest->relid = relid;
	oldest->key = *key;
	oldest->slot = NULL;
	queue_ranges_init(&oldest->left, oldest->ranges, LEFT_ROOM);
	return oldest;
}

/*
 * find_ranks
 *		Return which priorities have messages with the correlation_id, a bit
 *		for each rank.
 *
 * The index has them by id, and mostly there is one.
 */
static int
find_ranks(CandidateScan *look)
{
	MessageRow *row;
	int			ranks = 0;

	look->scans.correlated = queue_scan_begin_correlated(look->rel, look->def);
	look->scans.correlated->wants_busy = true;
	look->scans.correlated->wants_coming = true;
	queue_scan_correlated(look->scans.correlated,
						  PointerGetDatum(look->selection->correlation_id));
	while ((row = queue_scan_next(look->scans.correlated)) != NULL)
		ranks |= 1 << queue_rank(row->priority);
	return ranks;
}

/* ----------------------------------------------------------------
 *		Windows
 * ----------------------------------------------------------------
 */

/*
 * queue_selection_window
 *		Begin with the next window, which is not out.
 *
 * Returns false if there is none.  The caller fetches rows, and calls
 * queue_selection_give_back().
 */
bool
queue_selection_window(CandidateScan *look)
{
	CHECK_FOR_INTERRUPTS();
	if (look->selection->has_id)
		return next_id(look);
	if (look->selection->correlation_id != NULL)
		return next_correlated(look);
	if (!look->selection->is_shared)
		return next_left(look);
	if (queue_look_window(look))
		return true;
	if (look->cover.is_sought_elsewhere)
		look->next->is_busy = true;
	return false;
}

/* The message with the id, of the next priority */
static bool
next_id(CandidateScan *look)
{
	Selection  *selection = look->selection;

	if (selection->rank >= NUM_RANKS)
		return false;
	look->window.ids.rank = selection->rank++;
	look->window.ids.low = look->window.ids.high = selection->id;
	queue_scan_range(look->scans.pkey, &look->window.ids);
	start(look, look->scans.pkey);
	return true;
}

/* The messages with the correlation_id, of the next priority that has any */
static bool
next_correlated(CandidateScan *look)
{
	Selection  *selection = look->selection;

	while (selection->rank < NUM_RANKS &&
		   (selection->ranks & (1 << selection->rank)) == 0)
		selection->rank++;
	if (selection->rank >= NUM_RANKS)
		return false;
	look->window.ids.rank = selection->rank++;
	look->window.ids.low = PG_INT64_MIN;
	look->window.ids.high = PG_INT64_MAX;
	queue_scan_correlated(look->scans.correlated,
						  PointerGetDatum(selection->correlation_id));
	start(look, look->scans.correlated);
	return true;
}

/*
 * The next ids that are left to be looked at; those that the index does not
 * have are not left
 */
static bool
next_left(CandidateScan *look)
{
	Selection  *selection = look->selection;
	RangeSet   *left = selection->left;
	QueueRange *window = &look->window.ids;
	int			i;

	while ((i = queue_ranges_find(left, selection->rank,
								  selection->position)) >= 0)
	{
		*window = left->ranges[i];
		if (window->rank == selection->rank &&
			window->low <= selection->position &&
			selection->position != PG_INT64_MIN)
			window->low = selection->position + 1;
		if ((uint64) window->high - (uint64) window->low > PROBE_WIDTH)
		{
			int64		first = queue_scan_probe(look->scans.pkey, window);

			if (first > window->low)
				queue_ranges_cut(left, i, window->low,
								 Min(first - 1, window->high));
			selection->rank = window->rank;
			selection->position = Min(first - (first > PG_INT64_MIN),
									  window->high);
			if (first > window->high)
				continue;
			i = queue_ranges_find(left, window->rank, selection->position);
			window->low = first;
			if ((uint64) window->high - (uint64) first >= WINDOW_WIDTH)
				window->high = first + WINDOW_WIDTH - 1;
		}
		selection->range = i;
		queue_scan_range(look->scans.pkey, window);
		start(look, look->scans.pkey);
		return true;
	}
	return false;
}

/*
 * Begin with the rows of a window, as queue_look_window() does.  What this
 * transaction has deleted is looked at again after its rollback if it is
 * forgotten now.
 */
static void
start(CandidateScan *look, QueueScan *rows)
{
	bool		is_writer = look->is_writer;

	look->is_writer = is_writer && look->selection->left != NULL;
	queue_look_start_passing(look);
	queue_look_start(look, rows, NULL);
	look->is_writer = is_writer;
}

/*
 * queue_selection_give_back
 *		End a window: what the caller has neither taken nor kept need not be
 *		looked at again.
 *
 * "want" is as in queue_look_give_back().
 */
void
queue_selection_give_back(CandidateScan *look, int64 want)
{
	Selection  *selection = look->selection;

	if (look->window.busy.nranges > 0)
		look->next->is_busy = true;
	if (selection->is_shared)
	{
		queue_look_give_back(look, want);
		return;
	}
	queue_look_note_passed(look, look->window.ids.rank);
	if (selection->left == NULL)
		return;
	selection->rank = look->window.ids.rank;
	selection->position = look->window.ids.high;
	queue_ranges_cut(selection->left, selection->range, look->window.ids.low,
					 look->window.ids.high);
	queue_ranges_add_set(selection->left, &look->window.kept);
	queue_ranges_add_set(selection->left, &look->window.busy);
}

/* ----------------------------------------------------------------
 *		Rows
 * ----------------------------------------------------------------
 */

/*
 * queue_selection_wants
 *		Returns true if the row is what is wanted.
 *
 * It is not claimed, so its attempt is what it would be now.
 */
bool
queue_selection_wants(const CandidateScan *look, MessageRow *row)
{
	const Selection *selection = look->selection;
	InflightEntry entry;
	MessageKey	key;
	MessageStatus status;
	bool		has_entry;

	if (selection->has_id && row->id != selection->id)
		return false;
	if (selection->correlation_id != NULL && !is_correlated(selection, row))
		return false;
	if (!queue_selector_wants_attempt(selection->selector))
		return queue_selector_matches(selection->selector, row,
									  row->failures + 1);
	queue_message_key(&key, look->def->relid, row->id);
	has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
	queue_row_status(look->def, row, has_entry ? &entry : NULL, look->now,
					 &status);
	return queue_selector_matches(selection->selector, row,
								  status.failures + 1);
}

/* The same for a row that is claimed, so that its attempt is certain */
bool
queue_selection_wants_attempt(const CandidateScan *look, MessageRow *row,
							  int attempt)
{
	return look->selection == NULL ||
		!queue_selector_wants_attempt(look->selection->selector) ||
		queue_selector_matches(look->selection->selector, row, attempt);
}

/* Has the row the correlation_id that is wanted, byte for byte? */
static bool
is_correlated(const Selection *selection, MessageRow *row)
{
	bool		isnull;
	Datum		value = slot_getattr(row->slot, Anum_message_correlation_id,
									 &isnull);
	text	   *found;

	if (isnull)
		return false;
	found = DatumGetTextPP(value);
	return VARSIZE_ANY_EXHDR(found) ==
		VARSIZE_ANY_EXHDR(selection->correlation_id) &&
		memcmp(VARDATA_ANY(found), VARDATA_ANY(selection->correlation_id),
			   VARSIZE_ANY_EXHDR(found)) == 0;
}

/*
 * queue_selection_block
 *		Note that this look gets nothing more of the row's group.
 *
 * Its other messages are passed over then, and stay left.
 */
void
queue_selection_block(CandidateScan *look, const MessageRow *row)
{
	Selection  *selection = look->selection;
	GroupName	name;

	if (selection->blocked == NULL)
	{
		HASHCTL		info = {0};

		info.keysize = sizeof(uint64);
		info.entrysize = sizeof(uint64);
		info.hcxt = CurrentMemoryContext;
		selection->blocked = hash_create("queue groups without use", 64, &info,
										 HASH_ELEM | HASH_BLOBS |
										 HASH_CONTEXT);
	}
	queue_turn_name(look->def, row, &name);
	(void) hash_search(selection->blocked, &name.hash, HASH_ENTER, NULL);
}

/* Has that been noted? */
bool
queue_selection_is_blocked(const CandidateScan *look, const MessageRow *row)
{
	GroupName	name;

	if (look->selection->blocked == NULL)
		return false;
	queue_turn_name(look->def, row, &name);
	return hash_search(look->selection->blocked, &name.hash, HASH_FIND,
					   NULL) != NULL;
}

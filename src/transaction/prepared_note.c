/*-------------------------------------------------------------------------
 *
 * prepared_note.c
 *		What prepared transactions announce at their end.
 *
 * The notes of all of them are in a pool, so one may have many.  When the pool
 * is used up, a bit for each slot of a queue (queue_slot.c) says that any message
 * of that queue may be available at its end; there is one for every queue that
 * memory knows.  Only if the queue has no slot either, any message of the
 * database may be; so it is with a topic that is truncated, and how far
 * subscriptions are behind is then looked for of all topics.
 *
 * Locks: the caller's on the registry (prepared.c), then the slot of a queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/cover.h"
#include "shared/topic_slot.h"
#include "shared/usage.h"
#include "shared/waiter.h"
#include "transaction/announce.h"
#include "transaction/charge.h"
#include "transaction/prepared_note.h"

/* Bits for the slots of queues */
#define WORD_BITS			32
#define NUM_WORDS			(queue_max_queues / WORD_BITS + 1)

typedef struct NotePool
{
	int			first_free;		/* or NO_NOTE */
	PreparedNote notes[FLEXIBLE_ARRAY_MEMBER];
} NotePool;

static NotePool *pool = NULL;
static uint32 *slot_bits = NULL;	/* NUM_WORDS for each slot of the registry */

static PreparedNote *find_note(PreparedNotes *notes, Oid relid);
static PreparedNote *make_note(PreparedNotes *notes, Oid relid);
static void note_charges(PreparedNotes *notes);
static void note_slot(PreparedNotes *notes, Oid relid);
static uint32 *slot_bits_of(const PreparedNotes *notes);
static void count(Oid dbid, Oid relid, const CounterChange *counts);
static void announce_all(Oid dbid, Oid relid, bool committed);
static void announce_places(const PreparedNotes *notes, Oid dbid,
							bool committed);

/* Shared memory needed for the pool, and the bits, of so many slots */
Size
queue_prepared_note_shmem_size(int nslots)
{
	Size		size = add_size(offsetof(NotePool, notes),
								mul_size(mul_size(nslots, PREPARED_NOTES),
										 sizeof(PreparedNote)));

	return add_size(MAXALIGN(size), mul_size(mul_size(nslots, NUM_WORDS),
											 sizeof(uint32)));
}

/* Create or attach to them.  The caller holds AddinShmemInitLock. */
void
queue_prepared_note_shmem_init(int nslots)
{
	int			nnotes = nslots * PREPARED_NOTES;
	bool		found;

	pool = ShmemInitStruct("queue notes of prepared transactions",
						   queue_prepared_note_shmem_size(nslots), &found);
	slot_bits = (uint32 *) ((char *) pool +
							MAXALIGN(offsetof(NotePool, notes) +
									 nnotes * sizeof(PreparedNote)));
	if (found)
		return;
	pool->first_free = NO_NOTE;
	for (int i = nnotes - 1; i >= 0; i--)
	{
		pool->notes[i].next = pool->first_free;
		pool->first_free = i;
	}
}

/* The prepared transaction of this slot has no notes yet. */
void
queue_prepared_notes_init(PreparedNotes *notes, int slot)
{
	notes->slot = slot;
	notes->is_all = false;
	notes->has_slots = false;
	notes->first = NO_NOTE;
}

/* Return a note, by its number. */
const PreparedNote *
queue_prepared_note(int number)
{
	return &pool->notes[number];
}

/*
 * queue_prepared_notes_make
 *		Note what this transaction, which is being prepared, has to announce
 *		when it ends, whichever way.
 */
void
queue_prepared_notes_make(PreparedNotes *notes)
{
	const PendingAnnounce *announces;
	const LookNote *looks;
	int			n;
	int			i;

	announces = queue_announce_notes(&n);
	for (i = 0; i < n; i++)
	{
		PreparedNote *note = make_note(notes, announces[i].relid);

		if (note == NULL)
			continue;
		note->is_all = announces[i].is_all;
		note->nmessages = announces[i].nmessages;
		note->later = announces[i].later;
		queue_ranges_add_set(&note->ids, &announces[i].sent);
	}
	looks = queue_announce_looks(&n);
	for (i = 0; i < n; i++)
	{
		PreparedNote *note = find_note(notes, looks[i].relid);

		if (note != NULL)
			queue_ranges_add_set(&note->ids, &looks[i].ids);
	}
	note_charges(notes);
}

/* Return the note about a queue, made if need be; NULL: there is no room. */
static PreparedNote *
find_note(PreparedNotes *notes, Oid relid)
{
	int			number;

	for (number = notes->first; number != NO_NOTE;
		 number = pool->notes[number].next)
	{
		if (pool->notes[number].relid == relid)
			return &pool->notes[number];
	}
	return make_note(notes, relid);
}

/*
 * note_charges
 *		Note what is to be counted.
 *
 * Without room for that the rows are to be counted again when it has ended; a
 * bit for the slot of the queue sees to it.
 */
static void
note_charges(PreparedNotes *notes)
{
	const Charge *charges;
	int			n;

	charges = queue_charges(&n);
	for (int i = 0; i < n; i++)
	{
		const UsageChange *change = &charges[i].change;
		PreparedNote *note = find_note(notes, charges[i].relid);

		if (note == NULL)
		{
			if (charges[i].is_limited)
				queue_usage_end(charges[i].queue, MyDatabaseId,
								charges[i].relid, change, false);
			continue;
		}
		queue_counters_merge(&note->counts, &charges[i].counts);
		note->is_counted = true;
		if (!charges[i].is_limited)
			continue;
		queue_amount_add(&note->change.sent, &change->sent);
		queue_amount_add(&note->change.gone, &change->gone);
		note->is_charged = true;
	}
}

/*
 * Take a note from the pool; without one set a bit instead, and return NULL.
 */
static PreparedNote *
make_note(PreparedNotes *notes, Oid relid)
{
	int			number = pool->first_free;
	PreparedNote *note;

	if (number == NO_NOTE)
	{
		note_slot(notes, relid);
		return NULL;
	}
	note = &pool->notes[number];
	pool->first_free = note->next;
	note->next = notes->first;
	notes->first = number;
	note->relid = relid;
	note->is_all = false;
	note->nmessages = 0;
	note->is_charged = note->is_counted = false;
	memset(&note->change, 0, sizeof(note->change));
	memset(&note->counts, 0, sizeof(note->counts));
	note->later.ranks = 0;
	note->later.expires_at = TIMESTAMP_INFINITY;
	queue_ranges_init(&note->ids, note->ranges, NOTE_ROOM);
	return note;
}

/*
 * note_slot
 *		There is no room for a note: set a bit for the queue's slot.
 *
 * If the slot is another queue's when the transaction ends, that one is
 * looked at once more.  The queue then has a new slot, with everything in its
 * cover, or none.
 */
static void
note_slot(PreparedNotes *notes, Oid relid)
{
	QueueSlot  *queue = queue_slot_find(relid);
	int			slot_index;

	if (queue == NULL)
	{
		notes->is_all = true;
		return;
	}
	if (!notes->has_slots)
		memset(slot_bits_of(notes), 0, NUM_WORDS * sizeof(uint32));
	notes->has_slots = true;
	slot_index = queue_slot_index(queue);
	slot_bits_of(notes)[slot_index / WORD_BITS] |= (uint32) 1 << (slot_index % WORD_BITS);
}

/* The bits of a slot */
static uint32 *
slot_bits_of(const PreparedNotes *notes)
{
	return &slot_bits[notes->slot * (Size) NUM_WORDS];
}

/* It has ended: announce what it noted, and free the notes. */
void
queue_prepared_notes_announce(PreparedNotes *notes, Oid dbid, bool committed)
{
	if (notes->is_all)
	{
		queue_cover_add_everything(dbid);
		if (committed)
			queue_topic_slot_note_all_gone(dbid);
	}
	if (notes->has_slots)
		announce_places(notes, dbid, committed);
	while (notes->first != NO_NOTE)
	{
		int			number = notes->first;
		PreparedNote *note = &pool->notes[number];

		if (note->is_charged)
			queue_usage_end(NULL, dbid, note->relid, &note->change,
							committed);
		if (note->is_counted && committed)
			count(dbid, note->relid, &note->counts);
		if (note->is_all)
			announce_all(dbid, note->relid, committed);
		else
			queue_cover_add_set(NULL, dbid, note->relid, &note->ids,
								Max(note->nmessages,
									queue_ranges_count(&note->ids,
													   MAX_WAKES)),
								NULL);
		queue_announce_later(dbid, note->relid, NULL, &note->later);
		notes->first = note->next;
		note->next = pool->first_free;
		pool->first_free = number;
	}
}

/* Count what it did to a queue, which may have another slot since. */
static void
count(Oid dbid, Oid relid, const CounterChange *counts)
{
	QueueSlot  *slot = queue_slot_lock(NULL, dbid, relid);

	if (slot == NULL)
		return;
	queue_counters_commit(slot, dbid, relid, counts);
	LWLockRelease(slot->lock);
}

/*
 * announce_all
 *		Any message of a queue or a topic may be available.
 *
 * If it is committed the table may be truncated, and the numbers wrong by any
 * amount.  Its locks are released already, so a process that has counted since
 * counts again.
 */
static void
announce_all(Oid dbid, Oid relid, bool committed)
{
	QueueSlot  *slot;

	queue_cover_add_all(dbid, relid);
	queue_usage_forget(NULL, dbid, relid);
	if (!committed)
		return;
	slot = queue_slot_lock(NULL, dbid, relid);
	if (slot != NULL)
	{
		queue_counters_doubt_all(slot);
		LWLockRelease(slot->lock);
	}
	queue_topic_slot_note_gone(dbid, relid);
}

/* ... and the queues whose bits are set */
static void
announce_places(const PreparedNotes *notes, Oid dbid, bool committed)
{
	const uint32 *words = slot_bits_of(notes);
	int			i;

	for (i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *queue;

		if ((words[i / WORD_BITS] & (uint32) 1 << (i % WORD_BITS)) == 0)
			continue;
		queue = queue_slot_at(i);

		/*
		 * an unlocked look; a queue that gets the slot later begins with
		 * everything
		 */
		if (queue != NULL && queue->dbid == dbid)
			announce_all(dbid, queue->relid, committed);
	}
}

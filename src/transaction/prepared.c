/*-------------------------------------------------------------------------
 *
 * prepared.c
 *		What prepared transactions hold and have sent: a registry.
 *
 * PREPARE passes what is held and noted to a registry in shared memory, keyed
 * by the transaction id, with room for twice as many prepared transactions as
 * the server allows.
 *
 * The notes of all of them are in a pool, so one may have many.  When the pool
 * is used up, a bit for each slot of a queue (queue_slot.c) says that any message
 * of that queue may be available at its end; there is one for every queue that
 * memory knows.  Only if the queue has no place either, any message of the
 * database may be.
 *
 * No callback runs at COMMIT PREPARED.  The ProcessUtility hook looks after
 * every such statement whether a registered transaction has ended.  So does
 * the worker, for ends that pass no hook.  Those of another database that have
 * not been noticed are ended when a PREPARE finds no room.  Then the slots are
 * those of transactions that are prepared or being prepared now, and the
 * server has no room for half of them.
 *
 * If the server crashes the registry is lost.  The rows are protected by their
 * xmax as before, and consumers look at them again and again (cover.c); only
 * the count of a later ROLLBACK PREPARED is missed.  For groups see recovered.c.
 *
 * Locks: the registry lock, then partitions of the in-flight table, then the
 * state of a queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/cover.h"
#include "shared/database.h"
#include "shared/waiter.h"
#include "transaction/announce.h"
#include "transaction/charge.h"
#include "transaction/holds.h"
#include "transaction/prepared.h"

/* Notes in the pool, for each slot */
#define PREPARED_NOTES		16

#define NO_NOTE				(-1)

/* Bits for the places of queues */
#define WORD_BITS			32
#define NUM_WORDS			(queue_max_queues / WORD_BITS + 1)

/* What a prepared transaction announces at its end, whichever way it ends */
typedef struct PreparedNote
{
	int			next;			/* of this slot, or of the free ones */
	Oid			relid;
	bool		is_all;
	bool		is_charged;		/* change is set */
	int			nmessages;
	LaterNote	later;
	UsageChange change;			/* of a queue with limits */
	RangeSet	ids;
	QueueRange	ranges[RANGE_PLACES(NOTE_ROOM)];
} PreparedNote;

/* What prepared transactions hold, copied while the table is locked */
typedef struct Held
{
	int			slot;
	Oid			relid;
	PreparedHold kind;
} Held;

/* ... and what they have sent */
typedef struct SentCopy
{
	int			slot;
	Oid			relid;
	int			nmessages;
} SentCopy;

typedef struct HeldCopies
{
	Held	   *held;
	int			n;
	int			max;
} HeldCopies;

/* A prepared transaction that held or announced something */
typedef struct PreparedSlot
{
	bool		is_used;
	TransactionId xid;			/* Invalid while the PREPARE is under way */
	Oid			dbid;
	InflightEntry *entries;		/* linked by next_prepared */
	bool		has_received;	/* entries say so with receive_slot */
	bool		is_all;			/* it may have sent to any queue */
	bool		has_places;		/* ... or to those whose bits are set */
	int			first_note;		/* or NO_NOTE */
} PreparedSlot;

typedef struct PreparedShared
{
	int			nslots;
	int			first_free_note;	/* or NO_NOTE */
	PreparedSlot slots[FLEXIBLE_ARRAY_MEMBER];
} PreparedShared;

static PreparedShared *registry = NULL;
static PreparedNote *prepared_notes = NULL;
static uint32 *prepared_places = NULL;	/* NUM_WORDS for each slot */
static LWLock *registry_lock = NULL;

/* Registry slot reserved by a PREPARE under way, or -1 */
static int	prepared_slot = -1;

static int	find_free_slot(void);
static void note_prepared(PreparedSlot *slot);
static PreparedNote *make_prepared_note(PreparedSlot *slot, Oid relid);
static void note_place(PreparedSlot *slot, Oid relid);
static uint32 *places_of(PreparedSlot *slot);
static PreparedNote *find_prepared_note(PreparedSlot *slot, Oid relid);
static void note_charges(PreparedSlot *slot);
static void announce_prepared(PreparedSlot *slot, bool committed);
static void announce_places(PreparedSlot *slot);
static void end_prepared(PreparedSlot *slot, bool committed);
static bool resolve_prepared(Oid dbid, int *remaining);
static bool copy_held(InflightEntry *entry, void *arg);

/* Shared memory needed for the registry */
Size
queue_prepared_shmem_size(void)
{
	Size		nslots = mul_size(2, max_prepared_xacts);
	Size		size = mul_size(nslots, sizeof(PreparedSlot));

	size = add_size(size, offsetof(PreparedShared, slots));
	size = add_size(size, mul_size(mul_size(nslots, PREPARED_NOTES),
								   sizeof(PreparedNote)));
	return add_size(size, mul_size(mul_size(nslots, NUM_WORDS),
								   sizeof(uint32)));
}

/* Create or attach to the registry.  The caller holds AddinShmemInitLock. */
void
queue_prepared_shmem_init(void)
{
	/* twice, because some have ended and that was not noticed yet */
	int			nslots = 2 * max_prepared_xacts;
	int			nnotes_shared = nslots * PREPARED_NOTES;
	bool		found;
	int			i;

	registry = ShmemInitStruct("queue prepared transactions",
							   queue_prepared_shmem_size(), &found);
	prepared_notes = (PreparedNote *) &registry->slots[nslots];
	prepared_places = (uint32 *) &prepared_notes[nnotes_shared];
	registry_lock = &GetNamedLWLockTranche("queue_prepared")->lock;
	if (found)
		return;

	memset(registry, 0, queue_prepared_shmem_size());
	registry->nslots = nslots;
	registry->first_free_note = NO_NOTE;
	for (i = nnotes_shared - 1; i >= 0; i--)
	{
		prepared_notes[i].next = registry->first_free_note;
		registry->first_free_note = i;
	}
}

/*
 * queue_prepared_reserve
 *		Before the PREPARE: take a slot, so that nothing can fail after it.
 *
 * Throws if there is none, because what the transaction has held and sent
 * would not be announced at its end.
 */
void
queue_prepared_reserve(void)
{
	PreparedSlot *slot;
	int			found;

	if (registry->nslots == 0)
		return;					/* the server is about to refuse it */
	(void) resolve_prepared(MyDatabaseId, NULL);
	LWLockAcquire(registry_lock, LW_EXCLUSIVE);
	found = find_free_slot();
	if (found < 0)
	{
		/* those of other databases, whose workers have not come by */
		LWLockRelease(registry_lock);
		(void) resolve_prepared(InvalidOid, NULL);
		LWLockAcquire(registry_lock, LW_EXCLUSIVE);
		found = find_free_slot();
	}
	if (found < 0)
	{
		LWLockRelease(registry_lock);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("maximum number of prepared transactions reached"),
				 errhint("Increase max_prepared_transactions (currently %d).",
						 max_prepared_xacts)));
	}
	slot = &registry->slots[found];
	slot->is_used = true;
	slot->xid = InvalidTransactionId;
	slot->dbid = MyDatabaseId;
	slot->entries = NULL;
	slot->has_received = false;
	slot->is_all = false;
	slot->has_places = false;
	slot->first_note = NO_NOTE;
	prepared_slot = found;
	LWLockRelease(registry_lock);
	INJECTION_POINT("queue-prepare-begun", NULL);
}

/* Return a free slot, -1 if there is none.  The registry is locked. */
static int
find_free_slot(void)
{
	int			i;

	for (i = 0; i < registry->nslots; i++)
		if (!registry->slots[i].is_used)
			return i;
	return -1;
}

/*
 * queue_prepared_pass
 *		The transaction is prepared: pass on what it holds and has to
 *		announce.
 *
 * From here on this session has nothing to do with it.  What it holds goes to
 * the registry; leases stand by themselves.  Throws nothing.
 */
void
queue_prepared_pass(void)
{
	PreparedSlot *slot;
	int			i;

	if (prepared_slot < 0)
	{
		Assert(queue_holds_count() == 0 && !queue_announce_has_notes() &&
			   !queue_charge_has_any());
		return;
	}
	slot = &registry->slots[prepared_slot];
	LWLockAcquire(registry_lock, LW_EXCLUSIVE);
	for (i = 0; i < queue_holds_count(); i++)
	{
		Hold	   *hold = queue_hold_at(i);

		if (hold->kind == HOLD_DROP || hold->kind == HOLD_TRUNCATE)
			continue;			/* leases of the queue end when they are due */
		if (hold->kind == HOLD_LEASE)
			slot->has_received |=
				queue_inflight_receive_prepared(&hold->key, hold->number,
												prepared_slot);
		else if (hold->kind == HOLD_EXHAUST)
			queue_inflight_unclaim_step(hold->entry);	/* settings to come */
		else if (hold->kind != HOLD_DEQUEUE && hold->kind != HOLD_SETTLE)
			queue_hold_keep(hold);
		else
			queue_inflight_set_prepared(hold->entry, prepared_slot,
										&slot->entries);
	}
	note_prepared(slot);
	slot->xid = GetTopTransactionIdIfAny();
	if (!TransactionIdIsValid(slot->xid))
	{
		announce_prepared(slot, true);
		slot->is_used = false;
	}
	LWLockRelease(registry_lock);

	/* the worker looks now and then whether it has ended */
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	prepared_slot = -1;
}

/* The PREPARE has failed. */
void
queue_prepared_give_up(void)
{
	if (prepared_slot >= 0)
		registry->slots[prepared_slot].is_used = false;
	prepared_slot = -1;
}

/*
 * note_prepared
 *		Note what is to be announced when it ends, whichever way.
 *
 * The registry is locked, as in the functions that follow.
 */
static void
note_prepared(PreparedSlot *slot)
{
	const PendingAnnounce *notes;
	const LookNote *looks;
	int			n;
	int			i;

	notes = queue_announce_notes(&n);
	for (i = 0; i < n; i++)
	{
		PreparedNote *note = make_prepared_note(slot, notes[i].relid);

		if (note == NULL)
			continue;
		note->is_all = notes[i].is_all;
		note->nmessages = notes[i].nmessages;
		note->later = notes[i].later;
		queue_ranges_add_set(&note->ids, &notes[i].sent);
	}
	looks = queue_announce_looks(&n);
	for (i = 0; i < n; i++)
	{
		PreparedNote *note = find_prepared_note(slot, looks[i].relid);

		if (note != NULL)
			queue_ranges_add_set(&note->ids, &looks[i].ids);
	}
	note_charges(slot);
}

/* Return the note about a queue, made if need be; NULL: there is no room. */
static PreparedNote *
find_prepared_note(PreparedSlot *slot, Oid relid)
{
	int			place;

	for (place = slot->first_note; place != NO_NOTE;
		 place = prepared_notes[place].next)
	{
		if (prepared_notes[place].relid == relid)
			return &prepared_notes[place];
	}
	return make_prepared_note(slot, relid);
}

/*
 * note_charges
 *		Note what is counted of queues with limits.
 *
 * Without room for that the rows are to be counted again when it has ended; a
 * bit for the place of the queue sees to it.
 */
static void
note_charges(PreparedSlot *slot)
{
	const Charge *charges;
	int			n;

	charges = queue_charges(&n);
	for (int i = 0; i < n; i++)
	{
		const UsageChange *change = &charges[i].change;
		PreparedNote *note = find_prepared_note(slot, charges[i].relid);

		if (note == NULL)
		{
			queue_usage_end(charges[i].queue, MyDatabaseId, charges[i].relid,
							change, false);
			continue;
		}
		note->change.sent.messages += change->sent.messages;
		note->change.sent.bytes += change->sent.bytes;
		note->change.gone.messages += change->gone.messages;
		note->change.gone.bytes += change->gone.bytes;
		note->is_charged = true;
	}
}

/*
 * Take a note from the pool; without one set a bit instead, and return NULL.
 */
static PreparedNote *
make_prepared_note(PreparedSlot *slot, Oid relid)
{
	int			place = registry->first_free_note;
	PreparedNote *note;

	if (place == NO_NOTE)
	{
		note_place(slot, relid);
		return NULL;
	}
	note = &prepared_notes[place];
	registry->first_free_note = note->next;
	note->next = slot->first_note;
	slot->first_note = place;
	note->relid = relid;
	note->is_all = false;
	note->nmessages = 0;
	note->is_charged = false;
	memset(&note->change, 0, sizeof(note->change));
	note->later.ranks = 0;
	note->later.expires_at = TIMESTAMP_INFINITY;
	queue_ranges_init(&note->ids, note->ranges, NOTE_ROOM);
	return note;
}

/*
 * note_place
 *		There is no room for a note: set a bit for the queue's place.
 *
 * If the place is another queue's when the transaction ends, that one is
 * looked at once more.  The queue then has a new place, with everything in its
 * cover, or none.
 */
static void
note_place(PreparedSlot *slot, Oid relid)
{
	QueueSlot  *queue = queue_slot_find(relid);
	int			place;

	if (queue == NULL)
	{
		slot->is_all = true;
		return;
	}
	if (!slot->has_places)
		memset(places_of(slot), 0, NUM_WORDS * sizeof(uint32));
	slot->has_places = true;
	place = queue_slot_place(queue);
	places_of(slot)[place / WORD_BITS] |= (uint32) 1 << (place % WORD_BITS);
}

/* The bits of a slot */
static uint32 *
places_of(PreparedSlot *slot)
{
	return &prepared_places[(slot - registry->slots) * (Size) NUM_WORDS];
}

/* It has ended: announce what it noted, and free the notes. */
static void
announce_prepared(PreparedSlot *slot, bool committed)
{
	if (slot->is_all)
		queue_cover_add_everything(slot->dbid);
	if (slot->has_places)
		announce_places(slot);
	while (slot->first_note != NO_NOTE)
	{
		int			place = slot->first_note;
		PreparedNote *note = &prepared_notes[place];

		if (note->is_charged)
			queue_usage_end(NULL, slot->dbid, note->relid, &note->change,
							committed);
		if (note->is_all)
		{
			queue_cover_add_all(slot->dbid, note->relid);
			queue_usage_forget(NULL, slot->dbid, note->relid);
		}
		else
			queue_cover_add_set(NULL, slot->dbid, note->relid, &note->ids,
								Max(note->nmessages,
									queue_ranges_count(&note->ids,
													   MAX_WAKES)));
		queue_announce_later(slot->dbid, note->relid, NULL, &note->later);
		slot->first_note = note->next;
		note->next = registry->first_free_note;
		registry->first_free_note = place;
	}
}

/* ... and the queues whose bits are set */
static void
announce_places(PreparedSlot *slot)
{
	const uint32 *words = places_of(slot);
	int			i;

	for (i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *queue;

		if ((words[i / WORD_BITS] & (uint32) 1 << (i % WORD_BITS)) == 0)
			continue;
		queue = queue_slot_at(i);

		/*
		 * an unlocked look; a queue that gets the place later begins with
		 * everything
		 */
		if (queue != NULL && queue->dbid == slot->dbid)
		{
			queue_cover_add_all(slot->dbid, queue->relid);
			queue_usage_forget(queue, slot->dbid, queue->relid);
		}
	}
}

/*
 * end_prepared
 *		It has ended: let go of what it held, announce, and free the slot.
 *
 * The registry is locked.
 */
static void
end_prepared(PreparedSlot *slot, bool committed)
{
	InflightEntry *entry;
	InflightEntry *next;

	for (entry = slot->entries; entry != NULL; entry = next)
	{
		next = entry->next_prepared;
		if (committed)
			(void) queue_inflight_done(entry);
		else if (entry->state == INFLIGHT_LEASED)
			queue_inflight_undo_settle(entry);
		else
			queue_inflight_undo_dequeue(entry, true);
	}
	if (slot->has_received)
		queue_inflight_receive_ended((int) (slot - registry->slots),
									 committed);
	announce_prepared(slot, committed);
	slot->is_used = false;
	queue_database_wake_by(slot->dbid, GetCurrentTimestamp());
}

/*
 * queue_xact_will_announce
 *		Returns true if this transaction, which is in progress, will announce
 *		what it sends.
 *
 * For a consumer that has met a row of it.  It asks in this order because a
 * PREPARE passes it on in this order.
 */
bool
queue_xact_will_announce(TransactionId xid)
{
	int			i;

	xid = SubTransGetTopmostTransaction(xid);
	if (queue_announce_is_registered(xid))
		return true;
	pg_memory_barrier();
	for (i = 0; i < registry->nslots; i++)
		if (registry->slots[i].is_used && registry->slots[i].xid == xid)
			return true;
	return false;
}

/*
 * queue_xact_is_announcing
 *		Returns true if a transaction has ended and may still have to
 *		announce.
 */
bool
queue_xact_is_announcing(void)
{
	return queue_announce_is_under_way() || queue_prepared_is_ending();
}

/* The same for a transaction that was prepared */
bool
queue_prepared_is_ending(void)
{
	int			i;

	for (i = 0; i < registry->nslots; i++)
	{
		TransactionId xid = registry->slots[i].xid;

		if (registry->slots[i].is_used && TransactionIdIsValid(xid) &&
			!TransactionIdIsInProgress(xid))
			return true;
	}
	return false;
}

/*
 * queue_xact_resolve_prepared
 *		Finish what prepared transactions of this database held, if they have
 *		ended, and wake waiters.
 *
 * Returns true if there was any.  Sets *remaining, unless that is NULL, to the
 * number of those that are still in doubt.
 */
bool
queue_xact_resolve_prepared(int *remaining)
{
	return resolve_prepared(MyDatabaseId, remaining);
}

/*
 * resolve_prepared
 *		The same for one database or all (InvalidOid).
 *
 * The logs of transactions are asked without a lock, because that may be I/O.
 */
static bool
resolve_prepared(Oid dbid, int *remaining)
{
	bool		resolved = false;
	int			nremaining = 0;
	int			i;

	for (i = 0; i < registry->nslots; i++)
	{
		PreparedSlot *slot = &registry->slots[i];
		TransactionId xid;
		bool		committed;

		/* unlocked looks: decided under the lock below */
		if (!slot->is_used || (OidIsValid(dbid) && slot->dbid != dbid))
			continue;
		xid = slot->xid;
		if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid))
		{
			nremaining++;
			continue;
		}
		committed = TransactionIdDidCommit(xid);

		LWLockAcquire(registry_lock, LW_EXCLUSIVE);
		if (!slot->is_used || slot->xid != xid)
		{
			LWLockRelease(registry_lock);
			continue;
		}
		end_prepared(slot, committed);
		LWLockRelease(registry_lock);
		resolved = true;
	}
	if (remaining)
		*remaining = nremaining;
	return resolved;
}

/* Show what prepared transactions of all databases have done. */
void
queue_xact_visit_prepared(PreparedVisitor visitor, void *arg)
{
	int			nslots = registry->nslots;
	PreparedSlot *slots;
	SentCopy   *sent;
	int			nsent = 0;
	HeldCopies	copies = {NULL, 0, 0};
	int			i;
	int			j;

	slots = palloc_extended(Max(nslots, 1) * sizeof(PreparedSlot),
							MCXT_ALLOC_HUGE);
	sent = palloc_extended(Max((Size) nslots * PREPARED_NOTES, 1) *
						   sizeof(SentCopy), MCXT_ALLOC_HUGE);
	LWLockAcquire(registry_lock, LW_SHARED);
	memcpy(slots, registry->slots, nslots * sizeof(PreparedSlot));
	for (i = 0; i < nslots; i++)
	{
		slots[i].is_all |= slots[i].has_places;
		for (j = slots[i].is_used ? slots[i].first_note : NO_NOTE;
			 j != NO_NOTE; j = prepared_notes[j].next)
		{
			sent[nsent].slot = i;
			sent[nsent].relid = prepared_notes[j].relid;
			sent[nsent++].nmessages = prepared_notes[j].nmessages;
			slots[i].is_all |= prepared_notes[j].is_all;
		}
	}
	LWLockRelease(registry_lock);

	/* again, if the table has grown meanwhile */
	do
	{
		copies.max = queue_inflight_size() + 100;
		copies.n = 0;
		if (copies.held)
			pfree(copies.held);
		copies.held = palloc_extended(copies.max * sizeof(Held),
									  MCXT_ALLOC_HUGE);
		queue_inflight_visit(copy_held, &copies);
	} while (copies.n == copies.max);

	for (i = 0; i < nslots; i++)
	{
		PreparedSlot *slot = &slots[i];

		if (!slot->is_used || !TransactionIdIsValid(slot->xid) ||
			!TransactionIdIsInProgress(slot->xid))
			slot->is_used = false;
		else
			visitor(slot->xid, slot->dbid, InvalidOid, PREPARED_SENT,
					slot->is_all ? 1 : 0, arg);
	}
	for (i = 0; i < nsent; i++)
	{
		PreparedSlot *slot = &slots[sent[i].slot];

		if (slot->is_used && !slot->is_all)
			visitor(slot->xid, slot->dbid, sent[i].relid, PREPARED_SENT,
					sent[i].nmessages, arg);
	}
	for (i = 0; i < copies.n; i++)
	{
		Held	   *held = &copies.held[i];
		PreparedSlot *slot = &slots[held->slot];

		if (slot->is_used)
			visitor(slot->xid, slot->dbid, held->relid, held->kind, 1, arg);
	}
	pfree(copies.held);
	pfree(sent);
	pfree(slots);
}

/* Visitor of the in-flight table: copy what a prepared transaction holds. */
static bool
copy_held(InflightEntry *entry, void *arg)
{
	HeldCopies *copies = arg;
	Held	   *held = &copies->held[copies->n];

	held->relid = entry->key.relid;
	if (entry->state == INFLIGHT_DEQUEUED && entry->is_prepared)
	{
		held->slot = entry->holder;
		held->kind = PREPARED_DEQUEUED;
	}
	else if (entry->state == INFLIGHT_LEASED && entry->is_settling &&
			 entry->is_prepared)
	{
		held->slot = entry->holder;
		held->kind = PREPARED_SETTLED;
	}
	else if (entry->state == INFLIGHT_LEASED && entry->receive_slot > 0)
	{
		held->slot = entry->receive_slot - 1;
		held->kind = PREPARED_RECEIVED;
	}
	else
		return true;
	copies->n++;
	return copies->n < copies->max;
}

/*-------------------------------------------------------------------------
 *
 * prepared.c
 *		What prepared transactions hold and have sent: a registry.
 *
 * PREPARE passes what is held and noted to a registry in shared memory, keyed
 * by the transaction id, with room for twice as many prepared transactions as
 * the server allows.
 *
 * What they announce is in prepared_note.c.
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
 * slot of a queue.
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
#include "shared/counters.h"
#include "shared/database.h"
#include "shared/place.h"
#include "transaction/announce.h"
#include "transaction/announcer.h"
#include "transaction/charge.h"
#include "transaction/fault.h"
#include "transaction/holds.h"
#include "transaction/prepared.h"
#include "transaction/prepared_note.h"
#include "transaction/publishing.h"

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
	bool		counts;
	FailureNote failure;		/* what a rollback is, if it counts */
	PreparedNotes notes;
} PreparedSlot;

typedef struct PreparedShared
{
	int			nslots;
	volatile int nreached;		/* slots beyond these were never used */
	PreparedSlot slots[FLEXIBLE_ARRAY_MEMBER];
} PreparedShared;

static PreparedShared *registry = NULL;
static LWLock *registry_lock = NULL;

/* Registry slot reserved by a PREPARE under way, or -1 */
static int	prepared_slot = -1;

static int	find_free_slot(void);
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
	return add_size(size, queue_prepared_note_shmem_size((int) nslots));
}

/* Create or attach to the registry.  The caller holds AddinShmemInitLock. */
void
queue_prepared_shmem_init(void)
{
	/* twice, because some have ended and that was not noticed yet */
	int			nslots = 2 * max_prepared_xacts;
	bool		found;

	queue_prepared_note_shmem_init(nslots);
	registry = ShmemInitStruct("queue prepared transactions",
							   offsetof(PreparedShared, slots) +
							   nslots * sizeof(PreparedSlot), &found);
	registry_lock = &GetNamedLWLockTranche("queue_prepared")->lock;
	if (found)
		return;

	memset(registry, 0, offsetof(PreparedShared, slots) +
		   nslots * sizeof(PreparedSlot));
	registry->nslots = nslots;
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
	registry->nreached = Max(registry->nreached, found + 1);
	slot = &registry->slots[found];
	slot->is_used = true;
	slot->xid = InvalidTransactionId;
	slot->dbid = MyDatabaseId;
	slot->entries = NULL;
	slot->has_received = false;
	queue_prepared_notes_init(&slot->notes, found);
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
	slot->counts = queue_fault_note_prepared(&slot->failure);
	queue_holds_join();
	for (i = 0; i < queue_holds_count(); i++)
	{
		Hold	   *hold = queue_hold_at(i);

		if (hold->kind == HOLD_DROP || hold->kind == HOLD_TRUNCATE)
			continue;			/* leases of the queue end when they are due */
		if (hold->kind == HOLD_LEASE)
			slot->has_received |=
				queue_inflight_receive_prepared(&hold->key, hold->number,
												hold->batch, prepared_slot);
		else if (hold->kind == HOLD_EXHAUST)
			queue_inflight_unclaim_step(hold->entry);	/* settings to come */
		else if (hold->kind != HOLD_DEQUEUE && hold->kind != HOLD_SETTLE)
			queue_hold_commit(hold);
		else
			queue_inflight_set_prepared(hold->entry, prepared_slot,
										hold->batch, hold->goes_on,
										hold->nconsumed, &slot->entries);
	}
	queue_prepared_notes_make(&slot->notes);
	slot->xid = GetTopTransactionIdIfAny();
	if (!TransactionIdIsValid(slot->xid))
	{
		queue_prepared_notes_announce(&slot->notes, slot->dbid, true);
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
 * end_prepared
 *		It has ended: let go of what it held, announce, and free the slot.
 *
 * The registry is locked.
 */
static void
end_prepared(PreparedSlot *slot, bool committed)
{
	const FailureNote *failure = slot->counts ? &slot->failure : NULL;
	TimestampTz now = GetCurrentTimestamp();
	InflightEntry *entry;
	InflightEntry *next;

	for (entry = slot->entries; entry != NULL; entry = next)
	{
		next = entry->next_prepared;

		/* where a partition is now, its row tells */
		if (committed && entry->enqueued_at == QUEUE_PARTITION_ROW)
		{
			queue_place_moved(entry->key.dbid, entry->key.relid,
							  (int) entry->key.id, -1);
			queue_hold_passed(entry, entry->nconsumed, now);
		}
		if (committed && entry->goes_on)
			queue_inflight_go_on(entry, entry->nconsumed);
		else if (committed)
			(void) queue_hold_done(&entry->key, entry, now);
		else if (entry->state == INFLIGHT_LEASED)
			queue_inflight_undo_settle(entry);
		else
			queue_inflight_undo_prepared(entry, failure);
	}
	queue_counters_flush();
	if (slot->has_received)
		queue_inflight_receive_ended((int) (slot - registry->slots),
									 committed, failure);
	queue_prepared_notes_announce(&slot->notes, slot->dbid, committed);
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
	if (queue_announcer_is_registered(xid))
		return true;
	pg_memory_barrier();
	for (i = 0; i < registry->nreached; i++)
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
	return queue_announcer_is_under_way() || queue_prepared_is_ending();
}

/* The same for a transaction that was prepared */
bool
queue_prepared_is_ending(void)
{
	int			i;

	for (i = 0; i < registry->nreached; i++)
	{
		TransactionId xid = registry->slots[i].xid;

		if (registry->slots[i].is_used && TransactionIdIsValid(xid) &&
			!TransactionIdIsInProgress(xid))
			return true;
	}
	return false;
}

/* Return the transaction that has this slot; an unlocked look. */
TransactionId
queue_prepared_xid(int slot)
{
	return registry->slots[slot].is_used ? registry->slots[slot].xid :
		InvalidTransactionId;
}

/* Return how many prepared transactions there is room for. */
int
queue_prepared_max(void)
{
	return registry->nslots;
}

/* Copy those that there are, and return how many; an unlocked look. */
int
queue_prepared_xids(TransactionId *xids)
{
	int			n = 0;

	for (int i = 0; i < registry->nreached; i++)
	{
		TransactionId xid = registry->slots[i].xid;

		if (registry->slots[i].is_used && TransactionIdIsValid(xid))
			xids[n++] = xid;
	}
	return n;
}

/*
 * queue_xact_resolve_prepared
 *		Finish what prepared transactions of this database held, if they have
 *		ended, and wake waiters; strike off those that have published.
 *
 * Returns true if there was any that held something.  Sets *remaining, unless
 * that is NULL, to more than 0 if others are still in doubt.
 */
bool
queue_xact_resolve_prepared(int *remaining)
{
	int			npublishers = queue_publishing_resolve();
	bool		resolved = resolve_prepared(MyDatabaseId, remaining);

	if (remaining != NULL)
		*remaining += npublishers;
	return resolved;
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

	for (i = 0; i < registry->nreached; i++)
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
		slots[i].notes.is_all |= slots[i].notes.has_slots;
		for (j = slots[i].is_used ? slots[i].notes.first : NO_NOTE;
			 j != NO_NOTE; j = queue_prepared_note(j)->next)
		{
			const PreparedNote *note = queue_prepared_note(j);

			sent[nsent].slot = i;
			sent[nsent].relid = note->relid;
			sent[nsent++].nmessages = note->nmessages;
			slots[i].notes.is_all |= note->is_all;
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
					slot->notes.is_all ? 1 : 0, arg);
	}
	for (i = 0; i < nsent; i++)
	{
		PreparedSlot *slot = &slots[sent[i].slot];

		if (slot->is_used && !slot->notes.is_all)
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

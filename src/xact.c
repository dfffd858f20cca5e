/*-------------------------------------------------------------------------
 *
 * xact.c
 *		What a transaction holds, and what its end does about it.
 *
 * Every entry of the in-flight table that a transaction holds is noted here,
 * with the subtransaction that took it.  The life of a note:
 *
 *	reserve -> push (CLAIM) -> TAKE | LEASE, or popped with the claim
 *	reserve -> push (STEP), or popped with the claim
 *	reserve -> push (SETTLE), or popped when the lease was settled at once
 *	reserve -> push (EXHAUST): a claim until the commit tells the worker
 *	reserve -> push (DROP), which holds nothing: a commit forgets the messages
 *
 *	event				CLAIM		TAKE		LEASE	  SETTLE	 STEP
 *	subcommit			(becomes the parent's, all alike)
 *	subabort, abort		given back	counts *	ends	  lease		 given back
 *												uncounted goes on
 *	commit				-			gone		stays	  gone		 counted
 *	prepare				-			registry	registry  registry	 -
 *	  commit prepared				gone		stays	  gone
 *	  rollback prepared				counts		ends	  lease goes on
 *
 *	* not after a deadlock or a serialization failure, as far as the error
 *	  is known; after a server shutdown there is no memory to count in.
 *
 * The callbacks run when the transaction has left the process array, so that
 * what they announce is visible.  They allocate nothing, look nothing up and
 * throw nothing: all that they need is in the notes and in the entries, and
 * what is announced is a fixed-size array that falls back to "everybody".
 * Waiters are woken a little later, when locks are released; only the end of a
 * subtransaction wakes them at once.
 *
 * PREPARE passes what is held to a registry in shared memory, keyed by the
 * transaction id, with room for twice as many prepared transactions as the
 * server allows.  No callback runs at COMMIT PREPARED; the ProcessUtility hook
 * looks after every such statement whether a registered transaction has ended,
 * and so does the worker, for ends that pass no hook.  If the server crashes
 * the registry is lost, and the rows are protected by their xmax as before;
 * only the count of a later ROLLBACK PREPARED is missed.  If a registry slot
 * is not to be had, it is the same.
 *
 * Locks: the registry lock, then partitions of the in-flight table.  Latches
 * are set after all of them are released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "database.h"
#include "mutant.h"
#include "queue.h"
#include "waiter.h"
#include "xact.h"

#define MAX_NOTED_QUEUES	64
#define FIRST_HOLDS			256

/* a prepared transaction that held or announced something */
typedef struct PreparedSlot
{
	bool		is_used;
	TransactionId xid;			/* Invalid while the PREPARE is under way */
	Oid			dbid;
	InflightEntry *entries;		/* linked by next_prepared */
	bool		has_received;	/* entries say so with receive_slot */
} PreparedSlot;

typedef struct PreparedShared
{
	int			nslots;
	PreparedSlot slots[FLEXIBLE_ARRAY_MEMBER];
} PreparedShared;

static PreparedShared *registry = NULL;
static LWLock *registry_lock = NULL;

/* what this transaction holds, oldest first */
static Hold *holds = NULL;
static int	nholds = 0;
static int	max_holds = 0;

/* whom to wake when it ends */
static Oid	noted[MAX_NOTED_QUEUES];
static int	nnoted = 0;
static bool noted_all = false;
static bool noted_database = false;

/* the transaction has ended: wake when its locks are released */
static bool wakes_pending = false;

/* registry slot reserved by a PREPARE under way, or -1 */
static int	prepared_slot = -1;

/* SQLSTATE of the last error sent to the log in this transaction */
static int	last_error = 0;
static emit_log_hook_type prev_emit_log_hook = NULL;

static void xact_callback(XactEvent event, void *arg);
static void release_callback(ResourceReleasePhase phase, bool isCommit,
							 bool isTopLevel, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mySubid,
							 SubTransactionId parentSubid, void *arg);
static void note_error_code(ErrorData *edata);
static void undo_hold(Hold *hold, bool counts);
static void keep_hold(Hold *hold);
static bool failure_counts(void);
static void wake_noted(void);
static void reset_notes(void);
static void reset_holds(void);
static void reserve_prepared_slot(void);
static void pass_to_registry(void);

Size
queue_xact_shmem_size(void)
{
	return add_size(offsetof(PreparedShared, slots),
					mul_size(2 * max_prepared_xacts, sizeof(PreparedSlot)));
}

/* Called with AddinShmemInitLock held. */
void
queue_xact_shmem_init(void)
{
	bool		found;

	registry = ShmemInitStruct("queue prepared transactions",
							   queue_xact_shmem_size(), &found);
	if (!found)
	{
		memset(registry, 0, queue_xact_shmem_size());

		/* twice, for those that have ended and were not looked at since */
		registry->nslots = 2 * max_prepared_xacts;
	}
	registry_lock = &GetNamedLWLockTranche("queue_prepared")->lock;
}

void
queue_xact_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = note_error_code;
}

/* ----------------------------------------------------------------
 *		Holds and notes
 * ----------------------------------------------------------------
 */

void
queue_xact_reserve(void)
{
	if (nholds < max_holds)
		return;
	if (holds == NULL)
	{
		holds = MemoryContextAlloc(TopMemoryContext,
								   FIRST_HOLDS * sizeof(Hold));
		max_holds = FIRST_HOLDS;
	}
	else
	{
		holds = repalloc_huge(holds, (Size) max_holds * 2 * sizeof(Hold));
		max_holds *= 2;
	}
}

Hold *
queue_xact_push(HoldKind kind, const MessageKey *key, InflightEntry *entry)
{
	Hold	   *hold = &holds[nholds];

	Assert(nholds < max_holds);
	hold->kind = kind;
	hold->subid = GetCurrentSubTransactionId();
	hold->entry = entry;
	hold->key = *key;
	hold->number = 0;
	hold->counted = 0;
	hold->is_exhausted = false;
	nholds++;
	return hold;
}

void
queue_xact_pop(Hold *hold)
{
	Assert(hold == &holds[nholds - 1]);
	nholds--;
}

void
queue_xact_pop_settled(int n)
{
	Assert(n <= nholds && (n == 0 || holds[nholds - 1].kind == HOLD_SETTLE));
	nholds -= n;
}

void
queue_xact_note_queue(Oid relid)
{
	int			i;

	if (noted_all)
		return;
	for (i = nnoted - 1; i >= 0; i--)
		if (noted[i] == relid)
			return;
	if (nnoted < MAX_NOTED_QUEUES)
		noted[nnoted++] = relid;
	else
		noted_all = true;
}

void
queue_xact_note_drop(Oid relid)
{
	MessageKey	key;

	queue_message_key(&key, relid, 0);
	queue_xact_reserve();
	(void) queue_xact_push(HOLD_DROP, &key, NULL);
}

void
queue_xact_note_database(void)
{
	noted_database = true;
}

/* ----------------------------------------------------------------
 *		Callbacks
 * ----------------------------------------------------------------
 */

/*
 * No callback is told why a transaction fails, but the error has gone to the
 * log just before.  One that is not logged, or that PL/pgSQL caught, counts.
 */
static void
note_error_code(ErrorData *edata)
{
	if (edata->elevel >= ERROR)
		last_error = edata->sqlerrcode;
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

static void
xact_callback(XactEvent event, void *arg)
{
#ifdef USE_ASSERT_CHECKING
	MemoryContext saved_context = CurrentMemoryContext;
#endif
	bool		counts;
	int			nexhausted = 0;
	int			i;

	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			/* the last moment when an error is allowed */
			if (nholds > 0 || nnoted > 0 || noted_all)
				reserve_prepared_slot();
			return;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			return;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			break;
	}

	if (nholds == 0 && nnoted == 0 && !noted_all && !noted_database)
	{
		last_error = 0;
		if (event == XACT_EVENT_ABORT)
			queue_waiter_leave();
		return;
	}

#ifdef USE_ASSERT_CHECKING
	/* an error becomes a PANIC here, and an allocation a crash */
	CurrentMemoryContext = NULL;
	START_CRIT_SECTION();
#endif

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			for (i = 0; i < nholds; i++)
			{
				if (holds[i].kind == HOLD_EXHAUST)
					holds[nexhausted++] = holds[i]; /* see release_callback */
				else
					keep_hold(&holds[i]);
			}
			wakes_pending = true;
			break;
		case XACT_EVENT_PREPARE:
			pass_to_registry();
			reset_notes();
			break;
		default:
			queue_waiter_leave();
			counts = failure_counts();
			reset_notes();
			for (i = nholds - 1; i >= 0; i--)
				undo_hold(&holds[i], counts);
			wakes_pending = !MUTANT(ROLLBACK_SILENT);

			/* a PREPARE that failed */
			if (prepared_slot >= 0)
				registry->slots[prepared_slot].is_used = false;
			prepared_slot = -1;
			break;
	}

#ifdef USE_ASSERT_CHECKING
	END_CRIT_SECTION();
	CurrentMemoryContext = saved_context;
#endif
	nholds = nexhausted;
	if (nholds == 0)
		reset_holds();
}

/*
 * The last thing that a transaction does, as far as others can see, is to send
 * its invalidations and to release its locks.  Whoever is woken earlier may
 * look with settings that are out of date, and go back to sleep.
 */
static void
release_callback(ResourceReleasePhase phase, bool isCommit, bool isTopLevel,
				 void *arg)
{
	int			i;

	if (phase == RESOURCE_RELEASE_AFTER_LOCKS && isTopLevel && wakes_pending)
	{
		/* nor would the worker move what is exhausted by old settings only */
		for (i = 0; i < nholds; i++)
			keep_hold(&holds[i]);
		if (nholds > 0)
			reset_holds();
		wake_noted();
		reset_notes();
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	int			i;

	/*
	 * The holds of a subtransaction are the last ones, its children's among
	 * them, since those were passed on or undone when they ended.
	 */
	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			for (i = nholds - 1; i >= 0 && holds[i].subid == mySubid; i--)
				if (!MUTANT(RELEASE_FORGETS))
					holds[i].subid = parentSubid;
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			queue_waiter_leave();
			while (nholds > 0 && holds[nholds - 1].subid == mySubid)
			{
				Hold	   *hold = &holds[nholds - 1];
				Oid			relid = hold->key.relid;

				nholds--;
				if (MUTANT_SOMETIMES(SAVEPOINT_LEAKS, 50))
					continue;
				undo_hold(hold, failure_counts());

				/* now, for there is no wake-up if the rest rolls back too */
				queue_waiter_wake(&relid, 1);
			}
			break;
		case SUBXACT_EVENT_START_SUB:
			/* the transaction goes on after an error, or had none */
			last_error = 0;
			break;
		default:
			break;
	}
}

/* The transaction, or the part that took this, is rolled back. */
static void
undo_hold(Hold *hold, bool counts)
{
	switch (hold->kind)
	{
		case HOLD_DROP:
			return;
		case HOLD_CLAIM:
		case HOLD_STEP:
		case HOLD_EXHAUST:
			queue_inflight_unclaim(hold->entry);
			break;
		case HOLD_TAKE:
			if (!MUTANT_SOMETIMES(ROLLBACK_LEAKS, 300))
				queue_inflight_undo_take(hold->entry, counts &&
										 !MUTANT(ROLLBACK_UNCOUNTED));
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_LEASE:
			if (MUTANT(RECEIVE_NOT_UNDONE) ||
				!queue_inflight_undo_lease(&hold->key, hold->number))
				return;
			break;
		case HOLD_SETTLE:
			queue_inflight_undo_settle(hold->entry);
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
	}
	queue_xact_note_queue(hold->key.relid);
}

/* The transaction is committed. */
static void
keep_hold(Hold *hold)
{
	switch (hold->kind)
	{
		case HOLD_LEASE:
			if (queue_inflight_keep_lease(&hold->key, hold->number))
				queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_CLAIM:
			queue_inflight_unclaim(hold->entry);
			break;
		case HOLD_TAKE:
		case HOLD_SETTLE:
			if (hold->kind == HOLD_SETTLE &&
				MUTANT_SOMETIMES(ACK_LEAKS, 50))
				break;
			if (queue_inflight_done(hold->entry))
				queue_database_poke(hold->key.dbid, GetCurrentTimestamp() +
									(int64) queue_lease_write_delay * 1000);
			break;
		case HOLD_STEP:
			queue_inflight_counted(hold->entry, hold->counted,
								   hold->is_exhausted);
			break;
		case HOLD_EXHAUST:
			queue_inflight_exhaust(hold->entry, hold->counted);
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_DROP:
			queue_inflight_drop(hold->key.dbid, hold->key.relid);
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
	}
}

/* Is a rollback at this point the message's fault, for all we know? */
static bool
failure_counts(void)
{
	switch (last_error)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			return false;
		default:
			return true;
	}
}

/* Others may see now what this transaction did. */
static void
wake_noted(void)
{
	if (noted_all)
		queue_waiter_wake_all();
	else if (nnoted > 0 && !MUTANT_SOMETIMES(COMMIT_SILENT, 5))
		queue_waiter_wake(noted, nnoted);
	if (noted_database)
		queue_database_announce(MyDatabaseId);
}

static void
reset_notes(void)
{
	nnoted = 0;
	noted_all = false;
	noted_database = false;
	wakes_pending = false;
}

static void
reset_holds(void)
{
	nholds = 0;
	last_error = 0;

	/* a large batch should not stay with a pooled session */
	if (max_holds > 16 * FIRST_HOLDS)
	{
		pfree(holds);
		holds = NULL;
		max_holds = 0;
	}
}

/* ----------------------------------------------------------------
 *		Prepared transactions
 * ----------------------------------------------------------------
 */

/*
 * Before the PREPARE: take a slot, if one is free, so that nothing can fail
 * after it.
 */
static void
reserve_prepared_slot(void)
{
	int			i;

	(void) queue_xact_resolve_prepared(NULL);
	LWLockAcquire(registry_lock, LW_EXCLUSIVE);
	for (i = 0; i < registry->nslots; i++)
	{
		PreparedSlot *slot = &registry->slots[i];

		if (!slot->is_used)
		{
			slot->is_used = true;
			slot->xid = InvalidTransactionId;
			slot->dbid = MyDatabaseId;
			slot->entries = NULL;
			slot->has_received = false;
			prepared_slot = i;
			break;
		}
	}
	LWLockRelease(registry_lock);
}

/*
 * The transaction is prepared.  From here on this session has nothing to do
 * with it: what it holds goes to the registry, leases stand by themselves.
 */
static void
pass_to_registry(void)
{
	PreparedSlot *slot = NULL;
	int			i;

	if (prepared_slot >= 0)
	{
		slot = &registry->slots[prepared_slot];
		LWLockAcquire(registry_lock, LW_EXCLUSIVE);
	}
	for (i = 0; i < nholds; i++)
	{
		Hold	   *hold = &holds[i];

		if (hold->kind == HOLD_DROP)
			continue;			/* leases of the queue end when they are due */
		if (hold->kind == HOLD_LEASE && slot)
			slot->has_received |=
				queue_inflight_receive_prepared(&hold->key, hold->number,
												prepared_slot);
		else if (hold->kind == HOLD_EXHAUST)
			queue_inflight_unclaim(hold->entry);	/* by settings to come */
		else if (hold->kind != HOLD_TAKE && hold->kind != HOLD_SETTLE)
			keep_hold(hold);
		else if (slot && !MUTANT_SOMETIMES(PREPARED_REDELIVERED, 2))
			queue_inflight_set_prepared(hold->entry, prepared_slot,
										&slot->entries);
		else
		{
			/* the row's xmax protects it */
			(void) queue_inflight_done(hold->entry);
		}
	}
	if (slot)
	{
		slot->xid = GetTopTransactionIdIfAny();
		if (!TransactionIdIsValid(slot->xid))
			slot->is_used = false;
		LWLockRelease(registry_lock);

		/* the worker looks now and then whether it has ended */
		queue_database_poke(MyDatabaseId, GetCurrentTimestamp());
	}
	prepared_slot = -1;
}

/*
 * Sets *remaining, unless that is NULL, to the number of those that are still
 * in doubt.
 */
bool
queue_xact_resolve_prepared(int *remaining)
{
	bool		resolved = false;
	int			nremaining = 0;
	int			i;

	for (i = 0; i < registry->nslots; i++)
	{
		PreparedSlot *slot = &registry->slots[i];
		TransactionId xid;
		InflightEntry *entry;
		InflightEntry *next;
		bool		committed;

		/* unlocked looks: decided under the lock below */
		if (!slot->is_used || slot->dbid != MyDatabaseId)
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
		for (entry = slot->entries; entry != NULL; entry = next)
		{
			next = entry->next_prepared;
			if (committed)
				(void) queue_inflight_done(entry);
			else if (entry->state == INFLIGHT_LEASED)
				queue_inflight_undo_settle(entry);
			else if (!MUTANT(PREPARED_LEAKS))
				queue_inflight_undo_take(entry, true);
		}
		if (slot->has_received)
			queue_inflight_receive_ended(i, committed);
		slot->is_used = false;
		LWLockRelease(registry_lock);
		resolved = true;
	}
	if (resolved)
	{
		queue_waiter_wake_all();
		queue_database_poke(MyDatabaseId, GetCurrentTimestamp());
	}
	if (remaining)
		*remaining = nremaining;
	return resolved;
}

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
 *	reserve -> push (DROP, TRUNCATE), which holds nothing: a commit forgets the
 *		messages
 *
 *	event				CLAIM		TAKE		LEASE	  SETTLE	 STEP
 *	subcommit			(becomes the parent's, all alike)
 *	subabort, abort		given back	counts *	ends,	  lease		 given back
 *												counts *  goes on
 *	commit				-			gone		stays	  gone		 counted
 *	prepare				-			registry	registry  registry	 -
 *	  commit prepared				gone		stays	  gone
 *	  rollback prepared				counts		ends,	  lease goes on
 *												counts
 *
 *	* not after a deadlock, a serialization failure or what the server itself
 *	  could not do, as far as the error is known (failure_counts), nor when the
 *	  server shuts down, nor if it was the very call that took them that failed,
 *	  or the statement that received them: nobody has seen its result.
 *
 * The ids of messages that it sends are noted, too, one note a queue.  A
 * transaction that has notes is registered in shared memory by its transaction
 * id, before it writes its first row.  So a consumer that meets a row of it
 * knows that its end will be announced, and can forget the row (cover.c).  It
 * is struck off after the announcement, or when it has been passed to the
 * registry of prepared transactions.
 *
 * What a transaction has looked at after it has written something is noted by
 * queue and subtransaction.  Rows that a subtransaction has deleted are back
 * when it is rolled back; only its own looks, made after it had written
 * something itself, have not seen them, so only these windows are looked at
 * again.  All of its looks become its parent's when it ends, either way, since
 * what that has deleted was not seen by them.  So a look in a savepoint that
 * begins with it, as most do, costs a rollback nothing, and the cover does not
 * keep what all earlier savepoints have looked at.
 *
 * The callbacks run when the transaction has left the process array, so that
 * what they announce is visible.  They allocate nothing, look nothing up in
 * the catalogs and throw nothing: all that they need is in the notes and in
 * the entries.  What was sent becomes part of the cover then; those who wait
 * for it are woken a little later, when locks are released.
 *
 * PREPARE passes what is held and noted to a registry in shared memory, keyed
 * by the transaction id, with room for twice as many prepared transactions as
 * the server allows.  The notes of all of them are in a pool, so one may have
 * many.  When the pool is used up, a bit for each place of a queue (state.c)
 * says that any message of that queue may be available at its end; there is
 * one for every queue that memory knows.  Only if the queue has no place
 * either, any message of the database may be.  No callback runs at
 * COMMIT PREPARED; the ProcessUtility hook looks after every such statement
 * whether a registered transaction has ended, and so does the worker, for ends
 * that pass no hook.  Those of another database that nobody has looked after
 * are ended by who finds no room.  Then the slots are those of transactions
 * that are prepared or being prepared now, and the server has no room for half
 * of them.
 *
 * If the server crashes the registry is lost, and the rows are protected by
 * their xmax as before, and looked at again and again by consumers (cover.c);
 * only the count of a later ROLLBACK PREPARED is missed.
 *
 * Locks: the registry lock, then partitions of the in-flight table, then the
 * state of a queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"
#include "utils/resowner.h"

#include "common/compat.h"
#include "common/guc.h"
#include "common/mutant.h"
#include "common/ranges.h"
#include "shared/database.h"
#include "shared/waiter.h"
#include "table/definition.h"
#include "transaction/xact.h"

/* the postmaster's lock file, in the data directory, where we are */
#define DIRECTORY_LOCK_FILE	"postmaster.pid"

#define FIRST_HOLDS			256
#define FIRST_NOTES			4
#define NOTE_ROOM			16
/* of the pool, for each slot */
#define PREPARED_NOTES		16

#define NO_NOTE				(-1)

/* bits for the places of queues */
#define WORD_BITS			32
#define NUM_WORDS			(queue_max_queues / WORD_BITS + 1)

/* What a transaction has done to one queue, for its end to announce */
typedef struct Note
{
	Oid			relid;
	QueueState *queue;			/* hint */
	bool		is_all;			/* any message, and whoever waits */
	int			nmessages;		/* sent: waiters to wake */
	RangeSet	sent;
	QueueRange	ranges[RANGE_PLACES(NOTE_ROOM)];
} Note;

/*
 * What a subtransaction of one that has written, and those of it that have
 * ended, looked at in one queue: to be looked at again if it rolls back
 */
typedef struct LookNote
{
	Oid			relid;
	SubTransactionId subid;
	bool		is_writer;		/* had the subtransaction written anything? */
	QueueState *queue;			/* hint */
	RangeSet	ids;
	QueueRange	ranges[RANGE_PLACES(NOTE_ROOM)];
} LookNote;

/* The same of a prepared transaction, whichever way it ends */
typedef struct PreparedNote
{
	int			next;			/* of this slot, or of the free ones */
	Oid			relid;
	bool		is_all;
	int			nmessages;
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

/* a prepared transaction that held or announced something */
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

/* by proc number: transaction that will announce what it sends, or Invalid */
static volatile TransactionId *announcing = NULL;

/* what this transaction holds, oldest first */
static Hold *holds = NULL;
static int	nholds = 0;
static int	max_holds = 0;

/* what it has to announce */
static Note *notes = NULL;
static int	nnotes = 0;
static int	max_notes = 0;
static bool noted_database = false;

/* ... and what it has looked at; those of a subtransaction are the last ones */
static LookNote *looks = NULL;
static int	nlooks = 0;
static int	max_looks = 0;

/* the transaction has ended: wake when its locks are released */
static bool wakes_pending = false;

/* registry slot reserved by a PREPARE under way, or -1 */
static int	prepared_slot = -1;

/* holds from here on are of a call that has not returned; -1: no such call */
static int	first_of_call = -1;

/* number of the statement that this call is a part of; 0: a function's call */
static uint64 statement_of_call = 0;

/*
 * The last statement of the client's that took anything: its number, when it
 * began, and the memory of its portal, NULL when that is over.  A query string
 * may have several statements, which begin at one time.
 */
static uint64 last_statement = 0;
static TimestampTz last_statement_at = 0;
static MemoryContext last_statement_context = NULL;

/* the last transaction to be aborted had used a queue */
static bool aborted_used_queue = false;

/*
 * The last error sent to the log in this transaction: its SQLSTATE, and when
 * the statement began that it ended, 0 if none was at work
 */
static int	last_error = 0;
static TimestampTz failed_statement = 0;
static emit_log_hook_type prev_emit_log_hook = NULL;

static void xact_callback(XactEvent event, void *arg);
static void release_callback(ResourceReleasePhase phase, bool isCommit,
							 bool isTopLevel, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mySubid,
							 SubTransactionId parentSubid, void *arg);
static uint64 number_statement(void);
static void end_statement(void *arg);
static void note_error_code(ErrorData *edata);
static void note_end_of(Oid relid, HoldKind kind);
static void undo_hold(Hold *hold, bool counts);
static void keep_hold(Hold *hold);
static bool is_truncated(const Hold *hold);
static bool is_of_failed_statement(const Hold *hold);
static bool failure_counts(void);
static bool server_is_stopping(void);
static Note *find_note(Oid relid);
static void register_transaction(void);
static void announce_sent(void);
static LookNote *find_look(Oid relid);
static void undo_looks(SubTransactionId subid);
static void pass_looks_on(SubTransactionId subid, SubTransactionId parent);
static void wake_noted(void);
static void reset_notes(void);
static void note_prepared(PreparedSlot *slot);
static PreparedNote *make_prepared_note(PreparedSlot *slot, Oid relid);
static void note_place(PreparedSlot *slot, Oid relid);
static void announce_prepared(PreparedSlot *slot);
static void announce_places(PreparedSlot *slot);
static uint32 *places_of(PreparedSlot *slot);
static void reset_holds(void);
static void reserve_prepared_slot(void);
static int	find_free_slot(void);
static bool resolve_prepared(Oid dbid, int *remaining);
static void end_prepared(PreparedSlot *slot, bool committed);
static void pass_to_registry(void);
static bool copy_held(InflightEntry *entry, void *arg);

Size
queue_xact_shmem_size(void)
{
	Size		nslots = mul_size(2, max_prepared_xacts);
	Size		size = mul_size(nslots, sizeof(PreparedSlot));

	size = add_size(size, offsetof(PreparedShared, slots));
	size = add_size(size, mul_size(mul_size(nslots, PREPARED_NOTES),
								   sizeof(PreparedNote)));
	size = add_size(size, mul_size(mul_size(nslots, NUM_WORDS),
								   sizeof(uint32)));
	return add_size(size, mul_size(MaxBackends, sizeof(TransactionId)));
}

/* Called with AddinShmemInitLock held. */
void
queue_xact_shmem_init(void)
{
	/* twice, for those that have ended and were not looked at since */
	int			nslots = 2 * max_prepared_xacts;
	int			nnotes_shared = nslots * PREPARED_NOTES;
	bool		found;
	int			i;

	registry = ShmemInitStruct("queue prepared transactions",
							   queue_xact_shmem_size(), &found);
	prepared_notes = (PreparedNote *) &registry->slots[nslots];
	prepared_places = (uint32 *) &prepared_notes[nnotes_shared];
	announcing = (TransactionId *)
		&prepared_places[(Size) nslots * NUM_WORDS];
	registry_lock = &GetNamedLWLockTranche("queue_prepared")->lock;
	if (found)
		return;

	memset(registry, 0, queue_xact_shmem_size());
	registry->nslots = nslots;
	registry->first_free_note = NO_NOTE;
	for (i = nnotes_shared - 1; i >= 0; i--)
	{
		prepared_notes[i].next = registry->first_free_note;
		registry->first_free_note = i;
	}
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
	queue_is_used = true;
	hold->kind = kind;
	hold->subid = GetCurrentSubTransactionId();
	hold->entry = entry;
	hold->key = *key;
	hold->number = 0;
	hold->statement = first_of_call >= 0 ? statement_of_call : 0;
	hold->counted = 0;
	hold->is_exhausted = false;
	hold->is_gone = false;
	hold->is_log_ended = false;
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
queue_xact_begin_take(bool is_top_level)
{
	first_of_call = nholds;
	statement_of_call = is_top_level ? number_statement() : 0;
}

/* The number of the statement that is being executed.  May throw. */
static uint64
number_statement(void)
{
	MemoryContext context = ActivePortal ? ActivePortal->portalContext : NULL;

	if (context == NULL)
		return 0;
	if (context != last_statement_context)
	{
		MemoryContextCallback *callback;

		callback = MemoryContextAllocZero(context,
										  sizeof(MemoryContextCallback));
		callback->func = end_statement;
		callback->arg = context;
		MemoryContextRegisterResetCallback(context, callback);
		last_statement_context = context;
		last_statement_at = GetCurrentStatementStartTimestamp();
		last_statement++;
	}
	return last_statement;
}

/* Its portal goes: when it has done its work, or later than the callbacks. */
static void
end_statement(void *arg)
{
	if (last_statement_context == arg)
		last_statement_context = NULL;
}

void
queue_xact_end_take(void)
{
	first_of_call = -1;
}

/* The note about a queue, made if need be.  May throw. */
static Note *
find_note(Oid relid)
{
	Note	   *note;
	int			i;

	queue_is_used = true;
	for (i = nnotes - 1; i >= 0; i--)
		if (notes[i].relid == relid)
			return &notes[i];

	if (nnotes == max_notes)
	{
		int			n = max_notes == 0 ? FIRST_NOTES : 2 * max_notes;

		if (notes == NULL)
			notes = MemoryContextAlloc(TopMemoryContext, n * sizeof(Note));
		else
			notes = repalloc_huge(notes, (Size) n * sizeof(Note));
		max_notes = n;

		/* they have moved */
		for (i = 0; i < nnotes; i++)
			notes[i].sent.ranges = notes[i].ranges;
	}
	note = &notes[nnotes];
	note->relid = relid;
	note->queue = queue_state_find(relid);
	note->is_all = false;
	note->nmessages = 0;
	queue_ranges_init(&note->sent, note->ranges, NOTE_ROOM);
	nnotes++;
	return note;
}

/* The same about looks by the current subtransaction */
static LookNote *
find_look(Oid relid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	bool		is_writer =
		TransactionIdIsValid(GetCurrentTransactionIdIfAny());
	LookNote   *look;
	int			i;

	for (i = nlooks - 1; i >= 0 && looks[i].subid == subid; i--)
		if (looks[i].relid == relid && looks[i].is_writer == is_writer)
			return &looks[i];

	if (nlooks == max_looks)
	{
		int			n = max_looks == 0 ? FIRST_NOTES : 2 * max_looks;

		if (looks == NULL)
			looks = MemoryContextAlloc(TopMemoryContext,
									   n * sizeof(LookNote));
		else
			looks = repalloc_huge(looks, (Size) n * sizeof(LookNote));
		max_looks = n;
		for (i = 0; i < nlooks; i++)
			looks[i].ids.ranges = looks[i].ranges;
	}
	look = &looks[nlooks];
	look->relid = relid;
	look->subid = subid;
	look->is_writer = is_writer;
	look->queue = queue_state_find(relid);
	queue_ranges_init(&look->ids, look->ranges, NOTE_ROOM);
	nlooks++;
	return look;
}

void
queue_xact_note_queue(Oid relid)
{
	find_note(relid)->is_all = true;
}

void
queue_xact_note_sent(Oid relid, int priority, int64 low, int64 high)
{
	Note	   *note;

	/* nobody can ever find it: replica role is not checked */
	if (priority < 0 || priority > QUEUE_MAX_PRIORITY)
		return;
	note = find_note(relid);
	register_transaction();
	note->nmessages += (int) Min(high - low + 1, INT_MAX / 2 - note->nmessages);
	queue_ranges_add(&note->sent, queue_rank(priority), low, high);
}

void
queue_xact_note_look(Oid relid, const QueueRange *window)
{
	LookNote   *look = find_look(relid);

	register_transaction();
	queue_ranges_add(&look->ids, window->rank, window->low, window->high);
}

/* From now on, who meets a row of this transaction knows that we announce. */
static void
register_transaction(void)
{
	if (announcing[MyProcNumber] == InvalidTransactionId)
		announcing[MyProcNumber] = GetTopTransactionId();
}

/*
 * A consumer has seen a row of this transaction, which was in progress.  In
 * this order, since a PREPARE passes it on in this order.
 */
bool
queue_xact_will_announce(TransactionId xid)
{
	int			i;

	xid = SubTransGetTopmostTransaction(xid);
	for (i = 0; i < MaxBackends; i++)
		if (announcing[i] == xid)
			return true;
	pg_memory_barrier();
	for (i = 0; i < registry->nslots; i++)
		if (registry->slots[i].is_used && registry->slots[i].xid == xid)
			return true;
	return false;
}

bool
queue_xact_is_announcing(void)
{
	int			i;

	for (i = 0; i < MaxBackends; i++)
	{
		TransactionId xid = announcing[i];

		if (TransactionIdIsValid(xid) && !TransactionIdIsInProgress(xid))
			return true;
	}
	for (i = 0; i < registry->nslots; i++)
	{
		TransactionId xid = registry->slots[i].xid;

		if (registry->slots[i].is_used && TransactionIdIsValid(xid) &&
			!TransactionIdIsInProgress(xid))
			return true;
	}
	return false;
}

void
queue_xact_note_drop(Oid relid)
{
	note_end_of(relid, HOLD_DROP);
}

void
queue_xact_note_truncate(Oid relid)
{
	note_end_of(relid, HOLD_TRUNCATE);
}

static void
note_end_of(Oid relid, HoldKind kind)
{
	MessageKey	key;

	queue_message_key(&key, relid, 0);
	queue_xact_reserve();
	(void) queue_xact_push(kind, &key, NULL);
}

void
queue_xact_note_database(void)
{
	noted_database = true;
}

/*
 * If a subtransaction has failed, those around it have not ended.  Otherwise the
 * block is over as far as callbacks are concerned: no other transaction of this
 * session can have been aborted since.
 */
bool
queue_xact_failed_used_queue(void)
{
	Assert(IsAbortedTransactionBlockState());
	return GetCurrentTransactionNestLevel() > 1 ? queue_is_used :
		aborted_used_queue;
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
	{
		last_error = edata->sqlerrcode;
		failed_statement = edata->elevel == ERROR &&
			debug_query_string != NULL ? GetCurrentStatementStartTimestamp() : 0;
	}
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
			if (nholds > 0 || nnotes > 0 || nlooks > 0)
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
	if (event == XACT_EVENT_ABORT)
		aborted_used_queue = queue_is_used;
	queue_is_used = false;

	if (nholds == 0 && nnotes == 0 && nlooks == 0 && !noted_database)
	{
		last_error = 0;
		failed_statement = 0;
		first_of_call = -1;
		if (event == XACT_EVENT_ABORT)
		{
			queue_waiter_leave();
			queue_cover_abandon();
		}
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

			/*
			 * Not before what it has consumed is let go: it may have sent a
			 * message again by its id, which whoever looks takes for held.
			 */
			announce_sent();
			wakes_pending = true;
			break;
		case XACT_EVENT_PREPARE:
			pass_to_registry();
			reset_notes();
			break;
		default:
			queue_waiter_leave();
			queue_cover_abandon();
			counts = failure_counts();
			undo_looks(InvalidSubTransactionId);
			reset_notes();
			for (i = nholds - 1; i >= 0; i--)
				undo_hold(&holds[i], counts &&
						  (first_of_call < 0 || i < first_of_call));
			first_of_call = -1;

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
	announcing[MyProcNumber] = InvalidTransactionId;
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

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	queue_cover_tell_worker();
	if (wakes_pending)
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
	bool		counts;
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
			pass_looks_on(mySubid, parentSubid);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			queue_waiter_leave();
			queue_cover_abandon();
			counts = failure_counts();
			undo_looks(mySubid);
			pass_looks_on(mySubid, parentSubid);
			while (nholds > 0 && holds[nholds - 1].subid == mySubid)
			{
				nholds--;
				if (!MUTANT_SOMETIMES(SAVEPOINT_LEAKS, 50))
					undo_hold(&holds[nholds], counts &&
							  (first_of_call < 0 || nholds < first_of_call));
			}
			first_of_call = -1;
			break;
		case SUBXACT_EVENT_START_SUB:
			/* the transaction goes on after an error, or had none */
			last_error = 0;
			failed_statement = 0;
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
		case HOLD_TRUNCATE:
			break;
		case HOLD_CLAIM:
			queue_inflight_unclaim(hold->entry);
			break;
		case HOLD_EXHAUST:
		case HOLD_STEP:
			queue_inflight_unclaim_step(hold->entry);
			break;
		case HOLD_TAKE:
			if (!MUTANT_SOMETIMES(ROLLBACK_LEAKS, 300))
				queue_inflight_undo_take(hold->entry, counts &&
										 !MUTANT(ROLLBACK_UNCOUNTED));
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_LEASE:
			if (!MUTANT(RECEIVE_NOT_UNDONE) &&
				queue_inflight_undo_lease(&hold->key, hold->number, counts &&
										  !is_of_failed_statement(hold) &&
										  !MUTANT(RECEIVE_UNCOUNTED)))
				queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_SETTLE:
			queue_inflight_undo_settle(hold->entry);
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
	}
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
								   hold->is_exhausted, hold->is_gone,
								   hold->is_log_ended);
			break;
		case HOLD_EXHAUST:
			queue_inflight_exhaust(hold->entry, hold->counted);
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_DROP:
			/* who waits is to find that out */
			queue_cover_add_all(hold->key.dbid, hold->key.relid);
			queue_inflight_drop(hold->key.dbid, hold->key.relid);
			queue_state_drop(hold->key.dbid, hold->key.relid);
			queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_TRUNCATE:
			if (is_truncated(hold))
			{
				queue_inflight_drop(hold->key.dbid, hold->key.relid);
				queue_database_poke(hold->key.dbid, GetCurrentTimestamp());
			}
			break;
	}
}

/*
 * TRUNCATE was noted before it had its lock, and another table may have got
 * the name before it had.  Callbacks run while locks are still held.
 */
static bool
is_truncated(const Hold *hold)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, hold->key.dbid, hold->key.relid);
	return LockHeldByMe(&tag, AccessExclusiveLock, false);
}

/* Did the statement fail that took it, not by a function?  Nobody has it. */
static bool
is_of_failed_statement(const Hold *hold)
{
	return hold->statement != 0 && hold->statement == last_statement &&
		last_statement_context != NULL &&
		failed_statement == last_statement_at;
}

/*
 * Is a rollback at this point the message's fault, for all we know?  What the
 * server could not do is nobody's.  A statement that was cancelled or timed
 * out, and a session that was terminated or has lost its client, count: that
 * is how a message shows which takes too long.
 */
static bool
failure_counts(void)
{
	switch (last_error)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			return false;
	}
	switch (ERRCODE_TO_CATEGORY(last_error))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:	/* class 53 */
		case ERRCODE_SYSTEM_ERROR:	/* class 58 */
		case ERRCODE_INTERNAL_ERROR:	/* class XX */
			return false;
	}
	return !proc_exit_inprogress || !server_is_stopping();
}

/*
 * This process ends: because all of them are to?  The error, 57P01, is that of
 * pg_terminate_backend(), and memory that is shared with the postmaster does
 * not tell.  But the postmaster notes in its lock file that it stops, before
 * it signals anybody.  Callable from callbacks: no allocation, no error.
 */
static bool
server_is_stopping(void)
{
	char		buf[MAXPGPATH + 512];
	char	   *line = buf;
	ssize_t		len;
	int			fd = open(DIRECTORY_LOCK_FILE, O_RDONLY | PG_BINARY, 0);
	int			i;

	if (fd < 0)
		return false;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return false;
	buf[len] = '\0';
	for (i = 1; i < LOCK_FILE_LINE_PM_STATUS && line != NULL; i++)
	{
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return line != NULL && strncmp(line, PM_STATUS_STOPPING,
								   strlen(PM_STATUS_STOPPING)) == 0;
}

/* Others can see now what this transaction has sent. */
static void
announce_sent(void)
{
	int			i;

	for (i = 0; i < nnotes; i++)
		queue_cover_add_set(notes[i].queue, MyDatabaseId, notes[i].relid,
							&notes[i].sent, 0);
}

/*
 * A transaction that has deleted rows by other means than ours does not see
 * them when it looks for messages.  They are back now: those of one
 * subtransaction, or all.
 */
static void
undo_looks(SubTransactionId subid)
{
	int			i;

	for (i = nlooks - 1; i >= 0; i--)
	{
		if (subid != InvalidSubTransactionId)
		{
			if (looks[i].subid != subid)
				break;
			if (!looks[i].is_writer)
				continue;
		}
		queue_cover_add_set(looks[i].queue, MyDatabaseId, looks[i].relid,
							&looks[i].ids,
							queue_ranges_count(&looks[i].ids, MAX_WAKES));
	}
}

/*
 * The looks of a subtransaction that has ended, either way, are its parent's,
 * which may have written something before.
 */
static void
pass_looks_on(SubTransactionId subid, SubTransactionId parent)
{
	int			first = nlooks;
	int			nkept;
	int			i;

	while (first > 0 && looks[first - 1].subid == subid)
		first--;
	nkept = first;
	for (i = first; i < nlooks; i++)
	{
		int			j;

		for (j = nkept - 1; j >= 0 && looks[j].subid == parent; j--)
			if (looks[j].relid == looks[i].relid && looks[j].is_writer)
				break;
		if (j >= 0 && looks[j].subid == parent)
		{
			queue_ranges_add_set(&looks[j].ids, &looks[i].ids);
			continue;
		}
		if (nkept != i)
		{
			looks[nkept] = looks[i];
			looks[nkept].ids.ranges = looks[nkept].ranges;
		}
		looks[nkept].subid = parent;
		looks[nkept++].is_writer = true;
	}
	nlooks = nkept;
}

/* Those who wait for it find all in order now. */
static void
wake_noted(void)
{
	int			i;

	for (i = 0; i < nnotes; i++)
	{
		RangeSet	none = {0};

		if (notes[i].is_all)
			queue_cover_add_all(MyDatabaseId, notes[i].relid);
		else if (notes[i].nmessages > 0 && !MUTANT_SOMETIMES(COMMIT_SILENT, 5))
			queue_cover_add_set(notes[i].queue, MyDatabaseId, notes[i].relid,
								&none, notes[i].nmessages);
	}
	if (noted_database)
		queue_database_announce(MyDatabaseId);
}

static void
reset_notes(void)
{
	nnotes = 0;
	nlooks = 0;
	noted_database = false;
	wakes_pending = false;

	/* those of a transaction with many queues should not stay */
	if (max_notes > 16 * FIRST_NOTES)
	{
		pfree(notes);
		notes = NULL;
		max_notes = 0;
	}
	if (max_looks > 16 * FIRST_NOTES)
	{
		pfree(looks);
		looks = NULL;
		max_looks = 0;
	}
}

static void
reset_holds(void)
{
	nholds = 0;
	last_error = 0;
	failed_statement = 0;

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
 * Before the PREPARE: take a slot, so that nothing can fail after it.  Without
 * one, nobody would say at its end what it has held and sent.
 */
static void
reserve_prepared_slot(void)
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
}

/* -1 if there is none.  The registry is locked. */
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
 * The transaction is prepared.  From here on this session has nothing to do
 * with it: what it holds goes to the registry, leases stand by themselves.
 */
static void
pass_to_registry(void)
{
	PreparedSlot *slot;
	int			i;

	if (prepared_slot < 0)
	{
		Assert(nholds == 0 && nnotes == 0);
		return;
	}
	slot = &registry->slots[prepared_slot];
	LWLockAcquire(registry_lock, LW_EXCLUSIVE);
	for (i = 0; i < nholds; i++)
	{
		Hold	   *hold = &holds[i];

		if (hold->kind == HOLD_DROP || hold->kind == HOLD_TRUNCATE)
			continue;			/* leases of the queue end when they are due */
		if (hold->kind == HOLD_LEASE)
			slot->has_received |=
				queue_inflight_receive_prepared(&hold->key, hold->number,
												prepared_slot);
		else if (hold->kind == HOLD_EXHAUST)
			queue_inflight_unclaim_step(hold->entry);	/* settings to come */
		else if (hold->kind != HOLD_TAKE && hold->kind != HOLD_SETTLE)
			keep_hold(hold);
		else if (MUTANT_SOMETIMES(PREPARED_REDELIVERED, 2))
			(void) queue_inflight_done(hold->entry);
		else
			queue_inflight_set_prepared(hold->entry, prepared_slot,
										&slot->entries);
	}
	note_prepared(slot);
	slot->xid = GetTopTransactionIdIfAny();
	if (!TransactionIdIsValid(slot->xid))
	{
		announce_prepared(slot);
		slot->is_used = false;
	}
	LWLockRelease(registry_lock);

	/* the worker looks now and then whether it has ended */
	queue_database_poke(MyDatabaseId, GetCurrentTimestamp());
	prepared_slot = -1;
}

/*
 * What is to be announced when it ends, whichever way.  The registry is locked,
 * as in the functions that follow.
 */
static void
note_prepared(PreparedSlot *slot)
{
	int			i;

	if (MUTANT(PREPARED_NOT_NOTED))
		return;
	for (i = 0; i < nnotes; i++)
	{
		PreparedNote *note = make_prepared_note(slot, notes[i].relid);

		if (note == NULL)
			continue;
		note->is_all = notes[i].is_all;
		note->nmessages = notes[i].nmessages;
		queue_ranges_add_set(&note->ids, &notes[i].sent);
	}
	for (i = 0; i < nlooks; i++)
	{
		PreparedNote *note = NULL;
		int			place = slot->first_note;

		while (place != NO_NOTE && note == NULL)
		{
			if (prepared_notes[place].relid == looks[i].relid)
				note = &prepared_notes[place];
			place = prepared_notes[place].next;
		}
		if (note == NULL)
			note = make_prepared_note(slot, looks[i].relid);
		if (note != NULL)
			queue_ranges_add_set(&note->ids, &looks[i].ids);
	}
}

/* From the pool, or a bit if that is used up: NULL then */
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
	queue_ranges_init(&note->ids, note->ranges, NOTE_ROOM);
	return note;
}

/*
 * There is no room for a note.  Should the place be another queue's when the
 * transaction ends, that one is looked at once more, and ours has a new place,
 * with everything in its cover, or none.
 */
static void
note_place(PreparedSlot *slot, Oid relid)
{
	QueueState *state = queue_state_find(relid);
	int			place;

	if (state == NULL)
	{
		slot->is_all = true;
		return;
	}
	if (!slot->has_places)
		memset(places_of(slot), 0, NUM_WORDS * sizeof(uint32));
	slot->has_places = true;
	place = queue_state_place(state);
	places_of(slot)[place / WORD_BITS] |= (uint32) 1 << (place % WORD_BITS);
}

static uint32 *
places_of(PreparedSlot *slot)
{
	return &prepared_places[(slot - registry->slots) * (Size) NUM_WORDS];
}

/* It has ended. */
static void
announce_prepared(PreparedSlot *slot)
{
	if (slot->is_all && !MUTANT(PREPARED_SILENT))
		queue_cover_add_everything(slot->dbid);
	if (slot->has_places && !MUTANT(PREPARED_SILENT))
		announce_places(slot);
	while (slot->first_note != NO_NOTE)
	{
		int			place = slot->first_note;
		PreparedNote *note = &prepared_notes[place];

		if (MUTANT(PREPARED_SILENT))
			;
		else if (note->is_all)
			queue_cover_add_all(slot->dbid, note->relid);
		else
			queue_cover_add_set(NULL, slot->dbid, note->relid, &note->ids,
								Max(note->nmessages,
									queue_ranges_count(&note->ids,
													   MAX_WAKES)));
		slot->first_note = note->next;
		note->next = registry->first_free_note;
		registry->first_free_note = place;
	}
}

static void
announce_places(PreparedSlot *slot)
{
	const uint32 *words = places_of(slot);
	int			i;

	for (i = 0; i < queue_state_count(); i++)
	{
		QueueState *state;

		if ((words[i / WORD_BITS] & (uint32) 1 << (i % WORD_BITS)) == 0)
			continue;
		state = queue_state_at(i);

		/* an unlocked look; who takes the place later begins with everything */
		if (state != NULL && state->dbid == slot->dbid)
			queue_cover_add_all(slot->dbid, state->relid);
	}
}

/*
 * What it has held is gone or free, what it has sent is announced, and the slot
 * is free.  The registry is locked.
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
		else if (!MUTANT(PREPARED_LEAKS))
			queue_inflight_undo_take(entry, true);
	}
	if (slot->has_received)
		queue_inflight_receive_ended((int) (slot - registry->slots),
									 committed);
	announce_prepared(slot);
	slot->is_used = false;
	queue_database_poke(slot->dbid, GetCurrentTimestamp());
}

/*
 * Sets *remaining, unless that is NULL, to the number of those that are still
 * in doubt.
 */
bool
queue_xact_resolve_prepared(int *remaining)
{
	return resolve_prepared(MyDatabaseId, remaining);
}

/*
 * The same for one database or all (InvalidOid).  The logs of transactions are
 * asked without a lock: that may be I/O.
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

/* Visitor of the in-flight table */
static bool
copy_held(InflightEntry *entry, void *arg)
{
	HeldCopies *copies = arg;
	Held	   *held = &copies->held[copies->n];

	held->relid = entry->key.relid;
	if (entry->state == INFLIGHT_TAKEN && entry->is_prepared)
	{
		held->slot = entry->holder;
		held->kind = PREPARED_TAKEN;
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

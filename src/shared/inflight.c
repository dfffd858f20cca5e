/*-------------------------------------------------------------------------
 *
 * inflight.c
 *		The in-flight table: who holds which message, in shared memory.
 *
 * A message exists while its row does.  This table only tells which process,
 * lease or prepared transaction holds it, and what its row does not tell yet.
 * All of it may vanish at any moment, because a crash restarts with empty
 * shared memory.  Then leases that were not yet written to queue.lease end
 * early, and failures not yet counted are not counted.  Rows deleted by
 * transactions that are open or prepared stay protected by their xmax, which
 * outlives this table.
 *
 * A row is examined only while its message is claimed.  The order is always:
 * claim (an exclusive entry for the key), then read the row, then take it
 * (delete the row, keep the entry until the end of the transaction), lease it,
 * or give the claim back.  So two consumers that see the same row in their
 * scans cannot both hold it: the second one either fails to claim, or reads
 * the row after the first has changed it.
 *
 * Identity.  An id may be used again: the sequence was restarted, or set back
 * before memory was lost, or the owner inserts a row by hand.  So an entry
 * tells by enqueued_at, which no row ever changes, which row it is about, and
 * functions that have a row compare both.  What is remembered of another row
 * (a lease, failures, a limit that was reached) means nothing for this one.  A
 * claim gets that answer (CLAIM_OTHER).  If the row of the claim exists, the
 * other one does not, because an id exists once, so the caller has what is
 * remembered of it forgotten.  A row that comes back with its id and its
 * enqueued_at, as a restore brings it, is the same message, and what is
 * remembered of it holds.
 *
 *	 no entry / IDLE --claim--> CLAIMED -dequeue-> DEQUEUED -commit-> removed
 *			^					   |  |				 `----abort----> IDLE
 *			|<------ unclaim ------'  `--lease--> LEASED --ack+commit-> removed
 *			'<------------- nack, release, expiry ---'
 *
 * A lease that runs out counts as a failure on time, but its fence moves only
 * when a consumer takes the message.  Until then the entry remembers the lease
 * (is_lapsed), and the receipt can revive it, which takes the failure back.
 * An entry that is there for that alone goes when there is no room for a
 * claim.
 *
 * A message of a group that keeps an order holds the group (group.c) from the
 * moment that a consumer takes it until it is gone, or may be taken again: also
 * while it backs off, or waits for the worker to move it.  If a lease fails,
 * leases on messages of the group behind it end as well.  A lease that runs out
 * frees the group, so its fence moves when any message of the group is taken,
 * or fails.
 *
 * A process that lets go of a message tells the cover (offer), because the
 * message may be available now or at a later time: the entry goes into its
 * heap of due times, or the id is added.  Only a consumer that gives back a
 * claim does not, because the id is in its window (cover.c).
 *
 * Locks: the hash table is partitioned.  An entry is created, changed and
 * removed under the LWLock of its partition.  That is held for a few
 * instructions, with nothing below it but the lock of the queue's slot: no
 * allocation, no error.  The entries of a partition are in a list as well, for
 * processes that go over all of them; they lock one partition after the other.
 *
 * Another list has the entries that have changed since the worker had nothing
 * to do about them, so that its rounds cost what there is to do, and not what
 * there is.  A process that locks an entry to change it puts it there, and the
 * worker takes it off.
 *
 * An entry whose holder is a process (CLAIMED, DEQUEUED, settling) is moved to
 * another state and removed by that process alone, so the holder may keep a
 * pointer; the worker only notes in it what queue.lease has.  All other
 * processes look entries up by key.  The texts of failures have a lock of
 * their own, taken under a partition's when a lease runs out.
 *
 * Who received a message is in its entry, in fields of its own, because that may
 * have ended long before its lease: the names cut, the address by its bytes.  So
 * there is always room, and nothing to look up; nothing but views goes by it.
 *
 * If memory is full, a claim says so and nothing has happened.  Everything
 * that the end of a transaction needs is in the entry already: the functions
 * under "ends of transactions" never allocate and never fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/hsearch.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/availability.h"
#include "shared/counters.h"
#include "shared/deadline.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/quota.h"

#define NUM_PARTITIONS		32

/* Leases and back-offs that are ended at one go */
#define DUE_BATCH			32

typedef struct InflightShared
{
	uint64		epoch;			/* random; fences receipts of earlier lives */
	pg_atomic_uint64 next_number;
	pg_atomic_uint32 has_lapsed;	/* entries may be there for a fence alone */
	dlist_head	entries[NUM_PARTITIONS];
	dlist_head	changed[NUM_PARTITIONS];
} InflightShared;

static InflightShared *shared = NULL;
static HTAB *table = NULL;
static LWLockPadded *locks = NULL;	/* one a partition */

/* What end_received() is told */
typedef struct PreparedEnd
{
	int			slot;
	bool		committed;
	const FailureNote *failure; /* NULL: it does not count */
} PreparedEnd;

/* What count_held() is told */
typedef struct HeldCount
{
	QueueSlot  *slot;
	Oid			relid;
} HeldCount;

/* Leases on messages of a group that end because one before them has failed */
typedef struct LeasesBehind
{
	uint64		group_hash;		/* 0: none */
	uint64		before;			/* those with a number less than this */
} LeasesBehind;

static LWLock *partition_lock(uint32 hashcode);
static void walk(Oid dbid, InflightVisitor visitor, void *arg);
static ClaimResult try_claim(const MessageKey *key, TimestampTz enqueued_at,
							 QueueSlot *queue, int priority, TimestampTz now,
							 InflightEntry **result, TimestampTz *due,
							 TimestampTz *other);
static ClaimResult enter_claimed(InflightEntry *entry, TimestampTz enqueued_at,
								 QueueSlot *queue, uint32 hashcode);
static ClaimResult claim_existing(InflightEntry *entry,
								  TimestampTz enqueued_at, QueueSlot *queue,
								  TimestampTz now, TimestampTz *due,
								  TimestampTz *other, LeasesBehind *leases);
static ClaimResult claim_nobodys(InflightEntry *entry, TimestampTz now,
								 TimestampTz *due);
static bool forget_fence(InflightEntry *entry, void *arg);
static bool drop_entry(InflightEntry *entry, void *arg);
static bool count_held(InflightEntry *entry, void *arg);
static bool end_received(InflightEntry *entry, void *arg);
static LWLock *lock_entry(InflightEntry *entry);
static InflightEntry *find_locked(const MessageKey *key, LWLock **lock);
static InflightEntry *find_to_read(const MessageKey *key, LWLock **lock);
static void note_change(InflightEntry *entry, uint32 hashcode);
static void init_entry(InflightEntry *entry, TimestampTz enqueued_at,
					   uint32 hashcode);
static void set_claimed(InflightEntry *entry, bool is_step);
static bool is_lease(const InflightEntry *entry, uint64 number);
static bool is_partition(const InflightEntry *entry);
static bool is_plain_lease(const InflightEntry *entry);
static bool has_fence(const InflightEntry *entry, uint64 number);
static bool is_at_limit(const InflightEntry *entry);
static bool is_held(const InflightEntry *entry);
static bool has_nothing_left(const InflightEntry *entry);
static void set_idle(InflightEntry *entry, TimestampTz due);
static void set_lapsed(InflightEntry *entry);
static void offer(InflightEntry *entry, bool wakes);
static void watch_deadline(InflightEntry *entry);
static int	rank_of(const InflightEntry *entry);
static void end_uncounted(InflightEntry *entry);
static LeasesBehind behind(const InflightEntry *entry);
static void end_leases_behind(const MessageKey *key,
							  const LeasesBehind *leases);
static void remove_if_nothing_left(InflightEntry *entry);
static void forget_entry(InflightEntry *entry);
static void count_failure(InflightEntry *entry, const FailureNote *failure);
static void add_note(InflightEntry *entry, const FailureNote *failure);
static void forget_notes(InflightEntry *entry);
static FailureNote renew(const FailureNote *failure,
						 const InflightEntry *entry);
static void set_batch(InflightEntry *entry, int batch);
static void note_untold(InflightEntry *entry, TimestampTz now);
static void end_log(InflightEntry *entry);
static void end_fence(InflightEntry *entry);
static void move_fence(InflightEntry *entry);
static void forget_lapse(InflightEntry *entry);
static SettleResult revive_lease(InflightEntry *entry);
static LeasesBehind expire_entry(InflightEntry *entry);
static bool expire_if_due(InflightEntry *entry, TimestampTz now,
						  LeasesBehind *leases);
static void fail_entry(InflightEntry *entry, const FailureNote *failure);

/*
 * queue_inflight_shmem_size
 *		Shared memory needed for the table.
 */
Size
queue_inflight_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(InflightShared)),
					hash_estimate_size(queue_max_in_flight,
									   sizeof(InflightEntry)));
}

/* Number of LWLocks needed. */
int
queue_inflight_nlocks(void)
{
	return NUM_PARTITIONS;
}

/*
 * queue_inflight_shmem_init
 *		Create or attach to the table.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_inflight_shmem_init(void)
{
	HASHCTL		info;
	bool		found;
	int			i;

	shared = ShmemInitStruct("queue in-flight", sizeof(InflightShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(InflightShared));
		if (!pg_strong_random(&shared->epoch, sizeof(shared->epoch)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random number")));
		pg_atomic_init_u64(&shared->next_number, 1);
		pg_atomic_init_u32(&shared->has_lapsed, 0);
		for (i = 0; i < NUM_PARTITIONS; i++)
		{
			dlist_init(&shared->entries[i]);
			dlist_init(&shared->changed[i]);
		}
	}

	/* room is fixed, so that a full table is noticed by a claim */
	info.keysize = sizeof(MessageKey);
	info.entrysize = sizeof(InflightEntry);
	info.num_partitions = NUM_PARTITIONS;
	table = ShmemInitHash("queue in-flight messages",
						  queue_max_in_flight, &info,
						  HASH_ELEM | HASH_BLOBS | HASH_PARTITION |
						  HASH_FIXED_SIZE);
	locks = GetNamedLWLockTranche("queue_inflight");
}

/* Return the number of entries, of all databases. */
int
queue_inflight_size(void)
{
	return (int) hash_get_num_entries(table);
}

/* Return the fence of all leases that are given while shared memory lives. */
uint64
queue_inflight_epoch(void)
{
	return shared->epoch;
}

/* ----------------------------------------------------------------
 *		Claims
 * ----------------------------------------------------------------
 */

/*
 * queue_inflight_claim
 *		Claim a message that is held by none, before its row is examined.
 *
 * On CLAIM_OK, *result is the entry, and the caller takes the message, leases
 * it or gives the claim back.
 *
 * A lease found past its deadline is ended here: expiry is computed by the
 * first process that looks, so a worker that does not run hides nothing.
 *
 * On CLAIM_NOT_DUE, *due is lowered to the time when it is due.  On
 * CLAIM_OTHER, *other is when the row was sent that the entry is about.  The
 * caller has to find out which of both exists, because a scan may return a row
 * that has gone meanwhile.  If that other row is held, the end of that is not
 * announced for this one.  The result is then CLAIM_EXAMINED, so that the caller
 * looks again.
 */
ClaimResult
queue_inflight_claim(const MessageKey *key, TimestampTz enqueued_at,
					 QueueSlot *queue, int priority, TimestampTz now,
					 InflightEntry **result, TimestampTz *due,
					 TimestampTz *other)
{
	ClaimResult why = try_claim(key, enqueued_at, queue, priority, now, result,
								due, other);

	/* entries kept for late receipts alone make room */
	if (why == CLAIM_FULL &&
		pg_atomic_exchange_u32(&shared->has_lapsed, 0) != 0)
	{
		walk(InvalidOid, forget_fence, NULL);
		why = try_claim(key, enqueued_at, queue, priority, now, result,
						due, other);
	}
	return why;
}

/*
 * try_claim
 *		The same, without making room.
 *
 * A new entry is entered; CLAIM_FULL if there is no room for it.
 */
static ClaimResult
try_claim(const MessageKey *key, TimestampTz enqueued_at,
		  QueueSlot *queue, int priority, TimestampTz now,
		  InflightEntry **result, TimestampTz *due, TimestampTz *other)
{
	uint32		hashcode = get_hash_value(table, key);
	LWLock	   *lock = partition_lock(hashcode);
	InflightEntry *entry;
	ClaimResult why = CLAIM_FULL;
	LeasesBehind leases = {0};
	bool		found;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(table, key, hashcode,
										HASH_ENTER_NULL, &found);
	if (entry != NULL)
		why = found ?
			claim_existing(entry, enqueued_at, queue, now, due, other,
						   &leases) :
			enter_claimed(entry, enqueued_at, queue, hashcode);
	if (why == CLAIM_OK)
	{
		set_claimed(entry, false);
		entry->priority = priority;
		*result = entry;
	}
	LWLockRelease(lock);
	end_leases_behind(key, &leases);
	return why;
}

/*
 * enter_claimed
 *		Initialise an entry just entered, unless that exceeds a share.
 *
 * If it does, the entry is removed again.  The partition is locked, here and
 * in the two functions below.
 */
static ClaimResult
enter_claimed(InflightEntry *entry, TimestampTz enqueued_at,
			  QueueSlot *queue, uint32 hashcode)
{
	if (!queue_quota_charge(entry->key.dbid, entry->key.relid, true))
	{
		hash_search_with_hash_value(table, &entry->key, hashcode, HASH_REMOVE,
									NULL);
		return CLAIM_FULL;
	}
	init_entry(entry, enqueued_at, hashcode);
	entry->queue = queue;
	return CLAIM_OK;
}

/*
 * claim_existing
 *		Claim a message of whose id there is something to remember.
 *
 * That may be about another row.  If nothing is left of it that matters, the
 * entry becomes this row's.  If a lease has run out, *leases is set.
 */
static ClaimResult
claim_existing(InflightEntry *entry, TimestampTz enqueued_at,
			   QueueSlot *queue, TimestampTz now, TimestampTz *due,
			   TimestampTz *other, LeasesBehind *leases)
{
	if (queue != NULL)
		entry->queue = queue;
	if (entry->enqueued_at != enqueued_at)
	{
		if (!has_nothing_left(entry))
		{
			*other = entry->enqueued_at;
			return is_held(entry) ? CLAIM_EXAMINED : CLAIM_OTHER;
		}
		entry->enqueued_at = enqueued_at;
		entry->logged = LOG_NOTHING;
		entry->logged_failures = 0;
		entry->counted = 0;
		ItemPointerSetInvalid(&entry->tid);
	}
	if (queue_lease_has_run_out(entry, now))
		*leases = expire_entry(entry);
	if (entry->state == INFLIGHT_IDLE && entry->member.group != NULL &&
		entry->deadline <= now)
		offer(entry, false);
	return claim_nobodys(entry, now, due);
}

/*
 * claim_nobodys
 *		Claim a message if none holds it and it is due.
 */
static ClaimResult
claim_nobodys(InflightEntry *entry, TimestampTz now, TimestampTz *due)
{
	MessageStatus status;

	queue_entry_status(entry, now, &status);
	if (status.is_claimed)
		return entry->is_step ? CLAIM_HELD : CLAIM_EXAMINED;
	switch (status.availability)
	{
		case MESSAGE_AVAILABLE:
			return CLAIM_OK;
		case MESSAGE_EXHAUSTED:
			/* put off: the worker could not move it */
			return entry->since > now ? CLAIM_HELD : CLAIM_EXHAUSTED;
		case MESSAGE_EXPIRED:
			Assert(false);		/* the entry does not tell */
			break;
		case MESSAGE_HELD:
			if (status.due == 0)
				return CLAIM_HELD;
			pg_fallthrough;
		case MESSAGE_NOT_DUE:
			*due = Min(*due, status.due);
			watch_deadline(entry);
			return CLAIM_NOT_DUE;
	}
	return CLAIM_HELD;			/* keep the compiler quiet */
}

/*
 * queue_inflight_claim_step
 *		Claim a message that has an entry, for a step of the worker.
 *
 * It need not be due, and may be exhausted.  Returns false if it has no entry,
 * is held, or is leased, or a consumer is looking at its group.
 */
bool
queue_inflight_claim_step(const MessageKey *key, TimestampTz now,
						  InflightEntry **result)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	LeasesBehind leases = {0};
	bool		is_ours;

	if (entry != NULL && queue_lease_has_run_out(entry, now))
		leases = expire_entry(entry);
	is_ours = entry != NULL && entry->state == INFLIGHT_IDLE &&
		(entry->group_hash == 0 || entry->member.group != NULL ||
		 queue_group_join_step(&entry->member, &entry->key, entry->group_hash,
							   entry->queue));
	if (is_ours)
		set_claimed(entry, true);
	LWLockRelease(lock);
	end_leases_behind(key, &leases);
	*result = entry;
	return is_ours;
}

/*
 * queue_inflight_claim_idle
 *		Claim a partition that has an entry, to set its position.
 *
 * It need not be due, and may be exhausted.  Returns false if it has no entry,
 * is held, or is leased.
 */
bool
queue_inflight_claim_idle(const MessageKey *key, InflightEntry **result)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		is_ours = entry != NULL && is_partition(entry) &&
		entry->state == INFLIGHT_IDLE;

	if (is_ours)
		set_claimed(entry, false);
	LWLockRelease(lock);
	*result = entry;
	return is_ours;
}

/*
 * queue_inflight_forget
 *		Forget what is remembered of a row that has gone.
 *
 * The caller has seen another row with this id, or none.  Nothing happens if
 * the entry is about another row by now, or is held, because its holder will
 * find out.
 */
void
queue_inflight_forget(const MessageKey *key, TimestampTz enqueued_at)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL && entry->enqueued_at == enqueued_at &&
		!is_held(entry))
		forget_entry(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_unclaim
 *		Give a claim back; what was remembered of the message stays.
 *
 * The caller has the message in the window that it is scanning, so it sees to
 * the cover.
 */
void
queue_inflight_unclaim(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	entry->state = INFLIGHT_IDLE;
	entry->is_step = false;
	if (entry->member.group != NULL)
		offer(entry, false);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_hold_group
 *		A message that is claimed holds its group, which the caller has out.
 *
 * "call" tells who may take more of the group; see queue_group_join().
 */
void
queue_inflight_hold_group(InflightEntry *entry, GroupEntry *group, uint64 call)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	entry->group_hash = (uint64) group->key.id;
	entry->member.key = &entry->key;
	queue_group_join(&entry->member, group, call);
	LWLockRelease(lock);
}

/*
 * queue_inflight_unclaim_step
 *		The worker gives its claim back, and offers the message.
 *
 * Consumers that met it meanwhile have passed it by.
 */
void
queue_inflight_unclaim_step(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	entry->state = INFLIGHT_IDLE;
	entry->is_step = false;
	offer(entry, true);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_end_delay
 *		A back-off that the row does not tell yet is over; the caller holds a
 *		claim.
 */
void
queue_inflight_end_delay(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	entry->is_delayed = false;
	entry->deadline = 0;
	queue_deadline_clear(&entry->due);
	LWLockRelease(lock);
}

/*
 * queue_inflight_exhaust
 *		Give a claim back and mark the message as exhausted.
 *
 * The worker moves it, or marks its row.
 */
void
queue_inflight_exhaust(InflightEntry *entry, int counted)
{
	LWLock	   *lock = lock_entry(entry);

	entry->counted = counted;
	entry->is_exhausted = true;
	set_idle(entry, 0);
	offer(entry, true);
	LWLockRelease(lock);
}

/*
 * queue_inflight_leave_group
 *		A message that is claimed does not hold its group, because it has
 *		expired.
 */
void
queue_inflight_leave_group(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	queue_group_leave(&entry->member, false, 0, 0, true);
	LWLockRelease(lock);
}

/*
 * queue_inflight_dequeue
 *		From a claim to a take: this transaction has deleted the row, and
 *		holds the message until it ends.
 */
void
queue_inflight_dequeue(InflightEntry *entry, const RetryPolicy *retry,
					   int counted, ItemPointer tid)
{
	LWLock	   *lock = lock_entry(entry);

	entry->state = INFLIGHT_DEQUEUED;
	entry->is_counted = queue_held_add(entry->queue);
	move_fence(entry);
	entry->is_delayed = false;
	entry->counted = counted;
	entry->tid = *tid;
	entry->retry = *retry;
	entry->since = GetCurrentTimestamp();
	queue_deadline_clear(&entry->due);
	LWLockRelease(lock);
}

/*
 * queue_inflight_hold
 *		From a claim to a hold until the transaction ends, which sets the
 *		position of a partition.
 *
 * Nothing is taken, so a rollback leaves all that is remembered as it was: what
 * has failed, and when it is due.
 */
void
queue_inflight_hold(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(is_partition(entry) && entry->state == INFLIGHT_CLAIMED);
	entry->state = INFLIGHT_DEQUEUED;
	entry->is_counted = queue_held_add(entry->queue);
	entry->is_uncounted = true;
	entry->since = GetCurrentTimestamp();
	queue_deadline_clear(&entry->due);
	LWLockRelease(lock);
}

/* Return the number that a lease is to have. */
uint64
queue_inflight_new_number(void)
{
	return pg_atomic_fetch_add_u64(&shared->next_number, 1);
}

/*
 * queue_inflight_lease
 *		From a claim to a lease.
 *
 * At least "batch" messages are taken together.  How many they are is told
 * when that is known.
 */
void
queue_inflight_lease(InflightEntry *entry, uint64 number,
					 const RetryPolicy *retry, int counted, ItemPointer tid,
					 TimestampTz deadline, int batch)
{
	LWLock	   *lock = lock_entry(entry);

	entry->state = INFLIGHT_LEASED;
	entry->is_counted = queue_held_add(entry->queue);
	move_fence(entry);
	entry->is_settling = false;
	entry->is_written = false;
	entry->is_open = true;
	entry->is_passed_over = false;
	entry->is_delayed = false;
	entry->counted = counted;
	entry->tid = *tid;
	entry->retry = *retry;
	entry->epoch = shared->epoch;
	entry->number = number;
	entry->batch = Min(batch, FAILURE_MAX_BATCH);
	entry->nleft = batch;
	entry->role = GetOuterUserId();
	strlcpy(entry->application, application_name, SHORT_NAME_SIZE);
	entry->receiver_pid = MyProcPid;
	entry->receiver_address = *queue_client_address();
	entry->since = GetCurrentTimestamp();
	entry->deadline = deadline;
	queue_deadline_set(entry->queue, &entry->key, &entry->due, deadline);
	LWLockRelease(lock);
}

/*
 * queue_inflight_receiver
 *		Return who received what is leased, from a copy of the entry.
 */
Client
queue_inflight_receiver(const InflightEntry *entry)
{
	Client		client = {0};

	client.pid = entry->receiver_pid;
	client.role = entry->role;
	client.address = entry->receiver_address;
	strlcpy(client.application, entry->application, SHORT_NAME_SIZE);
	return client;
}

/*
 * queue_inflight_set_batch
 *		So many messages were received together with this one, itself among
 *		them.
 */
void
queue_inflight_set_batch(const MessageKey *key, uint64 number, int batch)
{
	LWLock	   *lock;
	InflightEntry *entry = find_to_read(key, &lock);

	if (has_fence(entry, number))
		set_batch(entry, batch);
	LWLockRelease(lock);
}

/* ----------------------------------------------------------------
 *		Settling
 * ----------------------------------------------------------------
 */

/*
 * queue_inflight_settle
 *		Begin to settle the lease with this fence.
 *
 * On SETTLE_OK the caller holds the lease in *result: it does not end before
 * the caller, or its transaction, has finished.
 *
 * The fence decides, not the clock: a lease that ran out is good until a
 * consumer takes the message, or another one of its group, whether its end was
 * noticed or not.  If it was, the lease is revived, and its failure is taken
 * back, unless the row counts it already.
 */
SettleResult
queue_inflight_settle(const MessageKey *key, uint64 epoch, uint64 number,
					  InflightEntry **result)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	SettleResult res;

	if (entry == NULL)
		res = SETTLE_LOST;
	else if (entry->epoch != epoch || entry->number != number)
		res = entry->state == INFLIGHT_DEQUEUED ||
			entry->state == INFLIGHT_LEASED ? SETTLE_HELD : SETTLE_LOST;
	else if (entry->state == INFLIGHT_LEASED && entry->is_settling)
		res = (!entry->is_prepared && entry->holder == MyProcNumber) ?
			SETTLE_SELF : SETTLE_BUSY;
	else if (entry->state != INFLIGHT_LEASED && !entry->is_lapsed)
		res = entry->state == INFLIGHT_DEQUEUED ? SETTLE_HELD :
			SETTLE_GIVEN_BACK;
	else if (entry->state == INFLIGHT_CLAIMED)
		res = SETTLE_EXAMINED;
	else
		res = entry->state == INFLIGHT_IDLE ? revive_lease(entry) : SETTLE_OK;
	if (res == SETTLE_OK)
	{
		entry->is_settling = true;
		entry->is_prepared = false;
		entry->holder = MyProcNumber;
		entry->holder_pid = MyProcPid;
		*result = entry;
	}
	LWLockRelease(lock);
	return res;
}

/*
 * queue_inflight_settle_any
 *		The same for any lease of this row, because a purge ends it.
 *
 * Returns SETTLE_LOST if there is none.
 */
SettleResult
queue_inflight_settle_any(const MessageKey *key, TimestampTz enqueued_at,
						  InflightEntry **result)
{
	InflightEntry copy;

	if (!queue_inflight_peek(key, enqueued_at, &copy) ||
		(copy.state != INFLIGHT_LEASED && !copy.is_lapsed))
		return SETTLE_LOST;
	return queue_inflight_settle(key, copy.epoch, copy.number, result);
}

/*
 * queue_inflight_nack
 *		End the lease, because its consumer failed.
 *
 * Counts a failure, of so many messages together.  If the row counts already
 * that the lease ran out, it is to tell why.  The message is due again after
 * "delay", or after the back-off of the queue if delay is negative.  "counted"
 * is how many the row has.
 */
void
queue_inflight_nack(InflightEntry *entry, const RetryPolicy *retry,
					int counted, int64 delay, const FailureNote *failure,
					int together)
{
	MessageKey	key = entry->key;
	FailureNote note = *failure;
	LeasesBehind leases = behind(entry);
	LWLock	   *lock = lock_entry(entry);

	if (entry->batch > 0)
		together = Min(together, entry->batch);
	note.batch = Min(together, FAILURE_MAX_BATCH);
	entry->counted = counted;
	entry->retry = *retry;
	if (!entry->is_lapse_counted)
		count_failure(entry, &note);
	else if (note.kind == FAILURE_NACKED)
	{
		entry->is_retold |= entry->nnotes == 0;
		add_note(entry, &note);
	}
	if (delay < 0)
		delay = queue_failure_delay(&entry->retry, counted + entry->failures);
	set_idle(entry, delay > 0 ? failure->at + delay : 0);
	entry->is_lapse_counted = false;
	if (is_at_limit(entry))
	{
		entry->is_exhausted = true;
		entry->deadline = 0;
	}
	else if (delay > 0)
		entry->is_delayed = true;
	queue_group_move_fence(&entry->member);
	offer(entry, true);
	LWLockRelease(lock);
	end_leases_behind(&key, &leases);
}

/*
 * queue_inflight_release
 *		End the lease as if it had not been given; the message is due again
 *		after "delay".
 *
 * What the row counts of that lease already stays.  Leases on messages of its
 * group behind it end, too, or those would be settled before it.
 */
void
queue_inflight_release(InflightEntry *entry, int64 delay)
{
	MessageKey	key = entry->key;
	LeasesBehind leases = behind(entry);
	LWLock	   *lock = lock_entry(entry);

	entry->is_lapse_counted = false;
	set_idle(entry, delay > 0 ? GetCurrentTimestamp() + delay : 0);
	entry->is_delayed = delay > 0;
	queue_group_move_fence(&entry->member);
	offer(entry, true);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
	end_leases_behind(&key, &leases);
}

/*
 * queue_inflight_extend
 *		Let the lease end at another time, and stop settling it.
 */
void
queue_inflight_extend(InflightEntry *entry, TimestampTz deadline)
{
	LWLock	   *lock = lock_entry(entry);

	entry->deadline = deadline;
	entry->is_written = false;
	entry->is_settling = false;
	if (entry->is_behind_failed)
	{
		end_uncounted(entry);
		LWLockRelease(lock);
		return;
	}
	queue_deadline_set(entry->queue, &entry->key, &entry->due,
					   entry->deadline);
	LWLockRelease(lock);
}

/*
 * queue_inflight_extend_settling
 *		The same for a partition of which this transaction has settled a part:
 *		it holds the lease until it ends.
 */
void
queue_inflight_extend_settling(InflightEntry *entry, TimestampTz deadline)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->is_settling && entry->holder == MyProcNumber);
	entry->deadline = deadline;
	entry->is_written = false;
	LWLockRelease(lock);
}

/*
 * queue_inflight_set_batch_ids
 *		The batch of a partition that this process has claimed begins and ends
 *		with these ids.
 */
void
queue_inflight_set_batch_ids(InflightEntry *entry, int64 first_id,
							 int64 last_id)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(is_partition(entry) && entry->holder == MyProcNumber);
	entry->first_id = first_id;
	entry->last_id = last_id;
	LWLockRelease(lock);
}

/* That of one which it holds ends with this id. */
void
queue_inflight_set_last(InflightEntry *entry, int64 last_id)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(is_partition(entry) && entry->holder == MyProcNumber);
	entry->last_id = last_id;
	LWLockRelease(lock);
}

/*
 * queue_inflight_is_consumed
 *		Is what is remembered of a partition about messages that are consumed,
 *		because its position is this one, or are gone up to it?
 *
 * The log of leases is written behind, so after a crash it may tell of a batch
 * whose last message was consumed, and so it does if that was prepared.  Of a
 * message there is no row then.
 */
bool
queue_inflight_is_consumed(const InflightEntry *entry, int64 position)
{
	return is_partition(entry) && entry->last_id != 0 &&
		entry->last_id <= position;
}

/* Forget that, but for the log; this process has a claim on the partition. */
void
queue_inflight_forget_consumed(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(is_partition(entry) && entry->state == INFLIGHT_CLAIMED &&
		   entry->holder == MyProcNumber);
	entry->failures = 0;
	entry->failed_at = 0;
	entry->first_id = entry->last_id = 0;
	forget_lapse(entry);
	forget_notes(entry);
	LWLockRelease(lock);
}

/* Forget a lease like that, unless it is held, or the partition was taken since. */
void
queue_inflight_forget_lease(const MessageKey *key, uint64 epoch, uint64 number)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL && entry->epoch == epoch && entry->number == number &&
		(entry->state == INFLIGHT_LEASED || entry->is_lapsed) &&
		!is_held(entry))
		forget_entry(entry);
	LWLockRelease(lock);
}

/* ----------------------------------------------------------------
 *		Ends of transactions: no allocation, no error
 * ----------------------------------------------------------------
 */

/*
 * queue_inflight_done
 *		The message is consumed: forget it.
 *
 * Returns true if queue.lease may have a row of it; then the entry stays until
 * the worker has removed that row.
 */
bool
queue_inflight_done(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);
	bool		is_durable = entry->is_durable;

	forget_entry(entry);
	LWLockRelease(lock);
	return is_durable;
}

/*
 * queue_inflight_go_on
 *		A part of what was received of a partition is consumed: the lease goes
 *		on for the rest.
 *
 * What had failed was the first message, which is consumed.
 */
void
queue_inflight_go_on(InflightEntry *entry, int nconsumed)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(is_partition(entry) && entry->is_settling);
	entry->nleft = Max(entry->nleft - nconsumed, 0);
	entry->failures = 0;
	entry->counted = 0;
	entry->failed_at = 0;
	entry->is_lapse_counted = false;
	entry->is_written = false;
	forget_notes(entry);
	LWLockRelease(lock);
	queue_inflight_undo_settle(entry);
}

/*
 * queue_inflight_fail_next
 *		What was dequeued of a partition is consumed, and what comes next has
 *		failed so often meanwhile, together with those up to an id.
 *
 * If it had been leased, that has ended.
 */
void
queue_inflight_fail_next(InflightEntry *entry, const FailureNote *failure,
						 int nfailed, int64 last_id)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(is_partition(entry) &&
		   (entry->state == INFLIGHT_DEQUEUED || entry->is_settling));
	entry->failures = 0;
	entry->counted = 0;
	entry->failed_at = 0;
	entry->is_exhausted = false;
	entry->is_delayed = false;
	entry->is_lapse_counted = false;
	entry->first_id = 0;
	entry->last_id = last_id;
	forget_notes(entry);
	set_idle(entry, 0);
	for (int i = 1; i < nfailed; i++)
		count_failure(entry, failure);
	fail_entry(entry, failure);
	offer(entry, true);
	LWLockRelease(lock);
}

/*
 * queue_inflight_undo_dequeue
 *		The transaction that dequeued the message is rolled back.
 *
 * "failure" is counted, unless it is NULL, or nothing was taken.
 */
void
queue_inflight_undo_dequeue(InflightEntry *entry, const FailureNote *failure)
{
	LWLock	   *lock = lock_entry(entry);
	bool		counts = failure != NULL && !entry->is_uncounted;

	set_idle(entry, entry->is_uncounted ? entry->deadline : 0);
	if (counts)
		fail_entry(entry, failure);
	else if (entry->failures > 0)
		note_untold(entry, entry->since);
	offer(entry, true);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_undo_prepared
 *		The same for a prepared transaction; the failure was noted at PREPARE.
 */
void
queue_inflight_undo_prepared(InflightEntry *entry, const FailureNote *failure)
{
	FailureNote note;

	if (failure != NULL)
		note = renew(failure, entry);
	queue_inflight_undo_dequeue(entry, failure != NULL ? &note : NULL);
}

/*
 * queue_inflight_undo_settle
 *		The transaction that settled the lease is rolled back: the lease goes
 *		on.
 *
 * If its deadline has passed by now, it ends.
 */
void
queue_inflight_undo_settle(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);
	MessageKey	key = entry->key;
	LeasesBehind leases = {0};

	if (entry->is_behind_failed)
	{
		end_uncounted(entry);
		LWLockRelease(lock);
		return;
	}
	entry->is_settling = false;
	entry->is_prepared = false;
	if (entry->deadline > GetCurrentTimestamp())
		watch_deadline(entry);
	else
	{
		leases = expire_entry(entry);
		offer(entry, true);
	}
	LWLockRelease(lock);
	end_leases_behind(&key, &leases);
}

/*
 * queue_inflight_keep_lease
 *		The transaction that received the message is committed.
 *
 * Returns true if the worker passed the lease over because it was still open,
 * so that it is to be written now.  "batch" messages were received together.
 */
bool
queue_inflight_keep_lease(const MessageKey *key, uint64 number, int batch)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		was_passed_over = false;

	if (has_fence(entry, number))
	{
		entry->is_open = false;
		set_batch(entry, batch);
		was_passed_over = entry->is_passed_over;
	}
	LWLockRelease(lock);
	return was_passed_over;
}

/*
 * queue_inflight_undo_lease
 *		The transaction that received the message is rolled back: the lease
 *		ends at once, as a dequeue would.
 *
 * Returns false if it has ended already, or is being settled; a receipt of a
 * lease that ran out is not good any more then.
 */
bool
queue_inflight_undo_lease(const MessageKey *key, uint64 number,
						  const FailureNote *failure)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		ours;

	ours = is_lease(entry, number) && !entry->is_settling;
	if (!ours && has_fence(entry, number) && entry->is_lapsed)
		end_fence(entry);
	if (ours)
	{
		set_idle(entry, 0);
		if (failure != NULL)
			fail_entry(entry, failure);
		offer(entry, true);
		remove_if_nothing_left(entry);
	}
	LWLockRelease(lock);
	return ours;
}

/*
 * queue_inflight_counted
 *		The worker's step is committed: "counted" failures are in the row now,
 *		and the due time, if there was one.
 *
 * With is_log_ended, the same transaction has removed what the log said of the
 * message.
 */
void
queue_inflight_counted(InflightEntry *entry, int counted, bool is_exhausted,
					   bool is_gone, bool is_log_ended)
{
	LWLock	   *lock = lock_entry(entry);
	TimestampTz due = entry->is_delayed ? entry->deadline : 0;

	Assert(entry->state == INFLIGHT_CLAIMED && entry->is_step);
	entry->failures -= Min(counted, entry->failures);
	if (is_gone)
		entry->is_lapsed = false;
	entry->is_lapse_counted = entry->is_lapsed;
	if (is_log_ended)
		end_log(entry);
	entry->failed_at = 0;
	entry->is_exhausted = is_exhausted;
	entry->is_delayed = false;
	forget_notes(entry);
	if (entry->is_lapsed)
		set_lapsed(entry);
	else
		set_idle(entry, 0);
	if (is_partition(entry))
	{
		entry->deadline = due;
		offer(entry, true);
	}
	else if (entry->member.group != NULL && !entry->is_exhausted)
		queue_group_leave(&entry->member, !is_gone, rank_of(entry), due, true);
	else if (due <= entry->since)
		offer(entry, true);
	else
		queue_cover_add_delayed(entry->queue, &entry->key, entry->priority,
								due);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_drop
 *		Forget the messages of a queue that is dropped or truncated.
 *
 * If relid is InvalidOid, the database or its extension is dropped.  Only the
 * transaction that does so can hold a message of it now, so leases and
 * failures are all there is to forget.
 */
void
queue_inflight_drop(Oid dbid, Oid relid)
{
	/*
	 * Mostly there are none.  The transaction that dropped the queue has its
	 * table locked, so none come.
	 */
	if (!OidIsValid(relid) || !queue_quota_is_unused(dbid, relid))
		walk(dbid, drop_entry, &relid);
	queue_group_drop(dbid, relid);
}

/* Visitor: forget an entry of a dropped queue, unless it is held. */
static bool
drop_entry(InflightEntry *entry, void *arg)
{
	Oid			relid = *(Oid *) arg;

	if ((OidIsValid(relid) && entry->key.relid != relid) || is_held(entry))
		return true;
	if (!OidIsValid(relid))
		end_log(entry);
	forget_entry(entry);
	return true;
}

/*
 * queue_inflight_set_prepared
 *		PREPARE: the entry is held by a slot of the registry from now on.
 *
 * It is put before *list, which becomes the entry.  "batch" messages were
 * dequeued together; or a lease goes on if it commits.  Of a partition, so many
 * are consumed then.
 */
void
queue_inflight_set_prepared(InflightEntry *entry, int slot, int batch,
							bool goes_on, int nconsumed, InflightEntry **list)
{
	LWLock	   *lock = lock_entry(entry);

	if (entry->state == INFLIGHT_DEQUEUED)
		entry->batch = Min(batch, FAILURE_MAX_BATCH);

	entry->is_prepared = true;
	entry->goes_on = goes_on;
	entry->nconsumed = nconsumed;
	entry->holder = slot;
	entry->holder_pid = 0;
	entry->next_prepared = *list;
	*list = entry;
	queue_group_disown(&entry->member);
	LWLockRelease(lock);
}

/*
 * queue_inflight_receive_prepared
 *		PREPARE of the transaction that received the message.
 *
 * Returns false if its receipt is not good any more.  The lease stays what it
 * is, but if the prepared transaction is rolled back, it ends, and its receipt
 * with it.
 */
bool
queue_inflight_receive_prepared(const MessageKey *key, uint64 number,
								int batch, int slot)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		ours;

	ours = has_fence(entry, number);
	if (ours)
	{
		entry->receive_slot = slot + 1;
		set_batch(entry, batch);
	}
	LWLockRelease(lock);
	return ours;
}

/*
 * queue_inflight_receive_ended
 *		The prepared transaction of this slot has ended: so have leases that
 *		it received, if it was rolled back.
 */
void
queue_inflight_receive_ended(int slot, bool committed,
							 const FailureNote *failure)
{
	PreparedEnd end = {slot, committed, failure};

	walk(InvalidOid, end_received, &end);
}

/* Visitor: what that means for one entry. */
static bool
end_received(InflightEntry *entry, void *arg)
{
	PreparedEnd *end = arg;

	if (entry->receive_slot != end->slot + 1)
		return true;
	note_change(entry, get_hash_value(table, &entry->key));
	entry->receive_slot = 0;
	entry->is_open = false;
	if (!end->committed && entry->is_lapsed)
	{
		end_fence(entry);
		return true;
	}
	if (end->committed || !is_plain_lease(entry))
		return true;
	set_idle(entry, 0);
	if (end->failure != NULL)
	{
		FailureNote note = renew(end->failure, entry);

		fail_entry(entry, &note);
	}
	offer(entry, true);
	remove_if_nothing_left(entry);
	return true;
}

/* ----------------------------------------------------------------
 *		The worker
 * ----------------------------------------------------------------
 */

/*
 * queue_inflight_visit
 *		Show each entry of this database to the visitor.
 *
 * The visitor may change flags but neither state nor existence.  It must not
 * allocate, because a partition is locked.  It returns false to end the visit.
 */
void
queue_inflight_visit(InflightVisitor visitor, void *arg)
{
	walk(MyDatabaseId, visitor, arg);
}

/*
 * queue_inflight_visit_changed
 *		The same for entries that have changed.
 *
 * The visitor returns true if there is still something to do about the entry.
 * Otherwise it is shown again when it changes.
 */
void
queue_inflight_visit_changed(InflightVisitor visitor, void *arg)
{
	int			i;

	for (i = 0; i < NUM_PARTITIONS; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&locks[i].lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &shared->changed[i])
		{
			InflightEntry *entry =
				dlist_container(InflightEntry, changed, iter.cur);

			if (entry->key.dbid != MyDatabaseId || visitor(entry, arg))
				continue;
			dlist_delete(&entry->changed);
			entry->is_changed = false;
		}
		LWLockRelease(&locks[i].lock);
	}
}

/*
 * queue_inflight_watch
 *		Let a lease end on time that was loaded before its queue had a slot.
 */
void
queue_inflight_watch(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = find_to_read(key, &lock);

	if (entry != NULL && is_plain_lease(entry))
		watch_deadline(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_count_held
 *		Let a queue count leases that were loaded before it had a slot.
 */
void
queue_inflight_count_held(QueueSlot *slot, Oid relid)
{
	HeldCount	count = {slot, relid};

	if (!queue_quota_is_unused(MyDatabaseId, relid))
		walk(MyDatabaseId, count_held, &count);
	queue_held_set_complete(slot);
}

/* Visitor: count one. */
static bool
count_held(InflightEntry *entry, void *arg)
{
	HeldCount  *count = arg;

	if (entry->key.relid == count->relid &&
		entry->state == INFLIGHT_LEASED && !entry->is_counted)
	{
		entry->queue = count->slot;
		entry->is_counted = queue_held_add(count->slot);
	}
	return true;
}

/*
 * queue_inflight_expire
 *		End a lease that is past its deadline; returns true if it was.
 */
bool
queue_inflight_expire(const MessageKey *key, TimestampTz now)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	LeasesBehind leases = {0};
	bool		expired = expire_if_due(entry, now, &leases);

	LWLockRelease(lock);
	end_leases_behind(key, &leases);
	return expired;
}

/*
 * queue_inflight_end_due
 *		End the leases and back-offs of a queue that are due.
 *
 * Expiry is computed, not performed: the first process that looks at a queue
 * ends what is due there.  An entry that has changed since its due time was
 * set is left to the process that changed it.  Lower ids come first, because
 * each of them wakes a waiter, which takes what it finds.
 */
void
queue_inflight_end_due(QueueSlot *queue, Oid relid, TimestampTz now)
{
	MessageKey	keys[DUE_BATCH];
	int			n;

	do
	{
		int			i;

		n = queue_deadline_pop(queue, relid, now, keys, DUE_BATCH);
		if (n > 1)
			qsort(keys, n, sizeof(MessageKey), queue_message_key_compare);
		for (i = 0; i < n; i++)
		{
			LWLock	   *lock;
			InflightEntry *entry = find_locked(&keys[i], &lock);
			LeasesBehind leases = {0};

			if (!expire_if_due(entry, now, &leases) && entry != NULL)
			{
				if (is_plain_lease(entry))
					watch_deadline(entry);
				else if (entry->state == INFLIGHT_IDLE)
					offer(entry, true);
			}
			LWLockRelease(lock);
			end_leases_behind(&keys[i], &leases);
		}
	} while (n == DUE_BATCH);
}

/*
 * queue_inflight_postpone
 *		Put off the next step on this message until then.
 */
void
queue_inflight_postpone(const MessageKey *key, TimestampTz until)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL && entry->state == INFLIGHT_IDLE)
		entry->since = until;
	LWLockRelease(lock);
}

/*
 * queue_inflight_restore
 *		After a start, enter what the log says of a message.
 *
 * Returns false if there is no room.  The row may have gone, and another one
 * may have its id; the first claim sees that.
 *
 * A lease whose time is over may have been ended before the memory was lost,
 * and the message given to another consumer.  So it is over now, and its
 * receipt is not good any more.
 */
bool
queue_inflight_restore(const LeaseRecord *record)
{
	uint32		hashcode = get_hash_value(table, &record->key);
	LWLock	   *lock = partition_lock(hashcode);
	TimestampTz now = GetCurrentTimestamp();
	InflightEntry *entry;
	bool		found;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(table, &record->key, hashcode,
										HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
	{
		(void) queue_quota_charge(record->key.dbid, record->key.relid, false);
		init_entry(entry, record->enqueued_at, hashcode);
		entry->queue = queue_slot_find(record->key.relid);
		entry->since = now;
		entry->is_durable = true;
		entry->logged = record->kind;
		entry->failures = record->failures;
		entry->logged_failures = record->failures;
		if (is_partition(entry))
			entry->last_id = (int64) record->group_hash;
		else
			entry->group_hash = record->group_hash;
		if (entry->group_hash != 0)
			queue_group_join_hash(&entry->member, &entry->key,
								  entry->group_hash, entry->queue);
		if (record->kind == LOG_LEASE)
		{
			entry->state = INFLIGHT_LEASED;
			entry->is_counted = queue_held_add(entry->queue);
			entry->is_written = true;
			entry->epoch = record->epoch;
			entry->number = record->number;
			entry->deadline = record->deadline;
			if (record->since != 0)
				entry->since = record->since;
			entry->role = record->role;
			strlcpy(entry->application, record->application,
					SHORT_NAME_SIZE);
			if (entry->deadline > now)
				watch_deadline(entry);
			else
			{
				entry->number = 0;
				(void) expire_entry(entry);
				if (entry->member.group != NULL)
					offer(entry, false);
			}
		}
		else if (record->kind == LOG_DEQUEUED)
		{
			FailureNote lost = {now, 0, 0, FAILURE_ROLLED_BACK, 0};

			count_failure(entry, &lost);
			if (entry->member.group != NULL)
				offer(entry, false);
		}
		else if (record->deadline > now)
		{
			entry->deadline = record->deadline;
			entry->is_delayed = true;
			offer(entry, false);
		}
		else if (entry->member.group != NULL)
			offer(entry, false);
	}
	LWLockRelease(lock);
	return entry != NULL;
}

/* Note what the log now says of a message. */
void
queue_inflight_log_written(const LeaseRecord *record)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(&record->key, &lock);

	if (entry != NULL && entry->enqueued_at == record->enqueued_at)
	{
		entry->logged = record->kind;
		entry->logged_failures = record->failures;
		entry->is_written = record->kind == LOG_LEASE &&
			entry->state == INFLIGHT_LEASED &&
			entry->number == record->number &&
			entry->deadline == record->deadline;
		if (queue_inflight_logged_failures(entry) >= entry->failures)
			entry->failed_at = 0;
	}
	LWLockRelease(lock);
}

/*
 * queue_inflight_log_ended
 *		Note that the log does not mention the message any more.
 *
 * A lease that began meanwhile is written in the next round, because only the
 * worker writes, and has not written that one.
 */
void
queue_inflight_log_ended(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL)
	{
		end_log(entry);
		if (entry->state == INFLIGHT_IDLE)
			remove_if_nothing_left(entry);
	}
	LWLockRelease(lock);
}

/*
 * queue_inflight_logged_failures
 *		Return how many failures, not counted in the row, a crash would make
 *		of what the log says of a message that is held by none now.
 *
 * Returns -1 if it would make a lease of it that has ended.  The partition is
 * locked.
 */
int
queue_inflight_logged_failures(const InflightEntry *entry)
{
	switch (entry->logged)
	{
		case LOG_FAILURES:
			return entry->logged_failures;
		case LOG_DEQUEUED:
			return entry->logged_failures + 1;
		case LOG_LEASE:
			return entry->is_written ? entry->logged_failures + 1 : -1;
		default:
			return 0;
	}
}

/*
 * queue_inflight_has_news
 *		Returns true if the row of a message held by none does not tell all
 *		that it is to tell.
 *
 * Mostly that is a failure.  But the row may count already that a lease ran
 * out, and the consumer may have said more afterwards.  Memory alone knows when
 * a partition is due.  The partition of the table is locked, or the caller holds
 * the entry.
 */
bool
queue_inflight_has_news(const InflightEntry *entry)
{
	return entry->failures > 0 || entry->nnotes > 0 ||
		(entry->is_delayed && !is_partition(entry));
}

/*
 * queue_inflight_read_news
 *		Tell the failures that the row of a message does not tell, for the
 *		holder of the entry.
 */
void
queue_inflight_read_news(const InflightEntry *entry, FailureNews *news)
{
	news->nnotes = entry->nnotes;
	news->is_retold = entry->is_retold;
	memcpy(news->notes, entry->notes, sizeof(news->notes));
	news->nunknown = entry->failures - (entry->nnotes - entry->is_retold);
	news->nunknown = Max(news->nunknown, 0);
}

/*
 * queue_inflight_is_durable
 *		Returns true if queue.lease may have a row of this message.
 */
bool
queue_inflight_is_durable(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = find_to_read(key, &lock);
	bool		is_durable = entry != NULL && entry->is_durable;

	LWLockRelease(lock);
	return is_durable;
}

/*
 * queue_inflight_is_step
 *		Returns true if a worker is rewriting or moving this row right now.
 *
 * *holder is then its proc number.
 */
bool
queue_inflight_is_step(const MessageKey *key, TimestampTz enqueued_at,
					   int *holder)
{
	LWLock	   *lock;
	InflightEntry *entry = find_to_read(key, &lock);
	bool		is_step;

	/* a row that the step is rewriting may not have been read */
	is_step = entry != NULL && entry->state == INFLIGHT_CLAIMED &&
		entry->is_step && (enqueued_at == DT_NOBEGIN ||
						   entry->enqueued_at == enqueued_at);
	if (is_step)
		*holder = entry->holder;
	LWLockRelease(lock);
	return is_step;
}

/*
 * queue_inflight_keys
 *		For views: fill in keys of this database in a partition, at most
 *		"max".
 *
 * Returns how many there are.
 */
int
queue_inflight_keys(int partition, MessageKey *keys, int max)
{
	dlist_iter	iter;
	int			n = 0;

	LWLockAcquire(&locks[partition].lock, LW_SHARED);
	dlist_foreach(iter, &shared->entries[partition])
	{
		const InflightEntry *entry =
			dlist_container(InflightEntry, node, iter.cur);

		if (entry->key.dbid != MyDatabaseId)
			continue;
		if (n < max)
			keys[n] = entry->key;
		n++;
	}
	LWLockRelease(&locks[partition].lock);
	return n;
}

/*
 * queue_inflight_copy
 *		For views: copy an entry, whatever row it is about.
 *
 * Returns false if there is none.
 */
bool
queue_inflight_copy(const MessageKey *key, InflightEntry *copy)
{
	LWLock	   *lock;
	InflightEntry *entry = find_to_read(key, &lock);

	if (entry != NULL)
		*copy = *entry;
	LWLockRelease(lock);
	return entry != NULL;
}

/*
 * queue_inflight_peek
 *		Copy the entry about this row.
 *
 * Returns false if there is none.  It may be out of date at once.
 */
bool
queue_inflight_peek(const MessageKey *key, TimestampTz enqueued_at,
					InflightEntry *copy)
{
	LWLock	   *lock;
	InflightEntry *entry;
	bool		found;

	/* a scan of all rows of a queue mostly finds none: spare the look-up */
	if (queue_quota_is_unused(key->dbid, key->relid))
		return false;

	entry = find_to_read(key, &lock);
	found = entry != NULL && entry->enqueued_at == enqueued_at;
	if (found)
		*copy = *entry;
	LWLockRelease(lock);
	return found;
}

/* ----------------------------------------------------------------
 *		Helpers
 * ----------------------------------------------------------------
 */

/* The lock of the partition that a key with this hash is in */
static LWLock *
partition_lock(uint32 hashcode)
{
	return &locks[hashcode % NUM_PARTITIONS].lock;
}

/*
 * Show all entries of a database, or all there are; the visitor may remove
 * them.
 */
static void
walk(Oid dbid, InflightVisitor visitor, void *arg)
{
	bool		goes_on = true;
	int			i;

	for (i = 0; i < NUM_PARTITIONS && goes_on; i++)
	{
		dlist_mutable_iter iter;

		LWLockAcquire(&locks[i].lock, LW_EXCLUSIVE);
		dlist_foreach_modify(iter, &shared->entries[i])
		{
			InflightEntry *entry =
				dlist_container(InflightEntry, node, iter.cur);

			if (OidIsValid(dbid) && entry->key.dbid != dbid)
				continue;
			goes_on = visitor(entry, arg);
			if (!goes_on)
				break;
		}
		LWLockRelease(&locks[i].lock);
	}
}

/* Lock the partition of an entry that this process holds, to change it. */
static LWLock *
lock_entry(InflightEntry *entry)
{
	uint32		hashcode = get_hash_value(table, &entry->key);
	LWLock	   *lock = partition_lock(hashcode);

	LWLockAcquire(lock, LW_EXCLUSIVE);
	note_change(entry, hashcode);
	return lock;
}

/*
 * find_locked
 *		Look an entry up, to change it.
 *
 * The partition is locked whether there is one or not.
 */
static InflightEntry *
find_locked(const MessageKey *key, LWLock **lock)
{
	InflightEntry *entry = find_to_read(key, lock);

	if (entry != NULL)
		note_change(entry, get_hash_value(table, key));
	return entry;
}

/* The same for a caller that changes nothing */
static InflightEntry *
find_to_read(const MessageKey *key, LWLock **lock)
{
	uint32		hashcode = get_hash_value(table, key);

	*lock = partition_lock(hashcode);
	LWLockAcquire(*lock, LW_EXCLUSIVE);
	return hash_search_with_hash_value(table, key, hashcode, HASH_FIND, NULL);
}

/* There may be something to do for the worker.  The partition is locked. */
static void
note_change(InflightEntry *entry, uint32 hashcode)
{
	if (entry->is_changed)
		return;
	dlist_push_tail(&shared->changed[hashcode % NUM_PARTITIONS],
					&entry->changed);
	entry->is_changed = true;
}

/* Initialise an entry just made, all but the key.  Its partition is locked. */
static void
init_entry(InflightEntry *entry, TimestampTz enqueued_at, uint32 hashcode)
{
	memset((char *) entry + sizeof(MessageKey), 0,
		   sizeof(InflightEntry) - sizeof(MessageKey));
	entry->enqueued_at = enqueued_at;
	entry->priority = -1;
	ItemPointerSetInvalid(&entry->tid);
	dlist_push_head(&shared->entries[hashcode % NUM_PARTITIONS],
					&entry->node);
	note_change(entry, hashcode);
}

/* This process has a claim on it from now on. */
static void
set_claimed(InflightEntry *entry, bool is_step)
{
	entry->state = INFLIGHT_CLAIMED;
	entry->is_step = is_step;
	entry->holder = MyProcNumber;
	entry->holder_pid = MyProcPid;
	entry->is_prepared = false;
}

/* Is it, if not NULL, the lease of that number, given since the start? */
static bool
is_lease(const InflightEntry *entry, uint64 number)
{
	return entry != NULL && entry->state == INFLIGHT_LEASED &&
		entry->epoch == shared->epoch && entry->number == number;
}

/* Is it about a partition of a topic, which a subscription holds? */
static bool
is_partition(const InflightEntry *entry)
{
	return entry->enqueued_at == QUEUE_PARTITION_ROW;
}

/* Is it leased, and not being settled? */
static bool
is_plain_lease(const InflightEntry *entry)
{
	return entry->state == INFLIGHT_LEASED && !entry->is_settling;
}

/* Is it that lease, or has that run out, and is its receipt still good? */
static bool
has_fence(const InflightEntry *entry, uint64 number)
{
	return entry != NULL &&
		(entry->state == INFLIGHT_LEASED || entry->is_lapsed) &&
		entry->epoch == shared->epoch && entry->number == number;
}

/* Has it failed as often as its queue allows? */
static bool
is_at_limit(const InflightEntry *entry)
{
	return queue_is_at_limit(entry->retry.max_attempts,
							 entry->counted + entry->failures);
}

/* Does a process or a prepared transaction hold it? */
static bool
is_held(const InflightEntry *entry)
{
	return entry->state == INFLIGHT_CLAIMED ||
		entry->state == INFLIGHT_DEQUEUED || entry->is_settling;
}

/* Is nothing remembered of the message itself? */
static bool
has_nothing_left(const InflightEntry *entry)
{
	return entry->state == INFLIGHT_IDLE && !queue_inflight_has_news(entry) &&
		!entry->is_exhausted && !entry->is_lapsed &&
		!(is_partition(entry) && entry->deadline > GetCurrentTimestamp());
}

/* Held by none from now on, and not to be taken before "due" (0: at once). */
static void
set_idle(InflightEntry *entry, TimestampTz due)
{
	note_change(entry, get_hash_value(table, &entry->key));
	if (entry->is_counted)
		queue_held_remove(entry->queue, entry->key.relid);
	entry->is_counted = false;
	entry->state = INFLIGHT_IDLE;
	entry->is_settling = false;
	entry->is_step = false;
	entry->is_prepared = false;
	entry->is_written = false;
	entry->is_open = false;
	entry->receive_slot = 0;
	entry->is_behind_failed = false;
	entry->is_uncounted = false;
	entry->since = GetCurrentTimestamp();
	entry->deadline = due;
}

/*
 * set_lapsed
 *		The same, at once, for a lease that ran out.
 *
 * The transaction that received it may still be in progress, or in doubt, so
 * that is remembered.
 */
static void
set_lapsed(InflightEntry *entry)
{
	bool		is_open = entry->is_open;
	int			receive_slot = entry->receive_slot;

	set_idle(entry, 0);
	entry->is_open = is_open;
	entry->receive_slot = receive_slot;
}

/*
 * offer
 *		Tell the cover that the message is held by none any more.
 *
 * It may be available now, or will be at the deadline.  The partition is
 * locked.
 */
static void
offer(InflightEntry *entry, bool wakes)
{
	if (!entry->is_exhausted && entry->deadline > GetCurrentTimestamp())
	{
		/* until then none may take more of its group, not even its holder */
		queue_group_disown(&entry->member);
		queue_deadline_set(entry->queue, &entry->key, &entry->due,
						   entry->deadline);
		return;
	}
	queue_deadline_clear(&entry->due);
	if (entry->is_exhausted)
		queue_group_disown(&entry->member);
	else if (entry->member.group != NULL)
		queue_group_leave(&entry->member, true, rank_of(entry), 0, wakes);
	else
		queue_cover_add(entry->queue, &entry->key, entry->priority, wakes);
}

/* The rank of its priority; if that is not known, a guess, which will do */
static int
rank_of(const InflightEntry *entry)
{
	return queue_rank(entry->priority >= 0 ? entry->priority :
					  QUEUE_DEFAULT_PRIORITY);
}

/* End a lease as if it had not been given; its receipt is not good any more. */
static void
end_uncounted(InflightEntry *entry)
{
	set_idle(entry, 0);
	entry->number = 0;
	offer(entry, true);
	remove_if_nothing_left(entry);
}

/* Those that are behind this message, if it fails now */
static LeasesBehind
behind(const InflightEntry *entry)
{
	LeasesBehind leases;

	leases.group_hash = entry->group_hash;
	leases.before = pg_atomic_read_u64(&shared->next_number);
	return leases;
}

/*
 * end_leases_behind
 *		A lease has failed: end those on messages of the group behind it.
 *
 * That is no failure of theirs.  One that a transaction is settling ends if
 * that is rolled back.  When this message has let go of the group somebody else
 * may have it, whose leases have later numbers.
 */
static void
end_leases_behind(const MessageKey *key, const LeasesBehind *leases)
{
	MessageKey	next = *key;

	if (leases->group_hash == 0)
		return;
	while (queue_group_next_member(&next, leases->group_hash, &next))
	{
		LWLock	   *lock;
		InflightEntry *entry = find_locked(&next, &lock);

		if (entry != NULL && entry->state == INFLIGHT_LEASED &&
			entry->group_hash == leases->group_hash &&
			(entry->number < leases->before || entry->epoch != shared->epoch))
		{
			if (entry->is_settling)
				entry->is_behind_failed = true;
			else
				end_uncounted(entry);
		}
		LWLockRelease(lock);
	}
}

/* See to it that the deadline is noticed.  The partition is locked. */
static void
watch_deadline(InflightEntry *entry)
{
	if (entry->due.slot == NULL)
		queue_deadline_set(entry->queue, &entry->key, &entry->due,
						   entry->deadline);
}

/* Remove an entry of which there is nothing to remember. */
static void
remove_if_nothing_left(InflightEntry *entry)
{
	Assert(entry->state == INFLIGHT_IDLE);
	if (has_nothing_left(entry) && !entry->is_durable)
	{
		queue_deadline_clear(&entry->due);
		queue_quota_refund(entry->key.dbid, entry->key.relid);
		dlist_delete(&entry->node);
		if (entry->is_changed)
			dlist_delete(&entry->changed);
		hash_search(table, &entry->key, HASH_REMOVE, NULL);
	}
	else if (entry->is_lapsed)
		pg_atomic_write_u32(&shared->has_lapsed, 1);
}

/*
 * Visitor: an entry kept for a late receipt alone can go when room is scarce.
 */
static bool
forget_fence(InflightEntry *entry, void *arg)
{
	if (entry->state == INFLIGHT_IDLE && entry->is_lapsed)
		end_fence(entry);
	return true;
}

/* The receipt of the lease that ran out is not good any more. */
static void
end_fence(InflightEntry *entry)
{
	forget_lapse(entry);
	if (entry->state == INFLIGHT_IDLE)
		remove_if_nothing_left(entry);
}

/*
 * A consumer takes the message: no earlier receipt is good for it, nor of its
 * group.
 */
static void
move_fence(InflightEntry *entry)
{
	forget_lapse(entry);
	entry->number = 0;
	queue_group_move_fence(&entry->member);
}

/* Forget what is remembered of a lease that ran out, and its transaction. */
static void
forget_lapse(InflightEntry *entry)
{
	entry->is_lapsed = false;
	entry->is_lapse_counted = false;
	entry->is_open = false;
	entry->receive_slot = 0;
}

/*
 * revive_lease
 *		A lease that ran out is settled all the same: it is as if it had not.
 *
 * Unless its group was taken since, or somebody is about to.
 */
static SettleResult
revive_lease(InflightEntry *entry)
{
	bool		is_out;

	if (entry->group_hash != 0 &&
		!queue_group_rejoin(&entry->member, &entry->key, entry->group_hash,
							&is_out))
		return is_out ? SETTLE_EXAMINED : SETTLE_LOST;
	entry->state = INFLIGHT_LEASED;
	entry->is_counted = queue_held_add(entry->queue);
	entry->is_lapsed = false;
	entry->deadline = entry->since;
	if (!entry->is_lapse_counted && entry->failures > 0)
	{
		entry->failures--;
		queue_counters_fail(entry->queue, entry->key.relid, -1);
		if (entry->nnotes > 0)
			entry->nnotes--;
	}
	entry->is_exhausted = false;
	if (entry->failures == 0)
	{
		forget_notes(entry);
		entry->failed_at = 0;
	}
	return SETTLE_OK;
}

/* The message is gone; the worker removes what queue.lease has of it. */
static void
forget_entry(InflightEntry *entry)
{
	entry->failures = 0;
	entry->is_lapsed = false;
	entry->is_lapse_counted = false;
	entry->failed_at = 0;
	entry->is_exhausted = false;
	entry->is_delayed = false;
	entry->first_id = entry->last_id = 0;
	forget_notes(entry);
	set_idle(entry, 0);
	queue_deadline_clear(&entry->due);
	queue_group_leave(&entry->member, false, 0, 0, true);
	remove_if_nothing_left(entry);
}

/* Count one failure more, which the row does not tell yet. */
static void
count_failure(InflightEntry *entry, const FailureNote *failure)
{
	if (entry->failures < PG_UINT16_MAX)
		entry->failures++;
	queue_counters_fail(entry->queue, entry->key.relid, 1);
	add_note(entry, failure);
	note_untold(entry, failure->at);
}

/* A failure that was noted before has happened now, to this entry. */
static FailureNote
renew(const FailureNote *failure, const InflightEntry *entry)
{
	FailureNote note = *failure;

	note.at = GetCurrentTimestamp();
	note.batch = entry->batch;
	return note;
}

/* So many were received together; if the lease has run out, they failed so. */
static void
set_batch(InflightEntry *entry, int batch)
{
	entry->batch = Min(batch, FAILURE_MAX_BATCH);
	if (entry->is_lapsed && !entry->is_lapse_counted && entry->nnotes > 0)
		entry->notes[entry->nnotes - 1].batch = entry->batch;
}

/* Keep a note of a failure; the oldest goes if there is no room. */
static void
add_note(InflightEntry *entry, const FailureNote *failure)
{
	if (entry->nnotes == FAILURES_KEPT)
	{
		memmove(&entry->notes[0], &entry->notes[1],
				(FAILURES_KEPT - 1) * sizeof(FailureNote));
		entry->nnotes--;
		entry->is_retold = false;
	}
	entry->notes[entry->nnotes++] = *failure;
}

/* The row tells all there is, or nothing is to be told. */
static void
forget_notes(InflightEntry *entry)
{
	entry->nnotes = 0;
	entry->is_retold = false;
}

/*
 * Note since when there are failures that neither the row nor the log tells.
 */
static void
note_untold(InflightEntry *entry, TimestampTz now)
{
	if (entry->state == INFLIGHT_IDLE &&
		queue_inflight_logged_failures(entry) >= entry->failures)
		entry->failed_at = 0;
	else if (entry->failed_at == 0)
		entry->failed_at = now;
}

/* Note that the log says nothing of it. */
static void
end_log(InflightEntry *entry)
{
	entry->is_durable = false;
	entry->logged = LOG_NOTHING;
	entry->logged_failures = 0;
	entry->is_written = false;
}

/*
 * expire_entry
 *		A lease ran out: a failure, but without a back-off, because the
 *		message has waited long enough.
 *
 * If the log has the lease, that tells the failure as well.  Returns which
 * leases the caller is to end when it has released the lock.
 */
static LeasesBehind
expire_entry(InflightEntry *entry)
{
	LeasesBehind leases = behind(entry);
	bool		is_written = entry->is_written;

	queue_group_move_fence(&entry->member);
	set_lapsed(entry);
	entry->is_written = is_written;
	entry->is_lapsed = entry->number != 0;
	if (!entry->is_lapse_counted)
	{
		FailureNote note = queue_failure_note(FAILURE_LEASE_RAN_OUT, NULL, 0,
											  entry->role, entry->application);

		note.batch = entry->batch;
		count_failure(entry, &note);
	}
	if (is_at_limit(entry))
		entry->is_exhausted = true;
	return leases;
}

/*
 * expire_if_due
 *		The same with what follows for consumers, if the deadline has passed;
 *		returns true if it has.
 */
static bool
expire_if_due(InflightEntry *entry, TimestampTz now, LeasesBehind *leases)
{
	if (entry == NULL || !queue_lease_has_run_out(entry, now))
		return false;
	*leases = expire_entry(entry);
	offer(entry, true);
	return true;
}

/*
 * fail_entry
 *		A take was rolled back: the first failure has no back-off, later ones
 *		have.
 *
 * While it fails together with others, the back-off does not grow, because
 * most of them are innocent.
 *
 * If the row counts already that the lease ran out, the lease was revived and
 * extended after that, and it has failed once all the same.
 */
static void
fail_entry(InflightEntry *entry, const FailureNote *failure)
{
	int			total;

	if (entry->is_lapse_counted)
	{
		entry->is_lapse_counted = false;
		return;
	}
	count_failure(entry, failure);
	total = entry->counted + entry->failures;
	if (is_at_limit(entry))
		entry->is_exhausted = true;
	else if (total > 1)
	{
		entry->deadline = GetCurrentTimestamp() +
			queue_failure_delay(&entry->retry, failure->batch > 1 ? 1 : total);
		entry->is_delayed = true;
	}
}

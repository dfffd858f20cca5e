/*-------------------------------------------------------------------------
 *
 * inflight.c
 *		The in-flight table: who holds which message, in shared memory.
 *
 * A message exists while its row does; this table only says who is busy with
 * it, and what its row does not tell yet.  All of it may vanish at any moment
 * (a crash restarts with empty shared memory).  Then leases that were not yet
 * written to queue.lease end early and failures not yet counted are not
 * counted; rows deleted by transactions still open or prepared stay protected
 * by the xmax of the row, which outlives us.
 *
 * Nobody judges a row that he has not claimed.  The order is always: claim
 * (an exclusive entry for the key), then read the row, then take it (delete
 * the row, keep the entry until the end of the transaction), lease it, or
 * give the claim back.  So two consumers that see the same row in their scans
 * cannot both hold it: the second one either fails to claim, or reads the row
 * after the first has changed it.
 *
 *	 no entry / IDLE --claim--> CLAIMED --take---> TAKEN  --commit--> removed
 *			^					   |  |				 `----abort----> IDLE
 *			|<------ unclaim ------'  `--lease--> LEASED --settle+commit-> removed
 *			'<------------- nack, release, expiry ---'
 *
 * Locks: the hash table is partitioned; an entry is created, changed and
 * removed under the LWLock of its partition, held for a few instructions, with
 * nothing below it: no allocation, no error, no other lock.  An entry whose
 * holder is a process (CLAIMED, TAKEN, settling) is changed and removed by
 * that process alone, so the holder may keep a pointer; everybody else looks
 * entries up by key.
 *
 * If memory is full, a claim says so and nothing has happened.  Everything
 * that the end of a transaction needs is in the entry already: the functions
 * under "ends of transactions" never allocate and never fail.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "compat.h"
#include "inflight.h"
#include "queue.h"

#define NUM_PARTITIONS		32

#define NUM_ERROR_SLOTS		1024
#define ERROR_TEXT_SIZE		504

/*
 * Shares, so that nobody can use up the room of the others: one queue may have
 * up to QUEUE_SHARE times the entries that are free, one database up to
 * DATABASE_SHARE times.  Alone, a queue thus gets at most four fifths of the
 * table; the more of them are large, the less each may have, and there is
 * always room left for one that has nothing yet.  Counters are found by a hash
 * of what they count; two that fall together share.
 */
#define QUEUE_SHARE			4
#define DATABASE_SHARE		8
#define NUM_COUNTERS		1024

/*
 * Texts of failures wait here for the worker, which writes them to the rows.
 * The slots are used in turn: after a thousand more failures within that time
 * a text may be gone, and the row just lacks it.
 */
typedef struct ErrorSlot
{
	uint32		generation;
	char		text[ERROR_TEXT_SIZE];
} ErrorSlot;

typedef struct InflightShared
{
	uint64		epoch;			/* random; fences receipts of earlier lives */
	pg_atomic_uint64 next_number;
	pg_atomic_uint32 nentries;
	pg_atomic_uint32 queue_entries[NUM_COUNTERS];
	pg_atomic_uint32 database_entries[NUM_COUNTERS];
	uint32		next_error;		/* under the error lock */
	ErrorSlot	errors[NUM_ERROR_SLOTS];
} InflightShared;

static InflightShared *shared = NULL;
static HTAB *table = NULL;
static LWLockPadded *locks = NULL;	/* partitions, then the error lock */

static LWLock *partition_lock(uint32 hashcode);
static bool count_entry(const MessageKey *key, bool obeys_shares);
static void uncount_entry(const MessageKey *key);
static void lock_all(void);
static void unlock_all(void);
static LWLock *lock_entry(InflightEntry *entry);
static InflightEntry *find_locked(const MessageKey *key, LWLock **lock);
static void set_idle(InflightEntry *entry, TimestampTz due);
static void remove_if_nothing_left(InflightEntry *entry);
static void expire_entry(InflightEntry *entry, TimestampTz now);
static void fail_entry(InflightEntry *entry, TimestampTz now);
static void note_error(InflightEntry *entry, const char *error);

Size
queue_inflight_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(InflightShared)),
					hash_estimate_size(queue_max_in_flight,
									   sizeof(InflightEntry)));
}

int
queue_inflight_nlocks(void)
{
	return NUM_PARTITIONS + 1;
}

/* Called with AddinShmemInitLock held. */
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
		pg_atomic_init_u32(&shared->nentries, 0);
		for (i = 0; i < NUM_COUNTERS; i++)
		{
			pg_atomic_init_u32(&shared->queue_entries[i], 0);
			pg_atomic_init_u32(&shared->database_entries[i], 0);
		}
	}

	/* room is fixed, so that a full table is noticed by whoever claims */
	info.keysize = sizeof(MessageKey);
	info.entrysize = sizeof(InflightEntry);
	info.num_partitions = NUM_PARTITIONS;
	table = ShmemInitHash("queue in-flight messages",
						  queue_max_in_flight, queue_max_in_flight, &info,
						  HASH_ELEM | HASH_BLOBS | HASH_PARTITION |
						  HASH_FIXED_SIZE);
	locks = GetNamedLWLockTranche("queue_inflight");
}

void
queue_message_key(MessageKey *key, Oid relid, int64 id)
{
	key->dbid = MyDatabaseId;
	key->relid = relid;
	key->id = id;
}

/* Number of entries, of all databases */
int
queue_inflight_size(void)
{
	return (int) hash_get_num_entries(table);
}

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
 * Take hold of a message that nobody holds, before its row is judged.
 *
 * A lease found past its deadline is ended here: expiry is computed by whoever
 * looks first, so a worker that does not run hides nothing.  The worker's own
 * steps (is_step) may claim what is not due yet or exhausted.
 *
 * On CLAIM_OK, *failures is what the row does not tell yet.
 */
ClaimResult
queue_inflight_claim(const MessageKey *key, TimestampTz now, bool is_step,
					 InflightEntry **result, int *failures, TimestampTz *due)
{
	uint32		hashcode = get_hash_value(table, key);
	LWLock	   *lock = partition_lock(hashcode);
	InflightEntry *entry;
	bool		found;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(table, key, hashcode,
										HASH_ENTER_NULL, &found);
	if (entry == NULL)
	{
		LWLockRelease(lock);
		return CLAIM_FULL;
	}

	if (!found)
	{
		if (!count_entry(key, true))
		{
			hash_search_with_hash_value(table, key, hashcode, HASH_REMOVE,
										NULL);
			LWLockRelease(lock);
			return CLAIM_FULL;
		}
		memset((char *) entry + sizeof(MessageKey), 0,
			   sizeof(InflightEntry) - sizeof(MessageKey));
		entry->error_slot = -1;
		ItemPointerSetInvalid(&entry->tid);
	}
	else
	{
		if (entry->state == INFLIGHT_LEASED && !entry->is_settling &&
			entry->deadline <= now)
			expire_entry(entry, now);

		if (entry->state != INFLIGHT_IDLE)
		{
			ClaimResult why = CLAIM_HELD;

			if (entry->state == INFLIGHT_CLAIMED && !entry->is_step)
				why = CLAIM_JUDGED;

			if (entry->state == INFLIGHT_LEASED && !entry->is_settling)
			{
				*due = Min(*due, entry->deadline);
				why = CLAIM_NOT_DUE;
			}
			LWLockRelease(lock);
			return why;
		}
		if (!is_step && entry->is_exhausted)
		{
			/* put off: the worker could not move it */
			ClaimResult why = entry->since > now ? CLAIM_HELD :
				CLAIM_EXHAUSTED;

			LWLockRelease(lock);
			return why;
		}
		if (!is_step && entry->deadline > now)
		{
			*due = Min(*due, entry->deadline);
			LWLockRelease(lock);
			return CLAIM_NOT_DUE;
		}
	}

	entry->state = INFLIGHT_CLAIMED;
	entry->is_step = is_step;
	entry->holder = MyProcNumber;
	entry->holder_pid = MyProcPid;
	entry->is_prepared = false;
	*failures = entry->failures;
	*result = entry;
	LWLockRelease(lock);
	return CLAIM_OK;
}

/* Give a claim back; what was remembered of the message stays. */
void
queue_inflight_unclaim(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	entry->state = INFLIGHT_IDLE;
	entry->is_step = false;
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/* Give a claim back, for the worker to move the message or to mark it. */
void
queue_inflight_exhaust(InflightEntry *entry, int attempts)
{
	LWLock	   *lock = lock_entry(entry);

	entry->attempts = attempts;
	entry->is_exhausted = true;
	set_idle(entry, 0);
	LWLockRelease(lock);
}

/* The row is deleted by this transaction: hold it until that ends. */
void
queue_inflight_take(InflightEntry *entry, const QueueDef *def, int attempts,
					int priority, ItemPointer tid)
{
	LWLock	   *lock = lock_entry(entry);

	entry->state = INFLIGHT_TAKEN;
	entry->is_written = false;
	entry->is_delayed = false;
	entry->attempts = attempts;
	entry->priority = priority;
	entry->tid = *tid;
	entry->retry.max_attempts = def->max_attempts;
	entry->retry.delay = def->retry_delay;
	entry->retry.max_delay = def->retry_max_delay;
	entry->since = GetCurrentTimestamp();
	LWLockRelease(lock);
}

/* From a claim to a lease; returns its number. */
uint64
queue_inflight_lease(InflightEntry *entry, const QueueDef *def, int attempts,
					 int priority, ItemPointer tid, TimestampTz deadline)
{
	uint64		number = pg_atomic_fetch_add_u64(&shared->next_number, 1);
	LWLock	   *lock = lock_entry(entry);

	entry->state = INFLIGHT_LEASED;
	entry->is_settling = false;
	entry->is_written = false;
	entry->is_open = true;
	entry->is_passed_over = false;
	entry->is_delayed = false;
	entry->attempts = attempts;
	entry->priority = priority;
	entry->tid = *tid;
	entry->retry.max_attempts = def->max_attempts;
	entry->retry.delay = def->retry_delay;
	entry->retry.max_delay = def->retry_max_delay;
	entry->epoch = shared->epoch;
	entry->number = number;
	entry->since = GetCurrentTimestamp();
	entry->deadline = deadline;
	LWLockRelease(lock);
	return number;
}

/* ----------------------------------------------------------------
 *		Settling
 * ----------------------------------------------------------------
 */

/*
 * Begin to settle the lease with this fence.  On SETTLE_OK the caller holds
 * the lease: it does not end before he has finished, or his transaction has.
 * A lease past its deadline is still good if nobody has ended it: the fence
 * decides, not the clock.
 */
SettleResult
queue_inflight_settle(const MessageKey *key, uint64 epoch, uint64 number,
					  InflightEntry **result)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	SettleResult res;

	if (entry == NULL || entry->state != INFLIGHT_LEASED ||
		entry->epoch != epoch || entry->number != number)
		res = SETTLE_LOST;
	else if (entry->is_settling)
		res = (!entry->is_prepared && entry->holder == MyProcNumber) ?
			SETTLE_SELF : SETTLE_BUSY;
	else
	{
		entry->is_settling = true;
		entry->is_prepared = false;
		entry->holder = MyProcNumber;
		entry->holder_pid = MyProcPid;
		*result = entry;
		res = SETTLE_OK;
	}
	LWLockRelease(lock);
	return res;
}

/* The same for whatever lease there is: a purge ends it. */
SettleResult
queue_inflight_settle_any(const MessageKey *key, InflightEntry **result)
{
	InflightEntry copy;

	if (!queue_inflight_peek(key, &copy) || copy.state != INFLIGHT_LEASED)
		return SETTLE_LOST;
	return queue_inflight_settle(key, copy.epoch, copy.number, result);
}

/*
 * The consumer says that it failed: count, and back after "delay", or after
 * the back-off if delay is negative.  "attempts" is what the row tells.
 */
void
queue_inflight_nack(InflightEntry *entry, const QueueDef *def, int attempts,
					int64 delay, const char *error)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;

	if (error)
		note_error(entry, error);
	lock = lock_entry(entry);
	entry->attempts = attempts;
	entry->retry.max_attempts = def->max_attempts;
	entry->retry.delay = def->retry_delay;
	entry->retry.max_delay = def->retry_max_delay;
	if (entry->failures < PG_UINT16_MAX)
		entry->failures++;
	if (delay < 0)
		delay = queue_retry_delay(&entry->retry, attempts + entry->failures);
	set_idle(entry, delay > 0 ? now + delay : 0);
	if (entry->retry.max_attempts > 0 &&
		attempts + entry->failures >= entry->retry.max_attempts)
	{
		entry->is_exhausted = true;
		entry->deadline = 0;
	}
	else if (delay > 0)
		entry->is_delayed = true;
	LWLockRelease(lock);
}

/* The consumer gives it back, and nothing happened. */
void
queue_inflight_release(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	set_idle(entry, 0);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

void
queue_inflight_extend(InflightEntry *entry, TimestampTz deadline)
{
	LWLock	   *lock = lock_entry(entry);

	entry->deadline = deadline;
	entry->is_written = false;
	entry->is_settling = false;
	LWLockRelease(lock);
}

/* ----------------------------------------------------------------
 *		Ends of transactions: no allocation, no error
 * ----------------------------------------------------------------
 */

/*
 * The message is consumed.  If queue.lease has a row of it, an entry stays
 * until the worker has removed that; true then.
 */
bool
queue_inflight_done(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);
	bool		is_durable = entry->is_durable;

	entry->failures = 0;
	entry->is_exhausted = false;
	entry->is_delayed = false;
	entry->error_slot = -1;
	set_idle(entry, 0);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
	return is_durable;
}

/* The transaction that had dequeued it is rolled back. */
void
queue_inflight_undo_take(InflightEntry *entry, bool counts)
{
	LWLock	   *lock = lock_entry(entry);

	set_idle(entry, 0);
	if (counts)
		fail_entry(entry, GetCurrentTimestamp());
	else
		remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/* The transaction that had settled the lease is rolled back: it goes on. */
void
queue_inflight_undo_settle(InflightEntry *entry)
{
	LWLock	   *lock = lock_entry(entry);

	entry->is_settling = false;
	entry->is_prepared = false;
	LWLockRelease(lock);
}

/*
 * The transaction that had received it is committed.  True if the worker would
 * have liked to write the lease before.
 */
bool
queue_inflight_keep_lease(const MessageKey *key, uint64 number)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		was_passed_over = false;

	if (entry != NULL && entry->state == INFLIGHT_LEASED &&
		entry->epoch == shared->epoch && entry->number == number)
	{
		entry->is_open = false;
		was_passed_over = entry->is_passed_over;
	}
	LWLockRelease(lock);
	return was_passed_over;
}

/*
 * The transaction that had received it is rolled back: the lease ends at
 * once, and does not count.  False if it has ended already.
 */
bool
queue_inflight_undo_lease(const MessageKey *key, uint64 number)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		ours;

	ours = entry != NULL && entry->state == INFLIGHT_LEASED &&
		!entry->is_settling &&
		entry->epoch == shared->epoch && entry->number == number;
	if (ours)
	{
		set_idle(entry, 0);
		remove_if_nothing_left(entry);
	}
	LWLockRelease(lock);
	return ours;
}

/*
 * The worker's step is committed: "counted" failures are in the row now, with
 * the due time, if there was one.
 */
void
queue_inflight_counted(InflightEntry *entry, int counted, bool is_exhausted)
{
	LWLock	   *lock = lock_entry(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->is_step);
	entry->failures -= Min(counted, entry->failures);
	entry->is_exhausted = is_exhausted;
	entry->is_delayed = false;
	entry->error_slot = -1;
	set_idle(entry, 0);
	remove_if_nothing_left(entry);
	LWLockRelease(lock);
}

/*
 * The queue is dropped, or, if relid is InvalidOid, the database or its
 * extension.  Nobody can
 * hold a message of it now, but whoever dropped it, so leases and failures are
 * all there is to forget.
 */
void
queue_inflight_drop(Oid dbid, Oid relid)
{
	HASH_SEQ_STATUS status;
	InflightEntry *entry;

	lock_all();
	hash_seq_init(&status, table);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->key.dbid != dbid ||
			(OidIsValid(relid) && entry->key.relid != relid) ||
			(entry->state != INFLIGHT_IDLE && entry->state != INFLIGHT_LEASED) ||
			entry->is_settling)
			continue;
		entry->failures = 0;
		entry->is_exhausted = false;
		if (!OidIsValid(relid))
			entry->is_durable = false;
		set_idle(entry, 0);
		remove_if_nothing_left(entry);
	}
	unlock_all();
}

/* PREPARE: from the process to a slot of the registry. */
void
queue_inflight_set_prepared(InflightEntry *entry, int slot,
							InflightEntry **list)
{
	LWLock	   *lock = lock_entry(entry);

	entry->is_prepared = true;
	entry->holder = slot;
	entry->holder_pid = 0;
	entry->next_prepared = *list;
	*list = entry;
	LWLockRelease(lock);
}

/*
 * PREPARE of the transaction that has received it; false if the lease has
 * ended.  The lease stays what it is, but ends if that is rolled back.
 */
bool
queue_inflight_receive_prepared(const MessageKey *key, uint64 number, int slot)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		ours;

	ours = entry != NULL && entry->state == INFLIGHT_LEASED &&
		entry->epoch == shared->epoch && entry->number == number;
	if (ours)
		entry->receive_slot = slot + 1;
	LWLockRelease(lock);
	return ours;
}

/* That prepared transaction has ended. */
void
queue_inflight_receive_ended(int slot, bool committed)
{
	HASH_SEQ_STATUS status;
	InflightEntry *entry;

	lock_all();
	hash_seq_init(&status, table);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->receive_slot != slot + 1)
			continue;
		entry->receive_slot = 0;
		entry->is_open = false;
		if (committed || entry->state != INFLIGHT_LEASED || entry->is_settling)
			continue;
		set_idle(entry, 0);
		remove_if_nothing_left(entry);
	}
	unlock_all();
}

/* ----------------------------------------------------------------
 *		The worker
 * ----------------------------------------------------------------
 */

/*
 * Show each entry of this database to the visitor, which may change flags but
 * neither state nor existence; it must not allocate, since all partitions are
 * locked.  It returns false to end the visit.
 */
void
queue_inflight_visit(InflightVisitor visitor, void *arg)
{
	HASH_SEQ_STATUS status;
	InflightEntry *entry;

	lock_all();
	hash_seq_init(&status, table);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->key.dbid == MyDatabaseId && !visitor(entry, arg))
		{
			hash_seq_term(&status);
			break;
		}
	}
	unlock_all();
}

/* End a lease that is past its deadline; true if it was. */
bool
queue_inflight_expire(const MessageKey *key, TimestampTz now)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);
	bool		expired;

	expired = entry != NULL && entry->state == INFLIGHT_LEASED &&
		!entry->is_settling && entry->deadline <= now;
	if (expired)
		expire_entry(entry, now);
	LWLockRelease(lock);
	return expired;
}

/* Not another step on this message before "until". */
void
queue_inflight_postpone(const MessageKey *key, TimestampTz until)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL && entry->state == INFLIGHT_IDLE)
		entry->since = until;
	LWLockRelease(lock);
}

/* A lease from queue.lease, after a start; false if there is no room. */
bool
queue_inflight_restore_lease(const MessageKey *key, uint64 epoch,
							 uint64 number, TimestampTz deadline)
{
	uint32		hashcode = get_hash_value(table, key);
	LWLock	   *lock = partition_lock(hashcode);
	InflightEntry *entry;
	bool		found;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(table, key, hashcode,
										HASH_ENTER_NULL, &found);
	if (entry != NULL && !found)
	{
		(void) count_entry(key, false);
		memset((char *) entry + sizeof(MessageKey), 0,
			   sizeof(InflightEntry) - sizeof(MessageKey));
		entry->state = INFLIGHT_LEASED;
		entry->is_durable = true;
		entry->is_written = true;
		entry->error_slot = -1;
		entry->priority = QUEUE_DEFAULT_PRIORITY;
		ItemPointerSetInvalid(&entry->tid);
		entry->epoch = epoch;
		entry->number = number;
		entry->deadline = deadline;
		entry->since = GetCurrentTimestamp();
	}
	LWLockRelease(lock);
	return entry != NULL;
}

/* queue.lease says this now. */
void
queue_inflight_lease_written(const MessageKey *key, uint64 number,
							 TimestampTz deadline)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL &&
		((entry->state == INFLIGHT_LEASED && entry->number == number &&
		  entry->deadline == deadline) ||
		 (entry->state == INFLIGHT_TAKEN && number == 0)))
		entry->is_written = true;
	LWLockRelease(lock);
}

/*
 * queue.lease has no row for it any more.  A lease that began meanwhile is
 * written in the next round: only the worker writes, and has not written that.
 */
void
queue_inflight_lease_removed(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL)
	{
		entry->is_durable = false;
		entry->is_written = false;
		if (entry->state == INFLIGHT_IDLE)
			remove_if_nothing_left(entry);
	}
	LWLockRelease(lock);
}

/* Is the worker rewriting or moving this message right now?  Who is it? */
bool
queue_inflight_is_step(const MessageKey *key, int *holder)
{
	InflightEntry copy;

	if (!queue_inflight_peek(key, &copy) ||
		copy.state != INFLIGHT_CLAIMED || !copy.is_step)
		return false;
	*holder = copy.holder;
	return true;
}

bool
queue_inflight_peek(const MessageKey *key, InflightEntry *copy)
{
	LWLock	   *lock;
	InflightEntry *entry = find_locked(key, &lock);

	if (entry != NULL)
		*copy = *entry;
	LWLockRelease(lock);
	return entry != NULL;
}

char *
queue_inflight_error(const InflightEntry *entry)
{
	char		text[ERROR_TEXT_SIZE];
	bool		found = false;

	if (entry->error_slot < 0)
		return NULL;
	LWLockAcquire(&locks[NUM_PARTITIONS].lock, LW_SHARED);
	if (shared->errors[entry->error_slot].generation ==
		entry->error_generation)
	{
		strlcpy(text, shared->errors[entry->error_slot].text, sizeof(text));
		found = true;
	}
	LWLockRelease(&locks[NUM_PARTITIONS].lock);
	return found ? pstrdup(text) : NULL;
}

/*
 * The n-th failure waits delay * 2^(n-1), up to a half more, so that messages
 * that failed together do not come back together; all of it within
 * [delay, max_delay].
 */
int64
queue_retry_delay(const RetryPolicy *retry, int failures)
{
	double		low = (double) retry->delay;
	double		high;
	int			i;

	for (i = 1; i < failures && low < (double) retry->max_delay; i++)
		low *= 2;
	high = Min(low * 1.5, (double) retry->max_delay);
	low = Max((double) retry->delay, high / 1.5);
	if (high <= low)
		return retry->delay;
	return (int64) (low + (high - low) * pg_prng_double(&pg_global_prng_state));
}

/* ----------------------------------------------------------------
 *		Helpers
 * ----------------------------------------------------------------
 */

static pg_atomic_uint32 *
queue_counter(const MessageKey *key)
{
	uint32		hash = hash_combine(murmurhash32(key->dbid),
									murmurhash32(key->relid));

	return &shared->queue_entries[hash % NUM_COUNTERS];
}

static pg_atomic_uint32 *
database_counter(const MessageKey *key)
{
	return &shared->database_entries[murmurhash32(key->dbid) % NUM_COUNTERS];
}

/* Count a new entry, unless its queue or database has its share already. */
static bool
count_entry(const MessageKey *key, bool obeys_shares)
{
	if (obeys_shares)
	{
		int64		left = (int64) queue_max_in_flight -
			pg_atomic_read_u32(&shared->nentries);

		if (pg_atomic_read_u32(queue_counter(key)) >= left * QUEUE_SHARE ||
			pg_atomic_read_u32(database_counter(key)) >= left * DATABASE_SHARE)
			return false;
	}
	pg_atomic_fetch_add_u32(&shared->nentries, 1);
	pg_atomic_fetch_add_u32(queue_counter(key), 1);
	pg_atomic_fetch_add_u32(database_counter(key), 1);
	return true;
}

static void
uncount_entry(const MessageKey *key)
{
	pg_atomic_fetch_sub_u32(&shared->nentries, 1);
	pg_atomic_fetch_sub_u32(queue_counter(key), 1);
	pg_atomic_fetch_sub_u32(database_counter(key), 1);
}

static LWLock *
partition_lock(uint32 hashcode)
{
	return &locks[hashcode % NUM_PARTITIONS].lock;
}

/* All partitions, in order: to walk through the whole table. */
static void
lock_all(void)
{
	int			i;

	for (i = 0; i < NUM_PARTITIONS; i++)
		LWLockAcquire(&locks[i].lock, LW_EXCLUSIVE);
}

static void
unlock_all(void)
{
	int			i;

	for (i = NUM_PARTITIONS - 1; i >= 0; i--)
		LWLockRelease(&locks[i].lock);
}

/* Lock the partition of an entry that we hold. */
static LWLock *
lock_entry(InflightEntry *entry)
{
	LWLock	   *lock = partition_lock(get_hash_value(table, &entry->key));

	LWLockAcquire(lock, LW_EXCLUSIVE);
	return lock;
}

/* Look an entry up; its partition is locked whether there is one or not. */
static InflightEntry *
find_locked(const MessageKey *key, LWLock **lock)
{
	uint32		hashcode = get_hash_value(table, key);

	*lock = partition_lock(hashcode);
	LWLockAcquire(*lock, LW_EXCLUSIVE);
	return hash_search_with_hash_value(table, key, hashcode, HASH_FIND, NULL);
}

static void
set_idle(InflightEntry *entry, TimestampTz due)
{
	entry->state = INFLIGHT_IDLE;
	entry->is_settling = false;
	entry->is_step = false;
	entry->is_prepared = false;
	entry->is_written = false;
	entry->receive_slot = 0;
	entry->since = GetCurrentTimestamp();
	entry->deadline = due;
}

static void
remove_if_nothing_left(InflightEntry *entry)
{
	Assert(entry->state == INFLIGHT_IDLE);
	if (entry->failures == 0 && !entry->is_durable && !entry->is_exhausted)
	{
		uncount_entry(&entry->key);
		hash_search(table, &entry->key, HASH_REMOVE, NULL);
	}
}

/* A lease ran out: a failure; the message has waited long enough. */
static void
expire_entry(InflightEntry *entry, TimestampTz now)
{
	set_idle(entry, 0);
	if (entry->failures < PG_UINT16_MAX)
		entry->failures++;
	if (entry->retry.max_attempts > 0 &&
		entry->attempts + entry->failures >= entry->retry.max_attempts)
		entry->is_exhausted = true;
}

/* A dequeue was rolled back: the first failure is forgiven, then back off. */
static void
fail_entry(InflightEntry *entry, TimestampTz now)
{
	int			total;

	if (entry->failures < PG_UINT16_MAX)
		entry->failures++;
	total = entry->attempts + entry->failures;
	if (entry->retry.max_attempts > 0 && total >= entry->retry.max_attempts)
		entry->is_exhausted = true;
	else if (total > 1)
	{
		entry->deadline = now + queue_retry_delay(&entry->retry, total);
		entry->is_delayed = true;
	}
}

/* Put the text into the next slot; only the entry's holder may call it. */
static void
note_error(InflightEntry *entry, const char *error)
{
	int			len = pg_mbcliplen(error, strlen(error), ERROR_TEXT_SIZE - 1);
	ErrorSlot  *slot;

	LWLockAcquire(&locks[NUM_PARTITIONS].lock, LW_EXCLUSIVE);
	entry->error_slot = shared->next_error++ % NUM_ERROR_SLOTS;
	slot = &shared->errors[entry->error_slot];
	entry->error_generation = ++slot->generation;
	memcpy(slot->text, error, len);
	slot->text[len] = '\0';
	LWLockRelease(&locks[NUM_PARTITIONS].lock);
}

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
 * Who received a message is in its entry, in fields of its own, because that may
 * have ended long before its lease: the names cut, the address by its bytes.  So
 * there is always room, and nothing to look up; nothing but views goes by it.
 *
 * This file has claims, and what becomes of them.  Leases are settled in
 * inflight_settle.c, and run out in inflight_lapse.c.  Transactions end in
 * inflight_end.c.  What the log of leases says is noted in inflight_log.c.
 * Below all that are inflight_entry.c, which changes an entry, and inflight_table.c,
 * which says where it is, and what locks it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/guc.h"

#include "common/compat.h"
#include "shared/availability.h"
#include "shared/deadline.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"

static ClaimResult try_claim(const MessageKey *key, TimestampTz enqueued_at,
							 QueueSlot *queue, int priority, TimestampTz now,
							 InflightEntry **result, TimestampTz *due,
							 TimestampTz *other);
static ClaimResult claim_existing(InflightEntry *entry,
								  TimestampTz enqueued_at, QueueSlot *queue,
								  TimestampTz now, TimestampTz *due,
								  TimestampTz *other, LeasesBehind *leases);
static ClaimResult claim_nobodys(InflightEntry *entry, TimestampTz now,
								 TimestampTz *due);
static void set_claimed(InflightEntry *entry, bool is_step);

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
	if (why == CLAIM_FULL && queue_lapse_make_room())
		why = try_claim(key, enqueued_at, queue, priority, now, result,
						due, other);
	return why;
}

/*
 * try_claim
 *		The same, without making room.
 *
 * A new entry is made; CLAIM_FULL if there is no room for it.
 */
static ClaimResult
try_claim(const MessageKey *key, TimestampTz enqueued_at,
		  QueueSlot *queue, int priority, TimestampTz now,
		  InflightEntry **result, TimestampTz *due, TimestampTz *other)
{
	LWLock	   *lock;
	bool		found;
	InflightEntry *entry = queue_entry_make(key, enqueued_at, true, &lock,
											&found);
	ClaimResult why = CLAIM_OK;
	LeasesBehind leases = {0};

	if (entry == NULL)
		why = CLAIM_FULL;
	else if (found)
		why = claim_existing(entry, enqueued_at, queue, now, due, other,
							 &leases);
	else
		entry->queue = queue;
	if (why == CLAIM_OK)
	{
		set_claimed(entry, false);
		entry->priority = priority;
		*result = entry;
	}
	LWLockRelease(lock);
	queue_lapse_end_behind(key, &leases);
	return why;
}

/*
 * claim_existing
 *		Claim a message of whose id there is something to remember.
 *
 * That may be about another row.  If nothing is left of it that matters, the
 * entry becomes this row's.  If a lease has run out, *leases is set.  The
 * partition is locked, here and in the function below.
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
		if (!queue_entry_has_nothing_left(entry))
		{
			*other = entry->enqueued_at;
			return queue_entry_is_held(entry) ? CLAIM_EXAMINED : CLAIM_OTHER;
		}
		entry->enqueued_at = enqueued_at;
		entry->logged = LOG_NOTHING;
		entry->logged_failures = 0;
		entry->counted = 0;
		entry->group_hash = 0;
		ItemPointerSetInvalid(&entry->tid);
	}
	if (queue_lease_has_run_out(entry, now))
		*leases = queue_lapse_expire(entry);
	if (entry->state == INFLIGHT_IDLE && entry->member.group != NULL &&
		entry->deadline <= now)
		queue_entry_offer(entry, false);
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
			queue_entry_watch_deadline(entry);
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
	InflightEntry *entry = queue_entry_find(key, &lock);
	LeasesBehind leases = {0};
	bool		is_ours;

	if (entry != NULL && queue_lease_has_run_out(entry, now))
		leases = queue_lapse_expire(entry);
	is_ours = entry != NULL && entry->state == INFLIGHT_IDLE &&
		(entry->group_hash == 0 || entry->member.group != NULL ||
		 queue_group_join_step(&entry->member, &entry->key, entry->group_hash,
							   entry->queue));
	if (is_ours)
		set_claimed(entry, true);
	LWLockRelease(lock);
	queue_lapse_end_behind(key, &leases);
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
	InflightEntry *entry = queue_entry_find(key, &lock);
	bool		is_ours = entry != NULL && queue_entry_is_partition(entry) &&
		entry->state == INFLIGHT_IDLE;

	if (is_ours)
		set_claimed(entry, false);
	LWLockRelease(lock);
	*result = entry;
	return is_ours;
}

/* This process has a claim on it from now on.  The partition is locked. */
static void
set_claimed(InflightEntry *entry, bool is_step)
{
	entry->state = INFLIGHT_CLAIMED;
	entry->is_step = is_step;
	entry->holder = MyProcNumber;
	entry->holder_pid = MyProcPid;
	entry->is_prepared = false;
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
	InflightEntry *entry = queue_entry_find(key, &lock);

	if (entry != NULL && entry->enqueued_at == enqueued_at &&
		!queue_entry_is_held(entry))
		queue_entry_forget(entry);
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
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	entry->state = INFLIGHT_IDLE;
	entry->is_step = false;
	if (entry->member.group != NULL)
		queue_entry_offer(entry, false);
	queue_entry_remove_if_nothing_left(entry);
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
	LWLock	   *lock = queue_entry_lock(entry);

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
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(entry->state == INFLIGHT_CLAIMED && entry->holder == MyProcNumber);
	entry->state = INFLIGHT_IDLE;
	entry->is_step = false;
	queue_entry_offer(entry, true);
	queue_entry_remove_if_nothing_left(entry);
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
	LWLock	   *lock = queue_entry_lock(entry);

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
	LWLock	   *lock = queue_entry_lock(entry);

	entry->counted = counted;
	entry->is_exhausted = true;
	queue_entry_set_idle(entry, 0);
	queue_entry_offer(entry, true);
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
	LWLock	   *lock = queue_entry_lock(entry);

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
	LWLock	   *lock = queue_entry_lock(entry);

	entry->state = INFLIGHT_DEQUEUED;
	entry->is_counted = queue_held_add(entry->queue);
	queue_lapse_move_fence(entry);
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
	LWLock	   *lock = queue_entry_lock(entry);

	Assert(queue_entry_is_partition(entry) &&
		   entry->state == INFLIGHT_CLAIMED);
	entry->state = INFLIGHT_DEQUEUED;
	entry->is_counted = queue_held_add(entry->queue);
	entry->is_uncounted = true;
	entry->since = GetCurrentTimestamp();
	queue_deadline_clear(&entry->due);
	LWLockRelease(lock);
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
	LWLock	   *lock = queue_entry_lock(entry);

	entry->state = INFLIGHT_LEASED;
	entry->is_counted = queue_held_add(entry->queue);
	queue_lapse_move_fence(entry);
	entry->is_settling = false;
	entry->is_written = false;
	entry->is_open = true;
	entry->is_passed_over = false;
	entry->is_delayed = false;
	entry->counted = counted;
	entry->tid = *tid;
	entry->retry = *retry;
	entry->epoch = queue_inflight_epoch();
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
	InflightEntry *entry = queue_entry_find_to_read(key, &lock);

	if (queue_entry_has_fence(entry, number))
		queue_entry_set_batch(entry, batch);
	LWLockRelease(lock);
}

/*
 * queue_inflight_postpone
 *		Put off the next step on this message until then.
 */
void
queue_inflight_postpone(const MessageKey *key, TimestampTz until)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);

	if (entry != NULL && entry->state == INFLIGHT_IDLE)
		entry->since = until;
	LWLockRelease(lock);
}

/*-------------------------------------------------------------------------
 *
 * usage.c
 *		How many messages and bytes a queue with limits has.
 *
 * Two numbers, each of messages and of bytes: what is committed, and what is
 * coming, sent by transactions in progress, prepared ones among them.  A sender
 * adds to what is coming before it writes a row, and takes that back if the sum
 * exceeds a limit; so the sum of what senders are let in for never does.  The
 * end of a transaction (charge.c) moves what it sent from the one to the other,
 * or takes it back, and a commit takes off what it consumed.
 *
 * Nothing is counted of a queue without limits.  So the first sender that meets
 * one counts the rows, as its latest snapshot sees them, and so do later ones
 * now and then, because plain DELETE, TRUNCATE and triggers that are disabled
 * pass this by: once a minute at the most, or when a message finds no room; and
 * never for more than a hundredth of the time.  Transactions that were open when
 * the limits were set have not counted what they do: when all of them are over,
 * it is counted anew.
 *
 * A sender that waits for room sleeps on a condition variable, and is woken by
 * each end of a transaction that makes some: all of them, because one that
 * wants more than there is must not keep the wake-up of another.  What makes
 * room and passes this by is seen within a second.
 *
 * If a process dies, its transaction ends as any other does.  In a crash all
 * numbers are lost, and the first sender counts.  There is nothing to be full.
 * What was prepared before a restart is counted when it has ended, as it is one
 * of those that were open when the queue was first counted.
 *
 * Locks: none for the numbers, which are atomic; the slot's for the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/proclist.h"

#include "common/clock.h"
#include "common/compat.h"
#include "shared/usage.h"

/* How often to count anew what seems to be in order */
#define COUNT_INTERVAL		(60 * USECS_PER_SEC)

/* Counting may take a part of the time: 1 in n */
#define COUNT_SHARE			100

/* Longest sleep at one go */
#define MAX_NAP_MS			1000L

static uint32 wait_event = 0;

static int64 read_number(pg_atomic_uint64 *number);
static int64 add_to(pg_atomic_uint64 *number, int64 n);
static int64 sum(pg_atomic_uint64 *committed, int64 coming);
static bool is_within(UsagePart *usage, int64 messages, int64 bytes,
					  const Amount *limit);
static void wake(UsagePart *usage);

static int64
read_number(pg_atomic_uint64 *number)
{
	return (int64) pg_atomic_read_u64(number);
}

/* Add to a number, and return what it is now. */
static int64
add_to(pg_atomic_uint64 *number, int64 n)
{
	return (int64) pg_atomic_add_fetch_u64(number, n);
}

/* Both numbers together; what is committed may be below zero for a moment. */
static int64
sum(pg_atomic_uint64 *committed, int64 coming)
{
	return Max(read_number(committed), 0) + coming;
}

/*
 * queue_usage_take
 *		Count messages as coming.
 *
 * Returns false, with nothing changed, if a limit would be exceeded; 0 is none.
 * Two senders that come at one time may both be refused though there is room
 * for one.
 */
bool
queue_usage_take(QueueSlot *slot, const Amount *amount, const Amount *limit)
{
	UsagePart  *usage = &slot->usage;
	int64		messages = add_to(&usage->coming, amount->messages);
	int64		bytes = add_to(&usage->coming_bytes, amount->bytes);

	if (is_within(usage, messages, bytes, limit))
		return true;
	add_to(&usage->coming, -amount->messages);
	add_to(&usage->coming_bytes, -amount->bytes);
	return false;
}

/* Would it return true? */
bool
queue_usage_fits(QueueSlot *slot, const Amount *amount, const Amount *limit)
{
	UsagePart  *usage = &slot->usage;

	return is_within(usage, read_number(&usage->coming) + amount->messages,
					 read_number(&usage->coming_bytes) + amount->bytes, limit);
}

/* Is it within the limits if so much is coming? */
static bool
is_within(UsagePart *usage, int64 messages, int64 bytes, const Amount *limit)
{
	return (limit->messages == 0 ||
			sum(&usage->messages, messages) <= limit->messages) &&
		(limit->bytes == 0 || sum(&usage->bytes, bytes) <= limit->bytes);
}

/* Count messages as coming that no limit keeps out. */
void
queue_usage_add(QueueSlot *slot, const Amount *amount)
{
	add_to(&slot->usage.coming, amount->messages);
	add_to(&slot->usage.coming_bytes, amount->bytes);
}

/* Return what is there, committed and coming. */
Amount
queue_usage_now(QueueSlot *slot)
{
	UsagePart  *usage = &slot->usage;
	Amount		now;

	now.messages = sum(&usage->messages, read_number(&usage->coming));
	now.bytes = sum(&usage->bytes, read_number(&usage->coming_bytes));
	return now;
}

/*
 * queue_usage_end
 *		A transaction has ended: count what it has sent and consumed.
 *
 * What is committed rises before what is coming falls, so that no sender sees
 * too little.  "hint" is where the slot was.  While the table is locked, as it
 * is in the callbacks of the transaction, that is no other queue's; otherwise
 * the slot's lock says so.
 */
void
queue_usage_end(QueueSlot *hint, Oid dbid, Oid relid,
				const UsageChange *change, bool committed)
{
	QueueSlot  *slot = queue_slot_lock(hint, dbid, relid);
	UsagePart  *usage;

	if (slot == NULL)
		return;
	usage = &slot->usage;
	if (committed)
	{
		add_to(&usage->messages, change->sent.messages - change->gone.messages);
		add_to(&usage->bytes, change->sent.bytes - change->gone.bytes);
	}
	add_to(&usage->coming, -change->sent.messages);
	add_to(&usage->coming_bytes, -change->sent.bytes);
	LWLockRelease(slot->lock);
	wake(usage);
}

/*
 * queue_usage_forget
 *		What is known of a queue is not so any more, as when its limits are
 *		set: the next sender counts.  Those that wait look anew.
 */
void
queue_usage_forget(QueueSlot *hint, Oid dbid, Oid relid)
{
	QueueSlot  *slot = queue_slot_lock(hint, dbid, relid);

	if (slot == NULL)
		return;
	slot->usage.counted_at = 0;
	LWLockRelease(slot->lock);
	wake(&slot->usage);
}

/* Wake the senders that wait for room. */
static void
wake(UsagePart *usage)
{
	/* pairs with the barrier in queue_usage_begin_wait() */
	pg_memory_barrier();
	if (!proclist_is_empty(&usage->room.wakeup))
		ConditionVariableBroadcast(&usage->room);
}

/* ----------------------------------------------------------------
 *		Counting
 * ----------------------------------------------------------------
 */

/*
 * queue_usage_wants_count
 *		Returns true if the rows are to be counted before a message is let in.
 *
 * "xmin" is the oldest transaction that is in progress, as a snapshot says.
 */
bool
queue_usage_wants_count(QueueSlot *slot, TransactionId xmin)
{
	const UsagePart *usage = &slot->usage;
	int64		elapsed = queue_clock() - usage->counted_at;
	TransactionId unsettled = usage->unsettled;

	return usage->counted_at == 0 ||
		elapsed > Max(COUNT_INTERVAL, usage->cost * COUNT_SHARE) ||
		(TransactionIdIsValid(unsettled) &&
		 !TransactionIdPrecedes(xmin, unsettled));
}

/*
 * queue_usage_may_be_wrong
 *		Returns true if the rows are to be counted before a message is refused.
 */
bool
queue_usage_may_be_wrong(QueueSlot *slot)
{
	return queue_clock() - slot->usage.counted_at >
		slot->usage.cost * COUNT_SHARE;
}

/*
 * queue_usage_lock
 *		Begin to count: note what is committed.
 *
 * Until queue_usage_unlock() no transaction that ends changes that.
 */
void
queue_usage_lock(QueueSlot *slot, UsageCount *count)
{
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	count->start.messages = read_number(&slot->usage.messages);
	count->start.bytes = read_number(&slot->usage.bytes);
	count->number = slot->usage.ncounts;
}

void
queue_usage_unlock(QueueSlot *slot)
{
	LWLockRelease(slot->lock);
}

/*
 * queue_usage_set_count
 *		So many rows were seen: set what is committed.
 *
 * "unsettled" is the first transaction that was not in progress then, unless
 * none was.  That matters for the first count only, which finds transactions
 * that have sent messages and not counted them.
 *
 * If somebody else has counted meanwhile, that has to do.
 */
void
queue_usage_set_count(QueueSlot *slot, const UsageCount *count,
					  const Amount *rows, TransactionId unsettled,
					  TimestampTz begun_at)
{
	UsagePart  *usage = &slot->usage;
	TimestampTz now = queue_clock();

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (usage->ncounts == count->number)
	{
		usage->ncounts++;
		usage->unsettled = usage->counted_at == 0 ? unsettled :
			InvalidTransactionId;
		usage->counted_at = now;
		usage->cost = now - begun_at;
		add_to(&usage->messages, rows->messages - count->start.messages);
		add_to(&usage->bytes, rows->bytes - count->start.bytes);
	}
	LWLockRelease(slot->lock);
}

/* ----------------------------------------------------------------
 *		Waiting
 * ----------------------------------------------------------------
 */

/*
 * queue_usage_begin_wait
 *		Begin to wait for room: from here on this process is woken if there is
 *		some.
 */
void
queue_usage_begin_wait(QueueSlot *slot)
{
	ConditionVariablePrepareToSleep(&slot->usage.room);
	pg_memory_barrier();
}

/*
 * queue_usage_sleep
 *		Sleep until there may be room, but not beyond "until", a time of
 *		clock.h.
 *
 * FATAL if the client has gone, which wants nothing sent any more.
 */
void
queue_usage_sleep(QueueSlot *slot, TimestampTz until)
{
	long		ms = TimestampDifferenceMilliseconds(queue_clock(), until);

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueRoom");
	if (ms > 0)
		(void) ConditionVariableTimedSleep(&slot->usage.room,
										   Min(ms, MAX_NAP_MS), wait_event);
	CHECK_FOR_INTERRUPTS();
	if (MyProcPort != NULL && !pq_check_connection())
		ereport(FATAL,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection to client lost")));
}

/* Wait no more. */
void
queue_usage_end_wait(void)
{
	(void) ConditionVariableCancelSleep();
}

/*-------------------------------------------------------------------------
 *
 * room.c
 *		Room in queues with limits: CALL wait_for_room(), and senders that
 *		wait.
 *
 * A sender that finds a queue full gets QU003, or waits, as the setting on_full
 * says.  It waits only in a transaction that has no transaction id.  One that
 * has may hold a row that a consumer needs to go on, or messages of this very
 * queue, and would then wait for itself.  While it waits it holds no lock on
 * the queue, so that a consumer never stands behind a statement of DDL that
 * stands behind it; and the queue can be dropped, paused or altered meanwhile.
 * A plain INSERT cannot let go of its lock, so it does not wait.
 *
 * A sender that is woken looks anew; the first to come is let in, and the
 * others sleep on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "api/room.h"
#include "api/wait.h"
#include "common/args.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/errcodes.h"
#include "common/guc.h"
#include "common/relation_name.h"
#include "table/call.h"
#include "table/dedup.h"
#include "table/definition.h"
#include "transaction/admit.h"

PG_FUNCTION_INFO_V1(queue_wait_for_room);

static bool is_too_much(const QueueDef *def, const Amount *amount);
static void check_may_wait(QueueDef *def, const Amount *amount,
						   TimestampTz end);
static bool has_room(Oid relid, QueueSlot **slot);
static void sleep_until(QueueSlot *slot, TimestampTz until);

/*
 * queue_open_with_room
 *		Open a queue to send these messages, with all checks, and count them.
 *
 * Waits for room if the queue says so; otherwise QU003.  But of a message that
 * is a duplicate, *first becomes the id of the first one, and nothing is
 * counted: a sender that tries again is to learn that it was sent, and needs
 * no room.  dedup_key is NULL for a batch.
 */
Relation
queue_open_with_room(Oid relid, const Amount *amount,
					 const NullableDatum *dedup_key, int64 *first,
					 QueueDef **def)
{
	Relation	rel = queue_open(relid, QUEUE_ENQUEUE, def);
	TimestampTz end = 0;
	bool		is_waiting = false;

	while (queue_def_is_limited(*def) && amount->messages > 0 &&
		   !queue_admit(rel, *def, amount))
	{
		QueueSlot  *slot = queue_def_slot(*def);

		if (dedup_key != NULL && !dedup_key->isnull &&
			(*first = queue_dedup_find(rel, *def, dedup_key->value)) != 0)
			break;
		if (end == 0)
			end = queue_clock() + (int64) queue_max_wait * 1000;
		check_may_wait(*def, amount, end);
		table_close(rel, queue_lockmode(QUEUE_ENQUEUE));

		/* first begin to wait, then look once more, then sleep */
		if (is_waiting)
			sleep_until(slot, end);
		else if (slot != NULL)
			queue_usage_begin_wait(slot);
		is_waiting = true;
		rel = queue_open(relid, QUEUE_ENQUEUE, def);
	}
	if (is_waiting)
		queue_usage_end_wait();
	return rel;
}

/* Would it be too much even if the queue were empty? */
static bool
is_too_much(const QueueDef *def, const Amount *amount)
{
	return (def->max_messages > 0 && amount->messages > def->max_messages) ||
		(def->max_bytes > 0 && amount->bytes > def->max_bytes);
}

/* Raise QU003 if messages that find no room are not to wait for it. */
static void
check_may_wait(QueueDef *def, const Amount *amount, TimestampTz end)
{
	if (def->on_full == FULL_ERROR || is_too_much(def, amount))
		queue_raise_full(def, amount, ROOM_OF_SETTINGS);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		queue_raise_full(def, amount, ROOM_OF_TRANSACTION);
	if (queue_clock() >= end)
		queue_raise_full(def, amount, ROOM_OF_TIME);
}

/* Raise QU003: there is no room for these messages. */
void
queue_raise_full(QueueDef *def, const Amount *amount, RoomRefusal refusal)
{
	static const char *const hints[] = {
		[ROOM_OF_SETTINGS] = "Send it again when consumers have taken some, which CALL queue.wait_for_room() waits for.",
		[ROOM_OF_TRANSACTION] = "This transaction has written something, so it does not wait: send in one that has not, or after CALL queue.wait_for_room().",
		[ROOM_OF_STATEMENT] = "INSERT and COPY do not wait: use queue.enqueue(), or CALL queue.wait_for_room() before.",
		[ROOM_OF_TIME] = "Setting queue.max_wait says how long to wait for room.",
	};
	QueueSlot  *slot = queue_def_slot(def);
	Amount		now = {0, 0};

	if (slot != NULL)
		now = queue_usage_now(slot);
	if (refusal == ROOM_OF_STATEMENT && def->on_full == FULL_ERROR)
		refusal = ROOM_OF_SETTINGS;
	ereport(ERROR,
			(errcode(ERRCODE_QUEUE_FULL),
			 errmsg("queue \"%s\" is full", queue_shown_name(def->relid)),
			 def->max_messages > 0 && (def->max_bytes == 0 ||
									   now.messages + amount->messages >
									   def->max_messages) ?
			 errdetail("Messages: limit %lld, present %lld, new %lld.",
					   (long long) def->max_messages,
					   (long long) now.messages,
					   (long long) amount->messages) :
			 errdetail("Bytes: limit %lld, present %lld, new %lld.",
					   (long long) def->max_bytes, (long long) now.bytes,
					   (long long) amount->bytes),
			 is_too_much(def, amount) ?
			 errhint("They would not fit if it were empty: raise its limit, or send less at a time.") :
			 errhint("%s", hints[refusal])));
}

/* ----------------------------------------------------------------
 *		wait_for_room()
 * ----------------------------------------------------------------
 */

/* CALL wait_for_room(queue, timeout) */
Datum
queue_wait_for_room(PG_FUNCTION_ARGS)
{
	Oid			relid;
	TimestampTz end;
	QueueSlot  *slot;
	bool		is_waiting = false;

	queue_call_begin(fcinfo, "queue.wait_for_room()", CALL_WRITES,
					 "queue", "timeout");
	relid = PG_GETARG_OID(0);
	end = queue_clock() +
		queue_interval_usec(PG_GETARG_INTERVAL_P(1), "timeout");

	while (!has_room(relid, &slot) && queue_clock() < end)
	{
		if (is_waiting)
		{
			queue_drop_portal_snapshot();
			sleep_until(slot, end);
		}
		else if (slot != NULL)
			queue_usage_begin_wait(slot);
		is_waiting = true;
	}
	if (is_waiting)
		queue_usage_end_wait();
	PG_RETURN_VOID();
}

/*
 * has_room
 *		Returns true if the queue takes one more message, however small.
 *
 * A queue that is paused takes none.
 */
static bool
has_room(Oid relid, QueueSlot **slot)
{
	QueueDef   *def;
	Relation	rel = queue_open(relid, QUEUE_ASK_FOR_ROOM, &def);
	Amount		one = {1, 1};
	bool		result;

	*slot = queue_def_slot(def);
	PushActiveSnapshot(GetTransactionSnapshot());
	result = !def->enqueue_paused && queue_admit_would(rel, def, &one);
	PopActiveSnapshot();
	table_close(rel, queue_lockmode(QUEUE_ASK_FOR_ROOM));
	return result;
}

/* Sleep until there may be room; without a place in memory, for a while. */
static void
sleep_until(QueueSlot *slot, TimestampTz until)
{
	if (slot != NULL)
		queue_usage_sleep(slot, until);
	else
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(100000L);
	}
}

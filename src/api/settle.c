/*-------------------------------------------------------------------------
 *
 * settle.c
 *		The end of a lease: ack(), nack(), release(), reject(), extend().
 *
 * Settling begins with the fence: the entry in the in-flight table must be the
 * very lease of the receipt.  It is marked as being settled, and then neither
 * its deadline nor another process can end it before this transaction does.
 *
 * ack and reject delete the row in the caller's transaction: if that rolls
 * back, the lease goes on.  nack, release and extend take effect at once.
 * They are done in two passes, so that a call for many receipts does all or
 * nothing.  First every lease is marked and every row looked at; an error
 * there takes the marks away again.  Then the marks become what was asked for,
 * where nothing can fail.  Only extend() of an array passes over leases that
 * are lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/errcodes.h"
#include "dispatch/lease.h"
#include "dispatch/move.h"
#include "dispatch/receipt.h"
#include "shared/database.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "table/member.h"
#include "table/message.h"
#include "table/settings.h"
#include "transaction/charge.h"
#include "transaction/holds.h"

/*
 * A lease that ran out can be settled when no consumer is examining the
 * message.  That takes less than as many milliseconds.
 */
#define MAX_LOOKS		1000

/* One lease that is being settled */
typedef struct Settling
{
	Receipt		receipt;
	InflightEntry *entry;
	QueueDef   *def;
	int			counted;		/* failures in the row */
} Settling;

/* The receipts of a call, sorted by queue and id, each once */
typedef struct SettleCall
{
	Settling   *items;
	int			nitems;
	Settling   *given;			/* receipts of an array, as they were given */
	int			ngiven;
	Relation	rel;			/* queue of the current item */
	QueueDef   *def;
	MessageRow *row;
} SettleCall;

PG_FUNCTION_INFO_V1(queue_ack);
PG_FUNCTION_INFO_V1(queue_ack_many);
PG_FUNCTION_INFO_V1(queue_nack);
PG_FUNCTION_INFO_V1(queue_nack_many);
PG_FUNCTION_INFO_V1(queue_release);
PG_FUNCTION_INFO_V1(queue_release_many);
PG_FUNCTION_INFO_V1(queue_reject);
PG_FUNCTION_INFO_V1(queue_reject_many);
PG_FUNCTION_INFO_V1(queue_extend);
PG_FUNCTION_INFO_V1(queue_extend_many);

static void read_receipts(FunctionCallInfo fcinfo, const char *funcname,
						  bool is_array, SettleCall *call);
static int	compare_settlings(const void *a, const void *b);
static void begin_settling(SettleCall *call, Settling *item);
static const char *try_settling(SettleCall *call, Settling *item,
								bool *is_busy);
static const char *lost_detail(SettleCall *call, const Receipt *receipt);
static void end_call(SettleCall *call);
static void mark_all(SettleCall *call);
static int	ack(FunctionCallInfo fcinfo, bool is_array);
static int	nack(FunctionCallInfo fcinfo, bool is_array);
static int	release(FunctionCallInfo fcinfo, bool is_array);
static int	reject(FunctionCallInfo fcinfo, bool is_array);
static int64 extend_argument(FunctionCallInfo fcinfo);
static TimestampTz extend(SettleCall *call, int64 lease);
static Datum extended_at(SettleCall *call, TimestampTz deadline);
static char *text_argument(FunctionCallInfo fcinfo, int argno);
pg_noreturn static void report_lost(const Receipt *receipt,
									const char *detail);
pg_noreturn static void report_busy(const Receipt *receipt,
									const char *detail);

/* ack(receipt) */
Datum
queue_ack(PG_FUNCTION_ARGS)
{
	ack(fcinfo, false);
	PG_RETURN_VOID();
}

/* ack(receipts) */
Datum
queue_ack_many(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(ack(fcinfo, true));
}

/* nack(receipt, delay, error) */
Datum
queue_nack(PG_FUNCTION_ARGS)
{
	nack(fcinfo, false);
	PG_RETURN_VOID();
}

/* nack(receipts, delay, error) */
Datum
queue_nack_many(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(nack(fcinfo, true));
}

/* release(receipt, delay) */
Datum
queue_release(PG_FUNCTION_ARGS)
{
	release(fcinfo, false);
	PG_RETURN_VOID();
}

/* release(receipts, delay) */
Datum
queue_release_many(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(release(fcinfo, true));
}

/* reject(receipt, reason) */
Datum
queue_reject(PG_FUNCTION_ARGS)
{
	reject(fcinfo, false);
	PG_RETURN_VOID();
}

/* reject(receipts, reason) */
Datum
queue_reject_many(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(reject(fcinfo, true));
}

/* extend(receipt, lease) */
Datum
queue_extend(PG_FUNCTION_ARGS)
{
	int64		lease = extend_argument(fcinfo);
	SettleCall	call;

	read_receipts(fcinfo, "queue.extend()", false, &call);
	mark_all(&call);
	PG_RETURN_TIMESTAMPTZ(extend(&call, lease));
}

/*
 * extend(receipts, lease): a heartbeat for many
 *
 * A lease that is settled or lost does not let the others run out.
 */
Datum
queue_extend_many(PG_FUNCTION_ARGS)
{
	int64		lease = extend_argument(fcinfo);
	SettleCall	call;
	int			i;

	read_receipts(fcinfo, "queue.extend()", true, &call);
	for (i = 0; i < call.nitems; i++)
	{
		bool		is_busy;

		if (try_settling(&call, &call.items[i], &is_busy) != NULL)
			call.items[i].entry = NULL;
	}
	end_call(&call);
	PG_RETURN_DATUM(extended_at(&call, extend(&call, lease)));
}

/* ----------------------------------------------------------------
 *		In the caller's transaction
 * ----------------------------------------------------------------
 */

/*
 * ack
 *		Delete the messages.
 *
 * Returns their number, as the functions below do.
 */
static int
ack(FunctionCallInfo fcinfo, bool is_array)
{
	SettleCall	call;
	int			i;

	read_receipts(fcinfo, "queue.ack()", is_array, &call);
	for (i = 0; i < call.nitems; i++)
	{
		begin_settling(&call, &call.items[i]);
		if (!queue_charge_delete(call.rel, call.def, call.row))
			report_busy(&call.items[i].receipt,
						"Another transaction has locked or changed the message.");
		queue_dedup_left(call.def, call.row);
	}
	end_call(&call);
	return call.nitems;
}

/* Move the messages to the dead letters. */
static int
reject(FunctionCallInfo fcinfo, bool is_array)
{
	SettleCall	call;
	char	   *reason;
	FailureNews news;
	int			i;

	queue_require_arg(fcinfo, 1, "reason");
	reason = text_argument(fcinfo, 1);
	read_receipts(fcinfo, "queue.reject()", is_array, &call);
	for (i = 0; i < call.nitems; i++)
	{
		Settling   *item = &call.items[i];

		begin_settling(&call, item);
		if (!OidIsValid(call.def->dead_letter))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("queue \"%s\" has no dead-letter queue",
							queue_qualified_name(RelationGetRelid(call.rel))),
					 errhint("Give it one with queue.alter_queue(), or settle the message with queue.ack().")));
		queue_inflight_read_news(item->entry, &news);
		if (!queue_message_dead_letter(call.rel, call.def, call.row, reason,
									   item->counted + item->entry->failures,
									   &news))
			report_busy(&item->receipt,
						"Another transaction has locked or changed the message.");
	}
	end_call(&call);
	return call.nitems;
}

/* ----------------------------------------------------------------
 *		At once
 * ----------------------------------------------------------------
 */

/*
 * nack
 *		Count a failure of each message, and give it back for later.
 *
 * They failed together: which of them is at fault is not said.
 */
static int
nack(FunctionCallInfo fcinfo, bool is_array)
{
	SettleCall	call;
	int64		delay = -1;		/* the queue's back-off */
	char	   *error = text_argument(fcinfo, 2);
	FailureNote failure;
	int			i;

	if (!PG_ARGISNULL(1))
		delay = queue_interval_usec(PG_GETARG_INTERVAL_P(1), "delay");
	read_receipts(fcinfo, "queue.nack()", is_array, &call);
	mark_all(&call);
	failure = queue_failure_note_own(error != NULL ? FAILURE_NACKED :
									 FAILURE_NACKED_SILENTLY, error, 0);
	for (i = 0; i < call.nitems; i++)
		queue_inflight_nack(call.items[i].entry,
							&call.items[i].def->retry,
							call.items[i].counted, delay, &failure,
							call.nitems);
	queue_xact_pop_settled(call.nitems);
	if (call.nitems > 0)
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	return call.nitems;
}

/* Give the messages back for later, as if they had never been received. */
static int
release(FunctionCallInfo fcinfo, bool is_array)
{
	SettleCall	call;
	int64		delay = 0;
	int			i;

	if (!PG_ARGISNULL(1))
		delay = queue_interval_usec(PG_GETARG_INTERVAL_P(1), "delay");
	read_receipts(fcinfo, "queue.release()", is_array, &call);
	mark_all(&call);
	for (i = 0; i < call.nitems; i++)
		queue_inflight_release(call.items[i].entry, delay);
	queue_xact_pop_settled(call.nitems);
	if (call.nitems > 0)
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	return call.nitems;
}

/* Read argument "lease" of extend(), in microseconds. */
static int64
extend_argument(FunctionCallInfo fcinfo)
{
	queue_require_arg(fcinfo, 1, "lease");
	return queue_lease_usec(PG_GETARG_INTERVAL_P(1), "lease");
}

/*
 * extend
 *		Let the leases that are marked end at another time, and return that.
 *
 * An item without an entry is one whose lease is lost.
 */
static TimestampTz
extend(SettleCall *call, int64 lease)
{
	TimestampTz deadline;
	int			nheld = 0;
	int			i;

	for (i = 0; i < call->nitems; i++)
		if (call->items[i].entry != NULL)
			queue_check_lease(call->items[i].def, lease);
	deadline = GetCurrentTimestamp() + lease;
	for (i = 0; i < call->nitems; i++)
	{
		if (call->items[i].entry == NULL)
			continue;
		queue_inflight_extend(call->items[i].entry, deadline);
		nheld++;
	}
	queue_xact_pop_settled(nheld);

	queue_database_wake_by(MyDatabaseId, deadline);
	return deadline;
}

/*
 * Return an array with the new deadline of each receipt, in the order of the
 * argument; null if its lease is lost.
 */
static Datum
extended_at(SettleCall *call, TimestampTz deadline)
{
	Datum	   *values = palloc(Max(call->ngiven, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(call->ngiven, 1) * sizeof(bool));
	int			dims[1] = {call->ngiven};
	int			lbs[1] = {1};
	int			i;

	for (i = 0; i < call->ngiven; i++)
	{
		Settling   *item = bsearch(&call->given[i], call->items, call->nitems,
								   sizeof(Settling), compare_settlings);

		values[i] = TimestampTzGetDatum(deadline);
		nulls[i] = item->entry == NULL;
	}
	if (call->ngiven == 0)
		return PointerGetDatum(construct_empty_array(TIMESTAMPTZOID));
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lbs,
											  TIMESTAMPTZOID, sizeof(int64),
											  FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

/* First pass of what happens at once: mark the leases, look at the rows. */
static void
mark_all(SettleCall *call)
{
	int			i;

	for (i = 0; i < call->nitems; i++)
		begin_settling(call, &call->items[i]);
	end_call(call);
}


/* ----------------------------------------------------------------
 *		Common parts
 * ----------------------------------------------------------------
 */

/* Return a text argument, NULL if it is null. */
static char *
text_argument(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL :
		text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/*
 * read_receipts
 *		Make the checks that come before the receipts are looked at, and read
 *		them.
 *
 * Loads the leases after a start.  The receipts of an array are sorted,
 * without duplicates.
 */
static void
read_receipts(FunctionCallInfo fcinfo, const char *funcname, bool is_array,
			  SettleCall *call)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	int			n;
	int			i;

	queue_require_preload();
	PreventCommandIfReadOnly(funcname);
	PreventCommandIfParallelMode(funcname);
	queue_require_arg(fcinfo, 0, is_array ? "receipts" : "receipt");
	memset(call, 0, sizeof(SettleCall));
	queue_lease_load();

	if (!is_array)
	{
		call->items = palloc0(sizeof(Settling));
		call->nitems = 1;
		queue_receipt_parse(PG_GETARG_TEXT_PP(0), &call->items[0].receipt);
		return;
	}

	array = PG_GETARG_ARRAYTYPE_P(0);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("receipts must be a one-dimensional array")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT,
					  &values, &nulls, &n);
	call->items = palloc0(Max(n, 1) * sizeof(Settling));
	for (i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("receipt must not be null"),
					 errdetail("Element %d of receipts is null.", i + 1)));
		queue_receipt_parse(DatumGetTextPP(values[i]), &call->items[i].receipt);
	}

	call->ngiven = n;
	call->given = palloc(Max(n, 1) * sizeof(Settling));
	memcpy(call->given, call->items, n * sizeof(Settling));

	/* duplicates count once, and each queue is opened once */
	qsort(call->items, n, sizeof(Settling), compare_settlings);
	for (i = 0; i < n; i++)
		if (i == 0 || compare_settlings(&call->items[i],
										&call->items[call->nitems - 1]) != 0)
			call->items[call->nitems++] = call->items[i];
}

/* Comparator for qsort() and bsearch(): by queue and id, then by lease */
static int
compare_settlings(const void *a, const void *b)
{
	const Receipt *left = &((const Settling *) a)->receipt;
	const Receipt *right = &((const Settling *) b)->receipt;
	int			result = queue_message_key_compare(&left->key, &right->key);

	if (result != 0)
		return result;
	if (left->number != right->number)
		return left->number < right->number ? -1 : 1;
	if (left->epoch != right->epoch)
		return left->epoch < right->epoch ? -1 : 1;
	return 0;
}

/*
 * begin_settling
 *		Hold a lease, as try_settling() does, or raise an error.
 *
 * After an error the end of the (sub)transaction lets the leases go on that it
 * holds.
 */
static void
begin_settling(SettleCall *call, Settling *item)
{
	bool		is_busy;
	const char *detail = try_settling(call, item, &is_busy);

	if (detail == NULL)
		return;
	if (is_busy)
		report_busy(&item->receipt, detail);
	report_lost(&item->receipt, detail);
}

/*
 * try_settling
 *		Open the queue, hold the lease, find the row.
 *
 * Returns NULL if that succeeds; call->rel, def and row are those of the item
 * then.  Otherwise returns why not, as a sentence, and holds nothing: the
 * lease is not the caller's any more, or another transaction is in the way
 * (is_busy).
 */
static const char *
try_settling(SettleCall *call, Settling *item, bool *is_busy)
{
	const Receipt *receipt = &item->receipt;
	SettleResult result;
	int			nlooks = 0;
	RowState	state;
	Hold	   *hold = NULL;

	*is_busy = false;

	if (call->rel == NULL || RelationGetRelid(call->rel) != receipt->key.relid)
	{
		end_call(call);
		if (!SearchSysCacheExists1(RELOID,
								   ObjectIdGetDatum(receipt->key.relid)))
			return "The queue does not exist any more.";
		call->rel = queue_open(receipt->key.relid, QUEUE_SETTLE, &call->def);
		call->row = queue_row_make(call->rel);
	}
	item->def = call->def;

	queue_xact_reserve();
	while ((result = queue_inflight_settle(&receipt->key, receipt->epoch,
										   receipt->number, &item->entry)) ==
		   SETTLE_EXAMINED && nlooks++ < MAX_LOOKS)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
	switch (result)
	{
		case SETTLE_OK:
			hold = queue_xact_push(HOLD_SETTLE, &receipt->key, item->entry);
			break;
		case SETTLE_LOST:
			return lost_detail(call, receipt);
		case SETTLE_HELD:
			return "The lease has ended, and another lease or transaction holds the message.";
		case SETTLE_GIVEN_BACK:
			return "The message has been given back.";
		case SETTLE_EXAMINED:
			*is_busy = true;
			return "Another session is looking at the message.";
		case SETTLE_SELF:
			return "This transaction has settled the message already.";
		case SETTLE_BUSY:
			*is_busy = true;
			return "Another open transaction has settled the message.";
	}

	/* about another row with this id the receipt says nothing */
	call->row->id = receipt->key.id;
	call->row->enqueued_at = item->entry->enqueued_at;
	call->row->tid = item->entry->tid;
	call->row->priority = item->entry->priority;
	state = queue_row_find(call->rel, call->def, call->row);
	if (state == ROW_GONE || state == ROW_BUSY)
	{
		queue_inflight_undo_settle(item->entry);
		queue_xact_pop(hold);
		*is_busy = state == ROW_BUSY;
		return *is_busy ?
			"Another transaction is deleting or changing the message." :
			"The message has been deleted.";
	}
	Assert(call->row->enqueued_at == item->entry->enqueued_at);
	item->counted = call->row->failures;
	return NULL;
}

/*
 * lost_detail
 *		Return what to say of a lease of which nothing is remembered.
 *
 * That is what the row tells, and no more: an id may be used again, and a
 * consumer that took the message may have given it back.
 */
static const char *
lost_detail(SettleCall *call, const Receipt *receipt)
{
	if (receipt->epoch != queue_inflight_epoch())
		return "The lease has ended, or was lost when the server started anew.";
	call->row->id = receipt->key.id;
	call->row->enqueued_at = QUEUE_ANY_ROW;
	ItemPointerSetInvalid(&call->row->tid);
	call->row->priority = -1;
	switch (queue_row_find(call->rel, call->def, call->row))
	{
		case ROW_GONE:
			return "The message is not in the queue any more: it was settled, moved, purged or deleted.";
		case ROW_BUSY:
			return "The lease has ended, and another transaction is deleting or changing the message.";
		default:
			return "The lease has ended.";
	}
}

/* Close the queue that is open, if there is one. */
static void
end_call(SettleCall *call)
{
	if (call->rel == NULL)
		return;
	ExecDropSingleTupleTableSlot(call->row->slot);
	table_close(call->rel, NoLock);
	call->rel = NULL;
}

/* Raise QU001: the lease is not, or not any more, the caller's. */
static void
report_lost(const Receipt *receipt, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUEUE_LEASE_LOST),
			 errmsg("lease on message " INT64_FORMAT " of queue %s is lost",
					receipt->key.id, queue_qualified_name(receipt->key.relid)),
			 errdetail_internal("%s", detail),
			 errhint("Roll back; the message may be delivered again, or is consumed already.")));
}

/* Raise 55P03: another transaction is in the way. */
static void
report_busy(const Receipt *receipt, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not settle message " INT64_FORMAT " of queue %s",
					receipt->key.id, queue_qualified_name(receipt->key.relid)),
			 errdetail_internal("%s", detail),
			 errhint("Try again when that transaction has ended.")));
}

/*-------------------------------------------------------------------------
 *
 * settle.c
 *		The end of a lease: ack(), nack(), release(), reject(), extend().
 *
 * Settling begins with the fence (settling.c).  Receipts of subscriptions are
 * settled in settle_subscription.c.
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

#include "api/settle_subscription.h"
#include "api/settling.h"
#include "common/args.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "dispatch/move.h"
#include "dispatch/receipt.h"
#include "shared/database.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "transaction/charge.h"
#include "transaction/holds.h"

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
	SubscriptionReceipts subscribed;	/* those of subscriptions, which are
										 * not among the items */
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
static void split(SettleCall *call);
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
static Datum extended_at(SettleCall *call, TimestampTz deadline,
						 int64 lease);
static char *text_argument(FunctionCallInfo fcinfo, int argno);

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
	if (call.subscribed.n > 0)
	{
		TimestampTz deadline;

		(void) queue_subscription_extend(&call.subscribed.receipts[0], lease,
										 false /* raises */ , &deadline);
		PG_RETURN_TIMESTAMPTZ(deadline);
	}
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
	PG_RETURN_DATUM(extended_at(&call, extend(&call, lease), lease));
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
		if (!queue_charge_delete(call.rel, call.def, call.row, GONE_ACKED))
			queue_settling_report_busy(&call.items[i].receipt,
									   "Another transaction has locked or changed the message.");
		queue_dedup_left(call.def, call.row);
	}
	end_call(&call);
	return call.nitems + queue_subscription_ack(&call.subscribed);
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
							queue_shown_name(RelationGetRelid(call.rel))),
					 errhint("Give it one with queue.alter_queue(), or settle the message with queue.ack().")));
		queue_inflight_read_news(item->entry, &news);
		if (!queue_message_dead_letter(call.rel, call.def, call.row, reason,
									   queue_add_failures(item->counted,
														  item->entry->failures),
									   &news, false))
			queue_settling_report_busy(&item->receipt,
									   "Another transaction has locked or changed the message.");
	}
	end_call(&call);
	return call.nitems + queue_subscription_reject(&call.subscribed, reason);
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
	MarkedLease *leases;
	int			nleases;
	int			nsettled;
	int			i;

	if (!PG_ARGISNULL(1))
		delay = queue_interval_usec(PG_GETARG_INTERVAL_P(1), "delay");
	read_receipts(fcinfo, "queue.nack()", is_array, &call);
	mark_all(&call);
	leases = queue_subscription_mark(&call.subscribed, &nleases, &nsettled);
	failure = queue_failure_note_own(error != NULL ? FAILURE_NACKED :
									 FAILURE_NACKED_SILENTLY, error, 0);
	queue_subscription_nack(leases, nleases, delay, &failure);
	for (i = 0; i < call.nitems; i++)
		queue_inflight_nack(call.items[i].entry,
							&call.items[i].def->retry,
							call.items[i].counted, delay, &failure,
							call.nitems);
	queue_xact_pop_settled(call.nitems);
	if (call.nitems + nleases > 0)
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	return call.nitems + nsettled;
}

/* Give the messages back for later, as if they had never been received. */
static int
release(FunctionCallInfo fcinfo, bool is_array)
{
	SettleCall	call;
	int64		delay = 0;
	MarkedLease *leases;
	int			nleases;
	int			nsettled;
	int			i;

	if (!PG_ARGISNULL(1))
		delay = queue_interval_usec(PG_GETARG_INTERVAL_P(1), "delay");
	read_receipts(fcinfo, "queue.release()", is_array, &call);
	mark_all(&call);
	leases = queue_subscription_mark(&call.subscribed, &nleases, &nsettled);
	queue_subscription_release(leases, nleases, delay);
	for (i = 0; i < call.nitems; i++)
		queue_inflight_release(call.items[i].entry, delay);
	queue_xact_pop_settled(call.nitems);
	if (call.nitems + nleases > 0)
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	return call.nitems + nsettled;
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
 * argument; null if its lease is lost.  Those of subscriptions are extended here.
 */
static Datum
extended_at(SettleCall *call, TimestampTz deadline, int64 lease)
{
	Datum	   *values = palloc(Max(call->ngiven, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(call->ngiven, 1) * sizeof(bool));
	int			dims[1] = {call->ngiven};
	int			lbs[1] = {1};
	int			i;

	for (i = 0; i < call->ngiven; i++)
	{
		Settling   *item;

		if (call->given[i].receipt.message != 0)
		{
			nulls[i] = !queue_subscription_extend(&call->given[i].receipt,
												  lease, true /* missing_ok */ ,
												  &deadline);
			values[i] = TimestampTzGetDatum(deadline);
			continue;
		}
		item = bsearch(&call->given[i], call->items, call->nitems,
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

	queue_call_begin(fcinfo, funcname, CALL_WRITES,
					 is_array ? "receipts" : "receipt");
	memset(call, 0, sizeof(SettleCall));
	queue_lease_load();

	if (!is_array)
	{
		call->items = palloc0(sizeof(Settling));
		call->nitems = 1;
		queue_receipt_parse(PG_GETARG_TEXT_PP(0), &call->items[0].receipt);
		split(call);
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
	call->subscribed.is_array = true;
	split(call);
}

/* Put the receipts of subscriptions apart, in their order. */
static void
split(SettleCall *call)
{
	int			n = 0;

	call->subscribed.receipts = palloc(Max(call->nitems, 1) * sizeof(Receipt));
	for (int i = 0; i < call->nitems; i++)
	{
		const Receipt *receipt = &call->items[i].receipt;

		if (receipt->message != 0)
			call->subscribed.receipts[call->subscribed.n++] = *receipt;
		else
			call->items[n++] = call->items[i];
	}
	call->nitems = n;
}

/*
 * Comparator for qsort() and bsearch(): by queue and id, then by lease, then by
 * the message of a partition
 */
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
	if (left->message != right->message)
		return left->message < right->message ? -1 : 1;
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
		queue_settling_report_busy(&item->receipt, detail);
	queue_settling_report_lost(&item->receipt, detail);
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
	const char *detail;
	RowState	state;
	Hold	   *hold;

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

	detail = queue_settling_begin(receipt, &item->entry, &result);
	if (detail != NULL)
	{
		*is_busy = queue_settling_is_busy(result);
		return result == SETTLE_LOST ? lost_detail(call, receipt) : detail;
	}
	hold = queue_xact_push(HOLD_SETTLE, &receipt->key, item->entry);

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
		return queue_settling_lost(receipt);
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
			return queue_settling_lost(receipt);
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

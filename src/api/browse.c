/*-------------------------------------------------------------------------
 *
 * browse.c
 *		Looking at messages: browse(), get().
 *
 * They take nothing, and show what the statement's snapshot sees, whoever holds
 * it.  So they work in read-only transactions and on a standby, where memory
 * knows of no failure that the row does not tell.  Failures are those until
 * now, because no snapshot tells what memory knew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "api/browse_subscription.h"
#include "common/args.h"
#include "dispatch/lease.h"
#include "shared/availability.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/message.h"
#include "table/rows.h"
#include "table/scan.h"
#include "table/selector.h"
#include "table/subscription.h"

PG_FUNCTION_INFO_V1(queue_browse);
PG_FUNCTION_INFO_V1(queue_get);

/* A look at a queue, for its result */
typedef struct Browse
{
	ReturnSetInfo *rsinfo;
	Relation	rel;
	QueueDef   *def;
	QueueScan  *scan;
	MessageRow *newest;			/* the version of now of a row, if needed */
	TimestampTz now;
	QueueSelector *selector;	/* NULL: all match */
	MemoryContext context;		/* reset for each message */
} Browse;

static void begin(FunctionCallInfo fcinfo, Browse *browse);
static bool show(Browse *browse, MessageRow *row);
static bool read_entry(Browse *browse, MessageRow *row, InflightEntry *entry);
static bool peek(Browse *browse, const MessageRow *row, InflightEntry *entry);
static int	newest_failures(Browse *browse, const MessageRow *row);
static void end(Browse *browse);

/* browse(queue, max, selector) */
Datum
queue_browse(PG_FUNCTION_ARGS)
{
	Browse		browse = {0};
	MessageRow *row;
	int			max;
	int			n = 0;

	queue_call_begin(fcinfo, "queue.browse()", CALL_READS, "queue");
	max = queue_max_argument(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		browse.selector = queue_selector_make(PG_GETARG_DATUM(2),
											  true /* raises */ );

	if (queue_is_subscription(PG_GETARG_OID(0)))
	{
		InitMaterializedSRF(fcinfo, 0);
		queue_subscription_browse((ReturnSetInfo *) fcinfo->resultinfo,
								  PG_GETARG_OID(0), max, browse.selector);
		return (Datum) 0;
	}
	begin(fcinfo, &browse);
	while (n < max && (row = queue_scan_next(browse.scan)) != NULL)
		if (show(&browse, row))
			n++;
	end(&browse);
	return (Datum) 0;
}

/* get(queue, id): one message, or none */
Datum
queue_get(PG_FUNCTION_ARGS)
{
	Browse		browse = {0};
	QueueRange	range;

	queue_call_begin(fcinfo, "queue.get()", CALL_READS, "queue", "id");
	if (queue_is_subscription(PG_GETARG_OID(0)))
	{
		InitMaterializedSRF(fcinfo, 0);
		queue_subscription_get((ReturnSetInfo *) fcinfo->resultinfo,
							   PG_GETARG_OID(0), PG_GETARG_INT64(1));
		return (Datum) 0;
	}
	range.low = range.high = PG_GETARG_INT64(1);

	begin(fcinfo, &browse);
	for (range.rank = 0; range.rank < NUM_RANKS; range.rank++)
	{
		MessageRow *row;

		queue_scan_range(browse.scan, &range);
		row = queue_scan_next(browse.scan);
		if (row != NULL && show(&browse, row))
			break;
	}
	end(&browse);
	return (Datum) 0;
}

/* Begin to look at the queue that is the first argument. */
static void
begin(FunctionCallInfo fcinfo, Browse *browse)
{
	InitMaterializedSRF(fcinfo, 0);
	browse->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	browse->now = GetCurrentTimestamp();
	browse->context = AllocSetContextCreate(CurrentMemoryContext,
											"queue message",
											ALLOCSET_DEFAULT_SIZES);
	browse->rel = queue_open(PG_GETARG_OID(0), QUEUE_BROWSE, &browse->def);
	queue_lease_load_to_look();
	browse->scan = queue_scan_begin_snapshot(browse->rel, browse->def,
											 GetActiveSnapshot());
}

/* Add a message to the result, if it matches. */
static bool
show(Browse *browse, MessageRow *row)
{
	InflightEntry entry;
	MessageStatus status;
	MemoryContext old;
	bool		has_entry = read_entry(browse, row, &entry);

	queue_row_status(browse->def, row, has_entry ? &entry : NULL, browse->now,
					 &status);
	if (!queue_selector_matches(browse->selector, row, status.failures + 1))
		return false;
	old = MemoryContextSwitchTo(browse->context);
	tuplestore_puttuple(browse->rsinfo->setResult,
						queue_message_result(browse->rsinfo->setDesc, row,
											 status.failures + 1, NULL));
	MemoryContextSwitchTo(old);
	MemoryContextReset(browse->context);
	return true;
}

/*
 * read_entry
 *		Read what memory knows of a message, if anything, and make row->failures
 *		what the row counts now.
 *
 * The worker counts failures in the row, and then memory forgets them.  The
 * snapshot may be from before: both are read until neither has changed, lest
 * a failure be in none of them.
 */
static bool
read_entry(Browse *browse, MessageRow *row, InflightEntry *entry)
{
	bool		found = peek(browse, row, entry);

	while (queue_row_is_outdated(row))
	{
		int			failures = found ? entry->failures : 0;

		row->failures = newest_failures(browse, row);
		found = peek(browse, row, entry);
		if (failures == (found ? entry->failures : 0))
			break;
	}
	return found;
}

static bool
peek(Browse *browse, const MessageRow *row, InflightEntry *entry)
{
	MessageKey	key;

	queue_message_key(&key, RelationGetRelid(browse->rel), row->id);
	return queue_inflight_peek(&key, row->enqueued_at, entry);
}

/* What the newest version counts; of a message that is gone, this one. */
static int
newest_failures(Browse *browse, const MessageRow *row)
{
	MessageRow *newest = browse->newest;
	int			failures = row->failures;

	if (newest == NULL)
		newest = browse->newest = queue_row_make(browse->rel);
	newest->id = row->id;
	newest->priority = row->priority;
	newest->enqueued_at = row->enqueued_at;
	ItemPointerSetInvalid(&newest->tid);
	if (queue_row_find(browse->rel, browse->def, newest) != ROW_GONE)
		failures = newest->failures;
	ExecClearTuple(newest->slot);
	return failures;
}

/* End that; the lock on the queue stays. */
static void
end(Browse *browse)
{
	queue_scan_end(browse->scan);
	if (browse->newest != NULL)
		ExecDropSingleTupleTableSlot(browse->newest->slot);
	table_close(browse->rel, NoLock);
	MemoryContextDelete(browse->context);
	if (browse->selector != NULL)
		queue_selector_free(browse->selector);
}

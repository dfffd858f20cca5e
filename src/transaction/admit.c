/*-------------------------------------------------------------------------
 *
 * admit.c
 *		Is there room in a queue with limits for what is about to be sent?
 *
 * What there is, is known in memory (shared/usage.c), or the rows are counted.
 * While they are, others go on sending and consuming; the result is set as a
 * difference to what was known when it began.  So each transaction must be on
 * the same side of both: of the snapshot that the rows are counted by, and of
 * the moment in which that is read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "common/clock.h"
#include "common/compat.h"
#include "table/scan.h"
#include "transaction/admit.h"
#include "transaction/charge.h"
#include "transaction/prepared.h"

/* For so many milliseconds others are waited for, that have to count */
#define MAX_TRIES			100

static bool is_room(Relation rel, QueueDef *def, QueueSlot *slot,
					const Amount *amount,
					bool (*ask) (QueueSlot *, const Amount *, const Amount *));
static bool is_room_by_rows(Relation rel, QueueDef *def,
							const Amount *amount);
static void count_anew(Relation rel, QueueSlot *slot);
static Snapshot begin_count(QueueSlot *slot, UsageCount *count);
static void count_rows(Relation rel, Snapshot snapshot, Amount *rows);

/*
 * queue_admit
 *		Count messages that are about to be sent to a queue with limits.
 *
 * Returns false, with nothing counted, if there is no room for them.  Of a
 * queue that has no place in memory the rows are counted each time, which is
 * slow, and does not tell what other transactions are sending.  May throw.
 */
bool
queue_admit(Relation rel, QueueDef *def, const Amount *amount)
{
	Charge	   *charge = queue_charge_find(def);

	if (charge == NULL)
		return is_room_by_rows(rel, def, amount);
	if (!is_room(rel, def, charge->queue, amount, queue_usage_take))
		return false;
	queue_amount_add(&charge->change.sent, amount);
	return true;
}

/*
 * queue_admit_would
 *		Returns true if such messages would find room now, and counts nothing.
 */
bool
queue_admit_would(Relation rel, QueueDef *def, const Amount *amount)
{
	QueueSlot  *slot = queue_def_slot(def);

	if (!queue_def_is_limited(def))
		return true;
	if (slot == NULL)
		return is_room_by_rows(rel, def, amount);
	return is_room(rel, def, slot, amount, queue_usage_fits);
}

/* Ask this function for room, and if it has none, perhaps after a count. */
static bool
is_room(Relation rel, QueueDef *def, QueueSlot *slot, const Amount *amount,
		bool (*ask) (QueueSlot *, const Amount *, const Amount *))
{
	Amount		limit = {def->max_messages, def->max_bytes};

	if (queue_usage_wants_count(slot, GetActiveSnapshot()->xmin))
		count_anew(rel, slot);
	if (ask(slot, amount, &limit))
		return true;
	if (!queue_usage_may_be_wrong(slot))
		return false;
	count_anew(rel, slot);
	return ask(slot, amount, &limit);
}

/* ----------------------------------------------------------------
 *		Counting rows
 * ----------------------------------------------------------------
 */

/*
 * count_anew
 *		Count the rows, and set what is committed.
 *
 * What this transaction has sent is counted as coming, and what it has deleted
 * is there until it commits, in whatever way it was deleted.  So the snapshot is
 * that of its first command.
 */
static void
count_anew(Relation rel, QueueSlot *slot)
{
	TimestampTz begun_at = queue_clock();
	UsageCount	count;
	Amount		rows;
	Snapshot	snapshot = begin_count(slot, &count);

	Assert(snapshot->copied);
	snapshot->curcid = FirstCommandId;
	count_rows(rel, snapshot, &rows);
	queue_usage_set_count(slot, &count, &rows,
						  snapshot->xmin == snapshot->xmax ?
						  InvalidTransactionId : snapshot->xmax, begun_at);
	UnregisterSnapshot(snapshot);
}

/*
 * begin_count
 *		Take a snapshot, and note what is known to be committed at that moment.
 *
 * While the slot is locked no transaction counts what it did.  So one that has
 * ended by then, and has not counted, is among those that are copied; if the
 * snapshot sees what it did, try again a moment later.  If that goes on, its
 * process stands still there, and the count will be wrong by what it did.
 */
static Snapshot
begin_count(QueueSlot *slot, UsageCount *count)
{
	int			max = MaxBackends + queue_prepared_max();
	TransactionId *xids = palloc(max * sizeof(TransactionId));

	/* the memory that it needs is there from now on */
	(void) GetLatestSnapshot();
	for (int tries = 0;; tries++)
	{
		Snapshot	snapshot;
		bool		is_exact = true;
		int			n;

		queue_usage_lock(slot, count);
		snapshot = GetLatestSnapshot();
		n = queue_charge_endings(xids);
		n += queue_prepared_xids(xids + n);
		queue_usage_unlock(slot);
		for (int i = 0; i < n; i++)
			is_exact &= XidInMVCCSnapshot(xids[i], snapshot);
		if (is_exact || tries == MAX_TRIES)
		{
			pfree(xids);
			return RegisterSnapshot(snapshot);
		}
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/* The same for a queue that has no place in memory */
static bool
is_room_by_rows(Relation rel, QueueDef *def, const Amount *amount)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Amount		rows;

	count_rows(rel, snapshot, &rows);
	UnregisterSnapshot(snapshot);
	queue_amount_add(&rows, amount);
	return (def->max_messages == 0 || rows.messages <= def->max_messages) &&
		(def->max_bytes == 0 || rows.bytes <= def->max_bytes);
}

/* Count the rows that a snapshot sees. */
static void
count_rows(Relation rel, Snapshot snapshot, Amount *rows)
{
	QueueTableScan *pass = queue_table_scan_begin(rel, snapshot);
	MessageRow *row;

	rows->messages = rows->bytes = 0;
	while ((row = queue_table_scan_next(pass)) != NULL)
	{
		rows->messages++;
		rows->bytes += queue_row_bytes(row);
	}
	queue_table_scan_end(pass);
}

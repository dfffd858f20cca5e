/*-------------------------------------------------------------------------
 *
 * charge.c
 *		What a transaction adds to queues with limits, and takes from them.
 *
 * Messages that it sends are counted when they are let in (shared/usage.c),
 * before their rows are written; those that it consumes, when it commits.  Both
 * are noted here, one charge a queue and subtransaction, so that the end of
 * either takes back what was not sent after all.
 *
 * Of a queue without limits nothing is noted.  If its limits are set while
 * transactions are open, these have not counted what they do; usage.c says what
 * becomes of that.
 *
 * The functions that the end of a transaction calls allocate nothing and throw
 * nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "common/clock.h"
#include "common/compat.h"
#include "table/scan.h"
#include "transaction/charge.h"

#define FIRST_CHARGES		4

/* Those of a subtransaction are the last ones */
static Charge *charges = NULL;
static int	ncharges = 0;
static int	max_charges = 0;

static Charge *find_charge(QueueDef *def);
static bool is_room(Relation rel, QueueDef *def, QueueSlot *slot,
					const Amount *amount,
					bool (*ask) (QueueSlot *, const Amount *, const Amount *));
static bool is_room_by_rows(Relation rel, QueueDef *def,
							const Amount *amount);
static void count_rows(Relation rel, Snapshot snapshot, bool with_own,
					   Amount *rows);
static void count_anew(Relation rel, QueueSlot *slot);
static void add(Amount *to, const Amount *amount);

/*
 * find_charge
 *		Return the charge of a queue in this subtransaction.
 *
 * NULL for a queue without limits, or without a place in memory.  May throw.
 */
static Charge *
find_charge(QueueDef *def)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	QueueSlot  *slot;
	Charge	   *charge;

	if (!queue_def_is_limited(def))
		return NULL;

	for (int i = ncharges - 1; i >= 0 && charges[i].subid == subid; i--)
	{
		if (charges[i].relid == def->relid)
			return &charges[i];
	}
	slot = queue_def_slot(def);
	if (slot == NULL)
		return NULL;
	if (charges == NULL)
	{
		charges = MemoryContextAlloc(TopMemoryContext,
									 FIRST_CHARGES * sizeof(Charge));
		max_charges = FIRST_CHARGES;
	}
	else if (ncharges == max_charges)
	{
		charges = repalloc_huge(charges,
								(Size) max_charges * 2 * sizeof(Charge));
		max_charges *= 2;
	}
	charge = &charges[ncharges];
	memset(charge, 0, sizeof(Charge));
	charge->relid = def->relid;
	charge->subid = subid;
	charge->queue = slot;
	ncharges++;
	return charge;
}

/*
 * queue_charge_send
 *		Count messages that are about to be sent to a queue with limits.
 *
 * Returns false, with nothing counted, if there is no room for them.  Of a
 * queue that has no place in memory the rows are counted each time, which is
 * slow, and does not tell what other transactions are sending.  May throw.
 */
bool
queue_charge_send(Relation rel, QueueDef *def, const Amount *amount)
{
	Charge	   *charge = find_charge(def);

	if (charge == NULL)
		return is_room_by_rows(rel, def, amount);
	if (!is_room(rel, def, charge->queue, amount, queue_usage_take))
		return false;
	add(&charge->change.sent, amount);
	return true;
}

/*
 * queue_charge_has_room
 *		Returns true if such messages would find room now, and counts nothing.
 */
bool
queue_charge_has_room(Relation rel, QueueDef *def, const Amount *amount)
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

/*
 * queue_charge_exempt
 *		Count messages that no limit keeps out: dead letters, and what comes
 *		with its id.
 */
void
queue_charge_exempt(QueueDef *def, const Amount *amount)
{
	Charge	   *charge = find_charge(def);

	if (charge == NULL)
		return;
	queue_usage_add(charge->queue, amount);
	add(&charge->change.sent, amount);
}

/* Messages that were let in by this subtransaction are not sent after all. */
void
queue_charge_undo(QueueDef *def, const Amount *amount)
{
	Amount		less = {-amount->messages, -amount->bytes};

	queue_charge_exempt(def, &less);
}

/* A plain UPDATE makes another version of a row. */
void
queue_charge_version(QueueDef *def, int64 old_bytes, int64 new_bytes)
{
	Amount		more = {0, new_bytes - old_bytes};

	if (more.bytes != 0)
		queue_charge_exempt(def, &more);
}

/*
 * queue_charge_delete
 *		Delete a row, and count it as gone when this transaction commits.
 *
 * Returns false, with nothing done, if another transaction was quicker, or
 * holds a lock.
 */
bool
queue_charge_delete(Relation rel, QueueDef *def, MessageRow *row)
{
	Charge	   *charge = find_charge(def);
	Amount		amount;

	if (charge == NULL)
		return queue_row_delete(rel, row);

	/* before its page may be pruned */
	amount.messages = 1;
	amount.bytes = queue_row_bytes(row);
	if (!queue_row_delete(rel, row))
		return false;
	add(&charge->change.gone, &amount);
	return true;
}

/* ----------------------------------------------------------------
 *		Counting rows
 * ----------------------------------------------------------------
 */

/*
 * count_anew
 *		Count the rows, and set what is committed.
 *
 * What this transaction has consumed is counted, because its commit takes it
 * off.  (What it has deleted by plain SQL is not.)
 */
static void
count_anew(Relation rel, QueueSlot *slot)
{
	TimestampTz begun_at = queue_clock();
	Amount		start;
	Amount		rows;
	Snapshot	snapshot;

	queue_usage_begin_count(slot, &start);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	count_rows(rel, snapshot, false, &rows);
	for (int i = 0; i < ncharges; i++)
	{
		if (charges[i].relid == RelationGetRelid(rel))
			add(&rows, &charges[i].change.gone);
	}
	queue_usage_set_count(slot, &start, &rows,
						  snapshot->xmin == snapshot->xmax ?
						  InvalidTransactionId : snapshot->xmax, begun_at);
	UnregisterSnapshot(snapshot);
}

/* The same for a queue that has no place in memory */
static bool
is_room_by_rows(Relation rel, QueueDef *def, const Amount *amount)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Amount		rows;

	count_rows(rel, snapshot, true, &rows);
	UnregisterSnapshot(snapshot);
	add(&rows, amount);
	return (def->max_messages == 0 || rows.messages <= def->max_messages) &&
		(def->max_bytes == 0 || rows.bytes <= def->max_bytes);
}

/* Count the rows that a snapshot sees, with those that this transaction sent? */
static void
count_rows(Relation rel, Snapshot snapshot, bool with_own, Amount *rows)
{
	QueueTableScan *pass = queue_table_scan_begin(rel, snapshot);
	MessageRow *row;

	rows->messages = rows->bytes = 0;
	while ((row = queue_table_scan_next(pass)) != NULL)
	{
		if (row->state == ROW_OWN && !with_own && !queue_row_is_version(row))
			continue;
		rows->messages++;
		rows->bytes += queue_row_bytes(row);
	}
	queue_table_scan_end(pass);
}

static void
add(Amount *to, const Amount *amount)
{
	to->messages += amount->messages;
	to->bytes += amount->bytes;
}

/* ----------------------------------------------------------------
 *		Ends of transactions
 * ----------------------------------------------------------------
 */

/* Is there any charge? */
bool
queue_charge_has_any(void)
{
	return ncharges > 0;
}

/* Return the charges of this transaction, and their number. */
const Charge *
queue_charges(int *n)
{
	*n = ncharges;
	return charges;
}

/* The transaction is committed. */
void
queue_charge_commit(void)
{
	for (int i = 0; i < ncharges; i++)
		queue_usage_end(charges[i].queue, MyDatabaseId, charges[i].relid,
						&charges[i].change, true);
	ncharges = 0;
}

/* A subtransaction is rolled back, or all (InvalidSubTransactionId) is. */
void
queue_charge_abort(SubTransactionId subid)
{
	while (ncharges > 0 && (subid == InvalidSubTransactionId ||
							charges[ncharges - 1].subid == subid))
	{
		Charge	   *charge = &charges[--ncharges];

		queue_usage_end(charge->queue, MyDatabaseId, charge->relid,
						&charge->change, false);
	}
}

/*
 * queue_charge_pass_on
 *		The subtransaction is released: its charges become its parent's.
 *
 * They are the last ones.  Those of the parent come before them, so a queue may
 * have two then, which does no harm.
 */
void
queue_charge_pass_on(SubTransactionId subid, SubTransactionId parent)
{
	int			first = ncharges;
	int			nkept;

	while (first > 0 && charges[first - 1].subid == subid)
		first--;
	nkept = first;
	for (int i = first; i < ncharges; i++)
	{
		int			j;

		for (j = nkept - 1; j >= 0 && charges[j].subid == parent; j--)
		{
			if (charges[j].relid == charges[i].relid)
				break;
		}
		if (j >= 0 && charges[j].subid == parent)
		{
			add(&charges[j].change.sent, &charges[i].change.sent);
			add(&charges[j].change.gone, &charges[i].change.gone);
			continue;
		}
		charges[nkept] = charges[i];
		charges[nkept++].subid = parent;
	}
	ncharges = nkept;
}

/* Forget all charges. */
void
queue_charge_reset(void)
{
	ncharges = 0;

	/* those of a transaction with many queues should not stay */
	if (max_charges > 16 * FIRST_CHARGES)
	{
		pfree(charges);
		charges = NULL;
		max_charges = 0;
	}
}

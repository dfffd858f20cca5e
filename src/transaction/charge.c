/*-------------------------------------------------------------------------
 *
 * charge.c
 *		What a transaction adds to queues, and takes from them.
 *
 * All of it is noted here, one charge a queue and subtransaction, so that the end
 * of either takes back what was not sent after all.  Its commit adds it to the
 * counters of the queue (shared/counters.c).
 *
 * Of a queue with limits, messages that it sends are counted before that, when
 * they are let in (shared/usage.c) and their rows are not yet written; those
 * that it consumes, when it commits.  If limits are set while transactions are
 * open, these have not counted what they do; usage.c says what becomes of that.
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
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "transaction/charge.h"

#define FIRST_CHARGES		4

/* Those of a subtransaction are the last ones */
static Charge *charges = NULL;
static int	ncharges = 0;
static int	max_charges = 0;

/*
 * By proc number: transaction that is about to end, or has ended, and has not
 * counted yet what it did; or Invalid
 */
static volatile TransactionId *ending = NULL;

static Charge *find_charge(QueueDef *def);
static Charge *find_noted(Oid relid);
static Charge *make_charge(Oid relid, QueueSlot *slot);
static void note_leave(Charge *charge, const MessageRow *row);

/* Shared memory needed for the transactions that end */
Size
queue_charge_shmem_size(void)
{
	return mul_size(MaxBackends, sizeof(TransactionId));
}

/* Create or attach to it.  The caller holds AddinShmemInitLock. */
void
queue_charge_shmem_init(void)
{
	bool		found;

	ending = ShmemInitStruct("queue ending transactions",
							 queue_charge_shmem_size(), &found);
	if (!found)
		memset((void *) ending, 0, queue_charge_shmem_size());
}

/*
 * find_charge
 *		Return the charge of a queue in this subtransaction; NULL: it has no
 *		place in memory.  May throw.
 */
static Charge *
find_charge(QueueDef *def)
{
	Charge	   *charge = find_noted(def->relid);

	return charge != NULL ? charge :
		make_charge(def->relid, queue_def_slot(def));
}

/* The same if there is one already; NULL: there is none. */
static Charge *
find_noted(Oid relid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();

	for (int i = ncharges - 1; i >= 0 && charges[i].subid == subid; i--)
	{
		if (charges[i].relid == relid)
			return &charges[i];
	}
	return NULL;
}

/* Make one; NULL: there is no place in memory.  May throw. */
static Charge *
make_charge(Oid relid, QueueSlot *slot)
{
	Charge	   *charge;

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
	charge->relid = relid;
	charge->subid = GetCurrentSubTransactionId();
	charge->queue = slot;
	ncharges++;
	return charge;
}

/*
 * queue_charge_find
 *		Return the charge of a queue with limits in this subtransaction.
 *
 * NULL for a queue without limits, or without a place in memory.  May throw.
 */
Charge *
queue_charge_find(QueueDef *def)
{
	Charge	   *charge = queue_def_is_limited(def) ? find_charge(def) : NULL;

	if (charge != NULL)
		charge->is_limited = true;
	return charge;
}

/*
 * queue_charge_exempt
 *		Count messages that no limit keeps out: dead letters, and what comes
 *		with its id.
 */
void
queue_charge_exempt(QueueDef *def, const Amount *amount)
{
	Charge	   *charge = queue_charge_find(def);

	if (charge == NULL)
		return;
	queue_usage_add(charge->queue, amount);
	queue_amount_add(&charge->change.sent, amount);
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

	if (more.bytes == 0)
		return;
	queue_charge_exempt(def, &more);
	queue_charge_sent(def, 0, more.bytes, 0, 0);
}

/*
 * queue_charge_sent
 *		Count messages as sent when this transaction commits.
 *
 * They are due then (0: at once), and have failed so often.  May throw.
 */
void
queue_charge_sent(QueueDef *def, int64 n, int64 bytes, TimestampTz due,
				  int failures)
{
	Charge	   *charge = find_charge(def);

	if (charge == NULL)
		return;
	charge->counts.sent += n;
	charge->counts.sent_bytes += bytes;
	if (due != 0)
		queue_counters_note_later(&charge->counts.come[queue_later_kind(failures)],
								  n, due);
}

/* The same for one, as its draft says. */
void
queue_charge_sent_draft(QueueDef *def, const MessageDraft *draft)
{
	queue_charge_sent(def, 1, queue_draft_bytes(draft),
					  draft->visible_at.isnull ? 0 :
					  DatumGetTimestampTz(draft->visible_at.value),
					  draft->failures);
}

/* Note a row that goes, or gets another due time, if it counts as not due. */
static void
note_leave(Charge *charge, const MessageRow *row)
{
	LaterChange *leave = &charge->counts.leave[queue_later_kind(row->failures)];

	if (queue_counters_is_later(charge->queue, row->visible_at))
		queue_counters_note_later(leave, 1, row->visible_at);
}

/*
 * queue_charge_due
 *		The row is rewritten, and is due at another time (0: at once), or has
 *		failed more often.  May throw.
 */
void
queue_charge_due(QueueDef *def, const MessageRow *row, TimestampTz due,
				 int failures)
{
	Charge	   *charge;

	if (row->visible_at == 0 && due == 0)
		return;
	charge = find_charge(def);
	if (charge == NULL)
		return;
	note_leave(charge, row);
	if (due != 0)
		queue_counters_note_later(&charge->counts.come[queue_later_kind(failures)],
								  1, due);
}

/*
 * queue_charge_delete
 *		Delete a row, and count it as gone when this transaction commits.
 *
 * Returns false, with nothing done, if another transaction was quicker, or
 * holds a lock.
 */
bool
queue_charge_delete(Relation rel, QueueDef *def, MessageRow *row,
					GoneKind kind)
{
	Charge	   *charge = find_charge(def);
	CounterChange *counts;
	Amount		amount;

	if (charge == NULL)
		return queue_row_delete(rel, row);

	/* before its page may be pruned */
	amount.messages = 1;
	amount.bytes = queue_row_bytes(row);
	if (!queue_row_delete(rel, row))
		return false;
	if (queue_def_is_limited(def))
	{
		charge->is_limited = true;
		queue_amount_add(&charge->change.gone, &amount);
	}
	counts = &charge->counts;
	counts->gone[kind]++;
	counts->gone_bytes += amount.bytes;
	note_leave(charge, row);
	return true;
}

/*
 * queue_charge_passed
 *		Count messages of a topic as gone for a subscription, whose position moves
 *		past them, when this transaction commits.  May throw.
 */
void
queue_charge_passed(SubscriptionDef *def, GoneKind kind, int64 n)
{
	Charge	   *charge = find_noted(def->relid);

	if (charge == NULL)
		charge = make_charge(def->relid, queue_subscription_slot(def));
	if (charge != NULL)
		charge->counts.gone[kind] += n;
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

/*
 * queue_charge_begin_commit
 *		The transaction is about to commit: let others know that it has still
 *		to count what it did.
 *
 * A process that counts the rows, and sees what it has done, waits for that.
 */
void
queue_charge_begin_commit(void)
{
	if (ncharges > 0)
	{
		ending[MyProcNumber] = GetTopTransactionIdIfAny();
		pg_memory_barrier();
	}
}

/*
 * queue_charge_endings
 *		Copy the transactions that have still to count, and return how many.
 *
 * There is room for MaxBackends of them.
 */
int
queue_charge_endings(TransactionId *xids)
{
	int			n = 0;

	for (int i = 0; i < MaxBackends; i++)
	{
		TransactionId xid = ending[i];

		if (TransactionIdIsValid(xid) && i != MyProcNumber)
			xids[n++] = xid;
	}
	return n;
}

/* The transaction is committed. */
void
queue_charge_commit(void)
{
	for (int i = 0; i < ncharges; i++)
	{
		queue_counters_commit(charges[i].queue, MyDatabaseId,
							  charges[i].relid, &charges[i].counts);
		if (charges[i].is_limited)
			queue_usage_end(charges[i].queue, MyDatabaseId, charges[i].relid,
							&charges[i].change, true);
	}
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

		if (charge->is_limited)
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
			queue_amount_add(&charges[j].change.sent, &charges[i].change.sent);
			queue_amount_add(&charges[j].change.gone, &charges[i].change.gone);
			queue_counters_merge(&charges[j].counts, &charges[i].counts);
			charges[j].is_limited |= charges[i].is_limited;
			continue;
		}
		charges[nkept] = charges[i];
		charges[nkept++].subid = parent;
	}
	ncharges = nkept;
}

/* Forget all charges; nothing is left to be counted. */
void
queue_charge_reset(void)
{
	ending[MyProcNumber] = InvalidTransactionId;
	ncharges = 0;

	/* those of a transaction with many queues should not stay */
	if (max_charges > 16 * FIRST_CHARGES)
	{
		pfree(charges);
		charges = NULL;
		max_charges = 0;
	}
}

/*-------------------------------------------------------------------------
 *
 * gone.c
 *		Leases of messages that are gone.
 *
 * A row that is leased may be deleted by plain SQL, or its table be dropped by
 * a prepared transaction, and the in-flight table is not told.  The entry does
 * no harm, but it takes room until the lease ends, over restarts too, and that
 * may be long.  A lease that ran out is even remembered until a consumer takes
 * the message, which is not there any more.  So the worker goes over the
 * leases of its database, looks their rows up, and forgets those that have
 * none.  It does so now and then, and soon when a claim was refused for lack
 * of room (quota.c).
 *
 * It also does so when a transaction may have ended that was prepared before
 * the start: what that has acked is leased in memory, and holds its group.  And
 * soon after a start, if leases were loaded of queues that
 * have not been used yet: the others are linked by their due times then
 * (cover.c).
 *
 * It collects the keys at one go, while each partition is locked in turn, and
 * then looks up as many rows in a transaction as it may.  What is gone stays
 * gone: a row is known by its id and the time at which it was sent, and one
 * that comes back by a rollback was not gone, but being deleted.
 *
 * Of a subscription, whose row tells where it stands in a partition, a lease is
 * gone if all that it is on is consumed.  A session that sets a position also ends
 * the leases in the log; if that was prepared before the start, only the log tells
 * it.
 *
 * Nothing here waits: a queue that is locked is left for later.  If the
 * process dies, the next worker begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/twophase.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "dispatch/lease.h"
#include "dispatch/lease_row.h"
#include "shared/cover.h"
#include "shared/inflight.h"
#include "shared/quota.h"
#include "table/definition.h"
#include "table/position.h"
#include "table/rows.h"
#include "transaction/recovered.h"
#include "worker/gone.h"

/* How often to look, and how often if a claim was refused */
#define LOOK_INTERVAL		(10 * 60 * USECS_PER_SEC)
#define HURRY_INTERVAL		USECS_PER_SEC

/* Rows looked up in one transaction */
#define LOOK_BATCH			2000

/* A lease, as it was when it was collected */
typedef struct LeaseCopy
{
	MessageKey	key;			/* must be first */
	TimestampTz enqueued_at;
	ItemPointerData tid;
	int			priority;
	uint64		epoch;
	uint64		number;
	int64		last_id;
	bool		is_told;		/* of before the start, and the log had it */
	bool		is_ended;		/* ... and has it no more */
} LeaseCopy;

typedef struct LeaseCopies
{
	LeaseCopy  *leases;
	int			n;
	int			max;
} LeaseCopies;

/* The pass that is under way, and how far it has come */
static LeaseCopies pass = {NULL, 0, 0};
static int	at = 0;

/* When the last one began, and how often claims had been refused by then */
static TimestampTz begun_at = 0;
static uint32 refused = 0;

/* ... and transactions prepared before the start had ended */
static uint32 ends = 0;

/*
 * None of those was left when the log was read, and each lease of before the
 * start was looked at
 */
static bool is_final = false;

static void begin_pass(void);
static bool copy_lease(InflightEntry *entry, void *arg);
static void find_ended(void);
static void look_up(const LeaseCopy *leases, int n);
static void look_up_positions(Relation rel, SubscriptionDef *def,
							  const LeaseCopy *leases, int n);
static void forget(const LeaseCopy *leases, int n);

/*
 * queue_gone_is_needed
 *		Returns true if a pass is under way, or if it is time for one.
 *
 * The clock may have been set back.
 */
bool
queue_gone_is_needed(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (pass.leases != NULL)
		return true;
	return begun_at > now || begun_at + LOOK_INTERVAL <= now ||
		ends != queue_recovered_ends() ||
		(refused != queue_quota_refused() && begun_at + HURRY_INTERVAL <= now);
}

/*
 * queue_gone
 *		Go on with the pass: look up the next batch of leases, all of one
 *		queue.
 *
 * A duty of the worker; returns when to be called again.
 */
TimestampTz
queue_gone(void)
{
	int			n = 0;

	if (pass.leases == NULL)
		begin_pass();

	/* leases of one queue only */
	while (at + n < pass.n && n < LOOK_BATCH &&
		   pass.leases[at + n].key.relid == pass.leases[at].key.relid)
		n++;
	if (n > 0)
		look_up(&pass.leases[at], n);
	at += n;
	if (at >= pass.n)
	{
		if (is_final)
			queue_lease_set_certain();
		queue_gone_skip();
	}

	/* the others have their turn before the next batch, if there is one */
	return GetCurrentTimestamp();
}

/* End the pass, or give it up after an error. */
void
queue_gone_skip(void)
{
	if (pass.leases != NULL)
		pfree(pass.leases);
	pass.leases = NULL;
	pass.n = at = 0;
}

/* Collect all leases of this database. */
static void
begin_pass(void)
{
	uint32		ends_now = queue_recovered_ends();

	begun_at = GetCurrentTimestamp();
	refused = queue_quota_refused();
	pass.max = queue_inflight_size() + 100;
	pass.n = at = 0;
	pass.leases = MemoryContextAllocExtended(TopMemoryContext, pass.max *
											 sizeof(LeaseCopy),
											 MCXT_ALLOC_HUGE);
	is_final = !queue_recovered_are_there();
	queue_inflight_visit(copy_lease, &pass);
	qsort(pass.leases, pass.n, sizeof(LeaseCopy), queue_message_key_compare);
	if (max_prepared_xacts > 0)
		find_ended();
	ends = ends_now;
}

/*
 * copy_lease
 *		Visitor of the in-flight table: copy a lease.
 *
 * A lease whose receiver has not committed can wait.  Of idle entries only
 * lapsed leases are copied, because the worker looks up the others by itself
 * when there is something to do about them.
 */
static bool
copy_lease(InflightEntry *entry, void *arg)
{
	LeaseCopies *copies = arg;
	LeaseCopy  *copy = &copies->leases[copies->n];
	bool		is_running = entry->state == INFLIGHT_LEASED &&
		!entry->is_settling && !entry->is_open;
	bool		is_lapsed = entry->state == INFLIGHT_IDLE && entry->is_lapsed;

	if (!is_running && !is_lapsed)
	{
		/*
		 * Who settles it has not read the log; who has claimed it may give it
		 * back as it is.
		 */
		if (entry->epoch != queue_inflight_epoch() &&
			(entry->state == INFLIGHT_LEASED || entry->is_lapsed))
			is_final = false;
		return true;
	}
	copy->key = entry->key;
	copy->enqueued_at = entry->enqueued_at;
	copy->tid = entry->tid;
	copy->priority = entry->priority;
	copy->epoch = entry->epoch;
	copy->number = entry->number;
	copy->last_id = entry->last_id;
	copy->is_told = entry->epoch != queue_inflight_epoch() &&
		(is_lapsed || entry->is_written);
	copy->is_ended = false;
	if (++copies->n < copies->max)
		return true;
	is_final = false;
	return false;
}

/*
 * find_ended
 *		Find the leases of before the start that the log had, and has no more.
 *
 * This process alone writes leases there, so a lease that it does not have now was
 * ended by another one; or by this one, when it ran out: then its receipt, which
 * might still come, is lost with it.  A lease of after the start is left alone: a
 * session that ends it in the log ends it in memory, too.
 */
static void
find_ended(void)
{
	Relation	rel;
	LogRow	   *rows;
	int			nrows;
	int64		last_seq;
	bool		is_ours;
	bool		are_told = false;
	int			at_row = 0;

	for (int i = 0; i < pass.n && !are_told; i++)
		are_told = pass.leases[i].is_told;
	if (!are_told)
		return;
	rel = queue_lease_rows_open(queue_lease_rows_relid(), AccessShareLock);
	if (rel == NULL)
		return;
	rows = queue_lease_rows_read(rel, &nrows, &last_seq, &is_ours);
	table_close(rel, AccessShareLock);

	/* both are sorted by message */
	for (int i = 0; i < pass.n && is_ours; i++)
	{
		LeaseCopy  *lease = &pass.leases[i];
		const LeaseRecord *told;
		int			result = -1;

		while (at_row < nrows &&
			   (result = queue_message_key_compare(&rows[at_row].lease.key,
												   &lease->key)) < 0)
			at_row++;
		told = result == 0 ? &rows[at_row].lease : NULL;
		lease->is_ended = lease->is_told &&
			(told == NULL || told->epoch != lease->epoch ||
			 told->number != lease->number);
	}
	pfree(rows);
}

/* Forget those of these leases, all of one queue, that have no row. */
static void
look_up(const LeaseCopy *leases, int n)
{
	Oid			relid = leases[0].key.relid;
	Relation	rel;
	bool		is_locked;
	QueueDef   *def;
	int			i;

	if (get_rel_relkind(relid) != RELKIND_RELATION)
	{
		forget(leases, n);
		return;
	}
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel == NULL)
	{
		if (!is_locked)
			forget(leases, n);
		else
			is_final = false;
		return;
	}
	def = queue_def(rel);
	if (queue_is_subscription(relid))
		look_up_positions(rel, queue_subscription_def(rel), leases, n);
	else if (!def->is_queue)
		forget(leases, n);
	else if (def->problem == NULL)
	{
		MessageRow *row = queue_row_make(rel);

		(void) queue_def_slot(def);
		for (i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			row->id = leases[i].key.id;
			row->enqueued_at = leases[i].enqueued_at;
			row->priority = leases[i].priority;
			row->tid = leases[i].tid;
			if (queue_row_find(rel, def, row) == ROW_GONE)
				forget(&leases[i], 1);
			else
				queue_inflight_watch(&leases[i].key);
		}
		ExecDropSingleTupleTableSlot(row->slot);
	}
	table_close(rel, AccessShareLock);
}

/*
 * look_up_positions
 *		The same for partitions of a subscription: forget leases on what is
 *		consumed, or that the log has ended.
 *
 * Those are left behind by a crash; see queue_inflight_is_consumed().
 */
static void
look_up_positions(Relation rel, SubscriptionDef *def, const LeaseCopy *leases,
				  int n)
{
	Position   *position;

	if (def->problem != NULL)
	{
		is_final = false;
		return;
	}
	position = queue_position_make(rel);
	(void) queue_subscription_slot(def);
	for (int i = 0; i < n; i++)
	{
		PositionState state;

		CHECK_FOR_INTERRUPTS();
		state = queue_position_read(rel, def, (int) leases[i].key.id,
									position);
		if (state == POSITION_MISSING || leases[i].is_ended ||
			(state == POSITION_FOUND && leases[i].last_id != 0 &&
			 leases[i].last_id <= position->id))
		{
			MessageKey	key = leases[i].key;

			/* who settles it may have found nothing yet */
			if (!queue_inflight_forget_lease(&key, leases[i].epoch,
											 leases[i].number))
				is_final = false;
			queue_cover_add(NULL, &key, 0, true /* wakes */ );
		}
		else
			queue_inflight_watch(&leases[i].key);
	}
	queue_position_free(position);
}

/* Forget these leases. */
static void
forget(const LeaseCopy *leases, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		queue_inflight_forget(&leases[i].key, leases[i].enqueued_at);
}

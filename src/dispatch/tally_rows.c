/*-------------------------------------------------------------------------
 *
 * tally_rows.c
 *		How many messages a queue has, by its rows.
 *
 * While the rows are counted, others go on sending and consuming; what is
 * counted is set as a difference to what memory knew when that began.  So each
 * transaction must be on the same side of both: of the snapshot, and of the
 * moment in which the numbers were read.  A transaction is seen before it has
 * added to them, but it says so before it ends (charge.c).  So nothing may have
 * been added between a first and a second look at the numbers, the snapshot is
 * taken in between, and none of those that have still to add may be seen by it.
 * If that is not so, it is tried again.
 *
 * What has fallen due since the last time is found by the index of due times,
 * and taken off.  One that commits just then may be missed, or counted twice,
 * until the next count.
 *
 * The oldest message that is ready is looked for where the cover says, a bounded
 * way.  One that is in a consumer's window just then is passed over.
 *
 * Locks: the caller's on the table, and those of indexes while they are scanned.
 * No row is changed, and no code of a user runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/guc.h"
#include "common/relation.h"
#include "dispatch/tally_rows.h"
#include "shared/availability.h"
#include "shared/cover.h"
#include "table/fate.h"
#include "table/scan.h"
#include "transaction/charge.h"
#include "transaction/prepared.h"
#include "transaction/recovered.h"

/* Places that are kept free */
#define MIN_FREE			100

/* After so many pages it looks whether somebody waits for the table */
#define STRETCH_PAGES		4096

/* So many rows that have fallen due are looked at; more are counted with all */
#define MAX_DUE_ROWS		100000

/* How far to look for the oldest: ids at a time, how often, and rows, a priority */
#define PROBE_WIDTH			1000
#define MAX_PROBES			10
#define MAX_PROBE_ROWS		100

static bool has_waiters(Oid relid);
static Snapshot begin_count(QueueSlot *slot, int max_tries,
							CounterStart *start);
static void count_row(QueueDef *def, QueueSlot *slot, MessageRow *row,
					  TimestampTz now, CounterRows *rows);
static bool is_recovered(QueueDef *def, MessageRow *row);
static TimestampTz oldest_of_rank(QueueScan *scan, QueueDef *def,
								  QueueSlot *slot, int rank, bool covered,
								  TimestampTz now);
static TimestampTz oldest_in_range(QueueScan *scan, QueueDef *def, int *nrows,
								   TimestampTz now);

/* May a queue that nobody has used have a place?  Others may need them. */
bool
queue_tally_has_places(void)
{
	return queue_slot_count() + Max(queue_max_queues / 4, MIN_FREE) <=
		queue_max_queues;
}

/*
 * queue_tally_make_place
 *		Make it, unless it has one; true if that was tried, which takes a while.
 *
 * The settings tell that it is a queue or a subscription.  Its definition, which
 * may be in error, is not asked: the caller has others to look after.
 */
bool
queue_tally_make_place(Oid relid, SlotKind kind)
{
	bool		is_locked;
	Relation	rel;

	if (queue_slot_find(relid) != NULL || !queue_tally_has_places())
		return false;
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel != NULL)
	{
		(void) queue_slot_make(relid, kind);
		table_close(rel, AccessShareLock);
	}
	return true;
}

/*
 * queue_tally_count
 *		Count all rows.
 *
 * Others that have to add are waited for, so many milliseconds.  Returns false
 * if somebody waits for a lock on the table meanwhile: it should not have to wait
 * for this, also where most rows are dead.
 */
bool
queue_tally_count(Relation rel, QueueDef *def, QueueSlot *slot, int max_tries)
{
	TimestampTz began_at = GetCurrentTimestamp();
	CounterStart start;
	CounterRows rows = {0};
	Snapshot	snapshot = begin_count(slot, max_tries, &start);
	QueueTableScan *pass = queue_table_scan_begin_stretches(rel, snapshot);
	bool		is_first = true;
	bool		is_given_up = false;

	rows.is_recovered = queue_recovered_holds(def->relid);
	while (!is_given_up && queue_table_scan_go_on(pass, STRETCH_PAGES))
	{
		MessageRow *row;

		is_given_up = !is_first && has_waiters(def->relid);
		is_first = false;
		while (!is_given_up && (row = queue_table_scan_next(pass)) != NULL)
			count_row(def, slot, row, start.at, &rows);
	}
	queue_table_scan_end(pass);
	UnregisterSnapshot(snapshot);
	if (is_given_up)
		return false;
	queue_counters_set(slot, def->relid, &start, &rows,
					   Max(GetCurrentTimestamp() - began_at, 0));
	return true;
}

/*
 * has_waiters
 *		Does somebody wait for a lock on this table?
 *
 * LockHasWaiters() is for locks that are in the lock table, where a weak one of a
 * table is not.
 */
static bool
has_waiters(Oid relid)
{
	LockData   *locks = GetLockStatusData();
	bool		found = false;

	for (int i = 0; i < locks->nelements && !found; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];

		found = lock->waitLockMode != NoLock &&
			lock->locktag.locktag_type == LOCKTAG_RELATION &&
			lock->locktag.locktag_field1 == MyDatabaseId &&
			lock->locktag.locktag_field2 == relid;
	}
	pfree(locks->locks);
	pfree(locks);
	return found;
}

/*
 * begin_count
 *		Take a snapshot, and note what is known at that moment.
 *
 * If somebody stands still between the end of a transaction and its callback,
 * the count will be wrong by what that did, until the next one.
 */
static Snapshot
begin_count(QueueSlot *slot, int max_tries, CounterStart *start)
{
	int			max = MaxBackends + queue_prepared_max();
	TransactionId *xids = palloc(max * sizeof(TransactionId));

	for (int tries = 0;; tries++)
	{
		Snapshot	snapshot;
		bool		is_exact = true;
		int			n;

		queue_counters_start(slot, GetCurrentTimestamp(), start);
		snapshot = GetLatestSnapshot();
		pg_memory_barrier();
		n = queue_charge_endings(xids);
		n += queue_prepared_xids(xids + n);
		pg_memory_barrier();
		for (int i = 0; i < n; i++)
			is_exact &= XidInMVCCSnapshot(xids[i], snapshot);
		if ((is_exact && !queue_counters_have_moved(slot, start)) ||
			tries == max_tries)
		{
			pfree(xids);
			return RegisterSnapshot(snapshot);
		}
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/* Count one. */
static void
count_row(QueueDef *def, QueueSlot *slot, MessageRow *row, TimestampTz now,
		  CounterRows *rows)
{
	rows->rows++;
	rows->bytes += queue_row_bytes(row);
	if (rows->is_recovered && is_recovered(def, row))
		rows->recovered++;
	else if (row->visible_at > now)
	{
		rows->later[queue_later_kind(row->failures)]++;
		queue_counters_note_due(slot, row->visible_at);
	}
	else if (queue_is_at_limit(def->retry.max_attempts, row->failures) ||
			 queue_has_expired(row->expires_at, now))
		rows->exhausted++;
}

/*
 * is_recovered
 *		Does a transaction hold it that was prepared before the start?
 *
 * A lease that it settles is held anyway, if it was in the log.
 */
static bool
is_recovered(QueueDef *def, MessageRow *row)
{
	Fate		fate;
	MessageKey	key;
	InflightEntry entry;

	queue_fate_read(row->slot, &fate);
	queue_message_key(&key, def->relid, row->id);
	return fate.fate == FATE_BUSY && queue_recovered_is_old(fate.xid) &&
		!(queue_inflight_peek(&key, row->enqueued_at, &entry) &&
		  entry.is_counted);
}

/*
 * queue_tally_due_rows
 *		Take off what has fallen due by "now".
 *
 * If it is too much, or this fails, the rows are to be counted.
 */
void
queue_tally_due_rows(Relation rel, QueueDef *def, QueueSlot *slot,
					 TimestampTz now)
{
	uint64		doubt;
	TimestampTz from = queue_counters_begin_due(slot, now, &doubt);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	QueueDueRows *scan = queue_due_rows_begin(rel, def, snapshot);
	int64		n[NUM_LATER] = {0};
	int			nrows = 0;

	for (int rank = 0; rank < NUM_RANKS && nrows <= MAX_DUE_ROWS; rank++)
	{
		MessageRow *row;

		queue_due_rows_after(scan, queue_rank_priority(rank), from);
		while ((row = queue_due_rows_next(scan)) != NULL &&
			   ++nrows <= MAX_DUE_ROWS)
		{
			if (row->visible_at > now)
			{
				queue_counters_note_due(slot, row->visible_at);
				break;
			}
			n[queue_later_kind(row->failures)]++;
		}
	}
	queue_due_rows_end(scan);
	UnregisterSnapshot(snapshot);
	if (nrows <= MAX_DUE_ROWS)
		queue_counters_end_due(slot, doubt, n);
}

/*
 * queue_tally_oldest
 *		Look for the oldest message that is ready.
 *
 * What waits in groups may not be covered, so without any that is, all ids are
 * looked at, as far as that goes.
 */
void
queue_tally_oldest(Relation rel, QueueDef *def, QueueSlot *slot,
				   TimestampTz now)
{
	uint64		nevents = queue_counters_nevents(slot);
	QueueScan  *scan = queue_scan_begin(rel, def);
	TimestampTz oldest = DT_NOEND;

	for (int rank = 0; rank < NUM_RANKS; rank++)
		oldest = Min(oldest, oldest_of_rank(scan, def, slot, rank, true, now));
	if (oldest == DT_NOEND && queue_slot_has_waited(slot))
		for (int rank = 0; rank < NUM_RANKS; rank++)
			oldest = Min(oldest,
						 oldest_of_rank(scan, def, slot, rank, false, now));
	queue_scan_end(scan);
	queue_counters_set_oldest(slot, def->relid, nevents,
							  oldest == DT_NOEND ? 0 : oldest);
}

/* The same for one priority; DT_NOEND: there is none, or it is too far. */
static TimestampTz
oldest_of_rank(QueueScan *scan, QueueDef *def, QueueSlot *slot, int rank,
			   bool covered, TimestampTz now)
{
	QueueRange	range = {.rank = rank,.low = PG_INT64_MIN,.high = PG_INT64_MAX};
	int			nrows = 0;

	for (int i = 0; i < MAX_PROBES && nrows < MAX_PROBE_ROWS; i++)
	{
		TimestampTz oldest;
		QueueRange	part;
		int64		first;

		if (covered && !queue_cover_first(slot, rank, range.low, &range))
			break;
		first = queue_scan_probe(scan, &range);
		if (first == PG_INT64_MAX)
			break;
		if (first > range.high)
		{
			range.low = first;	/* the next range that is covered */
			range.high = PG_INT64_MAX;
			continue;
		}
		part = range;
		part.low = first;
		if (first <= range.high - PROBE_WIDTH)
			part.high = first + PROBE_WIDTH - 1;
		queue_scan_range(scan, &part);
		oldest = oldest_in_range(scan, def, &nrows, now);
		if (oldest != DT_NOEND)
			return oldest;
		if (part.high >= PG_INT64_MAX - 1)
			break;
		range.low = part.high + 1;
	}
	return DT_NOEND;
}

/* Return when the first message that is ready in the scan was due. */
static TimestampTz
oldest_in_range(QueueScan *scan, QueueDef *def, int *nrows, TimestampTz now)
{
	MessageRow *row;

	while (*nrows < MAX_PROBE_ROWS && (row = queue_scan_next(scan)) != NULL)
	{
		MessageKey	key;
		InflightEntry entry;
		MessageStatus status;
		bool		has_entry;

		(*nrows)++;
		queue_message_key(&key, def->relid, row->id);
		has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
		queue_row_status(def, row, has_entry ? &entry : NULL, now, &status);
		if (status.availability == MESSAGE_AVAILABLE && !status.is_claimed)
			return Max(row->enqueued_at, row->visible_at);
	}
	return DT_NOEND;
}

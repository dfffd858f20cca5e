/*-------------------------------------------------------------------------
 *
 * lease.c
 *		Leases on disk: table queue.lease_log, and the view queue.lease of it.
 *
 * A receive writes nothing.  Leases that have lasted for a moment are written
 * behind by the worker of the database, so that they outlive a crash.  No other
 * process writes this table, except to end a lease (see below).  After a start the
 * first process that needs them, worker or consumer, loads them.  From then on
 * memory alone decides, and only the worker reads the table again, to compact it.
 *
 * Several processes may read the table at once after a start.  The first to
 * get the database lock puts the leases into memory, and the others find that
 * done.  What was read cannot be out of date then, because until the leases
 * are loaded no process may change one, the worker included.  A process that
 * dies in between leaves nothing behind but the work to be done again.
 *
 * Messages that a long transaction has dequeued or received are written here,
 * too.  So a message whose consumer takes the whole server down with it has
 * failed once when the server is back.  Failures are written that are not in
 * the row yet: those of a message that is taken again and again at once, with
 * its present holder, and all that there are when the server stops.  The
 * worker moves failures to the row and ends what the log says of them in one
 * transaction, so no crash counts one twice.
 *
 * A row says since when a message is leased, by which role and which program, for
 * view queue.leases, and for what is told of the failure if the lease runs out.
 * The address and the process of the consumer are not kept: both mostly mean
 * nothing after a restart.
 *
 * If the leases do not fit into memory (queue.max_in_flight was lowered), the
 * rest of them end early; the server's log says so.
 *
 * A session that sets the position of a subscription ends what the log says of its
 * partitions, in the same transaction, or the lease would be back after a crash,
 * and an ack of it would undo that.  These rows have the seq of what they end, so
 * the worker alone draws numbers, and they name the lease, so that they end it also
 * if the worker's transaction that writes it has not committed yet.  If that was
 * prepared before the start, the lease is back until it is committed: then the
 * worker reads the log once more (worker/gone.c), and until it has, so does who
 * settles such a lease.
 *
 * The table is a log.  Rows are only ever appended, never updated or deleted,
 * so that there are no dead ones that an old snapshot could keep, and no index
 * that could swell.  The row of a message with the highest seq decides; one
 * without enqueued_at says that the lease has ended.
 *
 * The log says for which database it is written, by rows without a queue: the
 * last of these names the database, and only what comes after it counts.  So
 * what CREATE DATABASE copies from a template means nothing in the copy, where
 * no consumer has a receipt for it.  A database that is renamed, moved,
 * restored from a base backup or upgraded keeps its OID, and its leases; with
 * another OID, its receipts would fit nothing either.
 *
 * A log that has become long is compacted.  The worker reads what it says,
 * gives the table a new, empty file, as TRUNCATE does, and appends the leases
 * that still exist, all in one transaction.  Until that has committed, the old
 * file is the table's.  Whatever happens before (an error, a crash, the worker
 * killed) leaves it as it was, and the new file is removed.  With wal_level
 * minimal the new file is synced at the commit instead of being logged.
 *
 * Snapshots older than that commit see the new file as empty, which is why
 * TRUNCATE is not safe in general.  Here it does no harm: memory decides, and
 * processes that load leases read with a snapshot taken after they got their
 * lock.  Only a user who reads it with an older snapshot sees too little.
 *
 * The new file takes an AccessExclusiveLock.  It is asked for without waiting.
 * If a transaction that lasts has read the table, the log grows until that has
 * ended, and the worker comes back every second.  No consumer ever waits for
 * this lock, except one that loads leases after a start, or settles one of
 * before it that a transaction may have ended which was prepared then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "dispatch/lease.h"
#include "dispatch/lease_row.h"
#include "dispatch/tally_rows.h"
#include "shared/database.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "transaction/recovered.h"

/* A row with its header and line pointer, in bytes */
#define LOG_ROW_SIZE			130

/*
 * The log is long when it has LOG_SLACK pages more than twice those of the
 * leases that it held when it was last read.
 */
#define LOG_SLACK			128

/* Queues with leases that get a place when the log is read */
#define MAX_MADE				100

/* When to try again to compact the log, if it is in use */
#define COMPACT_RETRY_DELAY	USECS_PER_SEC

/* The slot of this database, once looked up */
static DatabaseSlot *my_slot = NULL;

/*
 * What the worker knows of the log, in which no other process draws numbers.  A
 * transaction that fails leaves gaps in the numbers, no more.  Whether the log
 * is this database's is known only from reading it, thus after a commit.
 */
static Oid	known_log = InvalidOid; /* the table that this is about, if it is
									 * this database's */
static int64 next_seq = 1;
static int	nleases = 0;		/* when last read */
static bool is_long = false;	/* when last written */

static int	drop_strangers(LogRow *rows, int nrows);
static void load_log(void);
static void name_database(LogRow *row);

/*
 * queue_lease_is_loaded
 *		Returns true if this session knows that the leases of its database are
 *		loaded.
 */
bool
queue_lease_is_loaded(void)
{
	return my_slot != NULL && my_slot->dbid == MyDatabaseId &&
		my_slot->leases_loaded;
}

/*
 * queue_lease_load
 *		Load this database's leases after a start, unless that has been done.
 *
 * To be called before a message is examined or a receipt is looked at.  Throws
 * if queue.max_databases is too low.  On a standby nothing is loaded.
 */
void
queue_lease_load(void)
{
	if (my_slot == NULL || my_slot->dbid != MyDatabaseId)
		my_slot = queue_database_wait_for_slot(MyDatabaseId);
	if (my_slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases use queues"),
				 errhint("You might need to increase queue.max_databases.")));
	if (!my_slot->leases_loaded && !RecoveryInProgress())
		load_log();
}

/*
 * queue_lease_load_to_look
 *		The same for functions that only show messages.
 *
 * No error if there is no slot, and nothing on a standby.
 */
void
queue_lease_load_to_look(void)
{
	if (RecoveryInProgress())
		return;
	if (my_slot == NULL || my_slot->dbid != MyDatabaseId)
		my_slot = queue_database_slot(MyDatabaseId, true);
	if (my_slot != NULL && !my_slot->leases_loaded)
		load_log();
}

/*
 * load_log
 *		Read the log, and make entries of the in-flight table of it.
 *
 * Leases for which there is no room end early, with a warning.
 */
static void
load_log(void)
{
	Relation	rel;
	LogRow	   *rows;
	int			nrows;
	int64		last_seq;
	bool		is_ours;
	bool		are_in_doubt;
	int			nlost = 0;
	int			i;

	/* first: what has ended by now, the log tells */
	are_in_doubt = queue_recovered_are_there();
	rel = queue_lease_rows_open(queue_lease_rows_relid(), AccessShareLock);
	if (rel == NULL)
		return;
	rows = queue_lease_rows_read(rel, &nrows, &last_seq, &is_ours);
	table_close(rel, AccessShareLock);
	nrows = drop_strangers(rows, nrows);
	INJECTION_POINT("queue-log-read", NULL);

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (my_slot->dbid == MyDatabaseId && !my_slot->leases_loaded)
	{
		/* before any lease can be settled, under the lock of its partition */
		my_slot->are_leases_in_doubt = are_in_doubt;
		for (i = 0; i < nrows; i++)
			if (!queue_inflight_restore(&rows[i].lease))
				nlost++;
		my_slot->leases_loaded = true;
	}
	LWLockRelease(queue_database_lock());
	pfree(rows);
	if (nrows > 0)
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	if (nlost > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg_plural("%d lease does not fit into memory and ends early",
							   "%d leases do not fit into memory and end early",
							   nlost, nlost),
				 errhint("You might need to increase queue.max_in_flight.")));
}

/*
 * drop_strangers
 *		Drop the rows of tables that are neither queue nor subscription now.
 *
 * The log loses them when it is compacted.  Returns how many rows are left.
 * The rows are sorted by queue.  Some others get a place in memory, to count what
 * becomes of their leases: not all, because the caller may be a consumer.
 */
static int
drop_strangers(LogRow *rows, int nrows)
{
	int			nkept = 0;
	int			nmade = 0;
	bool		is_queue = false;

	/* throws if the settings cannot be read: then all would be strangers */
	if (nrows > 0)
		table_close(queue_settings_open(AccessShareLock), AccessShareLock);
	for (int i = 0; i < nrows; i++)
	{
		Oid			relid = rows[i].lease.key.relid;

		if (i == 0 || rows[i - 1].lease.key.relid != relid)
		{
			bool		is_subscription = queue_is_subscription(relid);

			is_queue = get_rel_relkind(relid) == RELKIND_RELATION &&
				(is_subscription || queue_settings_exist(relid, NULL));
			if (is_queue && nmade < MAX_MADE)
				nmade += queue_tally_make_place(relid, is_subscription ?
												SLOT_SUBSCRIPTION : SLOT_QUEUE);
		}
		if (is_queue)
			rows[nkept++] = rows[i];
	}
	return nkept;
}

/* ----------------------------------------------------------------
 *		Writing behind
 * ----------------------------------------------------------------
 */

/*
 * queue_lease_log
 *		Append to the log: leases that have ended, and leases that are new or
 *		say something new.
 *
 * In a transaction of the worker.  Notes whether the log is long enough now to
 * be compacted.
 */
void
queue_lease_log(const MessageKey *ended, int nended,
				const LeaseRecord *records, int nrecords)
{
	Relation	rel = queue_lease_rows_open(queue_lease_rows_relid(), RowExclusiveLock);
	LogRow	   *rows;
	int			i;

	if (rel == NULL)
		return;
	if (RelationGetRelid(rel) != known_log)
	{
		int64		last_seq;
		bool		is_ours;

		pfree(queue_lease_rows_read(rel, &nleases, &last_seq, &is_ours));
		next_seq = last_seq + 1;
		known_log = is_ours ? RelationGetRelid(rel) : InvalidOid;
	}
	if (!OidIsValid(known_log))
	{
		LogRow		row;

		name_database(&row);
		queue_lease_rows_append(rel, &row, 1);
	}

	rows = palloc((nended + nrecords) * sizeof(LogRow));
	for (i = 0; i < nended; i++)
	{
		rows[i].seq = next_seq++;
		rows[i].is_end = true;
		rows[i].lease.key = ended[i];
		rows[i].lease.number = 0;
	}
	for (i = 0; i < nrecords; i++)
	{
		rows[nended + i].seq = next_seq++;
		rows[nended + i].is_end = false;
		rows[nended + i].lease = records[i];
	}
	queue_lease_rows_append(rel, rows, nended + nrecords);
	pfree(rows);

	is_long = RelationGetNumberOfBlocks(rel) > LOG_SLACK +
		2 * (BlockNumber) ((uint64) nleases * LOG_ROW_SIZE / BLCKSZ);
	table_close(rel, NoLock);
}

/*
 * queue_lease_log_end
 *		End these leases, and what else the log says of their messages, in the
 *		caller's transaction.
 *
 * The worker may have written a lease, and not committed that yet; so the end
 * names the lease, and need not come after it.  Until the transaction has ended
 * the log is not compacted.
 */
void
queue_lease_log_end(const LeaseFence *leases, int n)
{
	Relation	rel = queue_lease_rows_open(queue_lease_rows_relid(), RowExclusiveLock);
	LogRow	   *rows;
	LogRow	   *ends;
	int			nrows;
	int			nends = 0;
	int64		last_seq;
	bool		is_ours;

	if (rel == NULL)
		return;
	rows = queue_lease_rows_read(rel, &nrows, &last_seq, &is_ours);
	ends = palloc(2 * n * sizeof(LogRow));
	for (int i = 0; i < n; i++)
	{
		const LeaseFence *lease = &leases[i];
		bool		is_told = lease->number == 0;

		for (int j = 0; j < nrows; j++)
		{
			if (queue_message_key_compare(&rows[j].lease.key, &lease->key) != 0)
				continue;
			ends[nends] = rows[j];
			ends[nends++].is_end = true;
			is_told |= rows[j].lease.number == lease->number &&
				rows[j].lease.epoch == lease->epoch;
			break;
		}
		if (is_told)
			continue;
		memset(&ends[nends], 0, sizeof(LogRow));
		ends[nends].is_end = true;
		ends[nends].lease.key = lease->key;
		ends[nends].lease.epoch = lease->epoch;
		ends[nends++].lease.number = lease->number;
	}
	queue_lease_rows_append(rel, ends, nends);
	pfree(ends);
	pfree(rows);
	table_close(rel, NoLock);
}

/*
 * queue_lease_is_ended
 *		Has a transaction ended this lease, of before the start, in the log?
 *
 * It was prepared before the start, so memory has learned nothing of that when
 * it ends.  That it has ended the caller knows, by the position that it moved.
 * Mostly there was none, and the log need not be read.  A lease that has run out
 * since the start may be there no more, and is over then, too.
 */
bool
queue_lease_is_ended(const LeaseFence *lease)
{
	Relation	rel;
	LogRow	   *rows;
	int			nrows;
	int64		last_seq;
	bool		is_ours;
	bool		is_there = false;

	if (lease->epoch == queue_inflight_epoch() || my_slot == NULL ||
		my_slot->dbid != MyDatabaseId || !my_slot->are_leases_in_doubt)
		return false;
	rel = queue_lease_rows_open(queue_lease_rows_relid(), AccessShareLock);
	if (rel == NULL)
		return false;
	rows = queue_lease_rows_read(rel, &nrows, &last_seq, &is_ours);
	table_close(rel, AccessShareLock);
	for (int i = 0; i < nrows; i++)
		is_there |= rows[i].lease.number == lease->number &&
			rows[i].lease.epoch == lease->epoch &&
			queue_message_key_compare(&rows[i].lease.key, &lease->key) == 0;
	pfree(rows);
	return !is_there;
}

/* Each lease that such a transaction has ended was ended in memory, too. */
void
queue_lease_set_certain(void)
{
	if (my_slot != NULL && my_slot->dbid == MyDatabaseId)
		my_slot->are_leases_in_doubt = false;
}

/*
 * queue_lease_is_long
 *		Returns true if it is time to compact the log.
 */
bool
queue_lease_is_long(void)
{
	return is_long;
}

/*
 * queue_lease_compact
 *		Make the log as short as it can be, in a transaction that does nothing
 *		else.
 *
 * Returns when to try again if the table is in use; otherwise 0.
 *
 * Of what the log says, that is kept which memory knows to be on disk; the
 * rest are leases for which there was no room when they were loaded.  Only the
 * worker changes what memory says about that (is_durable), so it cannot change
 * meanwhile.  A lease that has ended meanwhile may be kept: the worker has
 * still to mark its end, and this mark comes later.
 */
TimestampTz
queue_lease_compact(void)
{
	Oid			relid = queue_lease_rows_relid();
	Relation	rel;
	LogRow		named;
	LogRow	   *rows;
	int			nrows;
	int			nkept = 0;
	int64		last_seq;
	bool		is_ours;
	int			i;

	is_long = false;
	if (my_slot == NULL || my_slot->dbid != MyDatabaseId ||
		!my_slot->leases_loaded || !OidIsValid(relid))
		return 0;
	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
	{
		is_long = true;
		return GetCurrentTimestamp() + COMPACT_RETRY_DELAY;
	}
	rel = queue_lease_rows_open(relid, NoLock);
	if (rel == NULL)
		return 0;
	CheckTableNotInUse(rel, "compact");

	rows = queue_lease_rows_read(rel, &nrows, &last_seq, &is_ours);
	for (i = 0; i < nrows; i++)
	{
		if (queue_inflight_is_durable(&rows[i].lease.key))
			rows[nkept++] = rows[i];
	}

	RelationSetNewRelfilenumber(rel, rel->rd_rel->relpersistence);
	pgstat_count_truncate(rel);
	next_seq = last_seq + 1;
	known_log = InvalidOid;		/* to be read again, when this is committed */
	nleases = nkept;
	name_database(&named);
	queue_lease_rows_append(rel, &named, 1);
	for (i = 0; i < nkept; i++)
		rows[i].seq = next_seq++;
	queue_lease_rows_append(rel, rows, nkept);
	pfree(rows);
	table_close(rel, NoLock);
	return 0;
}

/*
 * After an error: compact it again, because there may be nothing else to
 * write.
 */
void
queue_lease_compact_failed(void)
{
	is_long = true;
}

/*
 * name_database
 *		Make the row that says: from here on the log is written for this
 *		database.
 */
static void
name_database(LogRow *row)
{
	memset(row, 0, sizeof(LogRow));
	row->seq = next_seq++;
	row->is_end = true;
	queue_message_key(&row->lease.key, InvalidOid, (int64) MyDatabaseId);
}

/*-------------------------------------------------------------------------
 *
 * lease.c
 *		Leases on disk: table queue.lease_log, and the view queue.lease of it.
 *
 * A receive writes nothing.  Leases that have lasted for a moment are written
 * behind by the worker of the database, the only writer of this table, so that
 * they outlive a crash.  After a start the first process that needs them,
 * worker or consumer, loads them.  From then on memory alone decides, and only
 * the worker reads the table again, to compact it.
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
 * this lock, except one that loads leases after a start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "commands/tablecmds.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "dispatch/lease.h"
#include "dispatch/tally_rows.h"
#include "shared/database.h"
#include "table/member.h"
#include "table/settings.h"
#include "table/subscription.h"

#define LEASE_LOG			"lease_log"

#define Natts_log				12
#define Anum_log_seq			1
#define Anum_log_queue			2
#define Anum_log_id				3
#define Anum_log_enqueued_at	4	/* this and the following NULL: ended */
#define Anum_log_epoch			5	/* NULL unless a lease */
#define Anum_log_number			6	/* NULL: failures only; 0: taken */
#define Anum_log_deadline		7	/* taken: -infinity */
#define Anum_log_failures		8	/* that the row does not count */
#define Anum_log_group_hash		9	/* NULL: of no group that keeps an order */
#define Anum_log_since			10	/* NULL unless a lease, as all below, and
									 * where that is not known */
#define Anum_log_role			11
#define Anum_log_application	12

/* A row with its header and line pointer, in bytes */
#define LOG_ROW_SIZE			130

/*
 * The log is long when it has LOG_SLACK pages more than twice those of the
 * leases that it held when it was last read.
 */
#define LOG_SLACK			128

/* Queues with leases that get a place when the log is read */
#define MAX_MADE				100

/* Rows appended with one call of the table access method */
#define APPEND_BATCH		100

/* When to try again to compact the log, if it is in use */
#define COMPACT_RETRY_DELAY	USECS_PER_SEC

typedef struct LogRow
{
	int64		seq;
	bool		is_end;			/* there is nothing to say any more */
	LeaseRecord lease;			/* only the key, if is_end */
} LogRow;

/* The slot of this database, once looked up */
static DatabaseSlot *my_slot = NULL;

/*
 * What the worker knows of the log, which no other process writes.  A
 * transaction that fails leaves gaps in the numbers, no more.  Whether the log
 * is this database's is known only from reading it, thus after a commit.
 */
static Oid	known_log = InvalidOid; /* the table that this is about, if it is
									 * this database's */
static int64 next_seq = 1;
static int	nleases = 0;		/* when last read */
static bool is_long = false;	/* when last written */

static int	drop_strangers(LogRow *rows, int nrows);
static LogRow *read_log(Relation rel, int *nrows, int64 *last_seq,
						bool *is_ours);
static int	compare_rows(const void *a, const void *b);
static void load_log(void);
static Relation open_log(Oid relid, LOCKMODE lockmode);
static void append_rows(Relation rel, const LogRow *rows, int nrows);
static void fill_slot(TupleTableSlot *slot, const LogRow *row);
static void read_slot(TupleTableSlot *slot, LeaseRecord *lease);
static void set_receiver(TupleTableSlot *slot, const LeaseRecord *lease);
static void set_value(TupleTableSlot *slot, int attnum, Datum value);
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
	int			nlost = 0;
	int			i;

	rel = open_log(queue_catalog_relid(LEASE_LOG), AccessShareLock);
	if (rel == NULL)
		return;
	rows = read_log(rel, &nrows, &last_seq, &is_ours);
	table_close(rel, AccessShareLock);
	nrows = drop_strangers(rows, nrows);
	INJECTION_POINT("queue-log-read", NULL);

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (my_slot->dbid == MyDatabaseId && !my_slot->leases_loaded)
	{
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
			is_queue = get_rel_relkind(relid) == RELKIND_RELATION &&
				(queue_settings_exist(relid, NULL) ||
				 queue_is_subscription(relid));
			if (is_queue && nmade < MAX_MADE)
				nmade += queue_tally_make_place(relid);
		}
		if (is_queue)
			rows[nkept++] = rows[i];
	}
	return nkept;
}

/*
 * read_log
 *		Return what the log says: the last row of each message, palloc'd,
 *		without those that have ended.
 *
 * *nrows is 0 if the log is written for another database, *is_ours is false
 * then.  *last_seq is the highest number in it.
 */
static LogRow *
read_log(Relation rel, int *nrows, int64 *last_seq, bool *is_ours)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int			nroom = 1024;
	LogRow	   *rows = palloc(nroom * sizeof(LogRow));
	int			n = 0;
	int			nkept = 0;
	int64		named_seq = 0;
	Oid			named = InvalidOid;
	int			i;

	*last_seq = 0;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		LogRow	   *row;
		LeaseRecord *lease;

		CHECK_FOR_INTERRUPTS();
		if (n == nroom)
		{
			nroom *= 2;
			rows = repalloc_huge(rows, nroom * sizeof(LogRow));
		}
		row = &rows[n++];
		lease = &row->lease;
		slot_getallattrs(slot);
		row->seq = DatumGetInt64(slot->tts_values[Anum_log_seq - 1]);
		*last_seq = Max(*last_seq, row->seq);
		queue_message_key(&lease->key,
						  DatumGetObjectId(slot->tts_values[Anum_log_queue - 1]),
						  DatumGetInt64(slot->tts_values[Anum_log_id - 1]));
		if (!OidIsValid(lease->key.relid))
		{
			n--;
			if (row->seq > named_seq)
			{
				named_seq = row->seq;
				named = (Oid) lease->key.id;
			}
			continue;
		}
		row->is_end = slot->tts_isnull[Anum_log_enqueued_at - 1];
		if (!row->is_end)
			read_slot(slot, lease);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);

	/* VACUUM may let rows of a page change places, so seq and not the scan */
	qsort(rows, n, sizeof(LogRow), compare_rows);
	for (i = 0; i < n; i++)
	{
		if (i + 1 < n && queue_message_key_compare(&rows[i].lease.key,
												   &rows[i + 1].lease.key) == 0)
			continue;
		if (!rows[i].is_end && rows[i].seq > named_seq)
			rows[nkept++] = rows[i];
	}
	*is_ours = named == MyDatabaseId;
	*nrows = *is_ours ? nkept : 0;
	return rows;
}

/*
 * read_slot
 *		Read what a row says that does not say "ended", except for the key.
 */
static void
read_slot(TupleTableSlot *slot, LeaseRecord *lease)
{
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	lease->enqueued_at = DatumGetTimestampTz(values[Anum_log_enqueued_at - 1]);
	lease->failures = DatumGetInt32(values[Anum_log_failures - 1]);
	lease->group_hash = isnull[Anum_log_group_hash - 1] ? 0 :
		(uint64) DatumGetInt64(values[Anum_log_group_hash - 1]);
	lease->epoch = 0;
	lease->number = 0;
	lease->deadline = isnull[Anum_log_deadline - 1] ? 0 :
		DatumGetTimestampTz(values[Anum_log_deadline - 1]);
	lease->since = isnull[Anum_log_since - 1] ? 0 :
		DatumGetTimestampTz(values[Anum_log_since - 1]);
	lease->role = isnull[Anum_log_role - 1] ? InvalidOid :
		DatumGetObjectId(values[Anum_log_role - 1]);
	lease->application[0] = '\0';
	if (!isnull[Anum_log_application - 1])
		text_to_cstring_buffer(DatumGetTextPP(values[Anum_log_application - 1]),
							   lease->application, SHORT_NAME_SIZE);
	if (isnull[Anum_log_number - 1])
		lease->kind = LOG_FAILURES;
	else if (isnull[Anum_log_epoch - 1])
		lease->kind = LOG_DEQUEUED;
	else
	{
		lease->kind = LOG_LEASE;
		lease->epoch = (uint64) DatumGetInt64(values[Anum_log_epoch - 1]);
		lease->number = (uint64) DatumGetInt64(values[Anum_log_number - 1]);
	}
}

/*
 * Comparator for qsort(): by message, then in the order in which they were
 * written
 */
static int
compare_rows(const void *a, const void *b)
{
	const LogRow *left = a;
	const LogRow *right = b;
	int			result;

	result = queue_message_key_compare(&left->lease.key, &right->lease.key);
	if (result != 0 || left->seq == right->seq)
		return result;

	return left->seq < right->seq ? -1 : 1;
}

/*
 * open_log
 *		Open the log; NULL if there is none, because the extension is being
 *		dropped.
 *
 * Throws if it has been altered.
 */
static Relation
open_log(Oid relid, LOCKMODE lockmode)
{
	Relation	rel;

	if (!OidIsValid(relid))
		return NULL;
	rel = try_relation_open(relid, lockmode);
	if (rel != NULL)
		queue_member_check(rel, MEMBER_LEASE_LOG);
	return rel;
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
	Relation	rel = open_log(queue_catalog_relid(LEASE_LOG), RowExclusiveLock);
	LogRow	   *rows;
	int			i;

	if (rel == NULL)
		return;
	if (RelationGetRelid(rel) != known_log)
	{
		int64		last_seq;
		bool		is_ours;

		pfree(read_log(rel, &nleases, &last_seq, &is_ours));
		next_seq = last_seq + 1;
		known_log = is_ours ? RelationGetRelid(rel) : InvalidOid;
	}
	if (!OidIsValid(known_log))
	{
		LogRow		row;

		name_database(&row);
		append_rows(rel, &row, 1);
	}

	rows = palloc((nended + nrecords) * sizeof(LogRow));
	for (i = 0; i < nended; i++)
	{
		rows[i].is_end = true;
		rows[i].lease.key = ended[i];
	}
	for (i = 0; i < nrecords; i++)
	{
		rows[nended + i].is_end = false;
		rows[nended + i].lease = records[i];
	}
	append_rows(rel, rows, nended + nrecords);
	pfree(rows);

	is_long = RelationGetNumberOfBlocks(rel) > LOG_SLACK +
		2 * (BlockNumber) ((uint64) nleases * LOG_ROW_SIZE / BLCKSZ);
	table_close(rel, NoLock);
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
	Oid			relid = queue_catalog_relid(LEASE_LOG);
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
	rel = open_log(relid, NoLock);
	if (rel == NULL)
		return 0;
	CheckTableNotInUse(rel, "compact");

	rows = read_log(rel, &nrows, &last_seq, &is_ours);
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
	append_rows(rel, &named, 1);
	append_rows(rel, rows, nkept);
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
 * append_rows
 *		Append rows, past the executor.
 *
 * What the executor would do is not needed: there is neither an index nor a
 * trigger, and no column that is not filled here.
 */
static void
append_rows(Relation rel, const LogRow *rows, int nrows)
{
	CommandId	cid = GetCurrentCommandId(true);
	TupleTableSlot *slots[APPEND_BATCH];
	int			nslots = Min(nrows, APPEND_BATCH);
	int			done;
	int			n;
	int			i;

	for (i = 0; i < nslots; i++)
		slots[i] = table_slot_create(rel, NULL);
	for (done = 0; done < nrows; done += n)
	{
		CHECK_FOR_INTERRUPTS();
		n = Min(nrows - done, nslots);
		for (i = 0; i < n; i++)
			fill_slot(slots[i], &rows[done + i]);
		table_multi_insert(rel, slots, n, cid, TABLE_INSERT_SKIP_FSM, NULL);
	}
	for (i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	table_finish_bulk_insert(rel, TABLE_INSERT_SKIP_FSM);
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
	row->is_end = true;
	queue_message_key(&row->lease.key, InvalidOid, (int64) MyDatabaseId);
}

/*
 * fill_slot
 *		Fill a slot with one row, which gets its number here.
 */
static void
fill_slot(TupleTableSlot *slot, const LogRow *row)
{
	const LeaseRecord *lease = &row->lease;
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;
	int			i;

	ExecClearTuple(slot);
	memset(values, 0, slot->tts_tupleDescriptor->natts * sizeof(Datum));
	memset(isnull, true, slot->tts_tupleDescriptor->natts * sizeof(bool));
	memset(isnull, false, Natts_log * sizeof(bool));
	values[Anum_log_seq - 1] = Int64GetDatum(next_seq++);
	values[Anum_log_queue - 1] = ObjectIdGetDatum(lease->key.relid);
	values[Anum_log_id - 1] = Int64GetDatum(lease->key.id);
	for (i = Anum_log_enqueued_at; i <= Natts_log; i++)
		isnull[i - 1] = true;
	if (!row->is_end)
	{
		set_value(slot, Anum_log_enqueued_at,
				  TimestampTzGetDatum(lease->enqueued_at));
		set_value(slot, Anum_log_failures, Int32GetDatum(lease->failures));
		if (lease->group_hash != 0)
			set_value(slot, Anum_log_group_hash,
					  Int64GetDatum((int64) lease->group_hash));
		switch (lease->kind)
		{
			case LOG_LEASE:
				set_value(slot, Anum_log_epoch,
						  Int64GetDatum((int64) lease->epoch));
				set_value(slot, Anum_log_number,
						  Int64GetDatum((int64) lease->number));
				set_value(slot, Anum_log_deadline,
						  TimestampTzGetDatum(lease->deadline));
				set_receiver(slot, lease);
				break;
			case LOG_DEQUEUED:
				set_value(slot, Anum_log_number, Int64GetDatum(0));
				set_value(slot, Anum_log_deadline,
						  TimestampTzGetDatum(TIMESTAMP_MINUS_INFINITY));
				break;
			default:
				if (lease->deadline != 0)
					set_value(slot, Anum_log_deadline,
							  TimestampTzGetDatum(lease->deadline));
				break;
		}
	}
	ExecStoreVirtualTuple(slot);
}

/* Set the columns that say who received it, as far as that is known. */
static void
set_receiver(TupleTableSlot *slot, const LeaseRecord *lease)
{
	if (lease->since != 0)
		set_value(slot, Anum_log_since, TimestampTzGetDatum(lease->since));
	if (!OidIsValid(lease->role))
		return;
	set_value(slot, Anum_log_role, ObjectIdGetDatum(lease->role));
	set_value(slot, Anum_log_application,
			  CStringGetTextDatum(lease->application));
}

/* Set one column, which is not NULL. */
static void
set_value(TupleTableSlot *slot, int attnum, Datum value)
{
	slot->tts_values[attnum - 1] = value;
	slot->tts_isnull[attnum - 1] = false;
}

/*-------------------------------------------------------------------------
 *
 * lease_row.c
 *		Rows of the log of leases, table queue.lease_log.
 *
 * They are read all together, and appended.  What they mean, and who writes them,
 * is said in lease.c.
 *
 * Locks: the caller's on the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "dispatch/lease_row.h"
#include "table/member.h"

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

/* Rows appended with one call of the table access method */
#define APPEND_BATCH		100

static int	compare_rows(const void *a, const void *b);
static bool is_current(const LogRow *rows, int n, int64 named_seq);
static bool is_end_of(const LogRow *row, const LeaseRecord *lease);
static void read_slot(TupleTableSlot *slot, LeaseRecord *lease);
static void read_fence(TupleTableSlot *slot, LeaseRecord *lease);
static void fill_slot(TupleTableSlot *slot, const LogRow *row);
static void set_receiver(TupleTableSlot *slot, const LeaseRecord *lease);
static void set_value(TupleTableSlot *slot, int attnum, Datum value);

/* Return the table; InvalidOid: the extension has none. */
Oid
queue_lease_rows_relid(void)
{
	return queue_catalog_relid(LEASE_LOG);
}

/*
 * queue_lease_rows_read
 *		Return what the log says: the last row of each message, palloc'd,
 *		without those that have ended.
 *
 * *nrows is 0 if the log is written for another database, *is_ours is false
 * then.  *last_seq is the highest number in it.
 */
LogRow *
queue_lease_rows_read(Relation rel, int *nrows, int64 *last_seq, bool *is_ours)
{
	/* no snapshot, which a serializable transaction would have conflicts by */
	TableScanDesc scan = table_beginscan(rel, SnapshotSelf, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int			nroom = 1024;
	LogRow	   *rows = palloc(nroom * sizeof(LogRow));
	int			n = 0;
	int			nkept = 0;
	int64		named_seq = 0;
	Oid			named = InvalidOid;
	int			first = 0;

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
		else
			read_fence(slot, lease);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);

	/* VACUUM may let rows of a page change places, so seq and not the scan */
	qsort(rows, n, sizeof(LogRow), compare_rows);
	for (int i = 0; i < n; i++)
	{
		if (i + 1 < n && queue_message_key_compare(&rows[i].lease.key,
												   &rows[i + 1].lease.key) == 0)
			continue;
		if (is_current(&rows[first], i + 1 - first, named_seq))
			rows[nkept++] = rows[i];
		first = i + 1;
	}
	*is_ours = named == MyDatabaseId;
	*nrows = *is_ours ? nkept : 0;
	return rows;
}

/*
 * is_current
 *		Is the last of these rows, all of one message, still true?
 *
 * The end of a lease may have been written before that lease was.
 */
static bool
is_current(const LogRow *rows, int n, int64 named_seq)
{
	const LogRow *last = &rows[n - 1];

	if (last->is_end || last->seq <= named_seq)
		return false;
	for (int i = 0; i < n - 1; i++)
		if (is_end_of(&rows[i], &last->lease))
			return false;
	return true;
}

/* Does a row say that this very lease has ended? */
static bool
is_end_of(const LogRow *row, const LeaseRecord *lease)
{
	return row->is_end && row->lease.number != 0 && lease->kind == LOG_LEASE &&
		row->lease.number == lease->number && row->lease.epoch == lease->epoch;
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
		read_fence(slot, lease);
	}
}

/* Read which lease has ended, if a row says so of one. */
static void
read_fence(TupleTableSlot *slot, LeaseRecord *lease)
{
	bool		is_one = !slot->tts_isnull[Anum_log_number - 1] &&
		!slot->tts_isnull[Anum_log_epoch - 1];

	lease->epoch = !is_one ? 0 :
		(uint64) DatumGetInt64(slot->tts_values[Anum_log_epoch - 1]);
	lease->number = !is_one ? 0 :
		(uint64) DatumGetInt64(slot->tts_values[Anum_log_number - 1]);
}

/*
 * Comparator for qsort(): by message, then in the order in which they were
 * written; an end may have the number of what it ends
 */
static int
compare_rows(const void *a, const void *b)
{
	const LogRow *left = a;
	const LogRow *right = b;
	int			result;

	result = queue_message_key_compare(&left->lease.key, &right->lease.key);
	if (result != 0)
		return result;
	if (left->seq != right->seq)
		return left->seq < right->seq ? -1 : 1;
	return (int) left->is_end - (int) right->is_end;
}

/*
 * queue_lease_rows_open
 *		Open the log; NULL if there is none, because the extension is being
 *		dropped.
 *
 * Throws if it has been altered.
 */
Relation
queue_lease_rows_open(Oid relid, LOCKMODE lockmode)
{
	Relation	rel;

	if (!OidIsValid(relid))
		return NULL;
	rel = try_relation_open(relid, lockmode);
	if (rel != NULL)
		queue_member_check(rel, MEMBER_LEASE_LOG);
	return rel;
}

/*
 * queue_lease_rows_append
 *		Append rows, past the executor.
 *
 * What the executor would do is not needed: there is neither an index nor a
 * trigger, and no column that is not filled here.
 */
void
queue_lease_rows_append(Relation rel, const LogRow *rows, int nrows)
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

/* Fill a slot with one row. */
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
	values[Anum_log_seq - 1] = Int64GetDatum(row->seq);
	values[Anum_log_queue - 1] = ObjectIdGetDatum(lease->key.relid);
	values[Anum_log_id - 1] = Int64GetDatum(lease->key.id);
	for (i = Anum_log_enqueued_at; i <= Natts_log; i++)
		isnull[i - 1] = true;
	if (row->is_end && lease->number != 0)
	{
		set_value(slot, Anum_log_epoch, Int64GetDatum((int64) lease->epoch));
		set_value(slot, Anum_log_number, Int64GetDatum((int64) lease->number));
	}
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

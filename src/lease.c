/*-------------------------------------------------------------------------
 *
 * lease.c
 *		Leases on disk: table queue.lease.
 *
 * A receive writes nothing.  Leases that have lasted for a moment are written
 * behind by the worker of the database, the only writer of this table, so
 * that they outlive a crash.  After a start, whoever comes first, worker or
 * consumer, loads them; from then on memory alone decides, and the table is
 * not read again.
 *
 * Several may read the table at once after a start; the first to get the
 * database lock puts its rows into memory, and the others find it done.  What
 * was read cannot be out of date then: until the leases are loaded nobody is
 * admitted who could change one, the worker included.  Dying in between
 * leaves nothing behind but the work to be done again.
 *
 * Messages dequeued by a transaction that lasts are written here too, as
 * leases that have run out already.  So a message whose consumer takes the
 * whole server down with it has failed once when the server is back.
 *
 * If the leases do not fit into memory (queue.max_in_flight was lowered), the
 * rest of them end early; the log says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "database.h"
#include "lease.h"
#include "mutant.h"

#define Anum_lease_queue	1
#define Anum_lease_id		2
#define Anum_lease_epoch	3
#define Anum_lease_number	4
#define Anum_lease_deadline	5

/* the slot of this database, once looked up */
static DatabaseSlot *my_slot = NULL;

static LeaseRecord *read_leases(Relation rel, int *nrecords);
static Datum make_array(Datum *values, int n, Oid type, int16 len, bool byval,
						char align);
static void execute(const char *sql, int nargs, Oid *types, Datum *args);

void
queue_lease_load(void)
{
	Oid			relid;
	Relation	rel;
	LeaseRecord *records;
	int			nrecords;
	int			nlost = 0;
	int			i;

	if (my_slot == NULL || my_slot->dbid != MyDatabaseId)
		my_slot = queue_database_wait_for_slot(MyDatabaseId);
	if (my_slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases use queues"),
				 errhint("You might need to increase queue.max_databases.")));
	if (my_slot->leases_loaded || RecoveryInProgress())
		return;

	relid = queue_catalog_relid("lease");
	if (!OidIsValid(relid))
		return;
	rel = table_open(relid, AccessShareLock);
	records = read_leases(rel, &nrecords);
	table_close(rel, AccessShareLock);

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	if (my_slot->dbid == MyDatabaseId && !my_slot->leases_loaded)
	{
		for (i = 0; i < nrecords; i++)
			if (!MUTANT_SOMETIMES(LEASE_NOT_LOADED, 2) &&
				!queue_inflight_restore_lease(&records[i].key,
											  records[i].epoch,
											  records[i].number,
											  records[i].deadline))
				nlost++;
		my_slot->leases_loaded = true;
	}
	LWLockRelease(queue_database_lock());
	if (nrecords > 0)
		queue_database_poke(MyDatabaseId, GetCurrentTimestamp());
	if (nlost > 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("%d leases do not fit into memory and end early", nlost),
				 errhint("You might need to increase queue.max_in_flight.")));
}

/* All rows of queue.lease, palloc'd */
static LeaseRecord *
read_leases(Relation rel, int *nrecords)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	LeaseRecord *records = NULL;
	int			nroom = 0;
	int			n = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (n == nroom)
		{
			nroom = nroom ? nroom * 2 : 1024;
			records = records ?
				repalloc_huge(records, nroom * sizeof(LeaseRecord)) :
				palloc(nroom * sizeof(LeaseRecord));
		}
		slot_getallattrs(slot);
		queue_message_key(&records[n].key,
						  DatumGetObjectId(slot->tts_values[Anum_lease_queue - 1]),
						  DatumGetInt64(slot->tts_values[Anum_lease_id - 1]));
		records[n].epoch =
			(uint64) DatumGetInt64(slot->tts_values[Anum_lease_epoch - 1]);
		records[n].number =
			(uint64) DatumGetInt64(slot->tts_values[Anum_lease_number - 1]);
		records[n].deadline =
			DatumGetTimestampTz(slot->tts_values[Anum_lease_deadline - 1]);
		n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	*nrecords = n;
	return records;
}

/* ----------------------------------------------------------------
 *		Writing behind
 * ----------------------------------------------------------------
 */

/* One column of what is written, as an argument */
static Datum
make_array(Datum *values, int n, Oid type, int16 len, bool byval, char align)
{
	return PointerGetDatum(construct_array(values, n, type, len, byval, align));
}

/* Run a statement, in the worker's transaction. */
static void
execute(const char *sql, int nargs, Oid *types, Datum *args)
{
	int			res;

	SPI_connect();
	res = SPI_execute_with_args(sql, nargs, types, args, NULL, false, 0);
	if (res < 0)
		elog(ERROR, "could not write leases: %s", SPI_result_code_string(res));
	SPI_finish();
}

void
queue_lease_write(const LeaseRecord *records, int nrecords)
{
	Oid			types[] = {OIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		args[lengthof(types)];
	Datum	   *columns[lengthof(types)];
	int			i;

	for (i = 0; i < lengthof(types); i++)
		columns[i] = palloc(nrecords * sizeof(Datum));
	for (i = 0; i < nrecords; i++)
	{
		columns[0][i] = ObjectIdGetDatum(records[i].key.relid);
		columns[1][i] = Int64GetDatum(records[i].key.id);
		columns[2][i] = Int64GetDatum((int64) records[i].epoch);
		columns[3][i] = Int64GetDatum((int64) records[i].number);
		columns[4][i] = TimestampTzGetDatum(records[i].deadline);
	}
	args[0] = make_array(columns[0], nrecords, OIDOID, sizeof(Oid), true,
						 TYPALIGN_INT);
	for (i = 1; i < lengthof(types); i++)
		args[i] = make_array(columns[i], nrecords,
							 i == 4 ? TIMESTAMPTZOID : INT8OID,
							 sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	execute("INSERT INTO queue.lease AS l (queue, id, epoch, number, deadline)"
			" SELECT * FROM ROWS FROM (pg_catalog.unnest($1),"
			" pg_catalog.unnest($2), pg_catalog.unnest($3),"
			" pg_catalog.unnest($4), pg_catalog.unnest($5))"
			" ON CONFLICT (queue, id) DO UPDATE SET epoch = excluded.epoch,"
			" number = excluded.number, deadline = excluded.deadline",
			lengthof(types), types, args);
}

void
queue_lease_remove(const MessageKey *keys, int nkeys)
{
	Oid			types[] = {OIDARRAYOID, INT8ARRAYOID};
	Datum		args[lengthof(types)];
	Datum	   *relids = palloc(nkeys * sizeof(Datum));
	Datum	   *ids = palloc(nkeys * sizeof(Datum));
	int			i;

	for (i = 0; i < nkeys; i++)
	{
		relids[i] = ObjectIdGetDatum(keys[i].relid);
		ids[i] = Int64GetDatum(keys[i].id);
	}
	args[0] = make_array(relids, nkeys, OIDOID, sizeof(Oid), true, TYPALIGN_INT);
	args[1] = make_array(ids, nkeys, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						 TYPALIGN_DOUBLE);
	execute("DELETE FROM queue.lease AS l"
			" USING ROWS FROM (pg_catalog.unnest($1),"
			" pg_catalog.unnest($2)) AS g (queue, id)"
			" WHERE l.queue OPERATOR(pg_catalog.=) g.queue"
			" AND l.id OPERATOR(pg_catalog.=) g.id",
			lengthof(types), types, args);
}

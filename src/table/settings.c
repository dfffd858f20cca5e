/*-------------------------------------------------------------------------
 *
 * settings.c
 *		The settings of queues: table queue.queue.
 *
 * The settings table is read and written with catalog functions instead of
 * SPI.  So it is read with the newest snapshot and without predicate locks, as
 * a system catalog would be, and without the privileges on it that callers
 * lack.  Rows are changed under a row lock (queue_settings_lock), and read
 * without any.  There is no lock order among them beyond "the queue's table
 * first, then its row".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/blocker.h"
#include "common/compat.h"
#include "common/extension.h"
#include "table/member.h"
#include "table/settings.h"

/*
 * The table queue.queue that was last found to be a member of the extension.
 * The relcache callback (definition.c) uses it, too: when that table itself
 * changes or goes, nothing that is cached holds any longer.
 */
static Oid	known_settings_relid = InvalidOid;

static Relation open_to_look(void);
static bool find_named(Oid relid, int attnum, Oid *named);
static List *list_queues(const char *index_name, int nkeys, ScanKey keys);


/*
 * queue_settings_relid
 *		Return the OID of queue.queue, InvalidOid if the extension is not in
 *		this database.
 *
 * A user may have a table of this name, so it must be a member of the
 * extension.  That takes looks into catalogs that have no cache, so the answer
 * is remembered.
 */
Oid
queue_settings_relid(void)
{
	Oid			relid = queue_catalog_relid("queue");
	Oid			extension;

	if (!OidIsValid(relid) || relid == known_settings_relid)
		return relid;

	extension = get_extension_oid(QUEUE_EXTENSION, true);
	if (!OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		return InvalidOid;

	known_settings_relid = relid;
	return relid;
}

/*
 * queue_settings_is_table
 *		Returns true if this is the table that was found last.
 *
 * No look at a catalog, so this may be called from callbacks.
 */
bool
queue_settings_is_table(Oid relid)
{
	return relid == known_settings_relid;
}

/*
 * queue_settings_try_open
 *		Open table queue.queue, or return NULL if the extension is not here.
 *
 * It may be dropped while this waits for the lock.
 */
Relation
queue_settings_try_open(LOCKMODE lockmode)
{
	Oid			relid = queue_settings_relid();

	return OidIsValid(relid) ? try_table_open(relid, lockmode) : NULL;
}

/*
 * queue_settings_open
 *		Open table queue.queue.
 *
 * Throws if the extension is not here, or if the table has been altered.
 */
Relation
queue_settings_open(LOCKMODE lockmode)
{
	Relation	settings = queue_settings_try_open(lockmode);

	if (settings == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", QUEUE_EXTENSION)));
	queue_member_check(settings, MEMBER_QUEUE);
	return settings;
}

/*
 * open_to_look
 *		Open it to see whether it has something, or return NULL if the table
 *		is not here or not as it should be.
 */
static Relation
open_to_look(void)
{
	Relation	settings = queue_settings_try_open(AccessShareLock);

	if (settings != NULL && !queue_member_resembles(settings, MEMBER_QUEUE))
	{
		table_close(settings, AccessShareLock);
		settings = NULL;
	}
	return settings;
}

/*
 * queue_settings_scan
 *		Begin a scan for the row of one queue.
 *
 * The primary key's index is missing while the extension is being dropped, and
 * then the table is small enough.
 */
SysScanDesc
queue_settings_scan(Relation settings, Oid relid)
{
	Oid			index = queue_catalog_relid("queue_pkey");
	ScanKeyData key;

	ScanKeyInit(&key, Anum_settings_queue, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	return systable_beginscan(settings, index, OidIsValid(index), SnapshotAny,
							  1, &key);
}

/*
 * queue_settings_next
 *		Return the next row that the snapshot sees, or NULL.
 *
 * The scan itself uses a snapshot that is not MVCC.  Otherwise that of a
 * serializable transaction would take predicate locks, and a transaction that
 * makes or alters another queue would conflict with it.  The snapshot is
 * registered, so what it sees stays in place.
 */
HeapTuple
queue_settings_next(SysScanDesc scan, Snapshot snapshot)
{
	HeapTuple	tuple;

	do
	{
		tuple = systable_getnext(scan);
	} while (HeapTupleIsValid(tuple) &&
			 !table_tuple_satisfies_snapshot(scan->heap_rel, scan->slot,
											 snapshot));
	return tuple;
}

/*
 * queue_settings_exist
 *		Returns true if this relation has a row in queue.queue.
 *
 * *dead_letter, unless NULL, is set to its dead-letter queue, or InvalidOid.
 */
bool
queue_settings_exist(Oid relid, Oid *dead_letter)
{
	return find_named(relid, Anum_settings_dead_letter, dead_letter);
}

/*
 * queue_settings_key_table
 *		Return the key table of a queue, InvalidOid if it has none.
 */
Oid
queue_settings_key_table(Oid relid)
{
	Oid			keys;

	(void) find_named(relid, Anum_settings_key_table, &keys);
	return keys;
}

/* Find the row of a relation, and what table a column of it names. */
static bool
find_named(Oid relid, int attnum, Oid *named)
{
	Relation	settings = open_to_look();
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	if (named != NULL)
		*named = InvalidOid;
	if (settings == NULL)
		return false;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = queue_settings_scan(settings, relid);
	tuple = queue_settings_next(scan, snapshot);
	found = HeapTupleIsValid(tuple);
	if (found && named != NULL)
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, attnum,
										 RelationGetDescr(settings), &isnull);

		if (!isnull)
			*named = DatumGetObjectId(datum);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);

	return found;
}

/*
 * queue_settings_lock
 *		Return a copy of the newest version of a queue's settings row, locked
 *		for an update by this transaction.
 *
 * Waits for others that change it, but throws if one of them is prepared.
 * Returns NULL if there is no row.
 */
HeapTuple
queue_settings_lock(Relation settings, Oid relid)
{
	TupleTableSlot *slot = table_slot_create(settings, NULL);
	HeapTuple	copy = NULL;
	LockWaitPolicy wait_policy = LockWaitSkip;

	while (copy == NULL)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		SysScanDesc scan = queue_settings_scan(settings, relid);
		HeapTuple	tuple = queue_settings_next(scan, snapshot);
		bool		found = HeapTupleIsValid(tuple);
		ItemPointerData tid;

		if (found)
			tid = tuple->t_self;
		systable_endscan(scan);

		if (found)
		{
			TM_FailureData failure;
			TM_Result	result;

			result = table_tuple_lock(settings, &tid, snapshot, slot,
									  GetCurrentCommandId(false),
									  LockTupleExclusive, wait_policy,
									  TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
									  &failure);
			if (result == TM_Ok)
			{
				copy = ExecCopySlotHeapTuple(slot);
				copy->t_self = slot->tts_tid;
				ExecClearTuple(slot);
			}
			else if (result == TM_WouldBlock)
			{
				/*
				 * a prepared transaction may never end, others are waited for
				 */
				queue_blocker_refuse_xid(queue_qualified_name(relid),
										 failure.xmax);
				wait_policy = LockWaitBlock;
			}
			else if (result != TM_Deleted && result != TM_Updated)
				elog(ERROR, "unexpected result %d of locking the settings of queue %u",
					 (int) result, relid);
			/* else look again: it may be gone, or there in another place */
		}
		UnregisterSnapshot(snapshot);
		if (!found)
			break;
		CHECK_FOR_INTERRUPTS();
	}

	ExecDropSingleTupleTableSlot(slot);
	return copy;
}

/*
 * queue_dead_letter_sources
 *		Return the queues that have this one as their dead-letter queue, a
 *		List of Oid.
 */
List *
queue_dead_letter_sources(Oid relid)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_settings_dead_letter, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	return list_queues("queue_dead_letter_idx", 1, &key);
}

/*
 * queue_key_table_owner
 *		Return the queue that has this table for its keys, or InvalidOid.
 */
Oid
queue_key_table_owner(Oid relid)
{
	ScanKeyData key;
	List	   *queues;

	ScanKeyInit(&key, Anum_settings_key_table, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	queues = list_queues("queue_key_table_idx", 1, &key);
	return queues == NIL ? InvalidOid : linitial_oid(queues);
}

/*
 * queue_settings_all
 *		Return all queues of this database, a List of Oid.
 *
 * Rows are left whose tables were dropped by a prepared transaction, so the
 * caller looks whether there is a table.
 */
List *
queue_settings_all(void)
{
	return list_queues(NULL, 0, NULL);
}

/*
 * queue_settings_with_keys
 *		Return the queues that have key tables, a List of Oid.
 */
List *
queue_settings_with_keys(void)
{
	ScanKeyData key;

	/* IS NOT NULL, which only an index knows */
	ScanKeyEntryInitialize(&key, SK_ISNULL | SK_SEARCHNOTNULL,
						   Anum_settings_key_table, InvalidStrategy,
						   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	return list_queues("queue_key_table_idx", 1, &key);
}

/* Return the queues whose rows have these keys, by an index if it is there. */
static List *
list_queues(const char *index_name, int nkeys, ScanKey keys)
{
	Relation	settings = open_to_look();
	Oid			index;
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *queues = NIL;

	if (settings == NULL)
		return NIL;
	index = index_name != NULL ? queue_catalog_relid(index_name) : InvalidOid;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(settings, index, OidIsValid(index), SnapshotAny,
							  nkeys, keys);
	while (HeapTupleIsValid(tuple = queue_settings_next(scan, snapshot)))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_settings_queue,
										 RelationGetDescr(settings), &isnull);

		queues = lappend_oid(queues, DatumGetObjectId(datum));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);

	return queues;
}

/*
 * queue_qualified_name
 *		Return the qualified, quoted name of a relation, as "shop.orders", or
 *		its OID if it is gone.
 */
char *
queue_qualified_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("%u", relid);
	return quote_qualified_identifier(get_namespace_name_or_temp(get_rel_namespace(relid)),
									  name);
}

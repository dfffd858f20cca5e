/*-------------------------------------------------------------------------
 *
 * setting_row.c
 *		Tables of the extension that have one row a table: its settings.
 *
 * These are queue.queue and queue.topic.  Their first column is the table, and
 * their primary key.  They are read and written with catalog functions instead
 * of SPI.  So they are read with the newest snapshot and without predicate
 * locks, as a system catalog would be, and without the privileges on them that
 * callers lack.  Rows are changed under a row lock (queue_setting_lock), and
 * read without any.  There is no lock order among them beyond "the table that
 * a row is of first, then its row".
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
#include "common/relation_name.h"
#include "table/member.h"
#include "table/setting_row.h"

/* Where the table is in their rows */
#define Anum_setting_table		1

/*
 * The tables that were last found to be members of the extension.  The relcache
 * callback (def_cache.c) uses them, too: when such a table itself changes or
 * goes, nothing that is cached holds any longer.
 */
static Oid	known_relids[NUM_MEMBER_TABLES];

static Relation open_to_look(MemberTable table);
static Oid	key_index(MemberTable table);


/*
 * queue_setting_relid
 *		Return the OID of this table, InvalidOid if the extension is not in
 *		this database.
 *
 * A user may have a table of this name, so it must be a member of the
 * extension.  That takes looks into catalogs that have no cache, so the answer
 * is remembered.
 */
Oid
queue_setting_relid(MemberTable table)
{
	Oid			relid = queue_catalog_relid(queue_member_name(table));
	Oid			extension;

	if (!OidIsValid(relid) || relid == known_relids[table])
		return relid;

	extension = get_extension_oid(QUEUE_EXTENSION, true);
	if (!OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		return InvalidOid;

	known_relids[table] = relid;
	return relid;
}

/*
 * queue_setting_is_table
 *		Returns true if this is the table that was found last.
 *
 * No look at a catalog, so this may be called from callbacks.
 */
bool
queue_setting_is_table(MemberTable table, Oid relid)
{
	return relid == known_relids[table];
}

/*
 * queue_setting_try_open
 *		Open such a table, or return NULL if the extension is not here.
 *
 * It may be dropped while this waits for the lock.
 */
Relation
queue_setting_try_open(MemberTable table, LOCKMODE lockmode)
{
	Oid			relid = queue_setting_relid(table);

	return OidIsValid(relid) ? try_table_open(relid, lockmode) : NULL;
}

/*
 * queue_setting_open_if_there
 *		Open such a table, or return NULL if the extension is not here.
 *
 * Throws if the table has been altered.
 */
Relation
queue_setting_open_if_there(MemberTable table, LOCKMODE lockmode)
{
	Relation	settings = queue_setting_try_open(table, lockmode);

	if (settings != NULL)
		queue_member_check(settings, table);
	return settings;
}

/*
 * queue_setting_open
 *		Open such a table.
 *
 * Throws if the extension is not here, or if the table has been altered.
 */
Relation
queue_setting_open(MemberTable table, LOCKMODE lockmode)
{
	Relation	settings = queue_setting_open_if_there(table, lockmode);

	if (settings == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", QUEUE_EXTENSION)));
	return settings;
}

/*
 * open_to_look
 *		Open it to see whether it has something, or return NULL if the table
 *		is not here or not as it should be.
 */
static Relation
open_to_look(MemberTable table)
{
	Relation	settings = queue_setting_try_open(table, AccessShareLock);

	if (settings != NULL && !queue_member_resembles(settings, table))
	{
		table_close(settings, AccessShareLock);
		settings = NULL;
	}
	return settings;
}

/*
 * key_index
 *		Return the index of the primary key.
 *
 * It is missing while the extension is being dropped; then the table is small
 * enough.
 */
static Oid
key_index(MemberTable table)
{
	return queue_catalog_relid(psprintf("%s_pkey", queue_member_name(table)));
}

/*
 * queue_setting_scan
 *		Begin a scan for the row of one table.
 */
SysScanDesc
queue_setting_scan(Relation settings, MemberTable table, Oid relid)
{
	Oid			index = key_index(table);
	ScanKeyData key;

	ScanKeyInit(&key, Anum_setting_table, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	return systable_beginscan(settings, index, OidIsValid(index), SnapshotAny,
							  1, &key);
}

/*
 * queue_setting_next
 *		Return the next row that the snapshot sees, or NULL.
 *
 * The scan itself uses a snapshot that is not MVCC.  Otherwise that of a
 * serializable transaction would take predicate locks, and a transaction that
 * makes or alters another would conflict with it.  The snapshot is
 * registered, so what it sees stays in place.
 */
HeapTuple
queue_setting_next(SysScanDesc scan, Snapshot snapshot)
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
 * queue_setting_find
 *		Returns true if this relation has a row.
 *
 * *named, unless NULL, is set to the OID in a column of it, or InvalidOid.
 */
bool
queue_setting_find(MemberTable table, Oid relid, int attnum, Oid *named)
{
	Relation	settings = open_to_look(table);
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	if (named != NULL)
		*named = InvalidOid;
	if (settings == NULL)
		return false;

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = queue_setting_scan(settings, table, relid);
	tuple = queue_setting_next(scan, snapshot);
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
 * queue_setting_lock
 *		Return a copy of the newest version of a table's row, locked
 *		for an update by this transaction.
 *
 * Waits for others that change it, but throws if one of them is prepared.
 * Returns NULL if there is no row.
 */
HeapTuple
queue_setting_lock(Relation settings, MemberTable table, Oid relid)
{
	TupleTableSlot *slot = table_slot_create(settings, NULL);
	HeapTuple	copy = NULL;
	LockWaitPolicy wait_policy = LockWaitSkip;

	while (copy == NULL)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		SysScanDesc scan = queue_setting_scan(settings, table, relid);
		HeapTuple	tuple = queue_setting_next(scan, snapshot);
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
				queue_blocker_refuse_xid(table == MEMBER_TOPIC ? "topic" :
										 table == MEMBER_SUBSCRIPTION ?
										 "subscription" : "queue",
										 queue_shown_name(relid),
										 failure.xmax);
				wait_policy = LockWaitBlock;
			}
			else if (result != TM_Deleted && result != TM_Updated)
				elog(ERROR, "unexpected result %d of locking the settings of table %u",
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
 * queue_setting_list
 *		Return the tables whose rows have these keys, a List of Oid.
 *
 * By this index, if it is there; NULL: by none.
 */
List *
queue_setting_list(MemberTable table, const char *index_name, int nkeys,
				   ScanKey keys)
{
	Relation	settings = open_to_look(table);
	Oid			index;
	Snapshot	snapshot;
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *relids = NIL;

	if (settings == NULL)
		return NIL;
	index = index_name != NULL ? queue_catalog_relid(index_name) : InvalidOid;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(settings, index, OidIsValid(index), SnapshotAny,
							  nkeys, keys);
	while (HeapTupleIsValid(tuple = queue_setting_next(scan, snapshot)))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_setting_table,
										 RelationGetDescr(settings), &isnull);

		relids = lappend_oid(relids, DatumGetObjectId(datum));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(settings, AccessShareLock);

	return relids;
}

/*
 * queue_form_of
 *		Return what kind of table this relation is, by its settings; NULL if
 *		it has none.
 */
const TableForm *
queue_form_of(Oid relid)
{
	for (int i = 0; i < NUM_FORMS; i++)
	{
		if (queue_setting_find(queue_forms[i]->settings, relid, 0, NULL))
			return queue_forms[i];
	}
	return NULL;
}

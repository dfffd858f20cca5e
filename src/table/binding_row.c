/*-------------------------------------------------------------------------
 *
 * binding_row.c
 *		Which queues are bound to which topics: table queue.binding.
 *
 * Its key is topic, queue and pattern.  As tables of settings it is read and
 * written with catalog functions (setting_row.c).
 *
 * A session that binds or unbinds has the topic locked against all others that
 * do, and against publishers, and the queue against being dropped.  So rows
 * change one after the other.  A table that is dropped takes its rows along,
 * whatever others do with the other end of them: two that are dropped at a
 * time may delete the same row, which is waited for, but not if one of them is
 * prepared.  What sessions know of a topic's bindings is forgotten whenever
 * one changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonpath.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "common/blocker.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/binding_row.h"
#include "table/def_cache.h"
#include "table/setting_row.h"

/* What is looked for; InvalidOid, NULL: whatever it is */
typedef struct Wanted
{
	Oid			topic;
	Oid			queue;
	const char *pattern;
} Wanted;

/* A row that was found */
typedef struct FoundRow
{
	ItemPointerData tid;
	Oid			topic;
} FoundRow;

static List *find(Relation table, const Wanted *wanted, bool as_rows);
static SysScanDesc begin_scan(Relation table, const Wanted *wanted);
static BindingRow *read_row(const Datum *values, const bool *nulls);
static int	delete_all(const Wanted *wanted);
static void delete_row(Relation table, FoundRow *found);
static int	compare_rows(const ListCell *a, const ListCell *b);


/* Return the bindings of a topic, in the current memory context. */
List *
queue_binding_list(Oid topic)
{
	Wanted		wanted = {.topic = topic};
	Relation	table = queue_setting_open(MEMBER_BINDING, AccessShareLock);
	List	   *rows = find(table, &wanted, true);

	table_close(table, AccessShareLock);
	list_sort(rows, compare_rows);
	return rows;
}

static int
compare_rows(const ListCell *a, const ListCell *b)
{
	const BindingRow *left = lfirst(a);
	const BindingRow *right = lfirst(b);

	if (left->queue != right->queue)
		return left->queue < right->queue ? -1 : 1;
	return strcmp(left->pattern, right->pattern);
}

bool
queue_binding_exists(Oid topic, Oid queue)
{
	Wanted		wanted = {.topic = topic,.queue = queue};
	Relation	table = queue_setting_open(MEMBER_BINDING, AccessShareLock);
	bool		found = find(table, &wanted, false) != NIL;

	table_close(table, AccessShareLock);
	return found;
}

/*
 * queue_binding_put
 *		Insert a binding, or replace the one with its topic, queue and
 *		pattern.
 */
void
queue_binding_put(const BindingRow *row)
{
	Wanted		wanted = {row->topic, row->queue, row->pattern};
	Relation	table = queue_setting_open(MEMBER_BINDING, RowExclusiveLock);
	List	   *old = find(table, &wanted, false);
	Datum		values[Natts_binding];
	bool		nulls[Natts_binding] = {false};
	NameData	bound_by;
	HeapTuple	tuple;

	namestrcpy(&bound_by, row->bound_by);
	values[Anum_binding_topic - 1] = ObjectIdGetDatum(row->topic);
	values[Anum_binding_queue - 1] = ObjectIdGetDatum(row->queue);
	values[Anum_binding_pattern - 1] = CStringGetTextDatum(row->pattern);
	values[Anum_binding_selector - 1] = row->selector;
	nulls[Anum_binding_selector - 1] = !row->has_selector;
	values[Anum_binding_on_refusal - 1] =
		CStringGetTextDatum(row->fails ? BINDING_FAILS : BINDING_SKIPS);
	values[Anum_binding_bound_by - 1] = NameGetDatum(&bound_by);
	tuple = queue_member_form(table, MEMBER_BINDING, values, nulls);
	if (old != NIL)
	{
		FoundRow   *found = linitial(old);

		CatalogTupleUpdate(table, &found->tid, tuple);
	}
	else
		CatalogTupleInsert(table, tuple);
	heap_freetuple(tuple);
	table_close(table, NoLock);
	queue_def_invalidate(row->topic);
	CommandCounterIncrement();
}

/* Delete bindings, and return how many they were. */
int
queue_binding_delete(Oid topic, Oid queue, const char *pattern)
{
	Wanted		wanted = {topic, queue, pattern};

	return delete_all(&wanted);
}

/*
 * queue_binding_forget
 *		A table is about to be dropped, or is gone: delete what binds it.
 *
 * For every table that is dropped in the database, so it must cost little where
 * there is nothing, and do without a table that is not there.
 */
void
queue_binding_forget(Oid relid)
{
	Wanted		of_topic = {.topic = relid};
	Wanted		of_queue = {.queue = relid};

	(void) delete_all(&of_topic);
	(void) delete_all(&of_queue);
}

/* Return the tables that bindings name and that are gone, a List of Oid. */
List *
queue_binding_gone(void)
{
	Wanted		wanted = {0};
	Relation	table = queue_setting_open(MEMBER_BINDING, AccessShareLock);
	List	   *gone = NIL;
	ListCell   *lc;

	foreach(lc, find(table, &wanted, true))
	{
		BindingRow *row = lfirst(lc);

		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(row->topic)))
			gone = list_append_unique_oid(gone, row->topic);
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(row->queue)))
			gone = list_append_unique_oid(gone, row->queue);
	}
	table_close(table, AccessShareLock);
	return gone;
}

/*
 * find
 *		Return the rows that are wanted, as BindingRows or as FoundRows.
 *
 * By a new snapshot, as setting_row.c does it.
 */
static List *
find(Relation table, const Wanted *wanted, bool as_rows)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = begin_scan(table, wanted);
	List	   *result = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = queue_setting_next(scan, snapshot)))
	{
		Datum		values[Natts_binding];
		bool		nulls[Natts_binding];
		BindingRow *row;
		FoundRow   *found;

		queue_member_deform(table, MEMBER_BINDING, tuple, values, nulls);
		row = read_row(values, nulls);
		if ((OidIsValid(wanted->topic) && row->topic != wanted->topic) ||
			(OidIsValid(wanted->queue) && row->queue != wanted->queue) ||
			(wanted->pattern != NULL &&
			 strcmp(row->pattern, wanted->pattern) != 0))
			continue;
		if (as_rows)
		{
			result = lappend(result, row);
			continue;
		}
		found = palloc(sizeof(FoundRow));
		found->tid = tuple->t_self;
		found->topic = row->topic;
		result = lappend(result, found);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return result;
}

/*
 * begin_scan
 *		Scan the rows of a topic, else those of a queue, else all.
 *
 * The indexes are missing while the extension is being dropped.
 */
static SysScanDesc
begin_scan(Relation table, const Wanted *wanted)
{
	bool		by_topic = OidIsValid(wanted->topic);
	Oid			index = queue_catalog_relid(by_topic ? "binding_pkey" :
											"binding_queue_idx");
	int			nkeys = by_topic || OidIsValid(wanted->queue) ? 1 : 0;
	ScanKeyData key;

	ScanKeyInit(&key, by_topic ? Anum_binding_topic : Anum_binding_queue,
				BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(by_topic ? wanted->topic : wanted->queue));
	return systable_beginscan(table, index, OidIsValid(index) && nkeys > 0,
							  SnapshotAny, nkeys, &key);
}

static BindingRow *
read_row(const Datum *values, const bool *nulls)
{
	BindingRow *row = palloc(sizeof(BindingRow));

	row->topic = DatumGetObjectId(values[Anum_binding_topic - 1]);
	row->queue = DatumGetObjectId(values[Anum_binding_queue - 1]);
	row->pattern = TextDatumGetCString(values[Anum_binding_pattern - 1]);
	row->has_selector = !nulls[Anum_binding_selector - 1];
	row->selector = !row->has_selector ? (Datum) 0 :
		PointerGetDatum(DatumGetJsonPathPCopy(values[Anum_binding_selector - 1]));
	row->fails =
		strcmp(TextDatumGetCString(values[Anum_binding_on_refusal - 1]),
			   BINDING_FAILS) == 0;
	row->bound_by =
		pstrdup(NameStr(*DatumGetName(values[Anum_binding_bound_by - 1])));
	return row;
}

/* Delete the rows that are wanted, if the table is there and as we know it. */
static int
delete_all(const Wanted *wanted)
{
	Relation	table = queue_setting_try_open(MEMBER_BINDING,
											   RowExclusiveLock);
	List	   *rows;
	ListCell   *lc;

	if (table == NULL)
		return 0;
	rows = queue_member_resembles(table, MEMBER_BINDING) ?
		find(table, wanted, false) : NIL;
	foreach(lc, rows)
		delete_row(table, lfirst(lc));
	table_close(table, rows != NIL ? NoLock : RowExclusiveLock);
	if (rows != NIL)
		CommandCounterIncrement();
	return list_length(rows);
}

/*
 * delete_row
 *		Delete a row, unless another transaction does.
 *
 * That is waited for, but not if it is prepared (55006).  If it is rolled back
 * the row is there still, and deleted then.
 */
static void
delete_row(Relation table, FoundRow *found)
{
	bool		wait = false;

	for (;;)
	{
		TM_FailureData failure;
		TM_Result	result;

		result = table_tuple_delete(table, &found->tid,
									GetCurrentCommandId(true), 0,
									InvalidSnapshot, InvalidSnapshot, wait,
									&failure);
		if (result != TM_BeingModified)
		{
			if (result != TM_Ok && result != TM_Deleted)
				elog(ERROR, "unexpected result %d of deleting a binding of topic %u",
					 (int) result, found->topic);
			break;
		}
		queue_blocker_refuse_xid("topic", queue_shown_name(found->topic),
								 failure.xmax);
		wait = true;
	}
	queue_def_invalidate(found->topic);
}

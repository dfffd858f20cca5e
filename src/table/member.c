/*-------------------------------------------------------------------------
 *
 * member.c
 *		The tables of the extension, as this library knows them.
 *
 * The library reads and writes some of its tables by the position of their
 * columns.  It may meet others than it was made for.  Between the installation
 * of a new release and the restart the server still has the old library, and
 * CREATE EXTENSION or ALTER EXTENSION UPDATE run the new script.  Between the
 * restart and ALTER EXTENSION UPDATE it is the other way round.  And a
 * superuser may add a column to anything.  Two checks make this end with an
 * error that says what to do (55000), instead of reading memory out of bounds:
 *
 * - the version of the extension must be that of the library.  Every function
 *	 asks before it looks at its arguments, which another script may have given
 *	 it in another number.  The answer is kept until queue.queue changes in the
 *	 relation cache, or ALTER EXTENSION says that it did.
 *
 * - each table that is opened must have the columns listed here, after the
 *	 lock, whatever the version says.  A column that was added and dropped
 *	 again stays in the descriptor for ever and is ignored, because the mistake
 *	 could not be mended otherwise.
 *
 * What runs beneath the DDL of all users (hooks) must not fail because of it,
 * and DROP EXTENSION has to work in any state.  So these go by what the table
 * resembles, and do nothing if it resembles nothing.
 *
 * Tables that are only used in SQL, where columns go by their names, are not
 * in the list.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/extension.h"
#include "common/relation.h"
#include "table/binding_row.h"
#include "table/member.h"
#include "table/settings.h"
#include "table/subscription_settings.h"
#include "table/topic_settings.h"

typedef struct MemberColumn
{
	const char *name;
	Oid			type;
} MemberColumn;

typedef struct MemberForm
{
	const char *name;
	int			natts;
	const MemberColumn *columns;
} MemberForm;

/* In order of Anum_settings_xxx; "name_type" is that of what names a queue */
#define SETTINGS_COLUMNS(name_type) \
	{"queue", name_type}, \
	{"lease", INTERVALOID}, \
	{"max_attempts", INT4OID}, \
	{"retry_delay", INTERVALOID}, \
	{"retry_max_delay", INTERVALOID}, \
	{"dead_letter", name_type}, \
	{"own_dead_letter", BOOLOID}, \
	{"enqueue_paused", BOOLOID}, \
	{"dequeue_paused", BOOLOID}, \
	{"max_lease", INTERVALOID}, \
	{"expires_in", INTERVALOID}, \
	{"on_expiry", TEXTOID}, \
	{"group_mode", TEXTOID}, \
	{"group_failure", TEXTOID}, \
	{"dedup_window", INTERVALOID}, \
	{"max_messages", INT8OID}, \
	{"max_bytes", INT8OID}, \
	{"on_full", TEXTOID}, \
	{"max_in_flight", INT4OID}, \
	{"key_table", name_type}

static const MemberColumn queue_columns[] = {SETTINGS_COLUMNS(REGCLASSOID)};

static const MemberColumn restored_settings_columns[] = {SETTINGS_COLUMNS(TEXTOID)};

/* ... of Anum_log_xxx (lease.c) */
static const MemberColumn lease_log_columns[] = {
	{"seq", INT8OID},
	{"queue", OIDOID},
	{"id", INT8OID},
	{"enqueued_at", TIMESTAMPTZOID},
	{"epoch", INT8OID},
	{"number", INT8OID},
	{"deadline", TIMESTAMPTZOID},
	{"failures", INT4OID},
	{"group_hash", INT8OID},
	{"since", TIMESTAMPTZOID},
	{"role", OIDOID},
	{"application_name", VARCHAROID},
};

/* ... of Anum_deciding_xxx (branch.c) */
static const MemberColumn deciding_database_columns[] = {
	{"name", TEXTOID},
	{"participant", NAMEOID},
	{"coordinator", NAMEOID},
	{"owner", REGROLEOID},
	{"connection", TEXTOID},
	{"password_required", BOOLOID},
	{"registered_in", TEXTOID},
	{"identity", TEXTOID},
	{"last_error", TEXTOID},
};

static const MemberColumn outcome_columns[] = {
	{"branch", TEXTOID},
	{"outcome", TEXTOID},
	{"finished_by", NAMEOID},
	{"by_owner", BOOLOID},
	{"finished_at", TIMESTAMPTZOID},
	{"decision", TEXTOID},
};

static const MemberColumn committed_branch_columns[] = {
	{"branch", TEXTOID},
	{"owner", OIDOID},
	{"prepared_at", TIMESTAMPTZOID},
};

/* ... of Anum_topic_xxx */
#define TOPIC_COLUMNS(name_type) \
	{"topic", name_type}, \
	{"partitions", INT4OID}, \
	{"retention", INTERVALOID}, \
	{"max_bytes", INT8OID}, \
	{"keep_unread", BOOLOID}

static const MemberColumn topic_columns[] = {TOPIC_COLUMNS(REGCLASSOID)};

static const MemberColumn restored_topics_columns[] = {TOPIC_COLUMNS(TEXTOID)};

/* ... of Anum_note_xxx (note_row.c) */
static const MemberColumn prepared_note_columns[] = {
	{"relation", OIDOID},
	{"partition", INT2OID},
	{"first_id", INT8OID},
	{"last_id", INT8OID},
	{"messages", INT8OID},
	{"since", TIMESTAMPTZOID},
};

/* ... of Anum_stable_xxx (stable_id.c) */
static const MemberColumn topic_stable_columns[] = {
	{"topic", OIDOID},
	{"stable_id", INT8OID},
};

/* ... of Anum_removed_xxx (removed_id.c) */
static const MemberColumn topic_removed_columns[] = {
	{"topic", OIDOID},
	{"partition", INT2OID},
	{"removed_id", INT8OID},
};

/* ... of Anum_binding_xxx */
#define BINDING_COLUMNS(name_type) \
	{"topic", name_type}, \
	{"queue", name_type}, \
	{"pattern", TEXTOID}, \
	{"selector", JSONPATHOID}, \
	{"on_refusal", TEXTOID}, \
	{"bound_by", NAMEOID}

static const MemberColumn binding_columns[] = {BINDING_COLUMNS(REGCLASSOID)};

static const MemberColumn restored_bindings_columns[] = {BINDING_COLUMNS(TEXTOID)};

/* ... of Anum_subscription_xxx */
#define SUBSCRIPTION_COLUMNS(name_type) \
	{"subscription", name_type}, \
	{"topic", name_type}, \
	{"pattern", TEXTOID}, \
	{"selector", JSONPATHOID}, \
	{"on_failure", TEXTOID}, \
	{"on_gap", TEXTOID}, \
	{"idle_after", INTERVALOID}, \
	{"lease", INTERVALOID}, \
	{"max_attempts", INT4OID}, \
	{"retry_delay", INTERVALOID}, \
	{"retry_max_delay", INTERVALOID}, \
	{"dead_letter", name_type}, \
	{"own_dead_letter", BOOLOID}, \
	{"paused", BOOLOID}

static const MemberColumn subscription_columns[] = {SUBSCRIPTION_COLUMNS(REGCLASSOID)};

static const MemberColumn restored_subscriptions_columns[] = {SUBSCRIPTION_COLUMNS(TEXTOID)};

#define FORM(name) {#name, lengthof(name##_columns), name##_columns}

/* In order of MemberTable */
static const MemberForm forms[] = {
	FORM(queue),
	FORM(lease_log),
	FORM(deciding_database),
	FORM(outcome),
	FORM(restored_settings),
	FORM(committed_branch),
	FORM(topic),
	FORM(restored_topics),
	FORM(binding),
	FORM(restored_bindings),
	FORM(prepared_note),
	FORM(topic_stable),
	FORM(subscription),
	FORM(restored_subscriptions),
	FORM(topic_removed),
};

StaticAssertDecl(lengthof(forms) == NUM_MEMBER_TABLES, "member tables");
StaticAssertDecl(lengthof(topic_columns) == Natts_topic,
				 "columns of queue.topic");
StaticAssertDecl(lengthof(restored_topics_columns) == Natts_topic,
				 "columns of queue.restored_topics");

StaticAssertDecl(lengthof(binding_columns) == Natts_binding,
				 "columns of queue.binding");
StaticAssertDecl(lengthof(restored_bindings_columns) == Natts_binding,
				 "columns of queue.restored_bindings");

StaticAssertDecl(lengthof(subscription_columns) == Natts_subscription,
				 "columns of queue.subscription");
StaticAssertDecl(lengthof(restored_subscriptions_columns) == Natts_subscription,
				 "columns of queue.restored_subscriptions");

StaticAssertDecl(lengthof(queue_columns) == Natts_settings,
				 "columns of queue.queue");
StaticAssertDecl(lengthof(restored_settings_columns) == Natts_settings,
				 "columns of queue.restored_settings");

/*
 * The version was found to be the library's, and all tables as they should be;
 * and which tables these were
 */
static bool version_is_checked = false;
static bool tables_are_checked = false;
static Oid	checked_relids[lengthof(forms)];

static void forget_version(Datum arg, Oid relid);
static void check_version(void);
static char *extension_version(void);
static char *version_problem(const char *version);
static char *column_problem(Relation rel, MemberTable table, bool allows_more);


/*
 * queue_catalog_relid
 *		Return the OID of the table or index queue.<name>, InvalidOid if
 *		absent.
 */
Oid
queue_catalog_relid(const char *name)
{
	Oid			schema = get_namespace_oid(QUEUE_SCHEMA, true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/* Return the name of a table, without the schema. */
const char *
queue_member_name(MemberTable table)
{
	return forms[table].name;
}

/* Register the relcache callback; from _PG_init(), in every backend. */
void
queue_member_init(void)
{
	CacheRegisterRelcacheCallback(forget_version, (Datum) 0);
}

/* Relcache callback: check again after a change of one of these tables. */
static void
forget_version(Datum arg, Oid relid)
{
	for (int i = 0; i < lengthof(forms); i++)
	{
		if (!OidIsValid(relid) || relid == checked_relids[i])
			version_is_checked = tables_are_checked = false;
	}
}

/*
 * Raise 55000 unless the extension is of the version that this library is made
 * for.  After the first time that costs only a look at a flag.
 */
static void
check_version(void)
{
	char	   *version;

	if (version_is_checked)
		return;

	/* an invalidation from now on makes the next call look again */
	checked_relids[MEMBER_QUEUE] = queue_catalog_relid("queue");
	version_is_checked = OidIsValid(checked_relids[MEMBER_QUEUE]);
	version = extension_version();
	if (version_problem(version) != NULL)
	{
		version_is_checked = false;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" is of another version than its library",
						QUEUE_EXTENSION),
				 errdetail_internal("%s", version_problem(version)),
				 errhint("If the library is the older one, restart the server; if the extension is, run ALTER EXTENSION %s UPDATE.",
						 QUEUE_EXTENSION)));
	}
}

/*
 * queue_require_preload
 *		Raise 55000 unless the library is preloaded, and the extension is of
 *		its version.
 *
 * Every SQL function calls it before it looks at its arguments.
 */
void
queue_require_preload(void)
{
	queue_require_library();
	check_version();
}

/*
 * queue_member_version_changed
 *		ALTER EXTENSION has run: let all sessions look at the version again.
 */
void
queue_member_version_changed(void)
{
	Oid			relid = queue_catalog_relid("queue");

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

/* Return the version in pg_extension; NULL if the extension is not here. */
static char *
extension_version(void)
{
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(QUEUE_EXTENSION));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(catalog), &isnull);

		if (!isnull)
			version = TextDatumGetCString(datum);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return version;
}

/*
 * version_problem
 *		Return what is wrong with a version, as a sentence, or NULL.
 *
 * An absent extension has no wrong version.
 */
static char *
version_problem(const char *version)
{
	if (version == NULL || strcmp(version, QUEUE_VERSION) == 0)
		return NULL;
	return psprintf("The extension is of version %s, the library that the server has loaded is of version %s.",
					version, QUEUE_VERSION);
}

/*
 * queue_member_check
 *		Raise 55000 unless this open table has the columns that this library
 *		knows, and no others.
 */
void
queue_member_check(Relation rel, MemberTable table)
{
	char	   *problem = column_problem(rel, table, false);

	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" is not as the library knows it",
						QUEUE_SCHEMA, forms[table].name),
				 errdetail_internal("%s", problem),
				 errhint("Undo the change; or if a new release was installed, restart the server and run ALTER EXTENSION %s UPDATE.",
						 QUEUE_EXTENSION)));
}

/*
 * queue_member_resembles
 *		Returns true if this open table has those columns, whatever others
 *		follow them.
 */
bool
queue_member_resembles(Relation rel, MemberTable table)
{
	return column_problem(rel, table, true /* allows more */ ) == NULL;
}

/*
 * queue_member_problem
 *		Check the version and all tables; for the worker.
 *
 * Returns what is wrong, as a sentence, or NULL.  Waits for no lock: a table
 * that is locked is looked at again the next time.
 */
char *
queue_member_problem(void)
{
	char	   *problem;

	if (tables_are_checked)
		return NULL;

	/* an invalidation from now on makes the next call look again */
	for (int i = 0; i < lengthof(forms); i++)
		checked_relids[i] = queue_catalog_relid(forms[i].name);
	tables_are_checked = true;

	problem = version_problem(extension_version());
	for (int i = 0; problem == NULL && i < lengthof(forms); i++)
	{
		Oid			relid = checked_relids[i];
		Relation	rel = NULL;
		bool		is_locked;

		/* a DROP, or a lock on it, will be met elsewhere */
		if (OidIsValid(relid))
			rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
		if (rel == NULL)
		{
			tables_are_checked = false;
			continue;
		}
		problem = column_problem(rel, i, false);
		if (problem != NULL)
			problem = psprintf("Table \"%s.%s\" is not as the library knows it: %s",
							   QUEUE_SCHEMA, forms[i].name, problem);
		table_close(rel, AccessShareLock);
	}
	if (problem != NULL)
		tables_are_checked = false;
	return problem;
}

/* Return what is wrong with the columns, as a sentence; NULL if nothing is. */
static char *
column_problem(Relation rel, MemberTable table, bool allows_more)
{
	const MemberForm *form = &forms[table];
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		return pstrdup("It is not an ordinary table.");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (i >= form->natts)
		{
			if (!att->attisdropped && !allows_more)
				return psprintf("Column \"%s\" does not belong to it.",
								NameStr(att->attname));
		}
		else if (att->attisdropped ||
				 strcmp(NameStr(att->attname), form->columns[i].name) != 0)
			return psprintf("Its column number %d is not \"%s\".", i + 1,
							form->columns[i].name);
		else if (att->atttypid != form->columns[i].type)
			return psprintf("Column \"%s\" is of type %s instead of %s.",
							form->columns[i].name,
							format_type_be(att->atttypid),
							format_type_be(form->columns[i].type));
	}
	if (desc->natts < form->natts)
		return psprintf("Column \"%s\" is missing.",
						form->columns[desc->natts].name);
	return NULL;
}

/*
 * queue_member_form
 *		Form a row.
 *
 * The arrays have a place for each known column, here and below.  Columns that
 * were added behind them and dropped again stay NULL.
 */
HeapTuple
queue_member_form(Relation rel, MemberTable table, const Datum *values,
				  const bool *nulls)
{
	int			natts = RelationGetDescr(rel)->natts;
	Datum	   *all_values = palloc0(natts * sizeof(Datum));
	bool	   *all_nulls = palloc(natts * sizeof(bool));

	Assert(natts >= forms[table].natts);
	memset(all_nulls, true, natts * sizeof(bool));
	memcpy(all_values, values, forms[table].natts * sizeof(Datum));
	memcpy(all_nulls, nulls, forms[table].natts * sizeof(bool));
	return heap_form_tuple(RelationGetDescr(rel), all_values, all_nulls);
}

/* Form a row from another one, with some columns replaced. */
HeapTuple
queue_member_modify(Relation rel, MemberTable table, HeapTuple tuple,
					const Datum *values, const bool *nulls,
					const bool *replaces)
{
	int			natts = RelationGetDescr(rel)->natts;
	Datum	   *all_values = palloc0(natts * sizeof(Datum));
	bool	   *all_nulls = palloc0(natts * sizeof(bool));
	bool	   *all_replaces = palloc0(natts * sizeof(bool));

	Assert(natts >= forms[table].natts);
	memcpy(all_values, values, forms[table].natts * sizeof(Datum));
	memcpy(all_nulls, nulls, forms[table].natts * sizeof(bool));
	memcpy(all_replaces, replaces, forms[table].natts * sizeof(bool));
	return heap_modify_tuple(tuple, RelationGetDescr(rel), all_values,
							 all_nulls, all_replaces);
}

/* Read the columns of a row. */
void
queue_member_deform(Relation rel, MemberTable table, HeapTuple tuple,
					Datum *values, bool *nulls)
{
	Assert(RelationGetDescr(rel)->natts >= forms[table].natts);
	for (int i = 0; i < forms[table].natts; i++)
		values[i] = heap_getattr(tuple, i + 1, RelationGetDescr(rel),
								 &nulls[i]);
}

/*
 * queue_member_lock_creation
 *		CREATE EXTENSION: until this transaction has ended, keep workers from
 *		clearing away what memory has of an earlier extension.
 *
 * Waits for a worker that is doing so.
 */
void
queue_member_lock_creation(void)
{
	LockDatabaseObject(ExtensionRelationId, InvalidOid, 0, RowExclusiveLock);
}

/*
 * queue_member_lock_absence
 *		The worker's side of that, until its transaction ends.
 *
 * Returns false, without waiting, if the extension is being created.
 */
bool
queue_member_lock_absence(void)
{
	return ConditionalLockDatabaseObject(ExtensionRelationId, InvalidOid, 0,
										 ExclusiveLock);
}

/*-------------------------------------------------------------------------
 *
 * restore.c
 *		Settings that come out of a dump, by way of queue.restored_settings, and
 *		of queue.restored_topics.
 *
 * A dump has the settings of all queues in one COPY, by name, and COPY stores
 * all rows or none.  But whatever is wrong with one queue must cost its row
 * and no more: a table that was left out of the dump or of the restore, or
 * that another role owns.  A column of type regclass raises an error for a
 * name that no table has, before any trigger could see the row.  And the role
 * that restores a queue owns it, but may not write queue.queue.
 *
 * So what COPY means for queue.queue goes to queue.restored_settings instead.
 * That has the same columns, but with names as text, and all roles may INSERT.
 * It never has a row.  Its trigger looks the names up, and writes to
 * queue.queue by catalog functions what create_queue() and alter_queue() would
 * let the current user have: settings of a table that it owns, with valid
 * values, and a dead-letter queue that it may send to.  The rest is left out,
 * with a warning.  The table need not have its index and its triggers yet,
 * which a restore makes last; until then no call finds it to be a proper
 * queue.
 *
 * A row for a queue that has settings replaces them (data restored into queues
 * that exist), but what is paused stays so: nothing that was stopped on
 * purpose starts to run because of a restore.
 *
 * Topics, bindings and subscriptions have tables of that kind of their own.
 *
 * Locks: the table, against being dropped, then the row, as everywhere.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "api/key_ddl.h"
#include "api/restore.h"
#include "api/setting_args.h"
#include "api/topic_args.h"
#include "common/compat.h"
#include "common/extension.h"
#include "shared/topic_slot.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/settings.h"
#include "table/shape.h"
#include "table/topic_settings.h"
#include "transaction/announce.h"

/* Where COPY to a table of settings goes */
typedef struct Redirection
{
	MemberTable from;
	MemberTable to;
} Redirection;

static const Redirection redirections[] = {
	{MEMBER_QUEUE, MEMBER_RESTORED_SETTINGS},
	{MEMBER_TOPIC, MEMBER_RESTORED_TOPICS},
	{MEMBER_BINDING, MEMBER_RESTORED_BINDINGS},
	{MEMBER_SUBSCRIPTION, MEMBER_RESTORED_SUBSCRIPTIONS}
};

PG_FUNCTION_INFO_V1(queue_restore_settings);
PG_FUNCTION_INFO_V1(queue_restore_topics);

static const Redirection *find_redirection(const RangeVar *name);

static void restore_row(Oid relid, Relation catalog, Datum *values,
						bool *nulls);
static void keep_partitions(Relation catalog, HeapTuple old, Datum *values);
static void restore_key_table(Oid relid, const char *name, Datum *values,
							  bool *nulls);
static bool leads_back(Oid relid, Oid dead_letter);


/*
 * queue_restore_redirect
 *		Return the statement, or for a COPY to queue.queue one that goes to
 *		queue.restored_settings.
 *
 * For the ProcessUtility hook.  The statement given is not changed.
 */
PlannedStmt *
queue_restore_redirect(PlannedStmt *planned)
{
	CopyStmt   *stmt = (CopyStmt *) planned->utilityStmt;
	PlannedStmt *redirected;
	const Redirection *redirection;

	if (!IsA(stmt, CopyStmt) || !stmt->is_from || stmt->relation == NULL ||
		(redirection = find_redirection(stmt->relation)) == NULL)
		return planned;

	/* the statement may be kept and run again */
	stmt = copyObject(stmt);
	stmt->relation->schemaname = pstrdup(QUEUE_SCHEMA);
	stmt->relation->relname = pstrdup(queue_member_name(redirection->to));
	redirected = makeNode(PlannedStmt);
	*redirected = *planned;
	redirected->utilityStmt = (Node *) stmt;
	return redirected;
}

/* Return how a COPY to the table of this name is redirected, or NULL. */
static const Redirection *
find_redirection(const RangeVar *name)
{
	for (int i = 0; i < lengthof(redirections); i++)
	{
		const char *from = queue_member_name(redirections[i].from);
		Oid			relid;

		if (strcmp(name->relname, from) == 0 &&
			OidIsValid(relid = queue_catalog_relid(from)) &&
			RangeVarGetRelid(name, NoLock, true) == relid &&
			OidIsValid(queue_catalog_relid(queue_member_name(redirections[i].to))))
			return &redirections[i];
	}
	return NULL;
}

/*
 * Trigger on queue.restored_settings; nothing is ever stored there.
 */
Datum
queue_restore_settings(PG_FUNCTION_ARGS)
{
	Relation	catalog;
	Datum		values[Natts_settings];
	bool		nulls[Natts_settings];
	char	   *name;
	Oid			relid;

	queue_restore_read(fcinfo, MEMBER_RESTORED_SETTINGS, "queue_internal.restore_settings()",
					   values, nulls);
	catalog = queue_settings_open(RowExclusiveLock);
	name = TextDatumGetCString(values[Anum_settings_queue - 1]);
	relid = queue_restore_find(name);
	if (queue_restore_may_have_settings(relid, name, &queue_form))
	{
		int			column = Anum_settings_dead_letter - 1;

		/* 22023 for what alter_queue() would not take, and no dump has */
		queue_setting_args_check(values, nulls);
		values[Anum_settings_queue - 1] = ObjectIdGetDatum(relid);
		if (!nulls[column])
		{
			char	   *dead_name = TextDatumGetCString(values[column]);
			Oid			dead_letter = queue_restore_find(dead_name);

			values[column] = ObjectIdGetDatum(dead_letter);
			if (!queue_restore_may_have_dead_letter(&queue_form, relid, name,
													dead_letter, dead_name))
			{
				nulls[column] = true;
				values[Anum_settings_own_dead_letter - 1] =
					BoolGetDatum(false);
			}
		}
		restore_key_table(relid, name, values, nulls);
		restore_row(relid, catalog, values, nulls);
	}
	table_close(catalog, NoLock);
	return PointerGetDatum(NULL);
}

/*
 * queue_restore_read
 *		Read the row that such a trigger was given.
 */
void
queue_restore_read(FunctionCallInfo fcinfo, MemberTable table, const char *funcname,
				   Datum *values, bool *nulls)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc	desc;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		RelationGetRelid(data->tg_relation) !=
		queue_catalog_relid(queue_member_name(table)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" can only be called by its own triggers",
						funcname)));

	queue_member_check(data->tg_relation, table);
	queue_member_deform(data->tg_relation, table, data->tg_trigtuple, values,
						nulls);
	desc = RelationGetDescr(data->tg_relation);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attnotnull && !att->attisdropped && nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("%s must not be null", NameStr(att->attname))));
	}
}

/*
 * Trigger on queue.restored_topics; the same
 */
Datum
queue_restore_topics(PG_FUNCTION_ARGS)
{
	Relation	catalog;
	Datum		values[Natts_topic];
	bool		nulls[Natts_topic];
	char	   *name;
	Oid			relid;

	queue_restore_read(fcinfo, MEMBER_RESTORED_TOPICS, "queue_internal.restore_topics()", values,
					   nulls);
	catalog = queue_setting_open(MEMBER_TOPIC, RowExclusiveLock);
	name = TextDatumGetCString(values[Anum_topic_topic - 1]);
	relid = queue_restore_find(name);
	if (queue_restore_may_have_settings(relid, name, &queue_topic_form))
	{
		HeapTuple	old = queue_setting_lock(catalog, MEMBER_TOPIC, relid);
		HeapTuple	new;

		/* 22023 for what alter_topic() would not take, and no dump has */
		queue_topic_args_check(values, nulls);
		values[Anum_topic_topic - 1] = ObjectIdGetDatum(relid);
		keep_partitions(catalog, old, values);
		new = queue_member_form(catalog, MEMBER_TOPIC, values, nulls);
		if (old != NULL)
			CatalogTupleUpdate(catalog, &old->t_self, new);
		else
			CatalogTupleInsert(catalog, new);
		queue_def_invalidate(relid);
		queue_topic_slot_note_altered(relid);	/* its messages may be there */
		CommandCounterIncrement();
	}
	table_close(catalog, NoLock);
	return PointerGetDatum(NULL);
}

/*
 * keep_partitions
 *		Let a topic that exists have no fewer partitions than it has.
 *
 * It may have messages in any of them, and so may the dump.
 */
static void
keep_partitions(Relation catalog, HeapTuple old, Datum *values)
{
	const int	column = Anum_topic_partitions - 1;
	bool		isnull;
	int			partitions;

	if (old == NULL)
		return;
	partitions = DatumGetInt32(heap_getattr(old, Anum_topic_partitions,
											RelationGetDescr(catalog),
											&isnull));
	values[column] = Int32GetDatum(Max(partitions,
									   DatumGetInt32(values[column])));
}

/*
 * restore_key_table
 *		Find the key table by its name, and bind it to the queue.
 *
 * Without it the queue takes no keys, so that is worth a warning.
 */
static void
restore_key_table(Oid relid, const char *name, Datum *values, bool *nulls)
{
	const int	column = Anum_settings_key_table - 1;
	char	   *keys_name;
	Oid			keys;
	bool		has_window = !nulls[Anum_settings_dedup_window - 1];

	if (nulls[column])
		return;
	keys_name = TextDatumGetCString(values[column]);
	keys = queue_restore_find(keys_name);
	if (has_window && queue_key_table_may_serve(keys, relid))
	{
		queue_key_table_bind(keys, relid);
		values[column] = ObjectIdGetDatum(keys);
		return;
	}
	nulls[column] = true;
	if (has_window)
		ereport(WARNING,
				(errmsg("queue \"%s\" has lost the table of its keys", name),
				 errdetail("Table \"%s\" does not exist, has another owner, or is not a key table.",
						   keys_name),
				 errhint("Use queue.alter_queue(), argument dedup_window, to give it a new one.")));
}

/* Insert these settings, or replace those that there are. */
static void
restore_row(Oid relid, Relation catalog, Datum *values, bool *nulls)
{
	static const int pauses[] = {
		Anum_settings_enqueue_paused, Anum_settings_dequeue_paused
	};
	HeapTuple	old = queue_settings_lock(catalog, relid);
	HeapTuple	new;
	int			i;

	for (i = 0; i < lengthof(pauses) && old != NULL; i++)
	{
		bool		isnull;

		if (DatumGetBool(heap_getattr(old, pauses[i],
									  RelationGetDescr(catalog), &isnull)))
			values[pauses[i] - 1] = BoolGetDatum(true);
	}
	if (old != NULL && nulls[Anum_settings_key_table - 1] &&
		!nulls[Anum_settings_dedup_window - 1])
		values[Anum_settings_key_table - 1] =
			heap_getattr(old, Anum_settings_key_table,
						 RelationGetDescr(catalog),
						 &nulls[Anum_settings_key_table - 1]);
	new = queue_member_form(catalog, MEMBER_QUEUE, values, nulls);
	if (old != NULL)
	{
		CatalogTupleUpdate(catalog, &old->t_self, new);
		heap_freetuple(old);
	}
	else
		CatalogTupleInsert(catalog, new);
	heap_freetuple(new);
	queue_def_invalidate(relid);
	CommandCounterIncrement();
	queue_announce_all(relid);	/* its messages may be there */
}

/*
 * queue_restore_find
 *		Return the table of a name as regclass would take it, InvalidOid if
 *		there is none.
 *
 * Privileges on the schema are not asked for, because an error would be one
 * too many, and all roles may look into pg_class.  A number is what a dump has
 * of a table that was gone by then; here it could be any table, so it is none.
 */
Oid
queue_restore_find(const char *name)
{
	List	   *names;
	RangeVar   *rv;
	Oid			schema;

	if (strspn(name, "0123456789") == strlen(name))
		return InvalidOid;
	names = textToQualifiedNameList(cstring_to_text(name));
	if (list_length(names) > 2)
		return InvalidOid;
	rv = makeRangeVarFromNameList(names);
	if (rv->schemaname == NULL)
		return RelnameGetRelid(rv->relname);
	schema = get_namespace_oid(rv->schemaname, true);
	return OidIsValid(schema) ? get_relname_relid(rv->relname, schema) :
		InvalidOid;
}

/*
 * queue_restore_may_have_settings
 *		Returns true if the current user may give this table settings.
 *
 * The table is then locked to the end of the transaction.  The owner is
 * checked before locking, so that others cannot block it.
 */
bool
queue_restore_may_have_settings(Oid relid, const char *name,
								const TableForm *form)
{
	bool		exists = false;
	bool		resembles = false;

	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION)
	{
		Relation	rel;

		if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
		{
			ereport(WARNING,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("settings of %s \"%s\" are left out", form->noun,
							name),
					 errdetail("Only the owner of the table may restore them."),
					 errhint("As its owner, use %s to make it a %s again.",
							 form->maker, form->noun)));
			return false;
		}
		rel = try_table_open(relid, AccessShareLock);
		if (rel != NULL)
		{
			exists = true;
			resembles = queue_shape_resembles(relid, form);
			table_close(rel, NoLock);
		}
	}
	if (!resembles)
		ereport(WARNING,
				(errcode(!exists ? ERRCODE_UNDEFINED_TABLE :
						 ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("settings of %s \"%s\" are left out", form->noun,
						name),
				 !exists ? errdetail("There is no such table.") :
				 errdetail("That table does not have the columns of a %s.", form->noun),
				 !exists ? errhint("When it is restored, use %s to make it a %s again.", form->maker, form->noun) : 0));
	return resembles;
}

/*
 * queue_restore_may_have_dead_letter
 *		Returns true if the queue or subscription may have this dead-letter
 *		queue.
 *
 * Otherwise warns, because the settings are good without it.  The right to
 * send there may be restored later than the settings.
 */
bool
queue_restore_may_have_dead_letter(const TableForm *form, Oid relid,
								   const char *name, Oid dead_letter,
								   const char *dead_name)
{
	const char *problem = NULL;

	if (!OidIsValid(dead_letter) ||
		get_rel_relkind(dead_letter) != RELKIND_RELATION)
		problem = "There is no such table.";
	else if (leads_back(relid, dead_letter))
		problem = "It would lead back to the queue itself.";
	else if (pg_class_aclcheck(dead_letter, GetUserId(),
							   ACL_INSERT) != ACLCHECK_OK)
		problem = "There is no right to INSERT there, or not yet.";
	if (problem == NULL)
		return true;
	ereport(WARNING,
			(errmsg("%s \"%s\" has no dead-letter queue any more", form->noun,
					name),
			 errdetail("It was \"%s\".  %s", dead_name, problem),
			 errhint("Use %s, argument dead_letter, to give it one.",
					 form->changer)));
	return false;
}

/*
 * leads_back
 *		Returns true if dead letters sent there would come back to this queue.
 *
 * A loop that exists already ends the walk, too.
 */
static bool
leads_back(Oid relid, Oid dead_letter)
{
	List	   *seen = NIL;
	Oid			next = dead_letter;

	while (OidIsValid(next) && next != relid && !list_member_oid(seen, next))
	{
		seen = lappend_oid(seen, next);
		(void) queue_settings_exist(next, &next);
	}
	list_free(seen);
	return next == relid;
}

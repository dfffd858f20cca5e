/*-------------------------------------------------------------------------
 *
 * restore_binding.c
 *		Bindings that come out of a dump, by way of queue.restored_bindings.
 *
 * As settings do (restore.c): what bind() would let the current user have is
 * written to queue.binding, the rest is left out with a warning.  Privileges
 * are restored after data, so a role that only has TRIGGER on the topic may
 * have to bind again; whoever owns both, or is a superuser, need not.
 *
 * Locks: as bind(), the topic and then the queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "api/restore.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/binding_row.h"
#include "table/member.h"
#include "table/pattern.h"
#include "table/selector.h"
#include "table/shape.h"

PG_FUNCTION_INFO_V1(queue_restore_bindings);

static const char *problem_with(const BindingRow *row);
static const char *problem_with_table(Oid relid, const TableForm *form,
									  LOCKMODE lockmode);


/* Trigger on queue.restored_bindings; nothing is ever stored there. */
Datum
queue_restore_bindings(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_binding];
	bool		nulls[Natts_binding];
	char	   *topic;
	char	   *queue;
	BindingRow	row = {0};
	const char *problem;

	queue_restore_read(fcinfo, MEMBER_RESTORED_BINDINGS,
					   "queue_internal.restore_bindings()", values, nulls);
	topic = TextDatumGetCString(values[Anum_binding_topic - 1]);
	queue = TextDatumGetCString(values[Anum_binding_queue - 1]);
	row.topic = queue_restore_find(topic);
	row.queue = queue_restore_find(queue);
	row.pattern = TextDatumGetCString(values[Anum_binding_pattern - 1]);
	row.has_selector = !nulls[Anum_binding_selector - 1];
	row.selector = values[Anum_binding_selector - 1];
	row.fails =
		strcmp(TextDatumGetCString(values[Anum_binding_on_refusal - 1]),
			   BINDING_SKIPS) != 0;
	row.bound_by = superuser() ?
		NameStr(*DatumGetName(values[Anum_binding_bound_by - 1])) :
		GetUserNameFromId(GetUserId(), false);

	/* 22023 or 42704 for what bind() would not take, and no dump has */
	queue_pattern_free(queue_pattern_compile(row.pattern,
											 strlen(row.pattern)));
	if (row.has_selector)
		queue_selector_free(queue_selector_make(row.selector, false));

	problem = problem_with(&row);
	if (problem == NULL)
		queue_binding_put(&row);
	else
		ereport(WARNING,
				(errmsg("binding of queue \"%s\" to topic \"%s\" is left out",
						queue, topic),
				 errdetail_internal("%s", problem),
				 errhint("Use queue.bind() to make it again.")));
	return PointerGetDatum(NULL);
}

/*
 * problem_with
 *		Return why the current user may not make this binding, as a sentence,
 *		or NULL.
 *
 * Both tables are locked then.  They are judged by their columns, because their
 * settings, and what a restore makes last, may be still to come.
 */
static const char *
problem_with(const BindingRow *row)
{
	const char *problem;

	if (!OidIsValid(row->topic))
		return "There is no such topic.";
	if (!OidIsValid(row->queue))
		return "There is no such queue.";
	if (!object_ownercheck(RelationRelationId, row->queue, GetUserId()))
		return "Only the owner of the queue may restore it.";
	if (pg_class_aclcheck(row->topic, GetUserId(),
						  ACL_TRIGGER) != ACLCHECK_OK)
		return "There is no right to bind queues to the topic, or not yet.";
	problem = problem_with_table(row->topic, &queue_topic_form,
								 ShareRowExclusiveLock);
	if (problem == NULL)
		problem = problem_with_table(row->queue, &queue_form, AccessShareLock);
	return problem;
}

/* The same of one of them, which is locked unless it is gone */
static const char *
problem_with_table(Oid relid, const TableForm *form, LOCKMODE lockmode)
{
	Relation	rel = get_rel_relkind(relid) == RELKIND_RELATION ?
		try_table_open(relid, lockmode) : NULL;
	bool		resembles;

	if (rel == NULL)
		return psprintf("There is no such %s.", form->noun);
	resembles = queue_shape_resembles(relid, form);
	table_close(rel, NoLock);
	return resembles ? NULL :
		psprintf("Table \"%s\" does not have the columns of a %s.",
				 queue_shown_name(relid), form->noun);
}

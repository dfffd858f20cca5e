/*-------------------------------------------------------------------------
 *
 * shape.c
 *		The white list: what a table of ours may have, and what it must have.
 *
 * Messages are inserted, rewritten and deleted below the executor, by the
 * caller and by a worker that acts for every owner.  What the executor does
 * for a table (defaults, CHECK, row security, rules, triggers, foreign keys,
 * expressions and predicates of indexes) is not done there, and a user's
 * function must never run there.  So a queue table is exactly what
 * create_queue() made of it, plus things that need neither: comments, grants,
 * storage parameters, statistics targets, REPLICA IDENTITY FULL, and plain
 * non-unique indexes on plain columns with built-in operator classes
 * (index.c).  Everything that is not known to be harmless is refused.  The same
 * holds for topics and subscriptions; what differs is in form.c.
 *
 * The caller holds a lock on the table, at least AccessShareLock, which keeps
 * columns, rules and the like as they are.  Triggers and indexes may come and
 * go under such a lock; what is read here is what the relation cache had when
 * it was asked, and an invalidation makes the caller ask again.  No index is
 * opened, which would cost a lock each: the pg_index row tells enough, and an
 * index does not vanish while its table is locked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/compat.h"
#include "common/extension.h"
#include "common/relation_name.h"
#include "table/shape.h"

static char *first_rule(Oid relid);
static bool has_policy(Oid relid);
static bool has_expression_statistics(Relation rel);
static char *column_violation(Form_pg_attribute att, const QueueColumn *column);
static char *trigger_violation(Relation rel, const TableForm *form,
							   QueueShape *shape);
static char *constraint_problem(Oid oid);
static char *sequence_violation(Relation rel, const TableForm *form,
								QueueShape *shape);


/*
 * queue_shape_violation
 *		Return what a table has that none of its kind may have, or what it
 *		lacks of columns or primary key.
 *
 * That is a sentence for an error's detail (palloc'd), or NULL.  The table is
 * open and locked.  *shape tells what was found.
 */
char *
queue_shape_violation(Relation rel, const TableForm *form, QueueShape *shape)
{
	char	   *problem;

	memset(shape, 0, sizeof(*shape));

	problem = queue_shape_table_violation(rel);
	if (problem == NULL && !form->may_be_unlogged &&
		rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		problem = pstrdup("It is not logged.");
	if (problem == NULL)
		problem = queue_shape_columns_violation(rel, form);
	if (problem == NULL)
		problem = trigger_violation(rel, form, shape);
	if (problem == NULL)
		problem = queue_index_violation(rel, form, &shape->indexes);
	if (problem == NULL)
		problem = queue_shape_constraint_violation(RelationGetRelid(rel));
	if (problem == NULL)
		problem = sequence_violation(rel, form, shape);

	return problem;
}

/*
 * Return what is missing that the maker of such tables can add: the triggers,
 * the indexes but the primary key, the sequence.
 */
char *
queue_shape_missing(const TableForm *form, const QueueShape *shape)
{
	for (int i = 0; i < NUM_OWN_TRIGGERS; i++)
	{
		if (!shape->has_trigger[i])
			return psprintf("The trigger that calls queue.%s() is missing.",
							form->triggers[i].function);
	}
	for (int i = 0; i < form->nindexes; i++)
	{
		if (!OidIsValid(shape->indexes.own[i]))
			return psprintf("The partial index on %s is missing.",
							queue_index_columns(form, i));
	}
	if (form->id != InvalidAttrNumber && !OidIsValid(shape->sequence))
		return pstrdup("The sequence owned by column \"id\" is missing.");
	return NULL;
}

/*
 * Returns true if the table has all columns of its kind, whatever else it has.
 */
bool
queue_shape_resembles(Oid relid, const TableForm *form)
{
	for (int i = 0; i < form->natts; i++)
	{
		if (get_attnum(relid, form->columns[i].name) == InvalidAttrNumber)
			return false;
	}
	return true;
}

/*
 * queue_shape_check
 *		Raise 42809 with this problem, unless it is NULL.
 */
void
queue_shape_check(Oid relid, const TableForm *form, const char *problem)
{
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" cannot be used as a %s",
						queue_shown_name(relid), form->noun),
				 errdetail_internal("%s", problem),
				 form->id != InvalidAttrNumber ?
				 errhint("A %s table must stay as %s made it; undo the change, or move the messages to a new %s.",
						 form->noun, form->maker, form->noun) :
				 errhint("A %s table must stay as %s made it; undo the change, or make another %s.",
						 form->noun, form->maker, form->noun)));
}

/* Properties of the table as a whole */
char *
queue_shape_table_violation(Relation rel)
{
	Form_pg_class form = rel->rd_rel;
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	char	   *rule;

	if (form->relkind != RELKIND_RELATION)
		return pstrdup("It is not an ordinary table.");
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		return pstrdup("It is a temporary table.");
	if (form->relam != HEAP_TABLE_AM_OID)
		return pstrdup("Its table access method is not heap.");
	if (OidIsValid(form->reloftype))
		return pstrdup("It is a typed table.");
	if (form->relispartition)
		return pstrdup("It is a partition of another table.");
	if (has_superclass(RelationGetRelid(rel)))
		return pstrdup("It inherits from another table.");

	/* the flag stays set when the last child has gone */
	if (form->relhassubclass &&
		find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL)
		return pstrdup("Another table inherits from it.");

	if (form->relrowsecurity || form->relforcerowsecurity)
		return pstrdup("Row-level security is enabled on it.");
	if (has_policy(RelationGetRelid(rel)))
		return pstrdup("It has a row-level security policy.");
	if (has_expression_statistics(rel))
		return pstrdup("It has extended statistics on expressions.");
	if (form->relhasrules && (rule = first_rule(RelationGetRelid(rel))) != NULL)
		return psprintf("It has a rule \"%s\".", rule);
	if (constr != NULL && constr->num_check > 0)
		return psprintf("It has a check constraint \"%s\".",
						constr->check[0].ccname);
	if (form->relreplident != REPLICA_IDENTITY_DEFAULT &&
		form->relreplident != REPLICA_IDENTITY_FULL)
		return pstrdup("Its replica identity is neither DEFAULT nor FULL.");

	return NULL;
}

/*
 * Has it a policy?  One that is not in force would be as soon as it is
 * enabled.
 */
static bool
has_policy(Oid relid)
{
	Relation	catalog = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_policy_polrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, PolicyPolrelidPolnameIndexId, true,
							  NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* Has it statistics on expressions, where ANALYZE would run user functions? */
static bool
has_expression_statistics(Relation rel)
{
	ListCell   *lc;
	bool		found = false;

	foreach(lc, RelationGetStatExtList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(STATEXTOID,
											ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		if (!heap_attisnull(tuple, Anum_pg_statistic_ext_stxexprs, NULL))
			found = true;
		ReleaseSysCache(tuple);
	}
	return found;
}

/*
 * The name of a rule on this table, NULL if it has none.
 */
static char *
first_rule(Oid relid)
{
	Relation	catalog = table_open(RewriteRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	char	   *name = NULL;

	ScanKeyInit(&key, Anum_pg_rewrite_ev_class, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, RewriteRelRulenameIndexId,
							  true /* use the index */ , NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		name = pstrdup(NameStr(((Form_pg_rewrite) GETSTRUCT(tuple))->rulename));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	return name;
}

/*
 * The columns must be those of the list, in its order and without gaps,
 * because rows are formed and read by position.  A function that forms a row
 * fills in as many columns as the table has, because there may be dropped ones
 * behind these.
 */
char *
queue_shape_columns_violation(Relation rel, const TableForm *form)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		const QueueColumn *column;
		char	   *problem;

		/* it was added by mistake, and does no harm */
		if (i >= form->natts && att->attisdropped)
			continue;
		if (att->attisdropped)
			return psprintf("Its column number %d was dropped.", i + 1);
		if (i >= form->natts)
			return psprintf("Column \"%s\" does not belong to a %s.",
							NameStr(att->attname), form->noun);
		column = &form->columns[i];
		if (strcmp(NameStr(att->attname), column->name) != 0)
			return psprintf("Its column number %d is \"%s\" instead of \"%s\".",
							i + 1, NameStr(att->attname), column->name);

		problem = column_violation(att, column);
		if (problem != NULL)
			return problem;
		if (column->is_not_null && queue_column_may_have_nulls(desc, i))
			return psprintf("The NOT NULL constraint of column \"%s\" is not valid.",
							column->name);
	}
	if (desc->natts < form->natts)
		return psprintf("Column \"%s\" is missing.",
						form->columns[desc->natts].name);

	return NULL;
}

/*
 * One column, whose name is as it should be.
 */
static char *
column_violation(Form_pg_attribute att, const QueueColumn *column)
{
	if (att->atttypid != column->type)
		return psprintf("Column \"%s\" is of type %s instead of %s.",
						column->name, format_type_be(att->atttypid),
						format_type_be(column->type));
	if (att->atttypmod != -1)
		return psprintf("Column \"%s\" is of type %s instead of %s.",
						column->name,
						format_type_with_typemod(att->atttypid,
												 att->atttypmod),
						format_type_be(column->type));
	if (att->attnotnull && !column->is_not_null)
		return psprintf("Column \"%s\" is marked NOT NULL.", column->name);
	if (!att->attnotnull && column->is_not_null)
		return psprintf("Column \"%s\" is not marked NOT NULL.", column->name);
	if (att->attgenerated != '\0')
		return psprintf("Column \"%s\" is a generated column.", column->name);
	if (att->attidentity != '\0')
		return psprintf("Column \"%s\" is an identity column.", column->name);
	if (att->atthasdef)
		return psprintf("Column \"%s\" has a default.", column->name);
	if (OidIsValid(att->attcollation) &&
		att->attcollation != DEFAULT_COLLATION_OID)
		return psprintf("Column \"%s\" has a collation of its own.",
						column->name);

	return NULL;
}

/*
 * The two triggers of such a table are known by their functions, whatever their
 * names.  Foreign keys show as internal triggers on both of their tables.
 */
static char *
trigger_violation(Relation rel, const TableForm *form, QueueShape *shape)
{
	Oid			functions[NUM_OWN_TRIGGERS];
	TriggerDesc *triggers;

	if (rel->trigdesc == NULL)
		return NULL;

	/*
	 * A copy, because the look-ups below may accept invalidations and with
	 * them a new trigger list in place of this one.
	 */
	triggers = CopyTriggerDesc(rel->trigdesc);
	for (int i = 0; i < NUM_OWN_TRIGGERS; i++)
		functions[i] =
			queue_shape_trigger_function(form->triggers[i].function);

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		int16		type = TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE;
		bool	   *has_it = NULL;

		/* of a deferrable constraint, whose index will be found */
		if (trigger->tgfoid == F_UNIQUE_KEY_RECHECK)
			continue;
		if (RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_NONE)
			return psprintf("It takes part in a foreign key constraint \"%s\".",
							get_constraint_name(trigger->tgconstraint));

		for (int own = 0; own < NUM_OWN_TRIGGERS; own++)
		{
			if (trigger->tgfoid == functions[own])
			{
				has_it = &shape->has_trigger[own];
				type |= form->triggers[own].type;
			}
		}

		if (has_it == NULL || *has_it || trigger->tgtype != type ||
			trigger->tgqual != NULL || trigger->tgnattr != 0 ||
			trigger->tgnargs != 0)
			return psprintf("It has a trigger \"%s\".", trigger->tgname);

		/* a restore makes an ordinary trigger of one that fires always */
		if (trigger->tgenabled != TRIGGER_FIRES_ON_ORIGIN &&
			trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
			return psprintf("Its trigger \"%s\" is disabled.",
							trigger->tgname);
		if (trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN)
			shape->deaf_trigger = trigger->tgname;
		*has_it = true;
	}

	return NULL;
}

/*
 * What is left when triggers, indexes and columns are in order: a foreign key
 * of this table or to it that is NOT ENFORCED, which has no triggers, and what
 * later releases invent.
 */
char *
queue_shape_constraint_violation(Oid relid)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *problem = NULL;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2,
							  keys);
	while (problem == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		if (depend->classid == ConstraintRelationId)
			problem = constraint_problem(depend->objid);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return problem;
}

static char *
constraint_problem(Oid constraint)
{
	HeapTuple	tuple = SearchSysCache1(CONSTROID,
										ObjectIdGetDatum(constraint));
	Form_pg_constraint form;
	char	   *problem = NULL;

	/* just dropped: an invalidation makes the caller ask again */
	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	if (form->contype == CONSTRAINT_FOREIGN)
		problem = psprintf("It takes part in a foreign key constraint \"%s\".",
						   NameStr(form->conname));
	else if (form->contype != CONSTRAINT_PRIMARY &&
			 form->contype != CONSTRAINT_NOTNULL)
		problem = psprintf("It has a constraint \"%s\".",
						   NameStr(form->conname));
	ReleaseSysCache(tuple);
	return problem;
}

/*
 * Ids come from one sequence, found by its being owned by the column, so that
 * it may be renamed.
 */
static char *
sequence_violation(Relation rel, const TableForm *form, QueueShape *shape)
{
	List	   *sequences = getOwnedSequences(RelationGetRelid(rel));
	ListCell   *lc;

	/*
	 * the oldest first, which is the table's own, so that the other one is
	 * named
	 */
	list_sort(sequences, list_oid_cmp);
	foreach(lc, sequences)
	{
		Oid			sequence = lfirst_oid(lc);
		HeapTuple	tuple;
		Form_pg_sequence sequence_form;
		bool		is_proper;
		bool		is_cached;
		Oid			table;
		int32		column;

		if (!sequenceIsOwned(sequence, DEPENDENCY_AUTO, &table, &column) ||
			column != form->id || OidIsValid(shape->sequence))
			return psprintf("It owns a sequence \"%s\".",
							get_rel_name(sequence));

		tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for sequence %u", sequence);
		sequence_form = (Form_pg_sequence) GETSTRUCT(tuple);
		is_proper = sequence_form->seqtypid == INT8OID && sequence_form->seqincrement > 0 &&
			sequence_form->seqmin == 1 && sequence_form->seqmax == PG_INT64_MAX &&
			!sequence_form->seqcycle;
		is_cached = sequence_form->seqcache != 1;
		ReleaseSysCache(tuple);

		/* a crash would let its ids start over */
		if (get_rel_persistence(sequence) != RELPERSISTENCE_PERMANENT)
			return psprintf("Its sequence \"%s\" is not logged.",
							get_rel_name(sequence));
		if (!is_proper)
			return psprintf("Its sequence \"%s\" does not rise through all of bigint.",
							get_rel_name(sequence));
		/* sessions would keep ids that are behind those of others */
		if (is_cached)
			return psprintf("Its sequence \"%s\" has a cache.",
							get_rel_name(sequence));
		shape->sequence = sequence;
	}
	list_free(sequences);

	return NULL;
}

/*
 * Return the trigger function queue.<name>(), or InvalidOid.  It is looked up
 * without regard to privileges, because whether a table is a queue does not
 * depend on the user.
 */
Oid
queue_shape_trigger_function(const char *name)
{
	Oid			schema = get_namespace_oid(QUEUE_SCHEMA, true);
	oidvector  *no_arguments = buildoidvector(NULL, 0);
	Oid			function;

	function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
							   CStringGetDatum(name),
							   PointerGetDatum(no_arguments),
							   ObjectIdGetDatum(schema));
	pfree(no_arguments);

	return function;
}

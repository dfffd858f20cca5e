/*-------------------------------------------------------------------------
 *
 * guard.c
 *		DDL that would make a table of ours something else: refused before it
 *		begins.
 *
 * A table beyond the white list (shape.c) is no queue any more, and some ways
 * there have no way back.  So a statement that would add what a queue may not
 * have, or change what it must have, is refused before anything is locked or
 * changed.  This holds for all roles, superusers too.
 *
 * This is a help and not the fence.  It goes by the names in the statement, as
 * they are found without a lock, and knows statements, not what functions in C
 * do.  What it misses is found by the check that every call makes.  If the
 * user does not own the table, the server says so, where it asks for
 * ownership.
 *
 * A statement that only takes something away is let through.  It must be
 * possible to drop what must not be there, and "pg_restore --clean" drops
 * triggers, primary key and sequence before the table.  What a restore puts
 * back is let through in its form, because the restore may bring the settings
 * first.
 *
 * Locks: none.  Nearly all statements end at the switch, and most others at
 * the look whether the table is a queue or a topic.
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
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "api/guard.h"
#include "api/guard_table.h"
#include "common/compat.h"
#include "common/extension.h"
#include "common/relation_name.h"
#include "table/index.h"
#include "table/setting_row.h"
#include "table/shape.h"

/* For find(): ownership is needed */
#define OWNER_ONLY			0

/* A detail */
#define IDS_GO_ON			"The ids of a %s go on, because readers go by them."

/* A table that a statement names */
typedef struct Target
{
	Oid			relid;
	const TableForm *form;
} Target;

static bool find(RangeVar *name, AclMode needed, Target *target);
static bool find_by_sequence(Oid sequence, Target *target);
static void refuse(const Target *target, const char *detail);
static void refuse_that(const Target *target, const char *what);
static void check_alter_table(AlterTableStmt *stmt);
static void check_kin(AlterTableCmd *cmd);
static void check_new_table(CreateStmt *stmt);
static void check_references(List *constraints);
static void check_parent(RangeVar *parent);
static char *trigger_problem(const Target *target, CreateTrigStmt *stmt);
static bool has_other_trigger(Oid relid, Oid function, const char *name);
static char *index_problem(const Target *target, IndexStmt *stmt);
static bool is_user_opclass(Oid relid, IndexElem *elem, Oid access_method);
static bool owns_extension(const char *name);
static void check_member(AlterExtensionContentsStmt *stmt);
static void check_truncate(TruncateStmt *stmt);
static bool has_index(Oid relid);
static void check_statistics(CreateStatsStmt *stmt);
static void check_sequence(Oid sequence, List *options);
static void check_owned_by(Oid sequence, List *names);


/* Raise 42809 if the statement would take a queue beyond the white list. */
void
queue_guard_check(Node *stmt)
{
	Target		target;

	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			check_alter_table((AlterTableStmt *) stmt);
			break;
		case T_RenameStmt:
			{
				RenameStmt *rename = (RenameStmt *) stmt;

				/*
				 * everything is found by that name, and drops are noticed by
				 * it
				 */
				if (rename->renameType == OBJECT_SCHEMA &&
					strcmp(rename->subname, QUEUE_SCHEMA) == 0 &&
					owns_extension(QUEUE_EXTENSION))
					ereport(ERROR,
							(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							 errmsg("schema \"%s\" of extension \"%s\" cannot be renamed",
									QUEUE_SCHEMA, QUEUE_EXTENSION)));

				/* a wrong name may be corrected */
				if (rename->renameType == OBJECT_COLUMN &&
					find(rename->relation, OWNER_ONLY, &target) &&
					queue_form_column(target.form, rename->subname) != NULL)
					refuse(&target, psprintf("Column \"%s\" belongs to a %s.",
											 rename->subname,
											 target.form->noun));
				break;
			}
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			check_new_table((CreateStmt *) stmt);
			break;
		case T_CreateTrigStmt:
			if (find(((CreateTrigStmt *) stmt)->relation, ACL_TRIGGER, &target))
				refuse(&target, trigger_problem(&target, (CreateTrigStmt *) stmt));
			break;
		case T_RuleStmt:
			if (find(((RuleStmt *) stmt)->relation, OWNER_ONLY, &target))
				refuse_that(&target, "A %s has no rules.");
			break;
		case T_CreatePolicyStmt:
			if (find(((CreatePolicyStmt *) stmt)->table, OWNER_ONLY, &target))
				refuse_that(&target, "A %s has no row-level security policies.");
			break;
		case T_IndexStmt:
			if (find(((IndexStmt *) stmt)->relation, OWNER_ONLY, &target))
				refuse(&target, index_problem(&target, (IndexStmt *) stmt));
			break;
		case T_AlterExtensionContentsStmt:
			check_member((AlterExtensionContentsStmt *) stmt);
			break;
		case T_TruncateStmt:
			check_truncate((TruncateStmt *) stmt);
			break;
		case T_CreateStatsStmt:
			check_statistics((CreateStatsStmt *) stmt);
			break;
		case T_CreateSeqStmt:
			check_sequence(InvalidOid, ((CreateSeqStmt *) stmt)->options);
			break;
		case T_AlterSeqStmt:
			check_sequence(RangeVarGetRelid(((AlterSeqStmt *) stmt)->sequence,
											NoLock, true),
						   ((AlterSeqStmt *) stmt)->options);
			break;
		default:
			break;
	}
}

/*
 * find
 *		Find the queue or topic of this name; false if it is something else.
 *
 * Also false if the server is about to say that the user may not do this: it
 * has no privilege that is needed, on the table or one of its columns, or is
 * not the owner (OWNER_ONLY).
 */
static bool
find(RangeVar *name, AclMode needed, Target *target)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	Oid			user = GetUserId();

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
		return false;
	if (needed == OWNER_ONLY ?
		!object_ownercheck(RelationRelationId, relid, user) :
		(pg_class_aclcheck(relid, user, needed) != ACLCHECK_OK &&
		 pg_attribute_aclcheck_all(relid, user, needed,
								   ACLMASK_ANY) != ACLCHECK_OK))
		return false;
	target->relid = relid;
	target->form = queue_form_of(relid);
	return target->form != NULL;
}

/* Does the user own this extension?  If there is none the server says so. */
static bool
owns_extension(const char *name)
{
	Oid			extension = get_extension_oid(name, true);

	return OidIsValid(extension) &&
		object_ownercheck(ExtensionRelationId, extension, GetUserId());
}

/*
 * ALTER EXTENSION ... ADD: the rows of a member of an extension are not
 * dumped.
 */
static void
check_member(AlterExtensionContentsStmt *stmt)
{
	Target		target;

	if (stmt->action <= 0 || stmt->objtype != OBJECT_TABLE ||
		!owns_extension(stmt->extname))
		return;
	if (find(makeRangeVarFromNameList((List *) stmt->object), OWNER_ONLY,
			 &target))
		refuse_that(&target, "A %s is a member of no extension.");
}

/* Find the queue or topic that has this sequence. */
static bool
find_by_sequence(Oid sequence, Target *target)
{
	int32		attnum;

	if (!OidIsValid(sequence) ||
		get_rel_relkind(sequence) != RELKIND_SEQUENCE ||
		!sequenceIsOwned(sequence, DEPENDENCY_AUTO, &target->relid, &attnum) ||
		!object_ownercheck(RelationRelationId, target->relid, GetUserId()))
		return false;
	target->form = queue_form_of(target->relid);
	return target->form != NULL;
}

/* Raise the error, unless "detail" is NULL because nothing is wrong. */
static void
refuse(const Target *target, const char *detail)
{
	if (detail != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" cannot be changed in this way",
						target->form->noun,
						queue_shown_name(target->relid)),
				 errdetail_internal("%s", detail),
				 errhint("A %s table must stay as %s made it, but for comments, grants, storage parameters and plain indexes.",
						 target->form->noun, target->form->maker)));
}

/* The same with a detail that has a place for what kind of table it is */
static void
refuse_that(const Target *target, const char *what)
{
	refuse(target, psprintf(what, target->form->noun));
}

/* ----------------------------------------------------------------
 *		ALTER TABLE
 * ----------------------------------------------------------------
 */

static void
check_alter_table(AlterTableStmt *stmt)
{
	Target		target;
	Target		counted;
	bool		is_ours = find(stmt->relation, OWNER_ONLY, &target);
	bool		is_counting = find_by_sequence(RangeVarGetRelid(stmt->relation,
																NoLock, true),
											   &counted);
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (is_ours)
			refuse(&target, queue_guard_command(target.form, target.relid,
												cmd));

		/* ALTER SEQUENCE ... SET UNLOGGED is such a statement, too */
		if (is_counting && cmd->subtype == AT_SetUnLogged)
			refuse_that(&counted, "The sequence of a %s is logged.");
		check_kin(cmd);
	}
}

/* Does a command, on whatever table, relate that table to a queue? */
static void
check_kin(AlterTableCmd *cmd)
{
	Target		target;

	switch (cmd->subtype)
	{
		case AT_AddColumn:
			check_references(((ColumnDef *) cmd->def)->constraints);
			break;
		case AT_AddConstraint:
			check_references(list_make1(cmd->def));
			break;
		case AT_AddInherit:
			check_parent((RangeVar *) cmd->def);
			break;
		case AT_AttachPartition:
			if (find(((PartitionCmd *) cmd->def)->name, OWNER_ONLY, &target))
				refuse_that(&target, "A %s is no partition of another table.");
			break;
		default:
			break;
	}
}

/* ----------------------------------------------------------------
 *		Other tables
 * ----------------------------------------------------------------
 */

static void
check_new_table(CreateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->inhRelations)
		check_parent(lfirst_node(RangeVar, lc));
	foreach(lc, stmt->tableElts)
	{
		Node	   *element = lfirst(lc);

		if (IsA(element, ColumnDef))
			check_references(((ColumnDef *) element)->constraints);
		else if (IsA(element, Constraint))
			check_references(list_make1(element));
	}
	check_references(stmt->constraints);
}

/* Is a foreign key to a queue among the constraints? */
static void
check_references(List *constraints)
{
	ListCell   *lc;

	foreach(lc, constraints)
	{
		Constraint *constraint = lfirst(lc);
		Target		target;

		if (IsA(constraint, Constraint) &&
			constraint->contype == CONSTR_FOREIGN &&
			find(constraint->pktable, ACL_REFERENCES, &target))
			refuse(&target, "No foreign key can reference messages, which come and go.");
	}
}

static void
check_parent(RangeVar *parent)
{
	Target		target;

	if (find(parent, OWNER_ONLY, &target))
		refuse_that(&target, "No table can inherit from a %s.");
}

/* ----------------------------------------------------------------
 *		Triggers, indexes, statistics, sequences
 * ----------------------------------------------------------------
 */

/*
 * Return what a new trigger makes wrong, or NULL; a restore puts back the two
 * that such a table has.
 */
static char *
trigger_problem(const Target *target, CreateTrigStmt *stmt)
{
	Oid			function = LookupFuncName(stmt->funcname, 0, NULL, true);
	int16		event = 0;

	for (int i = 0; OidIsValid(function) && i < NUM_OWN_TRIGGERS; i++)
	{
		const OwnTriggerForm *own = &target->form->triggers[i];

		if (function == queue_shape_trigger_function(own->function))
			event = own->type;
	}
	if (event != 0 && stmt->events == event && stmt->row &&
		stmt->timing == TRIGGER_TYPE_BEFORE && !stmt->isconstraint &&
		stmt->whenClause == NULL && stmt->columns == NIL &&
		stmt->args == NIL && !has_other_trigger(target->relid, function,
												stmt->trigname))
		return NULL;
	return psprintf("A %s has no triggers but its own two.",
					target->form->noun);
}

/* Does another trigger of the table have this function already? */
static bool
has_other_trigger(Oid relid, Oid function, const char *name)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1,
							  &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		found |= form->tgfoid == function &&
			strcmp(NameStr(form->tgname), name) != 0;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* The same for a new index */
static char *
index_problem(const Target *target, IndexStmt *stmt)
{
	const char *noun = target->form->noun;
	Oid			access_method = get_am_oid(stmt->accessMethod, true);
	ListCell   *lc;

	/* that of a new table's constraint, so the table is not ours */
	if (stmt->isconstraint)
		return NULL;
	if (stmt->unique)
		return psprintf("An index on a %s is not unique.", noun);
	if (stmt->whereClause != NULL && !queue_index_is_own(target->form, stmt))
		return psprintf("An index on a %s is not partial.", noun);
	foreach(lc, stmt->indexParams)
	{
		IndexElem  *elem = lfirst_node(IndexElem, lc);

		if (elem->expr != NULL)
			return psprintf("An index on a %s has no expressions.", noun);
		if (OidIsValid(access_method) &&
			is_user_opclass(target->relid, elem, access_method))
			return psprintf("An index on a %s uses built-in operator classes.", noun);
	}
	return NULL;
}

/*
 * Is the operator class not built in?  What does not exist the server reports.
 */
static bool
is_user_opclass(Oid relid, IndexElem *elem, Oid access_method)
{
	AttrNumber	attnum = get_attnum(relid, elem->name);
	Oid			opclass;

	if (elem->opclass != NIL)
		opclass = get_opclass_oid(access_method, elem->opclass, true);
	else if (attnum != InvalidAttrNumber)
		opclass = GetDefaultOpClass(get_atttype(relid, attnum),
									access_method);
	else
		return false;
	return OidIsValid(opclass) && opclass >= FirstNormalObjectId;
}

/*
 * TRUNCATE: not of what is nothing without its rows; nor, where ids go on for
 * ever, with RESTART IDENTITY.
 *
 * pg_restore truncates tables before it fills them, and makes their indexes
 * later.
 */
static void
check_truncate(TruncateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
	{
		Target		target;

		if (!find(lfirst_node(RangeVar, lc), ACL_TRUNCATE, &target))
			continue;
		if (stmt->restart_seqs && target.form->id != InvalidAttrNumber &&
			!target.form->ids_may_restart)
			refuse_that(&target, IDS_GO_ON);
		if (!target.form->may_be_truncated && has_index(target.relid))
			refuse_that(&target, "The rows of a %s stay.");
	}
}

/* Does the table have an index? */
static bool
has_index(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_class) GETSTRUCT(tuple))->relhasindex;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * CREATE STATISTICS: not on expressions, because ANALYZE would evaluate them
 */
static void
check_statistics(CreateStatsStmt *stmt)
{
	bool		has_expression = false;
	ListCell   *lc;

	foreach(lc, stmt->exprs)
		has_expression |= lfirst_node(StatsElem, lc)->expr != NULL;
	if (!has_expression)
		return;
	foreach(lc, stmt->relations)
	{
		Target		target;

		if (IsA(lfirst(lc), RangeVar) &&
			find(lfirst(lc), OWNER_ONLY, &target))
			refuse_that(&target, "A %s has no statistics on expressions.");
	}
}

/*
 * The sequence of a queue rises through all of bigint and has no cache; it may
 * go on elsewhere (RESTART), that of a topic may not.
 */
static void
check_sequence(Oid sequence, List *options)
{
	Target		target;
	bool		is_ours = find_by_sequence(sequence, &target);
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		const char *name = option->defname;

		if (strcmp(name, "owned_by") == 0)
			check_owned_by(sequence, castNode(List, option->arg));
		if (!is_ours)
			continue;
		if (strcmp(name, "restart") == 0 && !target.form->ids_may_restart)
			refuse_that(&target, IDS_GO_ON);
		if (strcmp(name, "cache") == 0 && defGetInt64(option) != 1)
			refuse_that(&target, "The sequence of a %s has no cache.");
		if ((strcmp(name, "as") == 0 &&
			 typenameTypeId(NULL, defGetTypeName(option)) != INT8OID) ||
			(strcmp(name, "increment") == 0 && defGetInt64(option) <= 0) ||
			(strcmp(name, "minvalue") == 0 && option->arg != NULL &&
			 defGetInt64(option) != 1) ||
			(strcmp(name, "maxvalue") == 0 && option->arg != NULL &&
			 defGetInt64(option) != PG_INT64_MAX) ||
			(strcmp(name, "cycle") == 0 && boolVal(option->arg)))
			refuse_that(&target, "The sequence of a %s rises through all of bigint.");
	}
}

/* OWNED BY table.column: a queue has one sequence, owned by its id */
static void
check_owned_by(Oid sequence, List *names)
{
	char	   *column = strVal(llast(names));
	List	   *owned;
	Target		target;

	if (list_length(names) == 1)
		return;					/* NONE */
	if (!find(makeRangeVarFromNameList(list_truncate(list_copy(names),
													 list_length(names) - 1)),
			  OWNER_ONLY, &target))
		return;
	if (target.form->id == InvalidAttrNumber)
		refuse_that(&target, "A %s has no sequence.");
	owned = getOwnedSequences(target.relid);
	if (strcmp(column, "id") != 0 ||
		(owned != NIL && !list_member_oid(owned, sequence)))
		refuse_that(&target, "A %s has one sequence, which belongs to column \"id\".");
}

/*-------------------------------------------------------------------------
 *
 * guard.c
 *		DDL that would make a queue something else: refused before it begins.
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
 * the look whether the table is a queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
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
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "api/guard.h"
#include "common/compat.h"
#include "common/extension.h"
#include "table/column.h"
#include "table/index.h"
#include "table/settings.h"
#include "table/shape.h"

/* For queue_of(): ownership is needed */
#define OWNER_ONLY			0

static Oid	queue_of(RangeVar *name, AclMode needed);
static Oid	queue_of_sequence(Oid sequence);
static void refuse(Oid relid, const char *detail);
static void check_alter_table(AlterTableStmt *stmt);
static char *command_problem(Oid relid, AlterTableCmd *cmd);
static char *column_problem(Oid relid, AlterTableCmd *cmd);
static char *type_problem(const QueueColumn *column, ColumnDef *def);
static char *constraint_problem(Constraint *constraint);
static bool has_pkey_form(Constraint *constraint);
static void check_kin(AlterTableCmd *cmd);
static void check_new_table(CreateStmt *stmt);
static void check_references(List *constraints);
static void check_parent(RangeVar *parent);
static char *trigger_problem(Oid relid, CreateTrigStmt *stmt);
static bool has_other_trigger(Oid relid, Oid function, const char *name);
static char *index_problem(Oid relid, IndexStmt *stmt);
static bool is_user_opclass(Oid relid, IndexElem *elem, Oid access_method);
static bool owns_extension(const char *name);
static void check_member(AlterExtensionContentsStmt *stmt);
static void check_statistics(CreateStatsStmt *stmt);
static void check_sequence(Oid sequence, List *options);
static void check_owned_by(Oid sequence, List *names);


/* Raise 42809 if the statement would take a queue beyond the white list. */
void
queue_guard_check(Node *stmt)
{
	Oid			relid;

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
					queue_column_named(rename->subname) != NULL &&
					OidIsValid(relid = queue_of(rename->relation, OWNER_ONLY)))
					refuse(relid, psprintf("Column \"%s\" belongs to a queue.",
										   rename->subname));
				break;
			}
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			check_new_table((CreateStmt *) stmt);
			break;
		case T_CreateTrigStmt:
			relid = queue_of(((CreateTrigStmt *) stmt)->relation, ACL_TRIGGER);
			if (OidIsValid(relid))
				refuse(relid, trigger_problem(relid, (CreateTrigStmt *) stmt));
			break;
		case T_RuleStmt:
			relid = queue_of(((RuleStmt *) stmt)->relation, OWNER_ONLY);
			if (OidIsValid(relid))
				refuse(relid, "A queue has no rules.");
			break;
		case T_CreatePolicyStmt:
			relid = queue_of(((CreatePolicyStmt *) stmt)->table, OWNER_ONLY);
			if (OidIsValid(relid))
				refuse(relid, "A queue has no row-level security policies.");
			break;
		case T_IndexStmt:
			relid = queue_of(((IndexStmt *) stmt)->relation, OWNER_ONLY);
			if (OidIsValid(relid))
				refuse(relid, index_problem(relid, (IndexStmt *) stmt));
			break;
		case T_AlterExtensionContentsStmt:
			check_member((AlterExtensionContentsStmt *) stmt);
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
 * queue_of
 *		Return the queue of this name, InvalidOid if it is something else.
 *
 * Also InvalidOid if the server is about to say that the user may not do this:
 * it has no privilege that is needed, on the table or one of its columns, or
 * is not the owner (OWNER_ONLY).
 */
static Oid
queue_of(RangeVar *name, AclMode needed)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	Oid			user = GetUserId();

	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
		return InvalidOid;
	if (needed == OWNER_ONLY ?
		!object_ownercheck(RelationRelationId, relid, user) :
		(pg_class_aclcheck(relid, user, needed) != ACLCHECK_OK &&
		 pg_attribute_aclcheck_all(relid, user, needed,
								   ACLMASK_ANY) != ACLCHECK_OK))
		return InvalidOid;
	return queue_settings_exist(relid, NULL) ? relid : InvalidOid;
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
	Oid			relid;

	if (stmt->action <= 0 || stmt->objtype != OBJECT_TABLE ||
		!owns_extension(stmt->extname))
		return;
	relid = queue_of(makeRangeVarFromNameList((List *) stmt->object),
					 OWNER_ONLY);
	if (OidIsValid(relid))
		refuse(relid, "A queue is a member of no extension.");
}

/* Return the queue that has this sequence, or InvalidOid. */
static Oid
queue_of_sequence(Oid sequence)
{
	Oid			relid;
	int32		attnum;

	if (!OidIsValid(sequence) ||
		get_rel_relkind(sequence) != RELKIND_SEQUENCE ||
		!sequenceIsOwned(sequence, DEPENDENCY_AUTO, &relid, &attnum) ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		!queue_settings_exist(relid, NULL))
		return InvalidOid;
	return relid;
}

/* Raise the error, unless "detail" is NULL because nothing is wrong. */
static void
refuse(Oid relid, const char *detail)
{
	if (detail != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("queue \"%s\" cannot be changed in this way",
						queue_qualified_name(relid)),
				 errdetail_internal("%s", detail),
				 errhint("A queue table must stay as queue.create_queue() made it, but for comments, grants, storage parameters and plain indexes.")));
}

/* ----------------------------------------------------------------
 *		ALTER TABLE
 * ----------------------------------------------------------------
 */

static void
check_alter_table(AlterTableStmt *stmt)
{
	Oid			relid = queue_of(stmt->relation, OWNER_ONLY);
	Oid			counted = queue_of_sequence(RangeVarGetRelid(stmt->relation,
															 NoLock, true));
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (OidIsValid(relid))
			refuse(relid, command_problem(relid, cmd));

		/* ALTER SEQUENCE ... SET UNLOGGED is such a statement, too */
		if (OidIsValid(counted) && cmd->subtype == AT_SetUnLogged)
			refuse(counted, "The sequence of a queue is logged.");
		check_kin(cmd);
	}
}

/* What this command makes wrong, or NULL; an unknown one is refused. */
static char *
command_problem(Oid relid, AlterTableCmd *cmd)
{
	switch (cmd->subtype)
	{
		case AT_AddColumn:
		case AT_DropColumn:
		case AT_AlterColumnType:
		case AT_ColumnDefault:
		case AT_DropNotNull:
		case AT_SetNotNull:
			return column_problem(relid, cmd);

		case AT_AddConstraint:
			return constraint_problem((Constraint *) cmd->def);

		case AT_SetAccessMethod:
			/* no name: the default, from 17 on */
			return strcmp(cmd->name != NULL ? cmd->name :
						  default_table_access_method, "heap") == 0 ? NULL :
				pstrdup("The access method of a queue is heap.");

		case AT_ReplicaIdentity:
			switch (((ReplicaIdentityStmt *) cmd->def)->identity_type)
			{
				case REPLICA_IDENTITY_DEFAULT:
				case REPLICA_IDENTITY_FULL:
					return NULL;
				default:
					return pstrdup("The replica identity of a queue is DEFAULT or FULL.");
			}

		case AT_EnableRowSecurity:
		case AT_ForceRowSecurity:
			return pstrdup("A queue has no row-level security.");

		case AT_AddInherit:
			return pstrdup("A queue inherits from no table.");
		case AT_AddOf:
			return pstrdup("A queue is no typed table.");
		case AT_AddIdentity:
		case AT_SetIdentity:
			return pstrdup("A queue has no identity columns.");

			/* neither adds anything nor changes what a queue must have */
		case AT_SetStatistics:
		case AT_SetOptions:
		case AT_ResetOptions:
		case AT_SetStorage:
		case AT_SetCompression:
		case AT_ChangeOwner:
		case AT_ClusterOn:
		case AT_DropCluster:
		case AT_SetLogged:
		case AT_SetUnLogged:
		case AT_SetTableSpace:
		case AT_SetRelOptions:
		case AT_ResetRelOptions:
		case AT_ReplaceRelOptions:

			/* what a restore does around its data */
		case AT_EnableTrig:
		case AT_EnableAlwaysTrig:
		case AT_EnableReplicaTrig:
		case AT_DisableTrig:
		case AT_EnableTrigAll:
		case AT_DisableTrigAll:
		case AT_EnableTrigUser:
		case AT_DisableTrigUser:

			/* takes away, or is about what must not be there */
		case AT_DropConstraint:
		case AT_AlterConstraint:
		case AT_ValidateConstraint:
		case AT_DropExpression:
		case AT_DropIdentity:
		case AT_DropInherit:
		case AT_DropOf:
		case AT_DisableRowSecurity:
		case AT_NoForceRowSecurity:
		case AT_EnableRule:
		case AT_EnableAlwaysRule:
		case AT_EnableReplicaRule:
		case AT_DisableRule:
			return NULL;

		default:
			return pstrdup("A queue stays as it is.");
	}
}

/* The same for what is done to a column */
static char *
column_problem(Oid relid, AlterTableCmd *cmd)
{
	char	   *name = cmd->subtype == AT_AddColumn ?
		((ColumnDef *) cmd->def)->colname : cmd->name;
	const QueueColumn *column = queue_column_named(name);

	if (cmd->subtype == AT_AddColumn)
	{
		if (cmd->missing_ok &&
			get_attnum(relid, name) != InvalidAttrNumber)
			return NULL;
		return psprintf("Column \"%s\" does not belong to a queue.", name);
	}

	/* what is done to another column does not matter */
	if (column == NULL)
		return NULL;
	switch (cmd->subtype)
	{
		case AT_DropColumn:
			return psprintf("Column \"%s\" belongs to a queue.", name);
		case AT_AlterColumnType:
			return type_problem(column, (ColumnDef *) cmd->def);
		case AT_ColumnDefault:
			return cmd->def == NULL ? NULL :
				psprintf("Column \"%s\" of a queue has no default.", name);
		case AT_DropNotNull:
			return !column->is_not_null ? NULL :
				psprintf("Column \"%s\" of a queue is NOT NULL.", name);
		default:
			return column->is_not_null ? NULL :
				psprintf("Column \"%s\" of a queue may be NULL.", name);
	}
}

/* The same for a new type; a wrong one may be corrected. */
static char *
type_problem(const QueueColumn *column, ColumnDef *def)
{
	Oid			new_type;
	int32		typmod;

	typenameTypeIdAndMod(NULL, def->typeName, &new_type, &typmod);
	if (new_type == column->type && typmod == -1 &&
		(def->collClause == NULL ||
		 get_collation_oid(def->collClause->collname,
						   false) == DEFAULT_COLLATION_OID))
		return NULL;
	return psprintf("Column \"%s\" of a queue is of type %s, without a collation of its own.",
					column->name, format_type_be(column->type));
}

static char *
constraint_problem(Constraint *constraint)
{
	/* of an existing index, the check of the table knows the columns */
	if (constraint->contype == CONSTR_PRIMARY &&
		!constraint->deferrable &&
		(constraint->indexname != NULL || has_pkey_form(constraint)))
		return NULL;
	return pstrdup("A queue has no constraint but its primary key, which is on (priority, id) alone and not deferrable.");
}

static bool
has_pkey_form(Constraint *constraint)
{
	return list_length(constraint->keys) == 2 &&
		strcmp(strVal(linitial(constraint->keys)), "priority") == 0 &&
		strcmp(strVal(lsecond(constraint->keys)), "id") == 0 &&
		constraint->including == NIL;
}

/* Does a command, on whatever table, relate that table to a queue? */
static void
check_kin(AlterTableCmd *cmd)
{
	Oid			relid;

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
			relid = queue_of(((PartitionCmd *) cmd->def)->name, OWNER_ONLY);
			if (OidIsValid(relid))
				refuse(relid, "A queue is no partition of another table.");
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
		Oid			relid;

		if (!IsA(constraint, Constraint) ||
			constraint->contype != CONSTR_FOREIGN)
			continue;
		relid = queue_of(constraint->pktable, ACL_REFERENCES);
		if (OidIsValid(relid))
			refuse(relid, "No foreign key can reference messages, which come and go.");
	}
}

static void
check_parent(RangeVar *parent)
{
	Oid			relid = queue_of(parent, OWNER_ONLY);

	if (OidIsValid(relid))
		refuse(relid, "No table can inherit from a queue.");
}

/* ----------------------------------------------------------------
 *		Triggers, indexes, statistics, sequences
 * ----------------------------------------------------------------
 */

/* The same for a new trigger; a restore puts back the two of a queue. */
static char *
trigger_problem(Oid relid, CreateTrigStmt *stmt)
{
	Oid			function = LookupFuncName(stmt->funcname, 0, NULL, true);
	int16		event = 0;

	if (OidIsValid(function))
	{
		if (function == queue_shape_trigger_function("before_insert"))
			event = TRIGGER_TYPE_INSERT;
		else if (function == queue_shape_trigger_function("before_update"))
			event = TRIGGER_TYPE_UPDATE;
	}
	if (event != 0 && stmt->events == event && stmt->row &&
		stmt->timing == TRIGGER_TYPE_BEFORE && !stmt->isconstraint &&
		stmt->whenClause == NULL && stmt->columns == NIL &&
		stmt->args == NIL && !has_other_trigger(relid, function,
												stmt->trigname))
		return NULL;
	return pstrdup("A queue has no triggers but its own two.");
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
index_problem(Oid relid, IndexStmt *stmt)
{
	Oid			access_method = get_am_oid(stmt->accessMethod, true);
	ListCell   *lc;

	/* that of a new table's constraint, so the table is no queue */
	if (stmt->isconstraint)
		return NULL;
	if (stmt->unique)
		return pstrdup("An index on a queue is not unique.");
	if (stmt->whereClause != NULL && !queue_index_is_own(stmt))
		return pstrdup("An index on a queue is not partial.");
	foreach(lc, stmt->indexParams)
	{
		IndexElem  *elem = lfirst_node(IndexElem, lc);

		if (elem->expr != NULL)
			return pstrdup("An index on a queue has no expressions.");
		if (OidIsValid(access_method) &&
			is_user_opclass(relid, elem, access_method))
			return pstrdup("An index on a queue uses built-in operator classes.");
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
		Oid			relid = IsA(lfirst(lc), RangeVar) ?
			queue_of(lfirst(lc), OWNER_ONLY) : InvalidOid;

		if (OidIsValid(relid))
			refuse(relid, "A queue has no statistics on expressions.");
	}
}

/*
 * The sequence of a queue rises through all of bigint and has no cache; it may
 * go on elsewhere (RESTART).
 */
static void
check_sequence(Oid sequence, List *options)
{
	Oid			relid = queue_of_sequence(sequence);
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);
		const char *name = option->defname;

		if (strcmp(name, "owned_by") == 0)
			check_owned_by(sequence, castNode(List, option->arg));
		if (!OidIsValid(relid))
			continue;
		if (strcmp(name, "cache") == 0 && defGetInt64(option) != 1)
			refuse(relid, "The sequence of a queue has no cache.");
		if ((strcmp(name, "as") == 0 &&
			 typenameTypeId(NULL, defGetTypeName(option)) != INT8OID) ||
			(strcmp(name, "increment") == 0 && defGetInt64(option) <= 0) ||
			(strcmp(name, "minvalue") == 0 && option->arg != NULL &&
			 defGetInt64(option) != 1) ||
			(strcmp(name, "maxvalue") == 0 && option->arg != NULL &&
			 defGetInt64(option) != PG_INT64_MAX) ||
			(strcmp(name, "cycle") == 0 && boolVal(option->arg)))
			refuse(relid, "The sequence of a queue rises through all of bigint.");
	}
}

/* OWNED BY table.column: a queue has one sequence, owned by its id */
static void
check_owned_by(Oid sequence, List *names)
{
	char	   *column = strVal(llast(names));
	List	   *owned;
	Oid			relid;

	if (list_length(names) == 1)
		return;					/* NONE */
	relid = queue_of(makeRangeVarFromNameList(list_truncate(list_copy(names),
															list_length(names) - 1)),
					 OWNER_ONLY);
	if (!OidIsValid(relid))
		return;
	owned = getOwnedSequences(relid);
	if (strcmp(column, "id") != 0 ||
		(owned != NIL && !list_member_oid(owned, sequence)))
		refuse(relid, "A queue has one sequence, which belongs to column \"id\".");
}

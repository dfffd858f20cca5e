/*-------------------------------------------------------------------------
 *
 * guard_table.c
 *		ALTER TABLE that would make a queue or topic something else.
 *
 * See guard.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "api/guard_table.h"
#include "common/compat.h"

static char *column_problem(const TableForm *form, Oid relid,
							AlterTableCmd *cmd);
static char *type_problem(const TableForm *form, const QueueColumn *column,
						  ColumnDef *def);
static char *constraint_problem(const TableForm *form,
								Constraint *constraint);
static bool has_pkey_form(const TableForm *form, Constraint *constraint);


/* What this command makes wrong, or NULL; an unknown one is refused. */
char *
queue_guard_command(const TableForm *form, Oid relid, AlterTableCmd *cmd)
{
	switch (cmd->subtype)
	{
		case AT_AddColumn:
		case AT_DropColumn:
		case AT_AlterColumnType:
		case AT_ColumnDefault:
		case AT_DropNotNull:
		case AT_SetNotNull:
			return column_problem(form, relid, cmd);

		case AT_AddConstraint:
			return constraint_problem(form, (Constraint *) cmd->def);

		case AT_SetAccessMethod:
			/* no name: the default, from 17 on */
			return strcmp(cmd->name != NULL ? cmd->name :
						  default_table_access_method, "heap") == 0 ? NULL :
				psprintf("The access method of a %s is heap.", form->noun);

		case AT_ReplicaIdentity:
			switch (((ReplicaIdentityStmt *) cmd->def)->identity_type)
			{
				case REPLICA_IDENTITY_DEFAULT:
				case REPLICA_IDENTITY_FULL:
					return NULL;
				default:
					return psprintf("The replica identity of a %s is DEFAULT or FULL.",
									form->noun);
			}

		case AT_EnableRowSecurity:
		case AT_ForceRowSecurity:
			return psprintf("A %s has no row-level security.", form->noun);

		case AT_AddInherit:
			return psprintf("A %s inherits from no table.", form->noun);
		case AT_AddOf:
			return psprintf("A %s is no typed table.", form->noun);
		case AT_AddIdentity:
		case AT_SetIdentity:
			return psprintf("A %s has no identity columns.", form->noun);

		case AT_SetUnLogged:
			return form->may_be_unlogged ? NULL :
				psprintf("A %s is logged.", form->noun);

			/* neither adds anything nor changes what a table must have */
		case AT_SetStatistics:
		case AT_SetOptions:
		case AT_ResetOptions:
		case AT_SetStorage:
		case AT_SetCompression:
		case AT_ChangeOwner:
		case AT_ClusterOn:
		case AT_DropCluster:
		case AT_SetLogged:
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
			return psprintf("A %s stays as it is.", form->noun);
	}
}

/* The same for what is done to a column */
static char *
column_problem(const TableForm *form, Oid relid, AlterTableCmd *cmd)
{
	char	   *name = cmd->subtype == AT_AddColumn ?
		((ColumnDef *) cmd->def)->colname : cmd->name;
	const QueueColumn *column = queue_form_column(form, name);

	if (cmd->subtype == AT_AddColumn)
	{
		if (cmd->missing_ok &&
			get_attnum(relid, name) != InvalidAttrNumber)
			return NULL;
		return psprintf("Column \"%s\" does not belong to a %s.", name,
						form->noun);
	}

	/* what is done to another column does not matter */
	if (column == NULL)
		return NULL;
	switch (cmd->subtype)
	{
		case AT_DropColumn:
			return psprintf("Column \"%s\" belongs to a %s.", name, form->noun);
		case AT_AlterColumnType:
			return type_problem(form, column, (ColumnDef *) cmd->def);
		case AT_ColumnDefault:
			return cmd->def == NULL ? NULL :
				psprintf("Column \"%s\" of a %s has no default.", name, form->noun);
		case AT_DropNotNull:
			return !column->is_not_null ? NULL :
				psprintf("Column \"%s\" of a %s is NOT NULL.", name, form->noun);
		default:
			return column->is_not_null ? NULL :
				psprintf("Column \"%s\" of a %s may be NULL.", name, form->noun);
	}
}

/* The same for a new type; a wrong one may be corrected. */
static char *
type_problem(const TableForm *form, const QueueColumn *column,
			 ColumnDef *def)
{
	Oid			new_type;
	int32		typmod;

	typenameTypeIdAndMod(NULL, def->typeName, &new_type, &typmod);
	if (new_type == column->type && typmod == -1 &&
		(def->collClause == NULL ||
		 get_collation_oid(def->collClause->collname,
						   false) == DEFAULT_COLLATION_OID))
		return NULL;
	return psprintf("Column \"%s\" of a %s is of type %s, without a collation of its own.",
					column->name, form->noun, format_type_be(column->type));
}

static char *
constraint_problem(const TableForm *form, Constraint *constraint)
{
	/* of an existing index, the check of the table knows the columns */
	if (constraint->contype == CONSTR_PRIMARY &&
		!constraint->deferrable &&
		(constraint->indexname != NULL || has_pkey_form(form, constraint)))
		return NULL;
	return psprintf("A %s has no constraint but its primary key, which is on %s alone and not deferrable.",
					form->noun, queue_form_key(form));
}

static bool
has_pkey_form(const TableForm *form, Constraint *constraint)
{
	ListCell   *lc;
	bool		has_form = list_length(constraint->keys) == form->nkeys &&
		constraint->including == NIL;

	foreach(lc, constraint->keys)
	{
		int			n = foreach_current_index(lc);

		has_form = has_form &&
			strcmp(strVal(lfirst(lc)),
				   form->columns[form->key[n] - 1].name) == 0;
	}
	return has_form;
}

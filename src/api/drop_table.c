/*-------------------------------------------------------------------------
 *
 * drop_table.c
 *		Tables of queues, topics and subscriptions dropped by functions.
 *
 * By plain DDL through SPI, as the caller, so what DROP TABLE would refuse is
 * refused here, and the settings go with the table by the hook that serves
 * every other way of dropping it (ddl.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "api/drop_table.h"
#include "api/statement.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/access.h"
#include "table/setting_row.h"
#include "transaction/in_doubt.h"

static void check_droppable(Oid relid, const TableForm *form);


/*
 * queue_drop_open
 *		Lock a table that its owner wants to drop.
 *
 * A caller that is not the owner, or names a table of no such kind, gets an
 * error before it can make others wait.
 */
Relation
queue_drop_open(Oid relid, const TableForm *form)
{
	Relation	rel;

	check_droppable(relid, form);
	queue_in_doubt_refuse(relid, AccessExclusiveLock);
	rel = try_table_open(relid, AccessExclusiveLock);

	/* all of it may have changed while we waited */
	check_droppable(relid, form);
	return rel;
}

/* Raise an error unless it is of this kind, and the caller owns it. */
static void
check_droppable(Oid relid, const TableForm *form)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		queue_access_report_missing(relid, form);
	if (get_rel_relkind(relid) != RELKIND_RELATION)
		queue_access_report_relkind(relid, form, get_rel_relkind(relid));
	if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
	if (!queue_setting_find(form->settings, relid, 0, NULL))
	{
		const TableForm *other = queue_form_of(relid);

		if (other != NULL)
		{
			char	   *hint = psprintf("Use %s to drop a %s.",
										other->dropper, other->noun);
			Instead		instead = {hint, hint, hint};

			queue_access_refuse(relid, form, &instead);
		}
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a %s",
						queue_shown_name(relid), form->noun),
				 errdetail("It has no settings in table queue.%s.",
						   queue_member_name(form->settings)),
				 errhint("Use DROP TABLE to drop a table.")));
	}
}

/*
 * queue_drop_table
 *		Drop a table that the caller owns, and has locked.
 *
 * The settings follow through the hook.
 *
 * The lock keeps the table's name as it is, but not that of its schema, so the
 * statement may find another table.  What it has dropped then comes back with
 * the error.  (By performDeletion() it would be this table for certain, but no
 * event trigger and no other module's hook would learn of it.)
 */
void
queue_drop_table(Oid relid, const TableForm *form)
{
	char	   *name = queue_shown_name(relid);
	int			guc_level = queue_ddl_begin();

	queue_ddl_run(psprintf("DROP TABLE %s", queue_qualified_name(relid)));
	queue_ddl_end(guc_level);
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s \"%s\" was renamed while it was being dropped",
						form->noun, name)));
}

/*-------------------------------------------------------------------------
 *
 * dead_letter.c
 *		Which queue may get the dead letters of another.
 *
 * Locks: that queue, to the end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/rel.h"

#include "api/dead_letter.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/definition.h"
#include "table/settings.h"

/*
 * queue_check_dead_letter
 *		Raise an error unless the caller may make this the dead-letter queue
 *		of "source".
 *
 * "source" is InvalidOid if that queue is yet to be made, or is a
 * subscription, to which no dead letters go.  The dead-letter queue is locked
 * to the end of the transaction, so that it still exists when the settings that
 * name it are committed.
 */
void
queue_check_dead_letter(Oid dead_letter, Oid source)
{
	QueueDef   *def;
	Relation	rel;
	AclResult	result;
	List	   *seen = NIL;
	Oid			next = dead_letter;

	if (OidIsValid(source) && dead_letter == source)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a queue cannot be its own dead-letter queue")));

	rel = queue_open(dead_letter, QUEUE_SYSTEM, &def);
	result = pg_class_aclcheck(dead_letter, GetUserId(), ACL_INSERT);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLE, RelationGetRelationName(rel));

	/* a loop that exists already is not reported here, but ends the walk */
	while (OidIsValid(next) && !list_member_oid(seen, next))
	{
		seen = lappend_oid(seen, next);
		(void) queue_settings_exist(next, &next);
		if (OidIsValid(source) && next == source)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("dead-letter queue \"%s\" would lead back to the queue itself",
							queue_shown_name(RelationGetRelid(rel)))));
	}
	list_free(seen);
	table_close(rel, NoLock);
}

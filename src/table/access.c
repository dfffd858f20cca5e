/*-------------------------------------------------------------------------
 *
 * access.c
 *		Queues, topics and subscriptions opened for the current user.
 *
 * Privileges depend on the role of the moment, so they are asked for on every
 * call.  They come before the question what kind of table it is, so that a role
 * without any learns no more than from the server itself.
 *
 * Locks: that of the caller's choice on the table, which the caller keeps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "common/relation_name.h"
#include "table/access.h"
#include "table/setting_row.h"

static const char *hint_for(const TableForm *form, const Instead *instead);


/*
 * queue_access_open
 *		Open a table, with this lock.
 *
 * Raises 42704 if there is no such relation, 42809 if it is no table.
 */
Relation
queue_access_open(Oid relid, LOCKMODE lockmode, const TableForm *form)
{
	Relation	rel;

	/* a lock that is held already would not accept them */
	AcceptInvalidationMessages();
	/* any relation, because what the server says to an index has changed */
	rel = try_relation_open(relid, lockmode);
	if (rel == NULL)
		queue_access_report_missing(relid, form);
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		queue_access_report_relkind(relid, form, rel->rd_rel->relkind);
	return rel;
}

/* Raise 42704: there is no such relation, which was to be of this kind. */
void
queue_access_report_missing(Oid relid, const TableForm *form)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s with OID %u does not exist", form->noun, relid)));
}

/* Raise 42809: it is no table. */
void
queue_access_report_relkind(Oid relid, const TableForm *form, char relkind)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" is not a %s", queue_shown_name(relid),
					form->noun),
			 errdetail_relkind_not_supported(relkind)));
}

/*
 * queue_access_check
 *		Raise 42501 unless the current user has all of these privileges.
 */
void
queue_access_check(Relation rel, AclMode needed)
{
	/* one at a time: asked for two, the server is content with either */
	while (needed != 0)
	{
		AclMode		privilege = needed & ~(needed - 1);
		AclResult	result = pg_class_aclcheck(RelationGetRelid(rel),
											   GetUserId(), privilege);

		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, RelationGetRelationName(rel));
		needed &= ~privilege;
	}
}

/* Raise 42501 unless the current user owns the table. */
void
queue_access_check_owner(Relation rel)
{
	if (!object_ownercheck(RelationRelationId, RelationGetRelid(rel),
						   GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE,
					   RelationGetRelationName(rel));
}

/*
 * queue_access_refuse
 *		Raise 42809, because the table has no settings of this kind.
 *
 * If it is of another kind, "instead" says what can be done with that.
 */
void
queue_access_refuse(Oid relid, const TableForm *form, const Instead *instead)
{
	const TableForm *other = queue_form_of(relid);

	if (other != NULL && other != form)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a %s", queue_shown_name(relid),
						form->noun),
				 errdetail("It is a %s.", other->noun),
				 errhint("%s", hint_for(other, instead))));
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" is not a %s", queue_shown_name(relid),
					form->noun),
			 errdetail("It has no settings in table queue.%s.",
					   queue_member_name(form->settings)),
			 errhint("Create one with %s, which also adopts a table restored without its settings.",
					 form->maker)));
}

/* Return the hint for this kind. */
static const char *
hint_for(const TableForm *form, const Instead *instead)
{
	if (form == &queue_form)
		return instead->queue;
	return form == &queue_topic_form ? instead->topic : instead->subscription;
}

/*-------------------------------------------------------------------------
 *
 * trigger_call.c
 *		What the triggers of our tables have in common.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/rel.h"

#include "api/trigger_call.h"
#include "common/relation_name.h"

static int16 event_type(TriggerEvent event);


/*
 * queue_trigger_call
 *		Return what the trigger was given, or throw if it was not called as it
 *		is meant to be.
 */
TriggerData *
queue_trigger_call(FunctionCallInfo fcinfo,
				   const OwnTriggerForm *trigger)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	queue_require_preload();
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		(trigger->type & event_type(trigdata->tg_event)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"queue.%s\" can only be called by its own triggers",
						trigger->function)));
	return trigdata;
}

/* Return TRIGGER_TYPE_xxx of what has happened. */
static int16
event_type(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return TRIGGER_TYPE_INSERT;
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return TRIGGER_TYPE_UPDATE;
	return TRIGGER_FIRED_BY_DELETE(event) ? TRIGGER_TYPE_DELETE :
		TRIGGER_TYPE_TRUNCATE;
}

/* Do rows come from another server, which has checked them? */
bool
queue_trigger_is_replica(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/*
 * queue_trigger_check_setters
 *		Refuse to all but the owner a row with values of columns that the
 *		server sets.
 */
void
queue_trigger_check_setters(Relation rel, const TableForm *form,
							const bool *nulls)
{
	for (int attnum = 1; attnum <= form->natts; attnum++)
		if (!nulls[attnum - 1] &&
			form->columns[attnum - 1].setter == COLUMN_OF_SERVER &&
			!object_ownercheck(RelationRelationId, RelationGetRelid(rel),
							   GetUserId()))
			queue_trigger_refuse_column(rel, form, attnum);
}

/* Raise 42501 for a column that the server sets. */
void
queue_trigger_refuse_column(Relation rel, const TableForm *form, int attnum)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for column \"%s\" of %s \"%s\"",
					NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname),
					form->noun, queue_shown_name(RelationGetRelid(rel))),
			 errdetail("The server sets this column; the owner may give a value in INSERT, nobody in UPDATE."),
			 errhint("Leave the column out.")));
}

/*-------------------------------------------------------------------------
 *
 * trigger.c
 *		The triggers of a queue table: plain INSERT, COPY and UPDATE.
 *
 * They make a plain INSERT an enqueue: fill what only the server sets, and
 * note the queue so that its waiters are woken at the commit.  The functions
 * of this extension insert below the executor and do not come by here.
 *
 * Both triggers are enabled ALWAYS, so that rows that arrive by logical
 * replication are announced too; in replica role nothing is refused.  A row
 * that comes with an id is taken as it is: it is restored, or its owner knows
 * what he does.
 *
 * A restore brings the rows of a queue and its settings in whatever order it
 * likes, so rows with ids are taken while the table has no settings yet.  They
 * are announced, and ids go on beyond them; that is needed should the settings
 * be committed first, by somebody else.  Else whoever makes the table a queue
 * announces every id (make_settings(), the trigger on queue.queue).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/rel.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/ranges.h"
#include "table/ids.h"
#include "table/member.h"
#include "table/message.h"
#include "table/storage.h"
#include "transaction/xact.h"

PG_FUNCTION_INFO_V1(queue_before_insert);
PG_FUNCTION_INFO_V1(queue_before_update);

static TriggerData *check_trigger(FunctionCallInfo fcinfo, const char *name,
								  bool is_update);
static Datum take_as_it_is(Relation rel, HeapTuple tuple);
static void note_new_version(Relation rel, QueueDef *def, Datum *old_values,
							 Datum *new_values);
static bool is_replica_role(void);
pg_noreturn static void refuse_column(Relation rel, int attnum);
static void check_values(Datum *values, bool *nulls);
static void check_twin(Relation rel, QueueDef *def, Datum *values,
					   bool *nulls);
static void set_default(Datum *values, bool *nulls, int attnum, Datum value);

Datum
queue_before_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = check_trigger(fcinfo, "before_insert", false);
	Relation	rel = trigdata->tg_relation;
	QueueDef   *def = queue_def(rel);
	Datum		values[MaxHeapAttributeNumber];
	bool		nulls[MaxHeapAttributeNumber];
	bool		is_replica = is_replica_role();
	bool		has_id;
	int64		id;

	/* values are read by position, and anybody may create this trigger */
	if (is_replica && def->problem != NULL)
		return take_as_it_is(rel, trigdata->tg_trigtuple);
	if (def->is_queue || def->problem != NULL)
		queue_check_shape(rel, def);

	heap_deform_tuple(trigdata->tg_trigtuple, RelationGetDescr(rel),
					  values, nulls);
	has_id = !nulls[Anum_message_id - 1];
	if (!has_id && !is_replica)
		queue_check_shape(rel, def);	/* no restore: it must be a queue */

	if (!is_replica)
	{
		static const int server_columns[] = {
			Anum_message_id, Anum_message_attempts, Anum_message_enqueued_at,
			Anum_message_last_error
		};
		int			i;

		for (i = 0; i < lengthof(server_columns); i++)
			if (!nulls[server_columns[i] - 1] &&
				!object_ownercheck(RelationRelationId, RelationGetRelid(rel),
								   GetUserId()))
				refuse_column(rel, server_columns[i]);
		check_values(values, nulls);
		if (!has_id)
		{
			if (!nulls[Anum_message_expires_at - 1])
				queue_not_supported("expires_at");
			if (!nulls[Anum_message_group_key - 1])
				queue_not_supported("group_key");
			queue_check_not_paused(rel, def, QUEUE_ENQUEUE);
		}
	}

	if (has_id)
	{
		if (!is_replica_role())
			check_twin(rel, def, values, nulls);
		id = DatumGetInt64(values[Anum_message_id - 1]);
		queue_advance_id(def, id);
	}
	else
	{
		queue_next_ids(def, 1, &id);
		set_default(values, nulls, Anum_message_id, Int64GetDatum(id));
	}
	set_default(values, nulls, Anum_message_priority,
				Int16GetDatum(QUEUE_DEFAULT_PRIORITY));
	set_default(values, nulls, Anum_message_attempts, Int16GetDatum(0));
	set_default(values, nulls, Anum_message_enqueued_at,
				TimestampTzGetDatum(GetCurrentTimestamp()));
	queue_xact_note_sent(RelationGetRelid(rel),
						 DatumGetInt16(values[Anum_message_priority - 1]),
						 id, id);
	return PointerGetDatum(heap_form_tuple(RelationGetDescr(rel),
										   values, nulls));
}

Datum
queue_before_update(PG_FUNCTION_ARGS)
{
	static const int free_columns[] = {
		Anum_message_priority, Anum_message_correlation_id,
		Anum_message_headers, Anum_message_payload
	};
	TriggerData *trigdata = check_trigger(fcinfo, "before_update", true);
	Relation	rel = trigdata->tg_relation;
	QueueDef   *def = queue_def(rel);
	TupleDesc	desc = RelationGetDescr(rel);
	bool		is_replica = is_replica_role();
	Datum		old_values[MaxHeapAttributeNumber];
	Datum		new_values[MaxHeapAttributeNumber];
	bool		old_nulls[MaxHeapAttributeNumber];
	bool		new_nulls[MaxHeapAttributeNumber];
	int			i;
	int			j;

	if (!is_replica)
		queue_check_shape(rel, def);
	else if (def->problem != NULL)
		return take_as_it_is(rel, trigdata->tg_newtuple);
	heap_deform_tuple(trigdata->tg_trigtuple, desc, old_values, old_nulls);
	heap_deform_tuple(trigdata->tg_newtuple, desc, new_values, new_nulls);
	note_new_version(rel, def, old_values, new_values);
	if (is_replica)
		return PointerGetDatum(trigdata->tg_newtuple);
	for (i = 0; i < Natts_message; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool		is_free = false;

		for (j = 0; j < lengthof(free_columns); j++)
			is_free |= free_columns[j] == i + 1;
		if (is_free || (old_nulls[i] && new_nulls[i]))
			continue;
		if (old_nulls[i] != new_nulls[i] ||
			!datum_image_eq(old_values[i], new_values[i],
							att->attbyval, att->attlen))
			refuse_column(rel, i + 1);
	}
	check_values(new_values, new_nulls);
	return PointerGetDatum(trigdata->tg_newtuple);
}

/*
 * In replica role nothing is refused, not even for a table that cannot be used
 * as a queue at the moment.  Its columns may be others, so nobody knows which
 * message this is: all of them are announced.
 */
static Datum
take_as_it_is(Relation rel, HeapTuple tuple)
{
	queue_xact_note_queue(RelationGetRelid(rel));
	return PointerGetDatum(tuple);
}

/*
 * The new version is announced, for who has seen this one changing passes it
 * by.  Its place in the order may be another, and who holds the message now,
 * or has a failure of it noted, knows the old one.
 */
static void
note_new_version(Relation rel, QueueDef *def, Datum *old_values,
				 Datum *new_values)
{
	int64		id = DatumGetInt64(new_values[Anum_message_id - 1]);
	int			priority = DatumGetInt16(new_values[Anum_message_priority - 1]);

	if (priority < 0 || priority > QUEUE_MAX_PRIORITY)
		return;					/* nobody will ever find it */
	if (DatumGetInt16(old_values[Anum_message_priority - 1]) != priority)
		queue_cover_priorities_vary(queue_def_state(def),
									RelationGetRelid(rel));
	queue_xact_note_sent(RelationGetRelid(rel), priority, id, id);
}

/* Called as it is meant to be?  What the trigger was given. */
static TriggerData *
check_trigger(FunctionCallInfo fcinfo, const char *name, bool is_update)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	queue_require_preload();
	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) ||
		(is_update ? !TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) :
		 !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function queue.%s() is for the triggers of queue tables only",
						name)));
	return trigdata;
}

/* Do rows come from another server, which has checked them? */
static bool
is_replica_role(void)
{
	return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
}

/* 42501, for a column that the server sets */
static void
refuse_column(Relation rel, int attnum)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for column \"%s\" of queue \"%s\"",
					NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname),
					queue_qualified_name(RelationGetRelid(rel))),
			 errdetail("The server sets this column; the owner may give a value in INSERT, nobody in UPDATE."),
			 errhint("Leave the column out.")));
}

/* What enqueue() refuses is refused here. */
static void
check_values(Datum *values, bool *nulls)
{
	if (!nulls[Anum_message_priority - 1])
		queue_check_priority(DatumGetInt16(values[Anum_message_priority - 1]));
	if (!nulls[Anum_message_attempts - 1] &&
		DatumGetInt16(values[Anum_message_attempts - 1]) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attempts must not be negative")));
	if (!nulls[Anum_message_visible_at - 1] &&
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(values[Anum_message_visible_at - 1])))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visible_at must be finite"),
				 errdetail("It is the time from which on a message is delivered."),
				 errhint("Leave it out to have the message delivered at once.")));
	if (!nulls[Anum_message_headers - 1])
		queue_check_headers(values[Anum_message_headers - 1]);
}

/*
 * An id is there once, whatever the priority: the primary key, which has both,
 * does not see to that.  Two who give one id at the same time are not noticed.
 */
static void
check_twin(Relation rel, QueueDef *def, Datum *values, bool *nulls)
{
	int64		id = DatumGetInt64(values[Anum_message_id - 1]);
	int			priority = nulls[Anum_message_priority - 1] ?
		QUEUE_DEFAULT_PRIORITY :
		DatumGetInt16(values[Anum_message_priority - 1]);

	if (queue_id_is_new(def, id) ||
		!queue_row_has_twin(rel, def, id, priority))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("queue %s has a message with id " INT64_FORMAT " already",
					queue_qualified_name(RelationGetRelid(rel)), id),
			 errdetail("It has another priority than %d.", priority),
			 errhint("Leave the column \"id\" out.")));
}

/* A value for a column that was left out */
static void
set_default(Datum *values, bool *nulls, int attnum, Datum value)
{
	if (!nulls[attnum - 1])
		return;
	values[attnum - 1] = value;
	nulls[attnum - 1] = false;
}

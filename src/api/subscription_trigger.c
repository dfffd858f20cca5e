/*-------------------------------------------------------------------------
 *
 * subscription_trigger.c
 *		The triggers of a subscription table: plain INSERT, COPY, UPDATE and
 *		DELETE.
 *
 * Positions are moved below the executor, under an entry of the in-flight table
 * that plain statements know nothing of.  So none may change or delete a row;
 * queue.seek() moves a position by hand.  A restore inserts rows, as the owner
 * of the table.  In replica role rows come from another server, which has
 * checked them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/rel.h"

#include "api/trigger_call.h"
#include "common/relation_name.h"
#include "table/shape.h"
#include "table/subscription_column.h"
#include "table/topic_settings.h"

PG_FUNCTION_INFO_V1(queue_before_subscription_insert);
PG_FUNCTION_INFO_V1(queue_before_subscription_change);

static void check_row(Relation rel, const Datum *values, const bool *nulls);


/* before_subscription_insert(): trigger function */
Datum
queue_before_subscription_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		queue_trigger_call(fcinfo, &queue_subscription_form.triggers[0]);
	Relation	rel = trigdata->tg_relation;
	Datum		values[MaxHeapAttributeNumber];
	bool		nulls[MaxHeapAttributeNumber];

	if (queue_trigger_is_replica())
		return PointerGetDatum(trigdata->tg_trigtuple);

	/* values are read by position, and any role may create this trigger */
	queue_shape_check(RelationGetRelid(rel), &queue_subscription_form,
					  queue_shape_columns_violation(rel,
													&queue_subscription_form));
	heap_deform_tuple(trigdata->tg_trigtuple, RelationGetDescr(rel), values,
					  nulls);
	queue_trigger_check_setters(rel, &queue_subscription_form, nulls);
	check_row(rel, values, nulls);
	return PointerGetDatum(trigdata->tg_trigtuple);
}

/* Raise 22023 for what no restore brings.  The server refuses nulls. */
static void
check_row(Relation rel, const Datum *values, const bool *nulls)
{
	int			partition =
		DatumGetInt16(values[Anum_position_partition - 1]);

	if (nulls[Anum_position_partition - 1] ||
		nulls[Anum_position_position - 1] ||
		nulls[Anum_position_failures - 1])
		return;
	if (partition < 0 || partition >= MAX_PARTITIONS ||
		DatumGetInt64(values[Anum_position_position - 1]) < 0 ||
		DatumGetInt16(values[Anum_position_failures - 1]) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("subscription \"%s\" cannot have such a position",
						queue_shown_name(RelationGetRelid(rel))),
				 errdetail("Partitions are 0 to %d; neither position nor failures are negative.",
						   MAX_PARTITIONS - 1)));
}

/* before_subscription_change(): trigger function */
Datum
queue_before_subscription_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		queue_trigger_call(fcinfo, &queue_subscription_form.triggers[1]);
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event);

	if (!queue_trigger_is_replica())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg(is_update ?
						"positions of subscription \"%s\" cannot be updated" :
						"positions of subscription \"%s\" cannot be deleted",
						queue_shown_name(RelationGetRelid(trigdata->tg_relation))),
				 errdetail("Consumers that take messages from it would not learn of that."),
				 errhint("Use queue.seek() to move them, and queue.drop_queue() to drop the subscription.")));
	return PointerGetDatum(is_update ? trigdata->tg_newtuple :
						   trigdata->tg_trigtuple);
}

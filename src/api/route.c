/*-------------------------------------------------------------------------
 *
 * route.c
 *		Where a message would go: route(), and what queues did not take.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/ranges.h"
#include "table/binding_row.h"
#include "table/call.h"
#include "table/draft.h"
#include "table/member.h"
#include "table/topic.h"
#include "topic/bindings.h"
#include "topic/bound_queue.h"
#include "transaction/admit.h"

PG_FUNCTION_INFO_V1(queue_route);
PG_FUNCTION_INFO_V1(queue_skipped);

static void route_to(ReturnSetInfo *result, const BoundQueue *queue,
					 const TopicDraft *draft);
static const char *refusal_of(Oid relid, const TopicDraft *draft);
static bool may_know_skipped(Oid topic, Oid queue);


/*
 * route(topic, routing_key, headers, payload)
 *
 * One row a queue that would get such a message: by which patterns, what
 * happens if it does not take it, and why it would not at the moment.
 */
Datum
queue_route(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const TopicBindings *bindings;
	TopicDraft	draft;
	TopicDef   *topic;
	Relation	rel;

	queue_call_begin(fcinfo, "queue.route()", CALL_READS,
					 "topic", "routing_key");
	if (!PG_ARGISNULL(2))
		queue_check_headers(PG_GETARG_DATUM(2));
	InitMaterializedSRF(fcinfo, 0);

	rel = queue_topic_open(PG_GETARG_OID(0), TOPIC_OWN, &topic);
	queue_topic_draft_init(&draft, GetCurrentTimestamp());
	draft.routing_key = fcinfo->args[1];
	draft.headers = fcinfo->args[2];
	draft.payload = fcinfo->args[3];
	bindings = queue_bindings(topic->relid);
	for (int i = 0; i < bindings->n; i++)
	{
		bool		fails = false;

		if (queue_bindings_want(&bindings->queues[i], &draft,
								QUEUE_DEFAULT_PRIORITY, &fails))
			route_to(result, &bindings->queues[i], &draft);
	}
	table_close(rel, NoLock);
	return (Datum) 0;
}

/* Return a row about this queue, which would get the message. */
static void
route_to(ReturnSetInfo *result, const BoundQueue *queue,
		 const TopicDraft *draft)
{
	Datum	   *patterns = palloc(queue->n * sizeof(Datum));
	int			n = 0;
	bool		fails = false;
	const char *refusal = refusal_of(queue->relid, draft);
	Datum		values[4];
	bool		nulls[4] = {false};

	for (int i = 0; i < queue->n; i++)
	{
		const Binding *binding = &queue->bindings[i];

		if (!queue_binding_wants(binding, draft, QUEUE_DEFAULT_PRIORITY))
			continue;
		patterns[n++] = CStringGetTextDatum(binding->text);
		fails |= binding->fails;
	}
	values[0] = ObjectIdGetDatum(queue->relid);
	values[1] = PointerGetDatum(construct_array(patterns, n, TEXTOID, -1,
												false, TYPALIGN_INT));
	values[2] = CStringGetTextDatum(fails ? BINDING_FAILS : BINDING_SKIPS);
	nulls[3] = refusal == NULL;
	if (!nulls[3])
		values[3] = CStringGetTextDatum(refusal);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Return why the queue would not take it at the moment, or NULL. */
static const char *
refusal_of(Oid relid, const TopicDraft *draft)
{
	Refusal		refusal;
	QueueDef   *def;
	Relation	rel = queue_bound_open(relid, false /* has_keys */ , &def,
									   &refusal);
	Amount		amount;

	if (rel == NULL)
		return queue_bound_word(refusal);
	amount.messages = 1;
	amount.bytes = queue_value_bytes(draft->payload) +
		queue_value_bytes(draft->headers);
	if (!queue_admit_would(rel, def, &amount))
		refusal = REFUSAL_FULL;
	table_close(rel, queue_lockmode(QUEUE_ENQUEUE));
	return queue_bound_word(refusal);
}

/*
 * skipped(topic, queue): what view queue.bindings shows of what the queue did
 * not take, of any topic, since the server has started
 *
 * Null to those who own neither and may not watch the queue.
 */
Datum
queue_skipped(PG_FUNCTION_ARGS)
{
	Oid			relid;
	TupleDesc	desc;
	SkippedCount count;
	Datum		values[3];
	bool		nulls[3] = {true, true, true};

	queue_require_preload();
	queue_require_arg(fcinfo, 0, "topic");
	queue_require_arg(fcinfo, 1, "queue");
	desc = queue_call_row_type(fcinfo);
	relid = PG_GETARG_OID(1);
	if (may_know_skipped(PG_GETARG_OID(0), relid))
	{
		queue_bound_skipped(queue_slot_find(relid), relid, &count);
		values[0] = Int64GetDatum((int64) count.n);
		nulls[0] = false;
		nulls[1] = nulls[2] = count.n == 0;
		if (count.n > 0)
		{
			values[1] = TimestampTzGetDatum(count.at);
			values[2] = CStringGetTextDatum(queue_bound_word(count.refusal));
		}
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

static bool
may_know_skipped(Oid topic, Oid queue)
{
	Oid			user = GetUserId();

	if (!queue_binding_exists(topic, queue) ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(topic)) ||
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(queue)))
		return false;
	return queue_may_watch(queue) ||
		object_ownercheck(RelationRelationId, topic, user) ||
		object_ownercheck(RelationRelationId, queue, user);
}

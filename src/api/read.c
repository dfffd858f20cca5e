/*-------------------------------------------------------------------------
 *
 * read.c
 *		queue.read() and queue.stable_id(): a topic for who keeps the place
 *		elsewhere.
 *
 * A reader remembers one id for all partitions.  So it gets messages in the
 * order of their ids, below the stable id of the whole topic: nothing below
 * that can appear any more, in any partition.
 *
 * What was committed after the statement's snapshot is below it, too.  Rows are
 * judged by the snapshot and by the present status of transactions: what the
 * snapshot does not see although it is committed ends the batch, so that the
 * reader does not pass it.  The snapshot was taken before the stable id.
 *
 * On a standby memory knows of no publisher.  There the stable id is what the
 * snapshot sees written down.
 *
 * Nothing here takes a lock that a publisher waits for, but that of the topic's
 * slot for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/args.h"
#include "common/compat.h"
#include "table/member.h"
#include "table/message.h"
#include "table/pattern.h"
#include "table/selector.h"
#include "table/stable_id.h"
#include "table/topic.h"
#include "table/topic_column.h"
#include "table/topic_scan.h"
#include "transaction/publishing.h"

/* What a message that was published says where a queue's has numbers */
#define READ_ATTEMPT		1
#define READ_PRIORITY		4

PG_FUNCTION_INFO_V1(queue_read);
PG_FUNCTION_INFO_V1(queue_stable_id);

typedef struct Reader
{
	ReturnSetInfo *rsinfo;
	QueuePattern *pattern;
	QueueSelector *selector;	/* NULL: all match */
	MemoryContext context;		/* reset for each message */
} Reader;

static int64 readable_below(Relation rel, TopicDef *topic);
static bool matches(Reader *reader, TupleTableSlot *slot, int64 id);
static void show(Reader *reader, TupleTableSlot *slot, int64 id);
static NullableDatum column(TupleTableSlot *slot, int att);

/* read(topic, after, max, pattern, selector) */
Datum
queue_read(PG_FUNCTION_ARGS)
{
	Reader		reader = {0};
	Relation	rel;
	TopicDef   *topic;
	TopicScan  *scan;
	TupleTableSlot *slot;
	Snapshot	snapshot = GetActiveSnapshot();
	int64		id;
	int64		last = 0;
	int			max;
	int			n = 0;
	text	   *pattern;

	queue_require_preload();
	PreventCommandIfParallelMode("queue.read()");
	queue_require_arg(fcinfo, 0, "topic");
	queue_require_arg(fcinfo, 1, "after");
	max = queue_max_argument(fcinfo, 2);
	queue_require_arg(fcinfo, 3, "pattern");
	pattern = PG_GETARG_TEXT_PP(3);
	reader.pattern = queue_pattern_compile(VARDATA_ANY(pattern),
										   VARSIZE_ANY_EXHDR(pattern));
	if (!PG_ARGISNULL(4))
		reader.selector = queue_selector_make(PG_GETARG_DATUM(4),
											  false /* raises */ );

	InitMaterializedSRF(fcinfo, 0);
	reader.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	reader.context = AllocSetContextCreate(CurrentMemoryContext,
										   "queue message",
										   ALLOCSET_DEFAULT_SIZES);
	rel = queue_topic_open(PG_GETARG_OID(0), TOPIC_READ, &topic);
	scan = queue_topic_scan_begin(rel, topic, PG_GETARG_INT64(1),
								  readable_below(rel, topic), max);

	/* ids that were given by hand may be there twice, and come together */
	while ((n < max || queue_topic_scan_has_twin(scan, last)) &&
		   (slot = queue_topic_scan_next(scan, &id)) != NULL)
	{
		TopicRowState state = queue_topic_row_state(scan, snapshot);

		if (state == TOPIC_ROW_NEWER)
			break;
		if (state == TOPIC_ROW_GONE || !matches(&reader, slot, id))
			continue;
		show(&reader, slot, id);
		last = id;
		n++;
	}
	queue_topic_scan_end(scan);
	table_close(rel, NoLock);
	return (Datum) 0;
}

/* Nothing below this id can appear any more. */
static int64
readable_below(Relation rel, TopicDef *topic)
{
	TopicLimit	limit;

	if (RecoveryInProgress())
		return queue_stable_id_read(RelationGetRelid(rel),
									GetActiveSnapshot());
	(void) queue_publishing_limit(topic, ANY_PARTITION, &limit,
								  false /* raises */ );
	return limit.stable_id;
}

/* Does the reader want this message? */
static bool
matches(Reader *reader, TupleTableSlot *slot, int64 id)
{
	MemoryContext old = MemoryContextSwitchTo(reader->context);
	NullableDatum key = column(slot, Anum_published_routing_key);
	text	   *routing_key = DatumGetTextPP(key.value);
	bool		result;

	result = queue_pattern_match(reader->pattern, VARDATA_ANY(routing_key),
								 VARSIZE_ANY_EXHDR(routing_key));
	if (result && reader->selector != NULL)
	{
		SelectorInput input = {
			.id = id,
			.priority = READ_PRIORITY,
			.attempt = READ_ATTEMPT,
			.group_key = column(slot, Anum_published_group_key),
			.correlation_id = column(slot, Anum_published_correlation_id),
			.headers = column(slot, Anum_published_headers),
			.payload = column(slot, Anum_published_payload)
		};

		result = queue_selector_matches_input(reader->selector, &input);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->context);
	return result;
}

/* One column of a row */
static NullableDatum
column(TupleTableSlot *slot, int att)
{
	NullableDatum result;

	result.value = slot_getattr(slot, att, &result.isnull);
	return result;
}

/* Add a message to the result, with its values fetched from TOAST. */
static void
show(Reader *reader, TupleTableSlot *slot, int64 id)
{
	static const int columns[] = {
		Anum_published_group_key, Anum_published_correlation_id,
		Anum_published_headers, Anum_published_payload, Anum_published_body,
		Anum_published_content_type
	};
	MemoryContext old = MemoryContextSwitchTo(reader->context);
	Datum		values[Natts_result] = {0};
	bool		nulls[Natts_result] = {0};

	values[0] = Int64GetDatum(id);
	nulls[1] = true;			/* receipt */
	values[2] = Int32GetDatum(READ_ATTEMPT);
	values[3] = column(slot, Anum_published_at).value;
	nulls[4] = true;			/* priority */
	for (int i = 0; i < lengthof(columns); i++)
	{
		NullableDatum value = column(slot, columns[i]);

		nulls[5 + i] = value.isnull;
		if (!value.isnull)
			values[5 + i] = PointerGetDatum(PG_DETOAST_DATUM(value.value));
	}
	values[11] = column(slot, Anum_published_partition).value;
	values[12] = PointerGetDatum(PG_DETOAST_DATUM(column(slot, Anum_published_routing_key).value));
	tuplestore_puttuple(reader->rsinfo->setResult,
						heap_form_tuple(reader->rsinfo->setDesc, values,
										nulls));
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->context);
}

/* stable_id(topic): what the statement's snapshot sees written down */
Datum
queue_stable_id(PG_FUNCTION_ARGS)
{
	Relation	rel;
	TopicDef   *topic;
	int64		stable_id;

	queue_require_preload();
	queue_require_arg(fcinfo, 0, "topic");
	rel = queue_topic_open(PG_GETARG_OID(0), TOPIC_READ, &topic);
	stable_id = queue_stable_id_read(RelationGetRelid(rel),
									 GetActiveSnapshot());
	table_close(rel, NoLock);
	PG_RETURN_INT64(stable_id);
}

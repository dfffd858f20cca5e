/*-------------------------------------------------------------------------
 *
 * read.c
 *		queue.read() and queue.stable_id(): a topic for readers that keep their
 *		place elsewhere.
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
#include "table/call.h"
#include "table/member.h"
#include "table/published.h"
#include "table/stable_id.h"
#include "table/topic.h"
#include "table/topic_scan.h"
#include "transaction/publishing.h"

/* Nobody counts how often a reader fails */
#define READ_ATTEMPT		1

PG_FUNCTION_INFO_V1(queue_read);
PG_FUNCTION_INFO_V1(queue_stable_id);

typedef struct Reader
{
	ReturnSetInfo *rsinfo;
	TopicFilter filter;
} Reader;

static int64 readable_below(Relation rel, TopicDef *topic);
static void show(Reader *reader, TupleTableSlot *slot);

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

	queue_call_begin(fcinfo, "queue.read()", CALL_READS, "topic", "after");
	max = queue_max_argument(fcinfo, 2);
	queue_require_arg(fcinfo, 3, "pattern");
	pattern = PG_GETARG_TEXT_PP(3);
	reader.filter.pattern = queue_pattern_compile(VARDATA_ANY(pattern),
												  VARSIZE_ANY_EXHDR(pattern));
	if (!PG_ARGISNULL(4))
		reader.filter.selector = queue_selector_make(PG_GETARG_DATUM(4),
													 false /* raises */ );

	InitMaterializedSRF(fcinfo, 0);
	reader.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	reader.filter.context = AllocSetContextCreate(CurrentMemoryContext,
												  "queue message",
												  ALLOCSET_DEFAULT_SIZES);
	rel = queue_topic_open(PG_GETARG_OID(0), TOPIC_READ, &topic);
	scan = queue_topic_scan_begin_all(rel, topic, snapshot, PG_GETARG_INT64(1),
									  readable_below(rel, topic), max);

	/* ids that were given by hand may be there twice, and come together */
	while ((n < max || queue_topic_scan_has_twin(scan, last)) &&
		   (slot = queue_topic_scan_next(scan, &id)) != NULL)
	{
		TopicRowState state = queue_topic_row_state(scan);

		if (state == TOPIC_ROW_NEWER)
			break;
		if (state != TOPIC_ROW_SEEN ||
			!queue_published_is_wanted(&reader.filter, slot, id))
			continue;
		show(&reader, slot);
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

/* Add a message to the result. */
static void
show(Reader *reader, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(reader->filter.context);

	queue_published_show(reader->rsinfo, slot, READ_ATTEMPT,
						 NULL /* no receipt */ );
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->filter.context);
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

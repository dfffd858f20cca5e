/*-------------------------------------------------------------------------
 *
 * start.c
 *		Where in a topic a subscription starts to read.
 *
 * A place is a position in each partition: the last id that is passed by.
 *
 * The end of a partition is its limit (transaction/publishing.c), below which
 * nothing can appear any more.  So messages that are not committed yet are not
 * passed by, nor are those of the transaction that asks.
 *
 * Messages of a partition are in the order of their ids, and were published at
 * times that need not rise with them.  So the message to begin with for a time
 * is found by a look at all messages.  That reads the whole table once, as
 * count(*) does, but none of its TOAST.  Some that were published before that
 * time may follow.
 *
 * What retention has deleted is passed by: a subscription that stood before it
 * would be told that it has missed something (QU006).
 *
 * Locks: the caller has the topic open.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/start.h"
#include "common/args.h"
#include "table/removed_id.h"
#include "table/topic_column.h"
#include "transaction/publishing.h"

static StartKind read_word(text *argument);
static void read_place(FunctionCallInfo fcinfo, int argno, Start *start);
static void find_time(TimestampTz time, Relation rel, const TopicDef *topic,
					  int64 *positions);


/*
 * queue_start_argument
 *		Read the arguments (start, start_id, start_at).
 */
Start
queue_start_argument(FunctionCallInfo fcinfo, int argno)
{
	Start		start;

	queue_require_arg(fcinfo, argno, "start");
	start.kind = read_word(PG_GETARG_TEXT_PP(argno));
	if ((start.kind != START_END) + !PG_ARGISNULL(argno + 1) +
		!PG_ARGISNULL(argno + 2) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("only one of start, start_id and start_at can be given")));
	read_place(fcinfo, argno, &start);
	return start;
}

/*
 * queue_start_argument_given
 *		The same where nothing is taken for granted.
 */
Start
queue_start_argument_given(FunctionCallInfo fcinfo, int argno)
{
	Start		start = {.kind = START_END};

	if (!PG_ARGISNULL(argno) + !PG_ARGISNULL(argno + 1) +
		!PG_ARGISNULL(argno + 2) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("just one of start, start_id and start_at must be given")));
	if (!PG_ARGISNULL(argno))
		start.kind = read_word(PG_GETARG_TEXT_PP(argno));
	read_place(fcinfo, argno, &start);
	return start;
}

/* Read argument "start". */
static StartKind
read_word(text *argument)
{
	char	   *word = text_to_cstring(argument);

	if (strcmp(word, "begin") == 0)
		return START_BEGIN;
	if (strcmp(word, "end") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid start: \"%s\"", word),
				 errdetail("Allowed are: %s.", "begin, end"),
				 errhint("Use start_id or start_at to start at an id or a time.")));
	return START_END;
}

/* Read the other two, if they are given. */
static void
read_place(FunctionCallInfo fcinfo, int argno, Start *start)
{
	if (!PG_ARGISNULL(argno + 1))
	{
		start->kind = START_ID;
		start->id = PG_GETARG_INT64(argno + 1);
		if (start->id < 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("start_id must be greater than zero")));
	}
	if (!PG_ARGISNULL(argno + 2))
	{
		start->kind = START_TIME;
		start->time = PG_GETARG_TIMESTAMPTZ(argno + 2);
	}
}

/* Find the last id that is passed by, in each partition. */
void
queue_start_find(const Start *start, Relation rel, TopicDef *topic,
				 int64 *positions)
{
	Snapshot	snapshot;

	for (int i = 0; i < topic->partitions; i++)
	{
		TopicLimit	limit;

		switch (start->kind)
		{
			case START_BEGIN:
				positions[i] = 0;
				break;
			case START_ID:
				positions[i] = start->id - 1;
				break;
			case START_END:
			case START_TIME:
				(void) queue_publishing_limit(topic, i, &limit,
											  false /* raises */ );
				positions[i] = limit.stable_id - 1;
				break;
		}
	}
	if (start->kind == START_TIME)
		find_time(start->time, rel, topic, positions);

	/* a subscription that starts there knows that it is gone */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < topic->partitions; i++)
		positions[i] = Max(positions[i],
						   queue_removed_id_read(RelationGetRelid(rel), i,
												 snapshot));
	UnregisterSnapshot(snapshot);
}

/*
 * Go back to before the first message of each partition that was published at
 * this time or later.  What is below the limits that were found is seen by a
 * snapshot taken now.
 */
static void
find_time(TimestampTz time, Relation rel, const TopicDef *topic,
		  int64 *positions)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		int			partition;
		int64		id;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, Anum_published_at);
		partition = DatumGetInt16(slot->tts_values[Anum_published_partition - 1]);
		id = DatumGetInt64(slot->tts_values[Anum_published_id - 1]);

		/* in replica role it may be in a partition that there is not */
		if (partition >= 0 && partition < topic->partitions &&
			DatumGetTimestampTz(slot->tts_values[Anum_published_at - 1]) >= time)
			positions[partition] = Min(positions[partition], id - 1);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

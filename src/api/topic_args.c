/*-------------------------------------------------------------------------
 *
 * topic_args.c
 *		Settings of a topic, as arguments of functions.
 *
 * In alter_topic() a null leaves a setting as it is; where a topic may have
 * none of something, zero says so, in create_topic() as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "api/topic_args.h"
#include "common/args.h"
#include "table/topic_settings.h"

static void set_limits(NullableDatum retention, NullableDatum max_bytes,
					   Datum *values, bool *nulls);


/*
 * queue_topic_args_create
 *		Read the arguments of create_topic(): (name, partitions, retention,
 *		max_bytes, keep_unread).
 */
void
queue_topic_args_create(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	queue_require_arg(fcinfo, 1, "partitions");
	queue_require_arg(fcinfo, 4, "keep_unread");
	memset(nulls, true, Natts_topic * sizeof(bool));
	values[Anum_topic_partitions - 1] = PG_GETARG_DATUM(1);
	nulls[Anum_topic_partitions - 1] = false;
	set_limits(fcinfo->args[2], fcinfo->args[3], values, nulls);
	values[Anum_topic_keep_unread - 1] = PG_GETARG_DATUM(4);
	nulls[Anum_topic_keep_unread - 1] = false;
	queue_topic_args_check(values, nulls);
}

/*
 * queue_topic_args_alter
 *		Put the arguments of alter_topic() into the row of a topic: (topic,
 *		retention, max_bytes, keep_unread).
 */
void
queue_topic_args_alter(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	set_limits(fcinfo->args[1], fcinfo->args[2], values, nulls);
	if (!PG_ARGISNULL(3))
		values[Anum_topic_keep_unread - 1] = PG_GETARG_DATUM(3);
	queue_topic_args_check(values, nulls);
}

/* Take those that are given; zero is none. */
static void
set_limits(NullableDatum retention, NullableDatum max_bytes, Datum *values,
		   bool *nulls)
{
	if (!retention.isnull)
	{
		values[Anum_topic_retention - 1] = retention.value;
		nulls[Anum_topic_retention - 1] =
			queue_interval_usec(DatumGetIntervalP(retention.value),
								"retention") == 0;
	}
	if (!max_bytes.isnull)
	{
		values[Anum_topic_max_bytes - 1] = max_bytes.value;
		nulls[Anum_topic_max_bytes - 1] = DatumGetInt64(max_bytes.value) == 0;
	}
}

/* Raise 22023 for a value that no topic may have. */
void
queue_topic_args_check(const Datum *values, const bool *nulls)
{
	int			partitions = DatumGetInt32(values[Anum_topic_partitions - 1]);

	if (partitions < 1 || partitions > MAX_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitions is out of range"),
				 errdetail("It must be between 1 and %d.", MAX_PARTITIONS)));
	if (!nulls[Anum_topic_retention - 1])
		(void) queue_interval_usec(DatumGetIntervalP(values[Anum_topic_retention - 1]),
								   "retention");
	if (!nulls[Anum_topic_max_bytes - 1] &&
		DatumGetInt64(values[Anum_topic_max_bytes - 1]) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_bytes must not be negative"),
				 errhint("Zero means no limit.")));
}

/*-------------------------------------------------------------------------
 *
 * progress.c
 *		Long operations on queues and topics, for view queue.progress.
 *
 * Changes nothing and takes no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "common/progress.h"
#include "table/call.h"
#include "table/definition.h"

/* pid, queue, command, done, total, started_at */
#define Natts_progress			6

PG_FUNCTION_INFO_V1(queue_progress);

/* progress(): those of this database, on what the user may watch */
Datum
queue_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	Progress	progress;
	int			i = 0;

	while (queue_progress_next(&i, &progress))
	{
		Datum		values[Natts_progress];
		bool		nulls[Natts_progress] = {0};

		if (progress.dbid != MyDatabaseId || !queue_may_watch(progress.relid))
			continue;
		values[0] = Int32GetDatum(progress.pid);
		values[1] = ObjectIdGetDatum(progress.relid);
		values[2] = CStringGetTextDatum(progress.kind);
		values[3] = Int64GetDatum(progress.done);
		values[4] = Int64GetDatum(progress.total);
		nulls[4] = progress.total < 0;
		values[5] = TimestampTzGetDatum(progress.started_at);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

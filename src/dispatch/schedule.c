/*-------------------------------------------------------------------------
 *
 * schedule.c
 *		What falls due: delayed messages become part of the cover.
 *
 * Delayed messages are in a partial index of their own, by priority, due time
 * and id, and nowhere else: a million of them for next week take no memory,
 * and a consumer meets none.  Memory has the first due time of each priority
 * (overdue.c).  The first look after it goes over the index from there to
 * the present, and adds the ids.
 *
 * The entries alone tell all of that, so no row is read.  An entry may be dead,
 * or its transaction in progress: an id in the cover that does not exist does
 * no harm, and a commit announces itself.  The dead prefix of the index, which
 * an old snapshot may keep, lies before the time that memory has, so it is not
 * passed over again.
 *
 * Higher priorities come first, so that what others see meanwhile is in order.
 *
 * Locks: the caller's on the table, and that of the index while it is scanned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/ranges.h"
#include "dispatch/schedule.h"
#include "shared/cover.h"
#include "shared/overdue.h"
#include "table/scan.h"

/* Messages that are added at one go */
#define ADD_BATCH			1000

/* Ranges of ids, which merge beyond that */
#define ADD_ROOM			64

/* Messages on their way into the cover */
typedef struct DueBatch
{
	QueueSlot  *slot;
	Oid			relid;
	int			n;
	RangeSet	set;
	QueueRange	ranges[RANGE_PLACES(ADD_ROOM)];
} DueBatch;

static TimestampTz add_rank(DueBatch *batch, QueueDueScan *scan, int rank,
							TimestampTz from, TimestampTz now);
static void flush_batch(DueBatch *batch);

/*
 * queue_schedule_add_due
 *		Add what is due by "now" to the cover of a queue, which is open.
 */
void
queue_schedule_add_due(Relation rel, QueueDef *def, QueueSlot *slot,
					   TimestampTz now)
{
	TimestampTz times[NUM_RANKS];
	QueueDueScan *scan;
	DueBatch	batch;

	if (!queue_overdue_begin(slot, def->relid, now, times))
		return;
	INJECTION_POINT("queue-overdue-out", NULL);
	batch.slot = slot;
	batch.relid = def->relid;
	batch.n = 0;
	queue_ranges_init(&batch.set, batch.ranges, ADD_ROOM);
	scan = queue_due_scan_begin(rel, def);
	for (int rank = 0; rank < NUM_RANKS; rank++)
		if (times[rank] != TIMESTAMP_INFINITY)
			times[rank] = add_rank(&batch, scan, rank, times[rank], now);
	queue_due_scan_end(scan);
	flush_batch(&batch);
	queue_overdue_end(times);
}

/*
 * add_rank
 *		The same for one priority, whose messages due before "from" are known.
 *
 * Returns when the next one is due after "now".
 */
static TimestampTz
add_rank(DueBatch *batch, QueueDueScan *scan, int rank, TimestampTz from,
		 TimestampTz now)
{
	TimestampTz due;
	int64		id;

	queue_due_scan_from(scan, queue_rank_priority(rank), from);
	while (queue_due_scan_next(scan, &due, &id))
	{
		if (due > now)
			return due;
		queue_ranges_add(&batch->set, rank, id, id);
		if (++batch->n == ADD_BATCH)
			flush_batch(batch);
	}
	return TIMESTAMP_INFINITY;
}

/* Add what has gathered, and wake as many waiters. */
static void
flush_batch(DueBatch *batch)
{
	if (batch->n > 0)
		queue_cover_add_set(batch->slot, MyDatabaseId, batch->relid,
							&batch->set, batch->n, NULL);
	batch->n = 0;
	batch->set.nranges = 0;
}

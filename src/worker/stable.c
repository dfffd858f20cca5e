/*-------------------------------------------------------------------------
 *
 * stable.c
 *		Stable ids of topics: written down.
 *
 * Shared memory knows how far a topic can be read.  Plain SQL that goes by its
 * snapshot, a dump and a standby read it from queue.topic_stable, where the
 * worker writes it, a little after a publisher has ended, and not more often
 * than every 200 ms.
 *
 * The stable id is asked for before the row is written, so what is below it
 * was committed before the row is.
 *
 * Also reports what must not happen: that a publisher ended with an id below
 * a stable id that a reader was told.
 *
 * Nothing here waits: a topic that is locked is left for later.  Without a
 * worker nothing is written, and readers that go by the row read less.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "shared/topic_slot.h"
#include "table/stable_id.h"
#include "transaction/publishing.h"
#include "worker/stable.h"

/* When to try again if a topic is locked, or after an error */
#define LOCKED_DELAY		USECS_PER_SEC

/* Not before that */
static TimestampTz write_at = DT_NOBEGIN;

static bool write_one(Oid relid);

/* Return when stable ids are to be written. */
TimestampTz
queue_stable_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			place = 0;

	if (!OidIsValid(queue_topic_slot_next_changed(&place)))
		return TIMESTAMP_INFINITY;

	if (write_at > now + LOCKED_DELAY)
		write_at = now;			/* the clock has been set back */
	return write_at;
}

/*
 * queue_stable_write
 *		Write down the stable ids that have changed.
 *
 * A duty of the worker; returns when to be called again.
 */
TimestampTz
queue_stable_write(void)
{
	bool		is_left = false;
	int			place = 0;
	Oid			relid;

	while (OidIsValid(relid = queue_topic_slot_next_changed(&place)))
		if (!write_one(relid))
			is_left = true;
	write_at = GetCurrentTimestamp() +
		(is_left ? LOCKED_DELAY : STABLE_ID_DELAY);
	return is_left ? write_at : TIMESTAMP_INFINITY;
}

/* The same for one topic; false: it is locked. */
static bool
write_one(Oid relid)
{
	bool		is_locked;
	Relation	rel = queue_open_unless_locked(relid, AccessShareLock,
											   &is_locked);
	int64		stable_id;
	uint64		nviolations;

	if (rel == NULL)
	{
		if (!is_locked)
			queue_topic_slot_drop_idle(relid);
		return !is_locked;
	}
	if (queue_topic_limit_to_write(relid, &stable_id, &nviolations) ==
		TOPIC_DONE)
	{
		queue_stable_id_write(relid, stable_id);
		if (nviolations > 0)
			ereport(LOG,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("topic \"%s\" got messages below its stable id",
							queue_shown_name(RelationGetRelid(rel))),
					 errdetail_plural("This has happened %llu time; readers may have passed them.",
									  "This has happened %llu times; readers may have passed them.",
									  (unsigned long) nviolations,
									  (unsigned long long) nviolations)));
	}
	table_close(rel, NoLock);
	return true;
}

/* After an error: what was begun is to be done again. */
void
queue_stable_failed(void)
{
	queue_topic_slot_write_again();
	write_at = GetCurrentTimestamp() + LOCKED_DELAY;
}

/*-------------------------------------------------------------------------
 *
 * count_partition.c
 *		Failures of what comes next in a partition of a subscription.
 *
 * A failure is one of the message that is next after the position, and goes to
 * the row of the position.  At the limit of attempts, a copy of the message goes
 * to the dead letters, and the position moves past it, in one transaction; or
 * the partition stops there, if the subscription says so.
 *
 * What failed may be gone from the topic by now.  Then its failures are forgotten:
 * they are not those of the message that comes next.  Which one it was is told by
 * the last id of what failed with it, which at the last attempt is nothing else.
 * Memory tells which message comes next, but not after a crash, and not if a
 * consumer had deleted the next one, took a later one, and rolled back.  So if the
 * row does not count the failures of that message, the topic is asked.  Not after
 * an error, because that may be that the subscription's owner cannot open it; then,
 * if memory says that it is another message, they stay there, and in the log.
 *
 * What is next may lie behind any number of messages that are not wanted.  So it
 * is looked for as long as one call may, and the next step, which comes soon, goes
 * on from there.
 *
 * What if this process dies here?  The next worker looks from the position on, or
 * from where memory says that others have come.  What if the message commits here?
 * It is above the stable id, or the look comes to it.  What if memory is full?  Of
 * so many looks as there is no place for, the oldest begins anew.
 *
 * Locks: the partition is held by the worker, as a step; the topic is opened as
 * for a read, with the rights of the subscription's owner.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "dispatch/move.h"
#include "shared/availability.h"
#include "topic/letter.h"
#include "topic/reading.h"
#include "transaction/charge.h"
#include "worker/count_partition.h"

/*
 * A look for what is next that was broken off: nothing is wanted between these
 * ids.  Others know that as well (shared/place.c), but may forget it.
 */
typedef struct BrokenOff
{
	Oid			relid;
	int			partition;
	uint32		filter;
	int64		after;
	int64		passed;
} BrokenOff;

#define MAX_BROKEN_OFF		16

/* The last ones, each of another partition */
static BrokenOff broken_off[MAX_BROKEN_OFF];
static uint32 next_broken_off = 0;

static PartitionOutcome count_next(Relation rel, SubscriptionDef *def,
								   Position *position,
								   const InflightEntry *entry,
								   bool marks_only, char **reason);
static void forget_failures_of_gone(Relation rel, SubscriptionDef *def,
									Position *position);
static bool is_to_go(const SubscriptionDef *def, int failed);
static PartitionOutcome send_next(Relation rel, SubscriptionDef *def,
								  Position *position,
								  const InflightEntry *entry,
								  const FailureNews *news);
static bool look_for_next(Reading *reading, const Position *position,
						  ReadBatch *batch);
static BrokenOff *place_of(const BrokenOff *look);
static bool write_failures(Relation rel, SubscriptionDef *def,
						   Position *position, const InflightEntry *entry,
						   const FailureNews *news);

/* Count the failures of what is next, or pass it. */
PartitionOutcome
queue_count_partition(Relation rel, SubscriptionDef *def, InflightEntry *entry,
					  bool marks_only, char **reason)
{
	Position   *position = queue_position_make(rel);
	PartitionOutcome outcome = PARTITION_PASSED;

	*reason = NULL;
	switch (queue_position_read(rel, def, (int) entry->key.id, position))
	{
		case POSITION_BUSY:
			outcome = PARTITION_BUSY;
			break;
		case POSITION_MISSING:
			break;
		case POSITION_FOUND:
			if (!queue_inflight_is_consumed(entry, position->id))
				outcome = count_next(rel, def, position, entry, marks_only,
									 reason);
			break;
	}
	queue_position_free(position);
	return outcome;
}

/* The same, where the position is. */
static PartitionOutcome
count_next(Relation rel, SubscriptionDef *def, Position *position,
		   const InflightEntry *entry, bool marks_only, char **reason)
{
	PartitionOutcome outcome = PARTITION_COUNTED;
	FailureNews news;

	queue_inflight_read_news(entry, &news);
	if (position->failures > 0 &&
		(entry->first_id == 0 || entry->first_id > position->alone_until))
	{
		if (!marks_only)
			forget_failures_of_gone(rel, def, position);
		else if (entry->first_id != 0)
			return PARTITION_BUSY;
	}
	if (is_to_go(def, position->failures + entry->failures))
	{
		*reason = queue_dead_letter_problem_of(def->dead_letter,
											   def->retry.max_attempts,
											   rel->rd_rel->relowner);
		if (*reason == NULL && !marks_only)
			return send_next(rel, def, position, entry, &news);
		outcome = PARTITION_STUCK;
	}
	if (entry->failures == 0 && news.nnotes == 0)
		return outcome;
	return write_failures(rel, def, position, entry, &news) ? outcome :
		PARTITION_BUSY;
}

/* Let the position forget failures of what has gone from the topic. */
static void
forget_failures_of_gone(Relation rel, SubscriptionDef *def, Position *position)
{
	Reading		reading;
	bool		is_undecided;

	queue_reading_begin(&reading, rel, def, GetActiveSnapshot(), 1);
	queue_reading_look_at(&reading, position->partition);
	queue_position_next_is(position,
						   queue_reading_next_id(&reading, position,
												 position->alone_until,
												 &is_undecided));
	queue_reading_end(&reading, true /* keeps topic */ );
}

/* Has what is next failed so often that it is a dead letter? */
static bool
is_to_go(const SubscriptionDef *def, int failed)
{
	return OidIsValid(def->dead_letter) &&
		def->on_failure == ON_FAILURE_DEAD_LETTER &&
		queue_is_at_limit(def->retry.max_attempts, failed);
}

/*
 * send_next
 *		Send what is next to the dead letters, and move on.
 *
 * If it turns out that what failed has gone from the topic, that is forgotten, and
 * no more.
 */
static PartitionOutcome
send_next(Relation rel, SubscriptionDef *def, Position *position,
		  const InflightEntry *entry, const FailureNews *news)
{
	Reading		reading;
	ReadBatch	batch = {0};
	int64		id = position->id;
	bool		is_gone = true;
	bool		sends = false;
	int			failed = 0;

	queue_reading_begin(&reading, rel, def, GetActiveSnapshot(), 1);
	queue_reading_look_at(&reading, position->partition);
	if (!look_for_next(&reading, position, &batch))
	{
		queue_reading_end(&reading, true /* keeps topic */ );
		return PARTITION_LOOKS_ON;
	}
	if (batch.n > 0)
	{
		queue_position_next_is(position, batch.first);
		is_gone = queue_inflight_is_consumed(entry, batch.first - 1);
		failed = queue_add_failures(position->failures,
									is_gone ? 0 : entry->failures);
		sends = is_to_go(def, failed);
	}
	if (sends)
	{
		id = batch.last;
		queue_letter_send(rel, def, batch.slot, "max_attempts reached",
						  failed, queue_position_failure_log(position), news);
		queue_charge_passed(def, GONE_DEAD, 1);
	}
	queue_reading_end(&reading, true /* keeps topic */ );
	if (failed > 0 && !sends)
		return is_gone ? PARTITION_PASSED :
			write_failures(rel, def, position, entry, news) ?
			PARTITION_COUNTED : PARTITION_BUSY;
	return queue_position_move(rel, def, position, id) ? PARTITION_PASSED :
		PARTITION_BUSY;
}

/* Look for the next message that is wanted; false: the next step goes on. */
static bool
look_for_next(Reading *reading, const Position *position, ReadBatch *batch)
{
	BrokenOff	look = {
		.relid = RelationGetRelid(reading->rel),
		.partition = position->partition,
		.filter = reading->def->filter,
		.after = position->id,
		.passed = position->id
	};

	BrokenOff  *before = place_of(&look);

	if (before != NULL && before->filter == look.filter &&
		before->after == look.after)
		look.passed = before->passed;
	queue_reading_batch(reading, look.partition, look.passed, 0, 1, batch);
	if (batch->n > 0 || !queue_reading_is_enough(reading))
		return true;
	look.passed = batch->passed;
	if (before == NULL)
		before = &broken_off[next_broken_off++ % MAX_BROKEN_OFF];
	*before = look;
	return false;
}

/* Where was a look at this partition broken off?  NULL: that is not known. */
static BrokenOff *
place_of(const BrokenOff *look)
{
	for (int i = 0; i < MAX_BROKEN_OFF; i++)
		if (broken_off[i].relid == look->relid &&
			broken_off[i].partition == look->partition)
			return &broken_off[i];
	return NULL;
}

/* Let the row tell the failures; false: somebody has locked it. */
static bool
write_failures(Relation rel, SubscriptionDef *def, Position *position,
			   const InflightEntry *entry, const FailureNews *news)
{
	int64		together = entry->last_id > position->id ? entry->last_id : 0;

	return queue_position_fail(rel, def, position,
							   position->failures + entry->failures, together,
							   news);
}

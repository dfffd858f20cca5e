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
#include "worker/count_partition.h"

static bool send_next(Relation rel, SubscriptionDef *def,
					  Position *position, int failed,
					  const FailureNews *news);

/* Count the failures of what is next, or pass it. */
PartitionOutcome
queue_count_partition(Relation rel, SubscriptionDef *def, InflightEntry *entry,
					  bool marks_only, char **reason)
{
	Position   *position = queue_position_make(rel);
	PartitionOutcome outcome = PARTITION_COUNTED;
	FailureNews news;
	bool		done = true;

	*reason = NULL;
	queue_inflight_read_news(entry, &news);
	switch (queue_position_read(rel, def, (int) entry->key.id, position))
	{
		case POSITION_BUSY:
			done = false;
			break;
		case POSITION_MISSING:
			outcome = PARTITION_PASSED;
			break;
		case POSITION_FOUND:
			if (queue_inflight_is_consumed(entry, position->id))
				outcome = PARTITION_PASSED;
			else
			{
				int			failed = position->failures + entry->failures;
				int64		together = entry->last_id > position->id ?
					entry->last_id : 0;
				bool		is_to_go = OidIsValid(def->dead_letter) &&
					def->on_failure == ON_FAILURE_DEAD_LETTER &&
					queue_is_at_limit(def->retry.max_attempts, failed);

				if (is_to_go)
					*reason = queue_dead_letter_problem_of(def->dead_letter,
														   def->retry.max_attempts,
														   rel->rd_rel->relowner);
				if (is_to_go && *reason == NULL && !marks_only)
				{
					outcome = PARTITION_PASSED;
					done = send_next(rel, def, position, failed, &news);
					break;
				}
				if (is_to_go)
					outcome = PARTITION_STUCK;
				if (entry->failures > 0 || news.nnotes > 0)
					done = queue_position_fail(rel, def, position, failed,
											   together, &news);
			}
			break;
	}
	queue_position_free(position);
	return done ? outcome : PARTITION_BUSY;
}

/*
 * send_next
 *		Send what is next to the dead letters, and move on; false: somebody has
 *		locked the position.
 *
 * If it has gone from the topic, its failures are forgotten.
 */
static bool
send_next(Relation rel, SubscriptionDef *def, Position *position, int failed,
		  const FailureNews *news)
{
	Reading		reading;
	ReadBatch	batch = {0};
	int64		id = position->id;

	queue_reading_begin(&reading, rel, def, GetActiveSnapshot(), 1);
	queue_reading_look_at(&reading, position->partition);
	queue_reading_batch(&reading, position->partition, id, 0, 1, &batch);
	if (batch.n > 0)
	{
		id = batch.last;
		queue_letter_send(rel, def, batch.slot, "max_attempts reached",
						  failed, queue_position_failure_log(position), news);
	}
	queue_reading_end(&reading, true);
	return queue_position_move(rel, def, position, id);
}

/*-------------------------------------------------------------------------
 *
 * availability.c
 *		Can a message be taken, and if not, why not?
 *
 * The one rule.  Consumers, wait(), the counts, browse() and the repair of
 * hidden messages all ask it, so they agree.  Consumers ask twice, because a
 * row is trusted only while its message is claimed: the claim asks what the
 * in-flight table knows, and then take.c asks again with the row.
 *
 * The functions here take no lock, look nothing up, change nothing and call
 * nothing.  So they may run while a partition of the in-flight table is
 * locked, and test/unit calls them for every combination, without a server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "shared/availability.h"

/*
 * queue_lease_has_run_out
 *		Returns true if the entry is a lease past its deadline that no
 *		transaction is settling.
 *
 * The first process that finds such a lease ends it.  Until then it is judged
 * as if it had been ended.
 */
bool
queue_lease_has_run_out(const InflightEntry *entry, TimestampTz now)
{
	return entry->state == INFLIGHT_LEASED && !entry->is_settling &&
		entry->deadline <= now;
}

/*
 * queue_is_at_limit
 *		Returns true if a message has failed as often as its queue allows.
 *
 * max_attempts = 0 allows any number.
 */
bool
queue_is_at_limit(int max_attempts, int failures)
{
	return max_attempts > 0 && failures >= max_attempts;
}

/*
 * queue_batch_limit
 *		Return with how many others, itself among them, a message may be taken
 *		that has failed so often; 0 if it has not failed.
 *
 * "batch" is how many it was when it failed last, 0 if that is not known.  A
 * batch that failed is halved, so that what is at fault is found, and an
 * innocent message fails no more often than the logarithm says.  The last
 * attempt is made alone: nothing becomes a dead letter for what another one
 * did, but where one attempt is all there is.
 */
int
queue_batch_limit(int max_attempts, int failures, int batch)
{
	if (failures == 0)
		return 0;
	if (queue_is_at_limit(max_attempts, failures + 1))
		return 1;
	return Max(batch / 2, 1);
}

/* Returns true if a message is beyond its time; 0: it has none. */
bool
queue_has_expired(TimestampTz expires_at, TimestampTz now)
{
	return expires_at != 0 && expires_at <= now;
}

/*
 * queue_entry_status
 *		Judge a message by its entry in the in-flight table alone.
 *
 * status->failures are then only those that the row does not count yet.
 */
void
queue_entry_status(const InflightEntry *entry, TimestampTz now,
				   MessageStatus *status)
{
	queue_message_status(0, 0, 0, 0, entry, now, status);
}

/*
 * queue_message_status
 *		Judge a message by its row and its in-flight entry.
 *
 * "visible_at" and "expires_at" are 0 if the row does not say.  "entry" may be
 * a copy, and is NULL if the message has none.  A lease that
 * has run out counts as one more failure, unless the row counts that one
 * already.
 */
void
queue_message_status(int max_attempts, int counted, TimestampTz visible_at,
					 TimestampTz expires_at, const InflightEntry *entry,
					 TimestampTz now, MessageStatus *status)
{
	bool		is_held = false;
	bool		is_exhausted = false;

	status->is_claimed = false;
	status->failures = counted;
	status->due = visible_at;
	if (entry != NULL)
	{
		status->failures = queue_add_failures(counted, entry->failures);
		switch ((InflightState) entry->state)
		{
			case INFLIGHT_CLAIMED:
				status->is_claimed = true;
				pg_fallthrough;
			case INFLIGHT_IDLE:
				status->due = Max(status->due, entry->deadline);
				is_exhausted = entry->is_exhausted;
				break;
			case INFLIGHT_DEQUEUED:
				is_held = true;
				status->due = 0;
				break;
			case INFLIGHT_LEASED:
				is_held = !queue_lease_has_run_out(entry, now);
				if (is_held)
					status->due = entry->is_settling ? 0 : entry->deadline;
				else if (!entry->is_lapse_counted)
					status->failures = queue_add_failures(status->failures, 1);
				break;
		}
	}

	if (is_held)
		status->availability = MESSAGE_HELD;
	else if (is_exhausted || queue_is_at_limit(max_attempts, status->failures))
		status->availability = MESSAGE_EXHAUSTED;
	else if (queue_has_expired(expires_at, now))
		status->availability = MESSAGE_EXPIRED;
	else if (status->due > now)
		status->availability = MESSAGE_NOT_DUE;
	else
		status->availability = MESSAGE_AVAILABLE;
}

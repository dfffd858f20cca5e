/*-------------------------------------------------------------------------
 *
 * availability.c
 *		Can a message be taken, and if not, why not?
 *
 * The rule by which counts, browse(), wait() and the safety net judge, so that
 * they give the answer that a consumer gets.  Consumers apply the same rule in
 * two steps, since they must claim the message before they trust its row:
 * queue_inflight_claim() judges the entry, judge() in take.c the row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "dispatch/availability.h"

/*
 * queue_message_status
 *		Judge a committed row together with its in-flight entry.
 *
 * "entry" is a copy, or NULL if the message has none.  Takes no lock, looks
 * nothing up and changes nothing.  A lease that has run out is judged as if it
 * had been ended, with one failure more, because whoever looks first ends it.
 */
void
queue_message_status(const QueueDef *def, const MessageRow *row,
					 const InflightEntry *entry, TimestampTz now,
					 MessageStatus *status)
{
	bool		is_held = false;
	bool		is_exhausted = false;

	status->is_claimed = false;
	status->failures = row->attempts;
	status->due = row->visible_at;
	if (entry != NULL)
	{
		status->failures += entry->failures;
		switch ((InflightState) entry->state)
		{
			case INFLIGHT_CLAIMED:
				status->is_claimed = true;
				/* FALLTHROUGH */
			case INFLIGHT_IDLE:
				status->due = Max(status->due, entry->deadline);
				is_exhausted = entry->is_exhausted;
				break;
			case INFLIGHT_TAKEN:
				is_held = true;
				status->due = 0;
				break;
			case INFLIGHT_LEASED:
				is_held = entry->is_settling || entry->deadline > now;
				if (is_held)
					status->due = entry->is_settling ? 0 : entry->deadline;
				else
					status->failures++;
				break;
		}
	}

	if (is_held)
		status->availability = MESSAGE_HELD;
	else if (is_exhausted ||
			 (def->max_attempts > 0 && status->failures >= def->max_attempts))
		status->availability = MESSAGE_EXHAUSTED;
	else if (status->due > now)
		status->availability = MESSAGE_NOT_DUE;
	else
		status->availability = MESSAGE_AVAILABLE;
}

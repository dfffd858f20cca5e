/*-------------------------------------------------------------------------
 *
 * inflight_entry.c
 *		What changes in an entry of the in-flight table, whoever does it.
 *
 * A process that lets go of a message tells the cover (offer), because the
 * message may be available now or at a later time: the entry goes into its
 * heap of due times, or the id is added.  Only a consumer that gives back a
 * claim does not, because the id is in its window (cover.c).
 *
 * Locks: the partition of the entry (inflight_table.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "shared/counters.h"
#include "shared/deadline.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"

/*
 * queue_inflight_logged_failures
 *		Return how many failures, not counted in the row, a crash would make
 *		of what the log says of a message that is held by none now.
 *
 * Returns -1 if it would make a lease of it that has ended.  The partition is
 * locked.
 */
int
queue_inflight_logged_failures(const InflightEntry *entry)
{
	switch (entry->logged)
	{
		case LOG_FAILURES:
			return entry->logged_failures;
		case LOG_DEQUEUED:
			return entry->logged_failures + 1;
		case LOG_LEASE:
			return entry->is_written ? entry->logged_failures + 1 : -1;
		default:
			return 0;
	}
}

/*
 * queue_inflight_has_news
 *		Returns true if the row of a message held by none does not tell all
 *		that it is to tell.
 *
 * Mostly that is a failure.  But the row may count already that a lease ran
 * out, and the consumer may have said more afterwards.  Memory alone knows when
 * a partition is due.  The partition of the table is locked, or the caller holds
 * the entry.
 */
bool
queue_inflight_has_news(const InflightEntry *entry)
{
	return entry->failures > 0 || entry->nnotes > 0 ||
		(entry->is_delayed && !queue_entry_is_partition(entry));
}

/*
 * queue_inflight_read_news
 *		Tell the failures that the row of a message does not tell, for the
 *		holder of the entry.
 */
void
queue_inflight_read_news(const InflightEntry *entry, FailureNews *news)
{
	news->nnotes = entry->nnotes;
	news->is_retold = entry->is_retold;
	memcpy(news->notes, entry->notes, sizeof(news->notes));
	news->nunknown = entry->failures - (entry->nnotes - entry->is_retold);
	news->nunknown = Max(news->nunknown, 0);
}

/*
 * queue_entry_set_idle
 *		Held by none from now on, and not to be taken before "due" (0: at
 *		once).
 *
 * The partition is locked.
 */
void
queue_entry_set_idle(InflightEntry *entry, TimestampTz due)
{
	queue_entry_note_change(entry);
	if (entry->is_counted)
		queue_held_remove(entry->queue, entry->key.relid);
	entry->is_counted = false;
	entry->state = INFLIGHT_IDLE;
	entry->is_settling = false;
	entry->is_step = false;
	entry->is_prepared = false;
	entry->is_written = false;
	entry->is_open = false;
	entry->receive_slot = 0;
	entry->is_behind_failed = false;
	entry->is_uncounted = false;
	entry->since = GetCurrentTimestamp();
	entry->deadline = due;
}

/*
 * queue_entry_offer
 *		Tell the cover that the message is held by none any more.
 *
 * It may be available now, or will be at the deadline.  The partition is
 * locked.
 */
void
queue_entry_offer(InflightEntry *entry, bool wakes)
{
	if (!entry->is_exhausted && entry->deadline > GetCurrentTimestamp())
	{
		/* until then none may take more of its group, not even its holder */
		queue_group_disown(&entry->member);
		queue_deadline_set(entry->queue, &entry->key, &entry->due,
						   entry->deadline);
		return;
	}
	queue_deadline_clear(&entry->due);
	if (entry->is_exhausted)
		queue_group_disown(&entry->member);
	else if (entry->member.group != NULL)
		queue_group_leave(&entry->member, true, queue_entry_rank(entry), 0,
						  wakes);
	else
		queue_cover_add(entry->queue, &entry->key, entry->priority, wakes);
}

/*
 * queue_entry_has_nothing_left
 *		Is nothing remembered of the message itself?
 *
 * The partition is locked.
 */
bool
queue_entry_has_nothing_left(const InflightEntry *entry)
{
	return entry->state == INFLIGHT_IDLE && !queue_inflight_has_news(entry) &&
		!entry->is_exhausted && !entry->is_lapsed &&
		!(queue_entry_is_partition(entry) &&
		  entry->deadline > GetCurrentTimestamp());
}

/*
 * queue_entry_remove_if_nothing_left
 *		Remove an entry of which there is nothing to remember.
 *
 * The partition is locked.
 */
void
queue_entry_remove_if_nothing_left(InflightEntry *entry)
{
	Assert(entry->state == INFLIGHT_IDLE);
	if (queue_entry_has_nothing_left(entry) && !entry->is_durable)
	{
		queue_deadline_clear(&entry->due);
		queue_entry_remove(entry);
	}
	else if (entry->is_lapsed)
		queue_inflight_note_lapsed();
}

/*
 * queue_entry_forget
 *		The message is gone; the worker removes what queue.lease has of it.
 *
 * The partition is locked.
 */
void
queue_entry_forget(InflightEntry *entry)
{
	entry->failures = 0;
	entry->is_lapsed = false;
	entry->is_lapse_counted = false;
	entry->failed_at = 0;
	entry->is_exhausted = false;
	entry->is_delayed = false;
	entry->first_id = entry->last_id = 0;
	queue_entry_forget_notes(entry);
	queue_entry_set_idle(entry, 0);
	queue_deadline_clear(&entry->due);
	queue_group_leave(&entry->member, false, 0, 0, true);
	queue_entry_remove_if_nothing_left(entry);
}

/*
 * queue_entry_count_failure
 *		Count one failure more, which the row does not tell yet.
 *
 * The partition is locked.
 */
void
queue_entry_count_failure(InflightEntry *entry, const FailureNote *failure)
{
	if (entry->failures < PG_UINT16_MAX)
		entry->failures++;
	queue_counters_fail(entry->queue, entry->key.relid, 1);
	queue_entry_add_note(entry, failure);
	queue_entry_note_untold(entry, failure->at);
}

/*
 * queue_entry_set_batch
 *		So many were received together; if the lease has run out, they failed
 *		so.
 *
 * The partition is locked.
 */
void
queue_entry_set_batch(InflightEntry *entry, int batch)
{
	entry->batch = Min(batch, FAILURE_MAX_BATCH);
	if (entry->is_lapsed && !entry->is_lapse_counted && entry->nnotes > 0)
		entry->notes[entry->nnotes - 1].batch = entry->batch;
}

/*
 * queue_entry_add_note
 *		Keep a note of a failure; the oldest goes if there is no room.
 *
 * The partition is locked.
 */
void
queue_entry_add_note(InflightEntry *entry, const FailureNote *failure)
{
	if (entry->nnotes == FAILURES_KEPT)
	{
		memmove(&entry->notes[0], &entry->notes[1],
				(FAILURES_KEPT - 1) * sizeof(FailureNote));
		entry->nnotes--;
		entry->is_retold = false;
	}
	entry->notes[entry->nnotes++] = *failure;
}

/*
 * queue_entry_note_untold
 *		Note since when there are failures that neither the row nor the log
 *		tells.
 *
 * The partition is locked.
 */
void
queue_entry_note_untold(InflightEntry *entry, TimestampTz now)
{
	if (entry->state == INFLIGHT_IDLE &&
		queue_inflight_logged_failures(entry) >= entry->failures)
		entry->failed_at = 0;
	else if (entry->failed_at == 0)
		entry->failed_at = now;
}

/*
 * queue_entry_end_log
 *		Note that the log says nothing of it.
 *
 * The partition is locked.
 */
void
queue_entry_end_log(InflightEntry *entry)
{
	entry->is_durable = false;
	entry->logged = LOG_NOTHING;
	entry->logged_failures = 0;
	entry->is_written = false;
}

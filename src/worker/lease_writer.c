/*-------------------------------------------------------------------------
 *
 * lease_writer.c
 *		What of the in-flight table goes to the log of leases, and when.
 *
 * Leases that have lasted for queue.lease_write_delay go to the log.  So do
 * takes whose transaction lasts, so that a crash counts them, and failures
 * that no row has been told for so long.  What has ended is marked as ended
 * there.  They are gathered for a moment, so that one transaction writes many.
 *
 * The functions that note something are called while a partition of the
 * in-flight table is locked, so they allocate nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/guc.h"
#include "common/process.h"
#include "dispatch/lease.h"
#include "worker/lease_writer.h"

/* Leases are written this often at most, and in a quarter of their delay */
#define GATHER_DELAY		(USECS_PER_SEC / 4)

/* When they were last written; moves along when the clock is set */
static TimestampTz written_at = 0;

static TimestampTz write_time(Round *round, InflightEntry *entry);
static void add_removal(Round *round, const MessageKey *key);
static void write_log(void *arg);
static ErrorVerdict judge_write(const ErrorData *error, void *arg);

/*
 * queue_log_begin_round
 *		Compute the times of this round.
 */
void
queue_log_begin_round(Round *round)
{
	round->write_delay = (int64) queue_lease_write_delay * 1000;
	round->write_at = written_at + Min(GATHER_DELAY, round->write_delay / 4);
}

/* The clock has been set by so much. */
void
queue_log_move_clock(TimestampTz change)
{
	if (written_at != 0)
		written_at += change;
}

/*
 * queue_log_note_lease
 *		Visit a lease: it is to be ended, or written.
 *
 * It is not written before the transaction that received it has committed,
 * which is told then that the worker came by.  Until then it is like a
 * dequeue.
 */
void
queue_log_note_lease(Round *round, InflightEntry *entry)
{
	if (entry->deadline <= round->now && !round->is_last)
	{
		round_add_key(round, round->expired, &round->nexpired, &entry->key);
		return;
	}
	if (entry->due.slot == NULL)
		round_comes_again(round, entry->deadline);
	if (entry->is_open)
	{
		entry->is_passed_over = true;

		/* what an earlier lease has left there must not come back */
		if (entry->logged == LOG_LEASE && write_time(round, entry) > round->now)
			queue_log_note_failures(round, entry);
		queue_log_note_held(round, entry, entry->receive_slot == 0 &&
							!entry->is_lapse_counted);
	}
	else if (entry->logged != LOG_LEASE || !entry->is_written ||
			 entry->logged_failures != entry->failures)
		queue_log_note(round, entry, LOG_LEASE, write_time(round, entry));
}

/*
 * queue_log_note_held
 *		Visit a take; if its transaction lasts it is written, so that a crash
 *		counts it.
 *
 * What a prepared transaction holds is not written, because that will still be
 * there after a crash, and may be committed.  Nor is a lease that had run out,
 * which the row counts, before it was extended.  Nor is what the backends give
 * back because the server shuts down.
 */
void
queue_log_note_held(Round *round, InflightEntry *entry, bool crash_counts)
{
	if (!crash_counts || round->is_last)
		queue_log_note_failures(round, entry);
	else if (entry->logged != LOG_DEQUEUED ||
			 entry->logged_failures != entry->failures)
		queue_log_note(round, entry, LOG_DEQUEUED, write_time(round, entry));
}

/*
 * queue_log_note_failures
 *		The log is to say at once that none holds the message, and how often
 *		it failed.
 */
void
queue_log_note_failures(Round *round, InflightEntry *entry)
{
	if (entry->failures == 0)
	{
		if (entry->is_durable)
			add_removal(round, &entry->key);
	}
	else if (entry->logged != LOG_FAILURES ||
			 entry->logged_failures != entry->failures)
		queue_log_note(round, entry, LOG_FAILURES, round->now);
}

/*
 * write_time
 *		Return when a hold, or a failure from before it, has lasted for long
 *		enough.
 */
static TimestampTz
write_time(Round *round, InflightEntry *entry)
{
	TimestampTz since = entry->since;

	if (entry->failed_at != 0)
		since = Min(since, entry->failed_at);
	return since + round->write_delay;
}

/*
 * queue_log_note
 *		Note a message to be written, when it is time.
 */
void
queue_log_note(Round *round, InflightEntry *entry, LogKind kind,
			   TimestampTz at)
{
	LeaseRecord *record;

	if (at > round->now + round->write_delay)
		at = round->now;		/* the clock was set back */
	at = Max(at, round->write_at);
	if (at > round->now || round->nwrites == ROUND_SIZE)
	{
		round_comes_again(round, at);
		return;
	}
	record = &round->writes[round->nwrites++];
	record->key = entry->key;
	record->enqueued_at = entry->enqueued_at;
	record->kind = kind;
	record->failures = entry->failures;
	record->group_hash = entry->enqueued_at == QUEUE_PARTITION_ROW ?
		(uint64) entry->last_id : entry->group_hash;
	record->epoch = entry->epoch;
	record->number = entry->number;
	record->deadline = kind == LOG_LEASE || entry->is_delayed ?
		entry->deadline : 0;
	record->since = entry->since;
	record->role = entry->role;
	memcpy(record->application, entry->application, SHORT_NAME_SIZE);

	/* from now on its end has to take a row away */
	entry->is_durable = true;
}

/* Note that a message in the log is to be marked as ended, when it is time. */
static void
add_removal(Round *round, const MessageKey *key)
{
	if (round->write_at > round->now)
		round_comes_again(round, round->write_at);
	else
		round_add_key(round, round->removals, &round->nremovals, key);
}

/*
 * queue_log_write
 *		Bring the log up to date with what has been noted.
 *
 * Returns false if that failed.
 */
bool
queue_log_write(Round *round)
{
	int			i;

	if (round->nwrites == 0 && round->nremovals == 0)
		return true;
	if (!queue_process_run("writing leases", true, write_log, judge_write,
						   round))
		return false;
	for (i = 0; i < round->nremovals; i++)
		queue_inflight_log_ended(&round->removals[i]);
	for (i = 0; i < round->nwrites; i++)
		queue_inflight_log_written(&round->writes[i]);

	/* what did not fit into this round has waited long enough */
	written_at = round->nwrites < ROUND_SIZE &&
		round->nremovals < ROUND_SIZE ? round->now : 0;
	return true;
}

/* Body of queue_process_run() */
static void
write_log(void *arg)
{
	Round	   *round = arg;

	queue_lease_log(round->removals, round->nremovals,
					round->writes, round->nwrites);
}

/* Judge an error of that, and come again later. */
static ErrorVerdict
judge_write(const ErrorData *error, void *arg)
{
	Round	   *round = arg;

	round_comes_again(round, round->now + (queue_process_is_locked(error) ?
										   ROUND_LOCKED_DELAY :
										   ROUND_RETRY_DELAY));
	return queue_process_judge(error, NULL);
}

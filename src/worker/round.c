/*-------------------------------------------------------------------------
 *
 * round.c
 *		One round of a database's worker over its messages.
 *
 * The worker adds durability and promptness to what the consumers do
 * themselves, and nothing depends on it but these:
 *
 *	- leases, takes that last and failures go to the log (lease_writer.c)
 *	- failures go to the rows, and messages at the limit of attempts to the
 *	  dead letters (count.c)
 *	- leases past their deadline are ended, and waiters told, even if no
 *	  consumer looks at the queue
 *	- ends of prepared transactions that no hook has seen are noticed
 *	- the duties of the table in queue.c are done when they are due
 *
 * A round looks through the entries of the in-flight table that have changed,
 * under its locks, and notes what is to be done in arrays made before.  What
 * is on disk, and is not over, costs it nothing.  It finds ends of leases by
 * their due times, queue by queue (cover.c).  Now and then it looks through
 * the whole table, in case a link has been lost.  Then it does what it has
 * noted, in a few short transactions that wait for nothing beyond a short
 * lock_timeout.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/process.h"
#include "dispatch/lease.h"
#include "shared/cover.h"
#include "shared/deadline.h"
#include "shared/group.h"
#include "shared/queue_slot.h"
#include "transaction/prepared.h"
#include "worker/count.h"
#include "worker/duties.h"
#include "worker/lease_writer.h"
#include "worker/round.h"

/* How often to look through all entries */
#define LOOK_THROUGH		(10 * USECS_PER_SEC)

/* How often to ask whether a prepared transaction has ended */
#define PREPARED_DELAY		USECS_PER_SEC

/* When to do so the next time; moves along when the clock is set */
static TimestampTz look_through_at = 0;

static void begin_last_look(Round *round);
static bool note_work(InflightEntry *entry, void *arg);
static bool note_changed(InflightEntry *entry, void *arg);
static int	noted_in(const Round *round);
static void follow_clock(TimestampTz now);
static void look_through(Round *round);
static void end_due(Round *round);
static void end_expired(Round *round);

/*
 * queue_round
 *		Do what is due for the messages of this database.
 *
 * That is: end leases, write leases behind, count failures, move dead letters,
 * settle what prepared transactions held that have ended, and do the duties.
 * Called outside a transaction; runs its own.  Returns the time by which it is
 * to be called again (TIMESTAMP_INFINITY: only when asked).  Errors of one
 * queue are reported and do not come out.
 */
TimestampTz
queue_round(void)
{
	Round	   *round = palloc(sizeof(Round));
	TimestampTz next;
	int			nprepared;

	queue_process_begin("loading leases");
	queue_lease_load();
	queue_process_commit();

	round->now = GetCurrentTimestamp();
	follow_clock(round->now);
	round->next = TIMESTAMP_INFINITY;
	round->nexpired = round->nwrites = round->nremovals = round->nsteps = 0;
	round->is_last = round->takes_all = false;
	queue_log_begin_round(round);

	(void) queue_xact_resolve_prepared(&nprepared);
	if (nprepared > 0)
		round->next = round->now + PREPARED_DELAY;

	if (queue_inflight_size() > 0)
	{
		end_due(round);
		look_through(round);
		end_expired(round);
		(void) queue_log_write(round);
		queue_count_noted(round);
	}
	next = queue_duties_do(round->now);
	next = Min(next, round->next);
	pfree(round);
	return next;
}

/*
 * queue_round_last
 *		Save what memory knows, because the server stops.
 *
 * First all of it goes to the log, which is quick, then the failures to their
 * rows, with their texts, as far as there is time.  Each step ends in the log
 * what it tells the row, so it may be cut off anywhere.
 */
void
queue_round_last(void)
{
	Round	   *round = palloc(sizeof(Round));
	bool		done;

	round->takes_all = false;
	do
	{
		begin_last_look(round);
		done = queue_log_write(round);
	} while (done && (round->nwrites == ROUND_SIZE ||
					  round->nremovals == ROUND_SIZE));

	round->takes_all = true;
	do
	{
		begin_last_look(round);
		queue_count_noted(round);
	} while (round->nsteps == ROUND_SIZE);
	pfree(round);
}

/* Note the work of all entries, due or not. */
static void
begin_last_look(Round *round)
{
	round->now = GetCurrentTimestamp();
	round->next = TIMESTAMP_INFINITY;
	round->write_delay = 0;
	round->write_at = 0;
	round->is_last = true;
	round->nexpired = round->nwrites = round->nremovals = round->nsteps = 0;
	queue_inflight_visit(note_work, round);
}

/* ----------------------------------------------------------------
 *		What is there to do?  A partition is locked: no allocation.
 * ----------------------------------------------------------------
 */

/* Move times that were computed by a clock that has been set since. */
static void
follow_clock(TimestampTz now)
{
	static TimestampTz offset = 0;
	TimestampTz change = now - queue_clock() - offset;

	if (offset != 0)
	{
		queue_log_move_clock(change);
		queue_duties_move(change);
		if (look_through_at != 0)
			look_through_at += change;

		/*
		 * When to look again at rows that were being changed is a time of
		 * day, too, and no time of a message.
		 */
		if (change < -MAX_BUSY_DELAY)
		{
			queue_cover_recheck_busy(MyDatabaseId);
			queue_group_recheck(MyDatabaseId);
		}
	}
	offset += change;
}

/* Note the work of the entries that have changed, or now and then of all. */
static void
look_through(Round *round)
{
	if (look_through_at <= round->now)
	{
		look_through_at = round->now + LOOK_THROUGH;
		queue_inflight_visit(note_work, round);
	}
	else
		queue_inflight_visit_changed(note_changed, round);
}

/*
 * note_changed
 *		Visitor of the entries that have changed.
 *
 * Returns true if there is more to do about one: it was noted for this round,
 * or has given a time for another.
 */
static bool
note_changed(InflightEntry *entry, void *arg)
{
	Round	   *round = arg;
	TimestampTz next = round->next;
	int			nnoted = noted_in(round);
	bool		is_more;

	round->next = TIMESTAMP_INFINITY;
	(void) note_work(entry, arg);
	is_more = round->next != TIMESTAMP_INFINITY || noted_in(round) > nnoted;
	round->next = Min(round->next, next);
	return is_more;
}

/* How much has been noted? */
static int
noted_in(const Round *round)
{
	return round->nexpired + round->nwrites + round->nremovals + round->nsteps;
}

/* Visitor of the in-flight table: note what is to be done about an entry. */
static bool
note_work(InflightEntry *entry, void *arg)
{
	Round	   *round = arg;

	if (entry->state == INFLIGHT_IDLE)
		queue_count_note(round, entry);
	else if (round->takes_all)
		;
	else if (entry->state == INFLIGHT_LEASED &&
			 (!entry->is_settling || (round->is_last && !entry->is_prepared)))
		queue_log_note_lease(round, entry);
	else if (entry->state == INFLIGHT_DEQUEUED)
		queue_log_note_held(round, entry, !entry->is_prepared &&
							!entry->is_uncounted);
	return true;
}

/* ----------------------------------------------------------------
 *		Leases
 * ----------------------------------------------------------------
 */

/*
 * end_due
 *		End what is due, which wakes waiters.
 *
 * Entries of a queue without a slot are not linked; the look through the
 * table finds them.
 */
static void
end_due(Round *round)
{
	int			i;

	for (i = queue_slot_next_timed(0); i < queue_slot_count();
		 i = queue_slot_next_timed(i + 1))
	{
		QueueSlot  *slot = queue_slot_at(i);
		TimestampTz due;

		if (slot == NULL || slot->dbid != MyDatabaseId)
			continue;
		due = queue_deadline_first(slot);
		if (due <= round->now)
		{
			queue_inflight_end_due(slot, slot->relid, round->now);
			due = queue_deadline_first(slot);
		}
		round->next = Min(round->next, due);
	}
}

/* The same for leases that are not linked. */
static void
end_expired(Round *round)
{
	int			i;

	for (i = 0; i < round->nexpired; i++)
	{
		/*
		 * look again if it has ended now: it may be at its limit, or durable
		 */
		if (queue_inflight_expire(&round->expired[i], round->now))
			round->next = round->now;
	}
}

/*-------------------------------------------------------------------------
 *
 * sweep.c
 *		One round of a database's worker over its messages.
 *
 * The worker adds durability and promptness to what the consumers do
 * themselves, and nothing depends on it but these:
 *
 *	- leases that have lasted for queue.lease_write_delay go to the log; so do
 *	  takes whose transaction lasts, for a crash to count them, and failures
 *	  that no row has been told for so long; what has ended is marked as ended
 *	  there.  They gather for a moment, so that one transaction writes many
 *	- failures go to the rows: at once when the message backs off or is at the
 *	  limit of attempts, else when it has lain unclaimed for a second, since
 *	  rewriting a row hides the message from older snapshots.  The same
 *	  transaction ends what the log says of them
 *	- messages at the limit of attempts go to the dead letters
 *	- leases past their deadline are ended, and waiters told, even if nobody
 *	  looks at the queue
 *	- ends of prepared transactions that no hook has seen are noticed
 *	- messages that the cover has lost, if that should happen, are found
 *	- leases of messages that are gone are forgotten (gone.c)
 *	- queues that are worth a vacuum are found (vacuum.c)
 *	- the process is started that finishes branches of global transactions
 *
 * A round looks through those entries of the in-flight table that have changed,
 * under its locks, and notes what is to be done in arrays made before; what is
 * on disk, and is not over, costs it nothing.  Ends of leases it finds by their
 * due times, queue by queue (cover.c).  Now and then it looks through the whole
 * table, should a link have been lost.  Then it does that in a few short
 * transactions that wait for nobody beyond a short lock_timeout.  For every
 * message that it rewrites or moves it holds a claim, as a consumer does, so
 * no consumer judges a row that is about to change.
 *
 * An error is reported and ends that transaction.  If it came from a message,
 * those of the transaction are tried again one by one, so that one which
 * cannot be moved does not keep the others back; if the whole queue is not in
 * order, or is locked, all of them are put off.  So are those at the limit of
 * attempts, once that is in their rows, if it is known that the dead-letter
 * queue cannot take them.  Ten thousand messages may fail for one reason, again
 * and again: of a queue and a reason the log has one line a minute.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "api/ddl.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "common/mutant.h"
#include "common/process.h"
#include "dispatch/lease.h"
#include "dispatch/move.h"
#include "shared/availability.h"
#include "shared/database.h"
#include "shared/inflight.h"
#include "shared/waiter.h"
#include "table/message.h"
#include "transaction/in_doubt.h"
#include "transaction/xact.h"
#include "worker/gone.h"
#include "worker/heal.h"
#include "worker/sweep.h"
#include "worker/vacuum.h"

/* of each kind of work, what one round takes on */
#define ROUND_SIZE			1000

/* messages that one transaction rewrites */
#define STEP_BATCH			100

/* a failed message is counted when it has lain unclaimed for this long */
#define COUNT_DELAY			USECS_PER_SEC

/*
 * Rows that are gone over to see that none is hidden, in this time; but no more
 * than this share of the time, 1 in n, is spent on it.  Dead rows that an old
 * snapshot keeps are the slowest.
 */
#define HEAL_ROWS			100000
#define HEAL_INTERVAL		USECS_PER_SEC
#define HEAL_SHARE			20

/* how often to look through all entries */
#define LOOK_THROUGH		(10 * USECS_PER_SEC)

/* how often to let the resolver look for what nobody has asked for */
#define RESOLVER_INTERVAL	(60 * USECS_PER_SEC)

/* after an error */
#define RETRY_DELAY			(10 * USECS_PER_SEC)
#define LOCKED_RETRY_DELAY	USECS_PER_SEC

/* of a queue and a reason, the log has one line in this time */
#define REPORT_INTERVAL		(60 * USECS_PER_SEC)

/* reasons that are remembered to have been reported */
#define MAX_REPORTS			64

/* leases are written this often at most, and in a quarter of their delay */
#define GATHER_DELAY		(USECS_PER_SEC / 4)

/* how often to ask whether a queue is worth a vacuum */
#define VACUUM_INTERVAL		USECS_PER_SEC

/* how often to ask whether a prepared transaction has ended */
#define PREPARED_DELAY		USECS_PER_SEC

typedef struct Round
{
	TimestampTz now;
	TimestampTz next;			/* when there is more to do */
	int64		write_delay;
	TimestampTz write_at;		/* nothing goes to queue.lease before */
	int			nexpired;
	int			nwrites;
	int			nremovals;
	int			nsteps;
	MessageKey	expired[ROUND_SIZE];
	LeaseRecord writes[ROUND_SIZE];
	MessageKey	removals[ROUND_SIZE];
	MessageKey	steps[ROUND_SIZE];
	bool		is_retry;		/* the error has been reported */
	bool		marks_only;		/* moving has failed: only count */
	bool		is_queue_open;	/* the queue of the steps was found in order */
	char		queue_name[2 * NAMEDATALEN * 2];	/* its name */
	bool		knows_reason;	/* stuck_reason has been looked for */
	char	   *stuck_reason;	/* why its dead letters have nowhere to go */
	int			nstuck;			/* messages that stay for that reason */
	MessageKey	stuck[STEP_BATCH];
	bool		is_last;		/* the worker is about to leave */
	bool		takes_all;		/* ... and has written the log: steps, due or
								 * not */
	int			nended;			/* what the steps of a transaction end there */
	MessageKey	ended[STEP_BATCH];
} Round;

/* What has been reported of a queue, and when */
typedef struct Report
{
	Oid			relid;
	uint32		reason;			/* SQLSTATE, or hash of a sentence */
	TimestampTz at;
} Report;

bool		(*queue_sweep_look_for_branches) (void) = NULL;

/* the caller's, where transactions come back to */
static MemoryContext sweep_context = NULL;

/*
 * When leases were last written, and when to compact the log, to heal, to look
 * for old prepared transactions, and to look through all entries.  These are
 * times of day, like the due times of messages that they are compared with; they
 * move along when somebody sets the clock.
 */
static TimestampTz written_at = 0;
static TimestampTz compact_at = TIMESTAMP_INFINITY;
static TimestampTz heal_at = 0;
static TimestampTz warn_at = 0;
static TimestampTz warn_due = TIMESTAMP_INFINITY;
static TimestampTz look_through_at = 0;

static void begin_last_look(Round *round);
static bool note_work(InflightEntry *entry, void *arg);
static bool note_changed(InflightEntry *entry, void *arg);
static int	noted_in(const Round *round);
static void follow_clock(TimestampTz now);
static void look_through(Round *round);
static void end_due(Round *round);
static void note_idle(Round *round, InflightEntry *entry);
static void note_lease(Round *round, InflightEntry *entry);
static void note_held(Round *round, InflightEntry *entry, bool is_prepared);
static void note_failures(Round *round, InflightEntry *entry);
static TimestampTz write_time(Round *round, InflightEntry *entry);
static void note_write(Round *round, InflightEntry *entry, LogKind kind,
					   TimestampTz at);
static void add_key(Round *round, MessageKey *keys, int *n,
					const MessageKey *key);
static void add_removal(Round *round, const MessageKey *key);
static void end_expired(Round *round);
static bool write_leases(Round *round);
static void compact_leases(Round *round);
static void take_steps(Round *round);
static void step_alone(Round *round, const MessageKey *key, bool tries_move);
static bool step_batch(Round *round, const MessageKey *keys, int nkeys);
static void postpone_all(Round *round, const MessageKey *keys, int nkeys,
						 int64 delay);
static void step_queue(Round *round, const MessageKey *keys, int nkeys);
static void step_message(Round *round, Relation rel, QueueDef *def,
						 const MessageKey *key);
static char *find_stuck_reason(Round *round, Relation rel, QueueDef *def);
static void add_step_context(void *arg);
static bool is_report_due(Oid relid, uint32 reason, TimestampTz now);
static void end_in_log(Round *round, Hold *hold);
static bool claim_step(Round *round, const MessageKey *key, Hold **hold);
static void warn_in_doubt(Round *round);
static void heal(Round *round);
static void forget_gone(Round *round);
static void look_for_vacuum(Round *round);
static void look_for_branches(Round *round);
static void begin_transaction(const char *activity);
static void commit_transaction(void);
static void forget_settings(void);
static void report_error(bool is_quiet, bool *is_locked);

TimestampTz
queue_sweep(void)
{
	static bool is_first = true;
	Round	   *round = palloc(sizeof(Round));
	TimestampTz next;
	int			nprepared;

	sweep_context = CurrentMemoryContext;
	begin_transaction("loading leases");
	queue_lease_load();
	commit_transaction();
	if (is_first)
		forget_settings();
	is_first = false;

	round->now = GetCurrentTimestamp();
	follow_clock(round->now);
	round->next = TIMESTAMP_INFINITY;
	round->write_delay = (int64) queue_lease_write_delay * 1000;
	round->write_at = written_at + Min(GATHER_DELAY, round->write_delay / 4);
	round->nexpired = round->nwrites = round->nremovals = round->nsteps = 0;
	round->is_retry = round->marks_only = false;
	round->is_last = round->takes_all = false;

	(void) queue_xact_resolve_prepared(&nprepared);
	if (nprepared > 0)
		round->next = round->now + PREPARED_DELAY;

	if (queue_inflight_size() > 0)
	{
		end_due(round);
		look_through(round);
		end_expired(round);
		(void) write_leases(round);
		take_steps(round);
	}
	compact_leases(round);
	heal(round);
	forget_gone(round);
	look_for_vacuum(round);
	warn_in_doubt(round);
	look_for_branches(round);
	next = round->next;
	pfree(round);
	return next;
}

/* Settings of tables that went before this worker came */
static void
forget_settings(void)
{
	PG_TRY();
	{
		begin_transaction("looking for queues that are gone");
		PushActiveSnapshot(GetTransactionSnapshot());
		queue_ddl_forget_gone();
		PopActiveSnapshot();
		commit_transaction();
	}
	PG_CATCH();
	{
		bool		is_locked;

		report_error(false, &is_locked);
	}
	PG_END_TRY();
}

/*
 * What memory knows, when the server stops: first all of it goes to the log,
 * which is quick, then the failures to their rows, with their texts, as far as
 * there is time.  Each step ends in the log what it tells the row, so it may be
 * cut off anywhere.
 */
void
queue_sweep_leases(void)
{
	Round	   *round = palloc(sizeof(Round));
	bool		done;

	sweep_context = CurrentMemoryContext;
	round->is_retry = round->marks_only = round->takes_all = false;
	do
	{
		begin_last_look(round);
		done = write_leases(round);
	} while (done && (round->nwrites == ROUND_SIZE ||
					  round->nremovals == ROUND_SIZE));

	round->takes_all = true;
	do
	{
		begin_last_look(round);
		take_steps(round);
	} while (round->nsteps == ROUND_SIZE);
	pfree(round);
}

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

/* Move what was reckoned by a clock that has been set since. */
static void
follow_clock(TimestampTz now)
{
	static TimestampTz offset = 0;
	TimestampTz *const times[] = {
		&written_at, &compact_at, &heal_at, &warn_at, &warn_due,
		&look_through_at
	};
	TimestampTz change = now - queue_clock() - offset;

	for (int i = 0; i < lengthof(times) && offset != 0; i++)
		if (*times[i] != 0 && *times[i] != TIMESTAMP_INFINITY)
			*times[i] += change;
	offset += change;
}

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
 * Visitor of the entries that have changed.  There is more to do about one if
 * it was noted for this round, or has given a time for another.
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

static int
noted_in(const Round *round)
{
	return round->nexpired + round->nwrites + round->nremovals + round->nsteps;
}

/* Visitor of the in-flight table */
static bool
note_work(InflightEntry *entry, void *arg)
{
	Round	   *round = arg;

	if (entry->state == INFLIGHT_IDLE)
		note_idle(round, entry);
	else if (round->takes_all)
		;
	else if (entry->state == INFLIGHT_LEASED &&
			 (!entry->is_settling || (round->is_last && !entry->is_prepared)))
		note_lease(round, entry);
	else if (entry->state == INFLIGHT_TAKEN)
		note_held(round, entry, entry->is_prepared);
	return true;
}

/*
 * Nobody's: has it failed, or does the log say what is not so any more?  A step
 * tells the row and the log in one transaction, so that no crash counts a
 * failure twice.  Until the step is due, the log tells.
 */
static void
note_idle(Round *round, InflightEntry *entry)
{
	TimestampTz at = entry->since;
	int			told;

	if (entry->failures == 0 && !entry->is_exhausted)
	{
		note_failures(round, entry);
		return;
	}
	if (at > round->now + RETRY_DELAY)
		at = round->now;		/* the clock was set back */
	if (!entry->is_exhausted &&
		!(entry->is_delayed && entry->deadline > round->now))
		at += COUNT_DELAY;
	if (round->takes_all ? entry->since <= round->now :
		at <= round->now && !round->is_last)
	{
		add_key(round, round->steps, &round->nsteps, &entry->key);
		return;
	}
	round->next = Min(round->next, at);
	told = queue_inflight_logged_failures(entry);
	if (told < 0 || told > entry->failures)
		note_failures(round, entry);
	else if (told < entry->failures)
		note_write(round, entry, LOG_FAILURES,
				   entry->failed_at + round->write_delay);
}

/*
 * A lease is ended, or written.  Not before the transaction that received it
 * has committed: it is told then that the worker came by.  Until then it is
 * like a dequeue.
 */
static void
note_lease(Round *round, InflightEntry *entry)
{
	if (entry->deadline <= round->now && !round->is_last)
	{
		add_key(round, round->expired, &round->nexpired, &entry->key);
		return;
	}
	if (entry->due.state == NULL)
		round->next = Min(round->next, entry->deadline);
	if (entry->is_open)
	{
		entry->is_passed_over = true;

		/* what an earlier lease has left there must not come back */
		if (entry->logged == LOG_LEASE && write_time(round, entry) > round->now)
			note_failures(round, entry);
		note_held(round, entry, entry->receive_slot > 0);
	}
	else if (entry->logged != LOG_LEASE || !entry->is_written ||
			 entry->logged_failures != entry->failures)
		note_write(round, entry, LOG_LEASE, write_time(round, entry));
}

/*
 * A take whose transaction lasts is written, for a crash to count it.  What a
 * prepared transaction holds is not: that one will still be there after a
 * crash, and it may be committed.  Nor is what the backends give back because
 * the server shuts down.
 */
static void
note_held(Round *round, InflightEntry *entry, bool is_prepared)
{
	if (is_prepared || round->is_last)
		note_failures(round, entry);
	else if (entry->logged != LOG_TAKEN ||
			 entry->logged_failures != entry->failures)
		note_write(round, entry, LOG_TAKEN, write_time(round, entry));
}

/* The log is to say that nobody has it, and how often it failed, at once. */
static void
note_failures(Round *round, InflightEntry *entry)
{
	if (entry->failures == 0)
	{
		if (entry->is_durable)
			add_removal(round, &entry->key);
	}
	else if (entry->logged != LOG_FAILURES ||
			 entry->logged_failures != entry->failures)
		note_write(round, entry, LOG_FAILURES, round->now);
}

/* When a hold, or a failure from before it, has lasted for long enough */
static TimestampTz
write_time(Round *round, InflightEntry *entry)
{
	TimestampTz since = entry->since;

	if (entry->failed_at != 0)
		since = Min(since, entry->failed_at);
	return since + round->write_delay;
}

/* To be written, when it is time */
static void
note_write(Round *round, InflightEntry *entry, LogKind kind, TimestampTz at)
{
	LeaseRecord *record;

	if (at > round->now + round->write_delay)
		at = round->now;		/* the clock was set back */
	at = Max(at, round->write_at);
	if (at > round->now || round->nwrites == ROUND_SIZE)
	{
		round->next = Min(round->next, at);
		return;
	}
	record = &round->writes[round->nwrites++];
	record->key = entry->key;
	record->enqueued_at = entry->enqueued_at;
	record->kind = kind;
	record->failures = entry->failures;
	record->epoch = entry->epoch;
	record->number = entry->number;
	record->deadline = kind == LOG_LEASE || entry->is_delayed ?
		entry->deadline : 0;

	/* from now on its end has to take a row away */
	entry->is_durable = true;
}

/* A lease that is on disk has ended. */
static void
add_removal(Round *round, const MessageKey *key)
{
	if (round->write_at > round->now)
		round->next = Min(round->next, round->write_at);
	else
		add_key(round, round->removals, &round->nremovals, key);
}

/* What there is no room for is left to the next round, which is at once. */
static void
add_key(Round *round, MessageKey *keys, int *n, const MessageKey *key)
{
	if (*n < ROUND_SIZE)
		keys[(*n)++] = *key;
	else
		round->next = round->now;
}

/* ----------------------------------------------------------------
 *		Leases
 * ----------------------------------------------------------------
 */

/*
 * End what is due, which wakes who waits.  Of a queue without a state, entries
 * are not linked: they are found by the look through the table.
 */
static void
end_due(Round *round)
{
	int			i;

	for (i = queue_state_next_timed(0); i < queue_state_count();
		 i = queue_state_next_timed(i + 1))
	{
		QueueState *state = queue_state_at(i);
		TimestampTz due;

		if (state == NULL || state->dbid != MyDatabaseId)
			continue;
		due = queue_cover_first_due(state);
		if (due <= round->now)
		{
			queue_inflight_end_due(state, state->relid, round->now);
			due = queue_cover_first_due(state);
		}
		round->next = Min(round->next, due);
	}
}

/* The same for those that are not linked. */
static void
end_expired(Round *round)
{
	int			i;

	for (i = 0; i < round->nexpired; i++)
	{
		/* look again if it was: it may be at its limit, or durable */
		if (queue_inflight_expire(&round->expired[i], round->now))
			round->next = round->now;
	}
}

/* Bring queue.lease up to date; false if that failed. */
static bool
write_leases(Round *round)
{
	volatile bool done = false;
	bool		is_long;
	int			i;

	if (round->nwrites == 0 && round->nremovals == 0)
		return true;
	PG_TRY();
	{
		begin_transaction("writing leases");
		PushActiveSnapshot(GetTransactionSnapshot());
		is_long = queue_lease_log(round->removals,
								  MUTANT_SOMETIMES(LEASE_ROW_STAYS, 2) ?
								  0 : round->nremovals,
								  round->writes,
								  MUTANT(LEASE_NOT_WRITTEN) ?
								  0 : round->nwrites);
		PopActiveSnapshot();
		commit_transaction();
		for (i = 0; i < round->nremovals; i++)
			queue_inflight_log_ended(&round->removals[i]);
		for (i = 0; i < round->nwrites; i++)
			queue_inflight_log_written(&round->writes[i]);

		/* what did not fit into this round has waited long enough */
		written_at = round->nwrites < ROUND_SIZE &&
			round->nremovals < ROUND_SIZE ? round->now : 0;
		if (is_long && compact_at == TIMESTAMP_INFINITY)
			compact_at = round->now;
		done = true;
	}
	PG_CATCH();
	{
		bool		is_locked;

		report_error(false, &is_locked);
		round->next = Min(round->next, round->now +
						  (is_locked ? LOCKED_RETRY_DELAY : RETRY_DELAY));
	}
	PG_END_TRY();
	return done;
}

/*
 * Compact the log of leases, if it has become long.  While others use it, or
 * there was an error, that is put off.
 */
static void
compact_leases(Round *round)
{
	if (compact_at > round->now)
	{
		round->next = Min(round->next, compact_at);
		return;
	}
	PG_TRY();
	{
		begin_transaction("compacting leases");
		PushActiveSnapshot(GetTransactionSnapshot());
		compact_at = queue_lease_compact() ? TIMESTAMP_INFINITY :
			round->now + LOCKED_RETRY_DELAY;
		PopActiveSnapshot();
		commit_transaction();
	}
	PG_CATCH();
	{
		bool		is_locked;

		report_error(false, &is_locked);
		compact_at = round->now + RETRY_DELAY;
	}
	PG_END_TRY();
	round->next = Min(round->next, compact_at);
}

/* ----------------------------------------------------------------
 *		Counting failures, moving dead letters
 * ----------------------------------------------------------------
 */

/* Queue by queue, as many messages at a time as one transaction takes */
static void
take_steps(Round *round)
{
	int			first = 0;

	qsort(round->steps, round->nsteps, sizeof(MessageKey),
		  queue_message_key_compare);
	while (first < round->nsteps &&
		   (round->is_last || !queue_process_must_leave()))
	{
		int			n = 1;
		int			i;

		while (first + n < round->nsteps && n < STEP_BATCH &&
			   round->steps[first + n].relid == round->steps[first].relid)
			n++;
		if (!step_batch(round, &round->steps[first], n))
			for (i = 0; i < n; i++)
				step_alone(round, &round->steps[first + i], n > 1);
		round->is_retry = false;
		first += n;
	}
}

/*
 * One message, after an error.  If it cannot be moved, its row is to say at
 * least that it has exhausted its attempts.
 */
static void
step_alone(Round *round, const MessageKey *key, bool tries_move)
{
	round->is_retry = tries_move;
	if (tries_move && step_batch(round, key, 1))
		return;
	round->is_retry = false;
	round->marks_only = true;
	(void) step_batch(round, key, 1);
	round->marks_only = false;
	postpone_all(round, key, 1, RETRY_DELAY);
}

/*
 * In a transaction of its own.  False if there was an error with a message;
 * one with the whole queue puts all of them off.
 */
static bool
step_batch(Round *round, const MessageKey *keys, int nkeys)
{
	volatile bool done = false;
	ErrorContextCallback context;

	round->is_queue_open = false;
	round->queue_name[0] = '\0';
	round->knows_reason = false;
	round->nstuck = 0;
	context.callback = add_step_context;
	context.arg = round;
	context.previous = error_context_stack;
	PG_TRY();
	{
		error_context_stack = &context;
		round->nended = 0;
		begin_transaction("counting failures");
		PushActiveSnapshot(GetTransactionSnapshot());
		step_queue(round, keys, nkeys);
		if (round->nended > 0)
			(void) queue_lease_log(round->ended, round->nended, NULL, 0);
		PopActiveSnapshot();
		commit_transaction();
		error_context_stack = context.previous;
		postpone_all(round, round->stuck, round->nstuck, RETRY_DELAY);
		done = true;
	}
	PG_CATCH();
	{
		bool		is_locked;

		/* once for all messages that may have failed for the same reason */
		report_error(round->is_retry ||
					 !is_report_due(keys[0].relid, geterrcode(), round->now),
					 &is_locked);
		if (is_locked || !round->is_queue_open)
		{
			postpone_all(round, keys, nkeys,
						 is_locked ? LOCKED_RETRY_DELAY : RETRY_DELAY);
			done = true;
		}
	}
	PG_END_TRY();
	return done;
}

/* Come back to these messages later. */
static void
postpone_all(Round *round, const MessageKey *keys, int nkeys, int64 delay)
{
	int			i;

	for (i = 0; i < nkeys; i++)
		queue_inflight_postpone(&keys[i], round->now + delay);
	if (nkeys > 0)
		round->next = Min(round->next, round->now + delay);
}

/* What step_batch() does inside of the transaction */
static void
step_queue(Round *round, const MessageKey *keys, int nkeys)
{
	Oid			relid = keys[0].relid;
	Oid			save_userid;
	int			save_sec_context;
	Relation	rel;
	QueueDef   *def;
	Hold	   *hold;
	int			i;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
	{
		/* the queue is dropped, and with it what there was to remember */
		for (i = 0; i < nkeys; i++)
			if (claim_step(round, &keys[i], &hold))
			{
				hold->counted = PG_UINT16_MAX;
				hold->is_gone = true;
				end_in_log(round, hold);
			}
		return;
	}

	strlcpy(round->queue_name, queue_qualified_name(relid),
			sizeof(round->queue_name));
	rel = queue_open(relid, QUEUE_SYSTEM, &def);

	/* a publication may forbid both, whatever the message */
	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	CheckCmdReplicaIdentity(rel, CMD_DELETE);
	round->is_queue_open = true;
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   save_sec_context | SECURITY_RESTRICTED_OPERATION);
	for (i = 0; i < nkeys; i++)
		step_message(round, rel, def, &keys[i]);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	table_close(rel, NoLock);
}

/*
 * Count the failures of one message, or move it.  The hold that is left tells
 * the commit how many failures the row knows then.
 */
static void
step_message(Round *round, Relation rel, QueueDef *def, const MessageKey *key)
{
	Hold	   *hold;
	InflightEntry *entry;
	MessageRow *row;
	RowState	state;
	bool		done = true;

	if (!claim_step(round, key, &hold))
		return;
	entry = hold->entry;
	hold->counted = entry->failures;
	if (MUTANT_SOMETIMES(WORKER_FAILS, 50))
		elog(ERROR, "could not find message " INT64_FORMAT, key->id);

	row = queue_row_make(rel);
	row->id = key->id;
	row->enqueued_at = entry->enqueued_at;
	row->tid = entry->tid;
	row->priority = entry->priority;
	state = queue_row_find(rel, def, row);
	if (state == ROW_LIVE)
	{
		int			failed = row->attempts + entry->failures;
		char	   *error = queue_failure_text(&entry->error);
		bool		is_at_limit = queue_is_at_limit(def->retry.max_attempts, failed);
		bool		is_stuck = is_at_limit &&
			(round->marks_only || find_stuck_reason(round, rel, def) != NULL);

		if (is_at_limit && !is_stuck)
		{
			done = queue_message_dead_letter(rel, def, row, "max_attempts reached",
											 failed, error);
			hold->is_gone = done;
		}
		else if (entry->failures > 0)
			done = queue_row_rewrite(rel, row, MUTANT(COUNT_NOT_WRITTEN) ?
									 row->attempts : failed,
									 entry->is_delayed &&
									 entry->deadline > round->now,
									 entry->deadline, error);

		/* where there is no dead-letter queue there is nothing to try again */
		if (is_stuck && done && OidIsValid(def->dead_letter))
		{
			hold->is_exhausted = true;
			round->stuck[round->nstuck++] = *key;
		}
	}
	else if (state == ROW_GONE)
		hold->is_gone = true;
	else
		done = false;
	ExecDropSingleTupleTableSlot(row->slot);

	/* somebody else is changing the row: come back later */
	if (!done)
	{
		queue_inflight_unclaim_step(entry);
		queue_xact_pop(hold);
		queue_inflight_postpone(key, round->now + LOCKED_RETRY_DELAY);
		round->next = Min(round->next, round->now + LOCKED_RETRY_DELAY);
	}
	else
		end_in_log(round, hold);
}

/* What the step tells the row, the log is not to tell as well. */
static void
end_in_log(Round *round, Hold *hold)
{
	if (!hold->entry->is_durable)
		return;
	round->ended[round->nended++] = hold->key;
	hold->is_log_ended = true;
}

/*
 * Why messages of this queue that are at the limit of attempts cannot be
 * moved, if that is known without trying.  Says so in the log.
 */
static char *
find_stuck_reason(Round *round, Relation rel, QueueDef *def)
{
	char	   *reason;

	if (round->knows_reason)
		return round->stuck_reason;
	reason = queue_dead_letter_problem(def, rel->rd_rel->relowner);
	round->stuck_reason = reason;
	round->knows_reason = true;
	if (reason != NULL &&
		is_report_due(RelationGetRelid(rel),
					  hash_bytes((unsigned char *) reason, strlen(reason)),
					  round->now))
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("messages of queue %s that have used up max_attempts cannot be moved",
						round->queue_name),
				 errdetail_internal("%s", reason),
				 errhint("They stay where they are, and are tried again.  Mend the dead-letter queue, or name another with queue.alter_queue().")));
	return reason;
}

/* What an error in a step is about */
static void
add_step_context(void *arg)
{
	Round	   *round = arg;

	if (round->queue_name[0] != '\0')
		errcontext("counting failures and moving dead letters of queue %s",
				   round->queue_name);
}

/*
 * Is it time to report this of the queue?  Then it is taken to be reported.
 * What has not been reported for longest is forgotten, if there is no room.
 */
static bool
is_report_due(Oid relid, uint32 reason, TimestampTz now)
{
	static Report reports[MAX_REPORTS];
	Report	   *oldest = &reports[0];
	int			i;

	for (i = 0; i < MAX_REPORTS; i++)
	{
		Report	   *report = &reports[i];

		if (report->relid == relid && report->reason == reason)
		{
			/* the clock may have been set back */
			if (report->at <= now && now < report->at + REPORT_INTERVAL)
				return false;
			report->at = now;
			return true;
		}
		if (report->at < oldest->at)
			oldest = report;
	}
	oldest->relid = relid;
	oldest->reason = reason;
	oldest->at = now;
	return true;
}

/* Claim a message for a step, and note the hold; false if it is another's. */
static bool
claim_step(Round *round, const MessageKey *key, Hold **hold)
{
	InflightEntry *entry;

	queue_xact_reserve();
	if (!queue_inflight_claim_step(key, round->now, &entry))
		return false;
	*hold = queue_xact_push(HOLD_STEP, key, entry);
	return true;
}

/* ----------------------------------------------------------------
 *		The safety net
 * ----------------------------------------------------------------
 */

/* Go over queues that have changed, now and then, as far as it may go. */
static void
heal(Round *round)
{
	TimestampTz begin = GetCurrentTimestamp();
	int			budget = HEAL_ROWS;
	volatile bool is_more = queue_heal_is_needed();

	if (is_more && heal_at <= round->now)
	{
		while (is_more && budget > 0 && !queue_process_must_leave())
		{
			PG_TRY();
			{
				begin_transaction("looking after queues");
				PushActiveSnapshot(GetTransactionSnapshot());
				is_more = queue_heal(&budget);
				PopActiveSnapshot();
				commit_transaction();
			}
			PG_CATCH();
			{
				bool		is_locked;

				report_error(false, &is_locked);
				begin = GetCurrentTimestamp() - RETRY_DELAY / HEAL_SHARE;
				queue_heal_skip();
				is_more = false;
			}
			PG_END_TRY();
		}
		heal_at = begin + Max(HEAL_INTERVAL, HEAL_SHARE *
							  (GetCurrentTimestamp() - begin));
		is_more = queue_heal_is_needed();
	}
	if (is_more)
		round->next = Min(round->next, heal_at);
}

/* Forget leases whose messages are gone, a batch in each round. */
static void
forget_gone(Round *round)
{
	if (!queue_gone_is_needed())
		return;
	PG_TRY();
	{
		begin_transaction("looking after leases");
		PushActiveSnapshot(GetTransactionSnapshot());
		if (queue_gone())
			round->next = round->now;
		PopActiveSnapshot();
		commit_transaction();
	}
	PG_CATCH();
	{
		bool		is_locked;

		report_error(false, &is_locked);
		queue_gone_skip();
	}
	PG_END_TRY();
}

/*
 * Warn of prepared transactions that are old.  One that is prepared after a
 * look is not due before the age at which it is warned of.
 */
static void
warn_in_doubt(Round *round)
{
	static int	warning = -1;

	if (warning != queue_in_doubt_warning)
		warn_at = 0;
	warning = queue_in_doubt_warning;
	if (warning < 0 || max_prepared_xacts == 0)
		return;
	if (warn_at <= round->now)
	{
		PG_TRY();
		{
			begin_transaction("looking after prepared transactions");
			PushActiveSnapshot(GetTransactionSnapshot());
			warn_due = queue_in_doubt_warn();
			PopActiveSnapshot();
			commit_transaction();
		}
		PG_CATCH();
		{
			bool		is_locked;

			report_error(false, &is_locked);
			warn_due = round->now + RETRY_DELAY;
		}
		PG_END_TRY();
		warn_at = Min(warn_due, round->now + Max(warning, 1) * USECS_PER_SEC);
	}
	round->next = Min(round->next, warn_due);
}

/* ----------------------------------------------------------------
 *		Space
 * ----------------------------------------------------------------
 */

/* Find queues to be vacuumed, now and then.  No snapshot: see there. */
static void
look_for_vacuum(Round *round)
{
	static TimestampTz look_at = 0;
	volatile TimestampTz next = TIMESTAMP_MINUS_INFINITY;

	/* the clock may have been set back */
	if (look_at <= round->now || look_at > round->now + VACUUM_INTERVAL)
	{
		look_at = round->now + VACUUM_INTERVAL;
		PG_TRY();
		{
			begin_transaction("looking for dead rows");
			next = queue_vacuum_look();
			look_at = Min(look_at, next);
			commit_transaction();
		}
		PG_CATCH();
		{
			bool		is_locked;

			report_error(false, &is_locked);
			queue_vacuum_skip();
		}
		PG_END_TRY();
	}
	if (next != TIMESTAMP_INFINITY)
		round->next = Min(round->next, look_at);
}

/* ----------------------------------------------------------------
 *		Branches of global transactions
 * ----------------------------------------------------------------
 */

/* Start the resolver when there may be work for it, and now and then. */
static void
look_for_branches(Round *round)
{
	static TimestampTz look_at = 0;

	/* the clock may have been set back */
	if (queue_database_is_resolver_wanted(false) || look_at <= round->now ||
		look_at > round->now + RESOLVER_INTERVAL)
	{
		look_at = round->now + RESOLVER_INTERVAL;
		PG_TRY();
		{
			begin_transaction("looking for branches of global transactions");
			if (!queue_sweep_look_for_branches())
				look_at = round->now + RETRY_DELAY;
			commit_transaction();
		}
		PG_CATCH();
		{
			bool		is_locked;

			report_error(false, &is_locked);
		}
		PG_END_TRY();
	}
	round->next = Min(round->next, look_at);
}

/* ----------------------------------------------------------------
 *		Transactions
 * ----------------------------------------------------------------
 */

static void
begin_transaction(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
commit_transaction(void)
{
	CommitTransactionCommand();
	MemoryContextSwitchTo(sweep_context);

	/* nobody else flushes a worker's counts, which autovacuum goes by */
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * Report the current error, unless somebody only held a lock or has dropped
 * the queue, and end its transaction.
 */
static void
report_error(bool is_quiet, bool *is_locked)
{
	int			code = geterrcode();

	/* dropped while we looked: the next round finds it gone */
	*is_locked = code == ERRCODE_LOCK_NOT_AVAILABLE ||
		code == ERRCODE_UNDEFINED_OBJECT;

	/* asked to leave, or the like: not to be swallowed */
	if (code == ERRCODE_ADMIN_SHUTDOWN || code == ERRCODE_QUERY_CANCELED)
		PG_RE_THROW();
	if (!*is_locked && !is_quiet)
		EmitErrorReport();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(sweep_context);
	FlushErrorState();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*-------------------------------------------------------------------------
 *
 * count.c
 *		Counting failures in the rows, and moving messages at their limit.
 *
 * Failures go to the rows.  They go there at once when the message backs off
 * or is at the limit of attempts.  Otherwise they wait until it has lain
 * unclaimed for a second, because rewriting a row hides the message from older
 * snapshots.  The same transaction ends what the log of leases says of them.
 * For every message that it rewrites or moves the worker holds a claim, as a
 * consumer does, so no consumer examines a row that is about to change.
 *
 * An error is reported and ends that transaction.  If it came from a message,
 * the messages of the transaction are tried again one by one, so that one
 * which cannot be moved does not keep the others back.  If the whole queue is
 * not in order, or is locked, all of them are put off.  So are messages at the
 * limit of attempts, after that is in their rows, if it is known that the
 * dead-letter queue cannot take them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "common/compat.h"
#include "common/process.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "dispatch/look.h"
#include "dispatch/move.h"
#include "shared/availability.h"
#include "shared/expiry.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "table/rows.h"
#include "table/subscription.h"
#include "transaction/charge.h"
#include "transaction/holds.h"
#include "worker/count.h"
#include "worker/count_partition.h"
#include "worker/lease_writer.h"
#include "worker/report.h"

/* Messages that one transaction rewrites */
#define STEP_BATCH			100

/* A failed message is counted when it has lain unclaimed for this long */
#define COUNT_DELAY			USECS_PER_SEC

/* The messages of one transaction, all of one queue */
typedef struct Steps
{
	Round	   *round;
	const MessageKey *keys;
	int			nkeys;
	bool		is_retry;		/* the error has been reported */
	bool		marks_only;		/* moving has failed: only count */
	bool		is_queue_open;	/* the queue was found in order */
	int64		delay;			/* after an error that is not a message's: how
								 * long all are put off; else 0 */
	char		queue_name[2 * NAMEDATALEN * 2];
	bool		knows_reason;	/* stuck_reason has been looked for */
	char	   *stuck_reason;	/* why its dead letters have nowhere to go */
	int			nstuck;			/* messages that stay for that reason */
	MessageKey	stuck[STEP_BATCH];
	int			nexpired;		/* that have expired, and are gone now */
	int			nended;			/* what the log is told not to say any more */
	MessageKey	ended[STEP_BATCH];
} Steps;

/* What is to become of a message */
typedef enum StepEnd
{
	STEP_COUNTS,				/* its row is told what there is to tell */
	STEP_STUCK,					/* the same, but it should go, and cannot */
	STEP_DISCARDS,				/* it has expired, and is deleted */
	STEP_MOVES					/* it goes to the dead letters */
} StepEnd;

static void step_alone(Steps *steps, const MessageKey *key, bool tries_move);
static bool step_batch(Steps *steps, const MessageKey *keys, int nkeys);
static void take_steps(void *arg);
static ErrorVerdict judge_steps(const ErrorData *error, void *arg);
static void postpone_all(Steps *steps, const MessageKey *keys, int nkeys,
						 int64 delay);
static void step_queue(Steps *steps, const MessageKey *keys, int nkeys);
static void step_subscription(Steps *steps, const MessageKey *keys,
							  int nkeys);
static void step_partition(Steps *steps, Relation rel, SubscriptionDef *def,
						   const MessageKey *key);
static bool discard(Relation rel, QueueDef *def, MessageRow *row);
static bool rewrite(Relation rel, QueueDef *def, MessageRow *row,
					int failures, bool is_delayed, TimestampTz due,
					const FailureNews *news);
static void step_message(Steps *steps, Relation rel, QueueDef *def,
						 const MessageKey *key);
static bool step_row(Steps *steps, Relation rel, QueueDef *def,
					 MessageRow *row, Hold *hold, const FailureNews *news);
static StepEnd judge_row(Steps *steps, Relation rel, QueueDef *def,
						 const MessageRow *row, int failed, bool *is_expired);
static void put_off(Steps *steps, Hold *hold, TimestampTz until);
static void note_stuck(Steps *steps, Hold *hold, bool is_expired);
static void end_in_log(Steps *steps, Hold *hold);
static char *find_stuck_reason(Steps *steps, Relation rel, QueueDef *def);
static void report_stuck(Steps *steps, Oid relid, const char *reason);
static void add_step_context(void *arg);
static bool claim_step(Steps *steps, const MessageKey *key, Hold **hold);

/*
 * queue_count_note
 *		Visit an entry held by none: note a step, or what the log is to say.
 *
 * If there is something that the row does not tell yet, or the message is
 * exhausted, a step is noted when it is due; until then the log tells.
 * Otherwise the log may have to take back what it says.  A step tells the row
 * and the log in one transaction, so that no crash counts a failure twice.
 * The partition is locked.
 */
void
queue_count_note(Round *round, InflightEntry *entry)
{
	TimestampTz at = entry->since;
	int			told;

	if (!queue_inflight_has_news(entry) && !entry->is_exhausted)
	{
		queue_log_note_failures(round, entry);
		return;
	}
	if (at > round->now + ROUND_RETRY_DELAY)
		at = round->now;		/* the clock was set back */
	if (!entry->is_exhausted &&
		!(entry->is_delayed && entry->deadline > round->now))
		at += COUNT_DELAY;
	if (round->takes_all ? entry->since <= round->now :
		at <= round->now && !round->is_last)
	{
		round_add_key(round, round->steps, &round->nsteps, &entry->key);
		return;
	}
	round_comes_again(round, at);
	told = queue_inflight_logged_failures(entry);
	if (told < 0 || told > entry->failures)
		queue_log_note_failures(round, entry);
	else if (told < entry->failures)
		queue_log_note(round, entry, LOG_FAILURES,
					   entry->failed_at + round->write_delay);
}

/*
 * queue_count_noted
 *		Count the failures that were noted, and move messages at their limit.
 *
 * Queue by queue, as many messages at a time as one transaction takes.
 */
void
queue_count_noted(Round *round)
{
	Steps	   *steps = palloc0(sizeof(Steps));
	int			first = 0;

	steps->round = round;
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
		if (!step_batch(steps, &round->steps[first], n))
			for (i = 0; i < n; i++)
				step_alone(steps, &round->steps[first + i], n > 1);
		steps->is_retry = false;
		first += n;
	}
	pfree(steps);
}

/*
 * step_alone
 *		Take one message alone, after an error.
 *
 * If it cannot be moved, its row is to say at least that it has exhausted its
 * attempts.
 */
static void
step_alone(Steps *steps, const MessageKey *key, bool tries_move)
{
	steps->is_retry = tries_move;
	if (tries_move && step_batch(steps, key, 1))
		return;
	steps->is_retry = false;
	steps->marks_only = true;
	(void) step_batch(steps, key, 1);
	steps->marks_only = false;
	postpone_all(steps, key, 1, ROUND_RETRY_DELAY);
}

/*
 * step_batch
 *		Take these messages in a transaction of their own.
 *
 * Returns false if there was an error with a message; one with the whole queue
 * puts all of them off.
 */
static bool
step_batch(Steps *steps, const MessageKey *keys, int nkeys)
{
	ErrorContextCallback context;
	bool		done;

	steps->keys = keys;
	steps->nkeys = nkeys;
	steps->is_queue_open = false;
	steps->queue_name[0] = '\0';
	steps->knows_reason = false;
	steps->nstuck = 0;
	steps->nexpired = 0;
	steps->nended = 0;

	/* around the commit, too */
	context.callback = add_step_context;
	context.arg = steps;
	context.previous = error_context_stack;
	error_context_stack = &context;
	done = queue_process_run("counting failures", true, take_steps,
							 judge_steps, steps);
	error_context_stack = context.previous;
	if (!done)
	{
		if (steps->delay > 0)
			postpone_all(steps, keys, nkeys, steps->delay);
		return steps->delay > 0;
	}
	postpone_all(steps, steps->stuck, steps->nstuck, ROUND_RETRY_DELAY);
	if (steps->nexpired > 0)
		queue_expiry_note_done(keys[0].relid, steps->nexpired);
	return true;
}

/*
 * Body of queue_process_run(): count or move the messages, and end what the
 * log says of them
 */
static void
take_steps(void *arg)
{
	Steps	   *steps = arg;

	step_queue(steps, steps->keys, steps->nkeys);
	if (steps->nended > 0)
		queue_lease_log(steps->ended, steps->nended, NULL, 0);
}

/*
 * judge_steps
 *		Judge an error, which is reported once for all messages that may have
 *		failed for the same reason.
 */
static ErrorVerdict
judge_steps(const ErrorData *error, void *arg)
{
	Steps	   *steps = arg;
	bool		is_locked = queue_process_is_locked(error);
	ErrorVerdict verdict = queue_process_judge(error, NULL);

	steps->delay = is_locked ? ROUND_LOCKED_DELAY :
		!steps->is_queue_open ? ROUND_RETRY_DELAY : 0;
	if (verdict == ERROR_REPORT &&
		(steps->is_retry ||
		 !queue_report_is_due(steps->keys[0].relid, error->sqlerrcode,
							  steps->round->now)))
		verdict = ERROR_IGNORE;
	return verdict;
}

/* Come back to these messages later. */
static void
postpone_all(Steps *steps, const MessageKey *keys, int nkeys, int64 delay)
{
	int			i;

	for (i = 0; i < nkeys; i++)
		queue_inflight_postpone(&keys[i], steps->round->now + delay);
	if (nkeys > 0)
		round_comes_again(steps->round, steps->round->now + delay);
}

/*
 * step_queue
 *		Count or move these messages of one queue, as its owner.
 *
 * If the queue has been dropped, what is remembered of them is forgotten.
 */
static void
step_queue(Steps *steps, const MessageKey *keys, int nkeys)
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
			if (claim_step(steps, &keys[i], &hold))
			{
				hold->counted = PG_UINT16_MAX;
				hold->is_gone = true;
				end_in_log(steps, hold);
			}
		return;
	}

	strlcpy(steps->queue_name, queue_shown_name(relid),
			sizeof(steps->queue_name));
	if (queue_is_subscription(relid))
	{
		step_subscription(steps, keys, nkeys);
		return;
	}
	rel = queue_open(relid, QUEUE_SYSTEM, &def);

	/* a publication may forbid both, whatever the message */
	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	CheckCmdReplicaIdentity(rel, CMD_DELETE);
	steps->is_queue_open = true;
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   save_sec_context | SECURITY_RESTRICTED_OPERATION);
	for (i = 0; i < nkeys; i++)
		step_message(steps, rel, def, &keys[i]);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	table_close(rel, NoLock);
}

/*
 * step_subscription
 *		Count failures of partitions of a subscription, or send what is at the
 *		limit of attempts to its dead letters, as its owner.
 */
static void
step_subscription(Steps *steps, const MessageKey *keys, int nkeys)
{
	Oid			save_userid;
	int			save_sec_context;
	SubscriptionDef *def;
	Relation	rel = queue_subscription_open(keys[0].relid,
											  SUBSCRIPTION_SYSTEM, &def);

	CheckCmdReplicaIdentity(rel, CMD_UPDATE);
	steps->is_queue_open = true;
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   save_sec_context | SECURITY_RESTRICTED_OPERATION);
	for (int i = 0; i < nkeys; i++)
		step_partition(steps, rel, def, &keys[i]);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	table_close(rel, NoLock);
}

/* The same for one partition; see step_message(). */
static void
step_partition(Steps *steps, Relation rel, SubscriptionDef *def,
			   const MessageKey *key)
{
	Hold	   *hold;
	char	   *reason;

	if (!claim_step(steps, key, &hold))
	{
		round_comes_again(steps->round, steps->round->now + ROUND_LOCKED_DELAY);
		return;
	}
	hold->is_partition = true;
	hold->counted = hold->entry->failures;
	switch (queue_count_partition(rel, def, hold->entry, steps->marks_only,
								  &reason))
	{
		case PARTITION_COUNTED:
			break;
		case PARTITION_PASSED:
			hold->is_gone = true;
			break;
		case PARTITION_STUCK:
			if (reason != NULL)
				report_stuck(steps, key->relid, reason);
			note_stuck(steps, hold, false);
			break;
		case PARTITION_BUSY:
			put_off(steps, hold, steps->round->now + ROUND_LOCKED_DELAY);
			return;
		case PARTITION_LOOKS_ON:
			put_off(steps, hold, GetCurrentTimestamp() +
					LOOK_ON_DELAY * steps->nkeys);
			return;
	}
	end_in_log(steps, hold);
}

/* Delete an expired message; false if another transaction is in the way. */
static bool
discard(Relation rel, QueueDef *def, MessageRow *row)
{
	if (!queue_charge_delete(rel, def, row, GONE_EXPIRED))
		return false;
	queue_dedup_left(def, row);
	return true;
}

/* Rewrite the row; false if another transaction is in the way. */
static bool
rewrite(Relation rel, QueueDef *def, MessageRow *row, int failures,
		bool is_delayed, TimestampTz due, const FailureNews *news)
{
	if (!queue_row_rewrite(rel, def, row, failures, is_delayed, due, news))
		return false;
	queue_charge_due(def, row, is_delayed ? due : row->visible_at, failures);
	return true;
}

/*
 * step_message
 *		Count the failures of one message, or move it.
 *
 * The hold that is left tells the commit how many failures the row then
 * counts.
 */
static void
step_message(Steps *steps, Relation rel, QueueDef *def, const MessageKey *key)
{
	Hold	   *hold;
	InflightEntry *entry;
	MessageRow *row;
	RowState	state;
	FailureNews news;
	bool		done = false;

	if (!claim_step(steps, key, &hold))
	{
		round_comes_again(steps->round, steps->round->now + ROUND_LOCKED_DELAY);
		return;
	}
	entry = hold->entry;
	hold->counted = entry->failures;

	row = queue_row_make(rel);
	row->id = key->id;
	row->enqueued_at = entry->enqueued_at;
	row->tid = entry->tid;
	row->priority = entry->priority;
	queue_inflight_read_news(entry, &news);
	state = queue_row_find(rel, def, row);
	if (state == ROW_LIVE)
		done = step_row(steps, rel, def, row, hold, &news);
	else if (state == ROW_GONE)
		hold->is_gone = done = true;
	ExecDropSingleTupleTableSlot(row->slot);
	INJECTION_POINT("queue-row-counted", NULL);

	/* another transaction is changing the row: come back later */
	if (!done)
		put_off(steps, hold, steps->round->now + ROUND_LOCKED_DELAY);
	else
		end_in_log(steps, hold);
}

/*
 * step_row
 *		Do to the row of a message what is to become of that.
 *
 * Returns false if another transaction is in the way.
 */
static bool
step_row(Steps *steps, Relation rel, QueueDef *def, MessageRow *row,
		 Hold *hold, const FailureNews *news)
{
	InflightEntry *entry = hold->entry;
	int			failed = queue_add_failures(row->failures, entry->failures);
	bool		is_delayed = entry->is_delayed &&
		entry->deadline > steps->round->now;
	bool		is_expired;
	bool		done = true;
	StepEnd		end = judge_row(steps, rel, def, row, failed, &is_expired);

	switch (end)
	{
		case STEP_DISCARDS:
			hold->is_gone = done = discard(rel, def, row);
			break;
		case STEP_MOVES:
			hold->is_gone = done =
				queue_message_dead_letter(rel, def, row, is_expired ?
										  "expired" : "max_attempts reached",
										  failed, news, is_expired);
			break;
		case STEP_COUNTS:
		case STEP_STUCK:
			if (entry->failures > 0 || is_delayed || news->nnotes > 0)
				done = rewrite(rel, def, row, failed,
							   is_delayed, entry->deadline, news);
			break;
	}
	if (is_expired && hold->is_gone)
		steps->nexpired++;

	/* where there is no dead-letter queue there is nothing to try again */
	if (end == STEP_STUCK && done && OidIsValid(def->dead_letter))
		note_stuck(steps, hold, is_expired);
	return done;
}

/*
 * judge_row
 *		What is to become of a message that has failed so often?
 *
 * *is_expired: its time is over before its attempts are.
 */
static StepEnd
judge_row(Steps *steps, Relation rel, QueueDef *def, const MessageRow *row,
		  int failed, bool *is_expired)
{
	bool		is_at_limit = queue_is_at_limit(def->retry.max_attempts,
												failed);
	bool		has_expired = queue_has_expired(row->expires_at,
												steps->round->now);

	*is_expired = !is_at_limit && has_expired;
	if (!is_at_limit && !has_expired)
		return STEP_COUNTS;
	if (*is_expired && def->on_expiry == EXPIRY_DISCARD)
		return STEP_DISCARDS;
	if (!has_expired && row->has_group && queue_def_stops_groups(def))
		return STEP_COUNTS;
	if (steps->marks_only || find_stuck_reason(steps, rel, def) != NULL ||
		!OidIsValid(def->dead_letter))
		return STEP_STUCK;
	return STEP_MOVES;
}

/* Come back to it then. */
static void
put_off(Steps *steps, Hold *hold, TimestampTz until)
{
	MessageKey	key = hold->key;

	queue_inflight_unclaim_step(hold->entry);
	queue_xact_pop(hold);
	queue_inflight_postpone(&key, until);
	round_comes_again(steps->round, until);
}

/* It is to be moved, and cannot be; what has expired holds up nobody. */
static void
note_stuck(Steps *steps, Hold *hold, bool is_expired)
{
	hold->is_exhausted = true;
	if (is_expired)
		queue_inflight_leave_group(hold->entry);
	steps->stuck[steps->nstuck++] = hold->key;
}

/*
 * end_in_log
 *		End what the log says of a message, because the row now tells it.
 */
static void
end_in_log(Steps *steps, Hold *hold)
{
	if (!hold->entry->is_durable)
		return;
	steps->ended[steps->nended++] = hold->key;
	hold->is_log_ended = true;
}

/*
 * find_stuck_reason
 *		Return why messages of this queue that are at the limit of attempts
 *		cannot be moved, if that is known without trying, or NULL.
 *
 * Says so in the log.
 */
static char *
find_stuck_reason(Steps *steps, Relation rel, QueueDef *def)
{
	char	   *reason;

	if (steps->knows_reason)
		return steps->stuck_reason;
	reason = queue_dead_letter_problem(def, rel->rd_rel->relowner);
	steps->stuck_reason = reason;
	steps->knows_reason = true;
	if (reason != NULL)
		report_stuck(steps, RelationGetRelid(rel), reason);
	return reason;
}

/* Say in the log that dead letters have nowhere to go. */
static void
report_stuck(Steps *steps, Oid relid, const char *reason)
{
	if (!queue_report_is_due(relid,
							 hash_bytes((const unsigned char *) reason,
										strlen(reason)), steps->round->now))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("messages of queue \"%s\" that have used up max_attempts cannot be moved",
					steps->queue_name),
			 errdetail("%s  They stay where they are, and are tried again.", reason),
			 errhint("Mend the dead-letter queue, or name another with queue.alter_queue().")));
}

/* What an error in a step is about */
static void
add_step_context(void *arg)
{
	Steps	   *steps = arg;

	if (steps->queue_name[0] != '\0')
		errcontext("counting failures and moving dead letters of queue \"%s\"",
				   steps->queue_name);
}

/*
 * claim_step
 *		Claim a message for a step, and push the hold.
 *
 * Returns false if it is held by another process, or leased.
 */
static bool
claim_step(Steps *steps, const MessageKey *key, Hold **hold)
{
	InflightEntry *entry;

	queue_xact_reserve();
	if (!queue_inflight_claim_step(key, steps->round->now, &entry))
		return false;
	*hold = queue_xact_push(HOLD_STEP, key, entry);
	return true;
}

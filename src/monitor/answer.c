/*-------------------------------------------------------------------------
 *
 * answer.c
 *		Why a message is not delivered: what queue.why() returns.
 *
 * What is said alike of messages of queues and of subscriptions: who holds
 * something, who runs a transaction, who waits.
 *
 * Locks: those of shared memory that is asked, for a moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/blocker.h"
#include "common/compat.h"
#include "monitor/answer.h"
#include "shared/availability.h"
#include "shared/database.h"
#include "shared/waiter.h"
#include "transaction/prepared.h"

static char *format_text(const char *format, va_list args)
			pg_attribute_printf(1, 0);
static const char *role_name(Oid role);
static const char *holder_of(Answer *answer, const InflightEntry *entry);

/* The text of a format; palloc'd. */
static char *
format_text(const char *format, va_list args)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		copy;
		int			needed;

		va_copy(copy, args);
		needed = appendStringInfoVA(&text, format, copy);
		va_end(copy);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	return text.data;
}

/* The reason, and a sentence about it */
void
queue_answer(Answer *answer, const char *reason, const char *format,...)
{
	va_list		args;

	answer->reason = reason;
	va_start(args, format);
	answer->explanation = format_text(format, args);
	va_end(args);
}

/* One sentence more */
void
queue_answer_add(Answer *answer, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	answer->explanation = psprintf("%s %s", answer->explanation,
								   format_text(format, args));
	va_end(args);
}

/* The remedy */
void
queue_answer_remedy(Answer *answer, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	answer->remedy = format_text(format, args);
	va_end(args);
}

/* It is the doing of this transaction: note that; see answer.h. */
const char *
queue_answer_xid(Answer *answer, TransactionId xid)
{
	Who			who;

	queue_who_runs(xid, &who);
	return queue_answer_who(answer, &who);
}

/*
 * queue_answer_who
 *		Note who does it, since when, and what ends that.
 *
 * A prepared transaction is to be ended as its transaction manager decided,
 * which is not known here.  So the remedy is a look at it.
 */
const char *
queue_answer_who(Answer *answer, const Who *who)
{
	answer->pid = who->pid;
	answer->gid = who->gid;
	answer->since = who->since;
	if (who->gid != NULL)
	{
		queue_answer_remedy(answer,
							"SELECT * FROM pg_prepared_xacts WHERE gid = %s",
							quote_literal_cstr(who->gid));
		return psprintf("Prepared transaction \"%s\"", who->gid);
	}
	if (who->pid == MyProcPid)
		return "This session";
	if (who->pid != 0)
	{
		queue_answer_remedy(answer, "SELECT pg_terminate_backend(%d)",
							who->pid);
		return psprintf("Process %d", who->pid);
	}
	return "Another transaction";
}

/*
 * queue_answer_held
 *		Say who holds something, if this entry tells that.
 *
 * "what" is that as the object of a sentence: "it".  Returns false if it is
 * not held, or if its lease has run out.
 */
bool
queue_answer_held(Answer *answer, const InflightEntry *entry, TimestampTz now,
				  const char *what)
{
	const char *holder;

	if (entry->state != INFLIGHT_DEQUEUED && entry->state != INFLIGHT_LEASED)
		return false;
	if (queue_lease_has_run_out(entry, now))
		return false;
	if (entry->state == INFLIGHT_LEASED && !entry->is_settling)
	{
		if (entry->receiver_pid == 0)
			queue_answer(answer, "leased",
						 "It was received before the server started, and is not settled: the lease is on %s, which comes back when that ends.",
						 what);
		else
			queue_answer(answer, "leased",
						 "Process %d has received %s, as role \"%s\" with application \"%s\", and it is not settled: it comes back when the lease ends.",
						 entry->receiver_pid, what, role_name(entry->role),
						 entry->application);
		answer->since = entry->since;
		answer->until = entry->deadline;
		answer->pid = entry->receiver_pid;
		return true;
	}

	holder = holder_of(answer, entry);
	if (entry->is_prepared)
		queue_answer(answer, "prepared",
					 "%s holds %s, and has been neither committed nor rolled back.",
					 holder, what);
	else if (entry->state == INFLIGHT_DEQUEUED)
		queue_answer(answer, "dequeued",
					 "%s has taken %s in a transaction that has not ended: a commit consumes it, a rollback gives it back.",
					 holder, what);
	else
		queue_answer(answer, "settling",
					 "%s has settled %s in a transaction that has not ended: a rollback leaves it under its lease.",
					 holder, what);
	answer->since = entry->since;
	return true;
}

/* The name of a role, which may have been dropped */
static const char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name == NULL ? "?" : name;
}

/* Note the transaction that holds it. */
static const char *
holder_of(Answer *answer, const InflightEntry *entry)
{
	Who			who = {.pid = entry->holder_pid};

	if (!entry->is_prepared)
		return queue_answer_who(answer, &who);
	who.pid = 0;
	who.gid = queue_blocker_gid(queue_prepared_xid(entry->holder));
	return queue_answer_who(answer, &who);
}

/* The table is beyond the white list. */
void
queue_answer_unfit(Answer *answer, const char *problem)
{
	queue_answer(answer, "unfit",
				 "The table is not as it was made, so its functions refuse it: %s",
				 problem);
}

/* Its transaction has not ended. */
void
queue_answer_coming(Answer *answer, TransactionId xid)
{
	const char *who = queue_answer_xid(answer, xid);

	queue_answer(answer, "not committed",
				 "%s has sent it, and that is not committed: nobody gets it before.",
				 who);
}

/* How often something has failed, as words of a sentence */
const char *
queue_answer_times(int n)
{
	return n == 1 ? "once" : psprintf("%d times", n);
}

/* A step of the worker is waited for; say so if there is none. */
void
queue_answer_worker(Answer *answer)
{
	DatabaseCensus census;

	queue_database_count(&census);
	if (census.worker_pid == 0)
		queue_answer_add(answer,
						 "No worker runs in this database, and only that does it.");
}

/*
 * queue_answer_waiters
 *		There is nothing in the way: does anybody wait?
 *
 * Whoever asks without waiting is not seen here.
 */
void
queue_answer_waiters(Answer *answer, QueueSlot *slot)
{
	int			any = 0;
	int			selecting = 0;
	int			anyone = queue_waiter_count_anyone();

	if (slot != NULL)
		queue_waiter_count_each(slot, &any, &selecting);
	if (any > 0 || anyone > 0)
		queue_answer(answer, "available",
					 "It can be taken, and a session that waits is being woken; there are %d.",
					 any + anyone);
	else if (selecting > 0)
		queue_answer(answer, "selector",
					 "It can be taken, but all sessions that wait (%d) want certain messages only, by a selector, an id or a correlation_id, and this is none of these.",
					 selecting);
	else
		queue_answer(answer, "nobody waits",
					 "It can be taken, and no session waits for it: it stays until a consumer asks.");
}

/*
 * queue_answer_locked
 *		Has somebody locked the table, so that consumers wait?
 */
bool
queue_answer_locked(Answer *answer, const Question *question)
{
	Who			who;
	char	   *mode;
	const char *holder;

	if (!queue_who_locks(question->relid, &who, &mode))
		return false;
	holder = queue_answer_who(answer, &who);
	queue_answer(answer, "table locked",
				 "%s has locked the table in mode %s, and whoever takes messages waits for that.",
				 holder, mode);
	return true;
}

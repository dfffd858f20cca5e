/*-------------------------------------------------------------------------
 *
 * tally.c
 *		Keeping the counters of queues right.
 *
 * Commits add to the counters (shared/counters.c).  The worker does what is
 * left, when it has a round anyway, but not more than once in a second:
 *
 *	- it remembers the numbers, for the rates of the last minute
 *	- it takes off what has fallen due; for that it wakes
 *	- it looks for the oldest message that is ready, if something has happened
 *	- it looks how far subscriptions are behind, for a twentieth of a second, if
 *	  something was published or consumed
 *	- it counts the rows: soon after the first use of a queue, and after what
 *	  may have made the number wrong; once a minute while the queue is used,
 *	  because plain DELETE and replicas pass by; and every ten minutes otherwise
 *
 * All of that takes a twentieth of its time at the most.  Counting takes a
 * hundredth, but a tenth until all are known; and a table that is large is
 * counted by another process (helper.c), because a worker has to end leases in
 * time.  If there is no such process to be had, its number is not known, or the
 * one counted last holds.
 *
 * A worker that begins makes slots for queues that nobody has used, so that
 * they are counted, as long as a quarter of all slots is free, and a hundred.
 * So does one that counts a queue for its dead-letter queue.
 *
 * Nothing here waits: a queue that is locked is left for later; and nobody waits
 * for it: a count ends when somebody wants the table.  If the process dies, the
 * next worker begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "common/process.h"
#include "common/relation.h"
#include "dispatch/tally_rows.h"
#include "shared/database.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "topic/behind.h"
#include "transaction/recovered.h"
#include "worker/duties.h"
#include "worker/helper.h"
#include "worker/round.h"
#include "worker/tally.h"

/* How often to look at all queues, and which share of the time, 1 in n */
#define LOOK_INTERVAL		USECS_PER_SEC
#define LOOK_SHARE			20

/* Which share of the time to count: what is known, and what is not */
#define COUNT_SHARE			100
#define FIRST_COUNT_SHARE	10

/* For how long to look at subscriptions at a time */
#define BEHIND_TIME			(50 * INT64CONST(1000))

/* A table of more pages takes long */
#define LONG_PAGES			1000

/* Queues that a round makes slots for */
#define WALK_BATCH			100

/* For so many milliseconds a count waits for others that have to add */
#define COUNT_TRIES			100

/* Longest rest: the clock may have been set back */
#define MAX_REST			(5 * 60 * USECS_PER_SEC)

/* After an error, and if there is no process, or it is locked */
#define FAILED_DELAY		(60 * USECS_PER_SEC)
#define HELPER_DELAY		(10 * USECS_PER_SEC)

/* The process stays for this long */
#define TALLY_STAY			5000	/* ms */

/* The queue that is being looked at; by slot, before when not after an error */
static QueueSlot *present = NULL;
static TimestampTz *failed_until = NULL;

/*
 * Does a round look at the queues, before it counts?  The last one has failed
 * there: this one counts only
 */
static bool is_looking = false;
static bool has_failed = false;

/* Queues that may have no slot; and whether a walk over all has begun */
static List *to_walk = NIL;
static bool has_walked = false;

/* ... those that were locked, and when to try them again */
static List *left_over = NIL;
static TimestampTz left_at = DT_NOEND;

/* When to look at all queues, what for, and when to count */
static TimestampTz rested_at = DT_NOBEGIN;
static TimestampTz next_at = DT_NOBEGIN;
static TimestampTz count_rested_at = DT_NOBEGIN;

/*
 * How many transactions of before the start had ended when that was looked at;
 * -1: nobody has
 */
static int64 recovered_ends = -1;

static bool is_walk_due(TimestampTz now);
static void walk(TimestampTz now);
static void leave(Oid relid, TimestampTz now);
static void walk_over(Oid relid);
static void doubt_recovered(void);
static TimestampTz failed_for(QueueSlot *slot, TimestampTz now);
static TimestampTz look_at(QueueSlot *slot, TimestampTz now);
static TimestampTz look_behind(TimestampTz now);
static TimestampTz count_wanted(TimestampTz now);
static QueueSlot *next_to_count(TimestampTz now, TimestampTz *at);
static void count(QueueSlot *slot, TimestampTz now, bool is_helper);
static void count_behind(QueueSlot *slot);
static Relation open_queue(QueueSlot *slot, QueueDef **def, bool *is_locked);
static Relation open_table(QueueSlot *slot, bool *is_locked);
static bool is_mine(QueueSlot *slot);
static QueueSlot *next_long(void);
static void count_long(void *arg);

/* When is something to be done?  The clock may have been set back. */
TimestampTz
queue_tally_due(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (is_walk_due(now))
		return DT_NOBEGIN;
	rested_at = Min(rested_at, now + MAX_REST);
	if (recovered_ends != queue_recovered_ends())
		return rested_at;
	return Max(next_at, rested_at);
}

/* There is a round anyway: has it rested? */
bool
queue_tally_is_urgent(void)
{
	return rested_at <= GetCurrentTimestamp();
}

/*
 * queue_tally
 *		Look at all queues, and count some.
 *
 * A duty of the worker; returns when to be called again.
 */
TimestampTz
queue_tally(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		took;

	next_at = DT_NOEND;
	if (failed_until == NULL)
		failed_until = MemoryContextAllocZero(TopMemoryContext,
											  queue_max_queues * sizeof(TimestampTz));
	if (is_walk_due(now))
		walk(now);
	if (to_walk != NIL)
		return now;				/* others have a round before it goes on */
	doubt_recovered();
	is_looking = true;
	if (has_failed)
		next_at = now;			/* so many may be broken that this never ends */
	for (int i = 0; i < queue_slot_count() && !has_failed; i++)
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && is_mine(slot))
			next_at = Min(next_at, look_at(slot, now));
	}
	if (!has_failed)
		next_at = Min(next_at, look_behind(GetCurrentTimestamp()));
	has_failed = false;
	is_looking = false;
	took = Max(GetCurrentTimestamp() - now, 0);
	next_at = Min(next_at, count_wanted(now));
	next_at = Min(next_at, left_at);
	present = NULL;
	rested_at = GetCurrentTimestamp() + Max(LOOK_INTERVAL, took * LOOK_SHARE);
	return queue_tally_due();
}

/*
 * queue_tally_failed
 *		After an error: the others soon, the queue that was at fault some time
 *		later.
 */
void
queue_tally_failed(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (present != NULL)
	{
		queue_counters_put_off(present, now + FAILED_DELAY);
		failed_until[queue_slot_index(present)] = now + FAILED_DELAY;
	}
	has_failed = is_looking;
	is_looking = false;
	rested_at = now + (present != NULL ? LOOK_INTERVAL : ROUND_RETRY_DELAY);
	queue_database_wake_by(MyDatabaseId, rested_at);
	present = NULL;
}

/* Are there queues to make slots for?  The clock may have been set back. */
static bool
is_walk_due(TimestampTz now)
{
	if (to_walk != NIL || !has_walked)
		return true;
	return left_over != NIL &&
		(left_at <= now || left_at > now + HELPER_DELAY);
}

/*
 * doubt_recovered
 *		What transactions hold that were prepared before the start is counted
 *		soon after that, and when one has ended.
 */
static void
doubt_recovered(void)
{
	int64		ends = queue_recovered_ends();
	bool		are_there;

	if (ends == recovered_ends)
		return;
	are_there = queue_recovered_are_there();
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && is_mine(slot) && slot->kind == SLOT_QUEUE &&
			(queue_counters_are_recovered(slot) ||
			 (are_there && queue_recovered_holds(slot->relid))))
			queue_counters_doubt(slot);
	}
	recovered_ends = ends;
}

/* Make slots for some queues that have none. */
static void
walk(TimestampTz now)
{
	if (to_walk == NIL)
	{
		to_walk = left_over;
		left_over = NIL;
		left_at = DT_NOEND;
	}
	if (!has_walked)
	{
		MemoryContext old = CurrentMemoryContext;
		List	   *all = list_concat(queue_settings_all(),
									  queue_subscriptions_all());

		MemoryContextSwitchTo(TopMemoryContext);
		to_walk = list_copy(all);
		MemoryContextSwitchTo(old);
		has_walked = true;
	}
	for (int i = 0; i < WALK_BATCH && to_walk != NIL; i++)
	{
		Oid			relid = llast_oid(to_walk);

		to_walk = list_delete_last(to_walk);
		if (!queue_tally_has_places())
		{
			list_free(to_walk);
			to_walk = NIL;
			break;
		}
		if (queue_slot_find(relid) != NULL ||
			get_rel_relkind(relid) != RELKIND_RELATION)
			continue;
		if (!queue_make_slot(relid))
			leave(relid, now);
	}
}

/* It is locked: try it again later. */
static void
leave(Oid relid, TimestampTz now)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	left_over = lappend_oid(left_over, relid);
	left_at = now + HELPER_DELAY;
	MemoryContextSwitchTo(old);
}

/* Have its dead-letter queue counted, too, which may have no slot. */
static void
walk_over(Oid relid)
{
	MemoryContext old;

	if (!OidIsValid(relid) || queue_slot_find(relid) != NULL)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	to_walk = list_append_unique_oid(to_walk, relid);
	MemoryContextSwitchTo(old);
}

/* Is this a queue, or a subscription, of this database? */
static bool
is_mine(QueueSlot *slot)
{
	return slot->dbid == MyDatabaseId && slot->kind != SLOT_TOPIC;
}

/*
 * failed_for
 *		Return until when a queue is left alone after an error; DT_NOBEGIN: it is
 *		not.
 *
 * So one that is broken keeps nobody from looking at the others.  If its slot is
 * another's by now, that one waits as long.  The clock may have been set back.
 */
static TimestampTz
failed_for(QueueSlot *slot, TimestampTz now)
{
	TimestampTz until = failed_until[queue_slot_index(slot)];

	return until > now && until <= now + FAILED_DELAY ? until : DT_NOBEGIN;
}

/*
 * look_at
 *		Do for one queue what is cheap, and return when to come again.
 *
 * Of a subscription that is to remember the numbers; look_behind() does the rest.
 */
static TimestampTz
look_at(QueueSlot *slot, TimestampTz now)
{
	TimestampTz next = queue_counters_sample(slot, now);
	bool		is_due = queue_counters_next_due(slot) <= now;
	TimestampTz until = failed_for(slot, now);
	Relation	rel;
	QueueDef   *def;
	bool		is_locked;

	if (!queue_counters_is_known(slot) || slot->kind == SLOT_SUBSCRIPTION)
		return next;
	if (until != DT_NOBEGIN)
		return Min(next, until);
	if (is_due || queue_counters_want_oldest(slot))
	{
		present = slot;
		rel = open_queue(slot, &def, &is_locked);
		if (rel != NULL)
		{
			if (is_due)
				queue_tally_due_rows(rel, def, slot, now);
			queue_tally_oldest(rel, def, slot, now);
			table_close(rel, AccessShareLock);
		}
		else if (is_due)
			return Min(next, now + (is_locked ? ROUND_LOCKED_DELAY : FAILED_DELAY));
	}
	return Min(next, queue_counters_next_due(slot));
}

/*
 * look_behind
 *		Look how far subscriptions are behind where something has happened, one
 *		after the other, and return when to go on.
 *
 * One that was not counted yet, or cannot be, is left to count_wanted().
 */
static TimestampTz
look_behind(TimestampTz now)
{
	static int	slot_index = 0;
	int			n = queue_slot_count();
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < n; i++)
	{
		QueueSlot  *slot = queue_slot_at(slot_index = (slot_index + 1) % n);
		TimestampTz until;

		if (slot == NULL || !is_mine(slot) ||
			slot->kind != SLOT_SUBSCRIPTION ||
			!queue_counters_is_known(slot) ||
			!queue_counters_want_oldest(slot))
			continue;
		until = failed_for(slot, now);
		if (until != DT_NOBEGIN)
		{
			next = Min(next, until);
			continue;
		}
		present = slot;
		count_behind(slot);
		if (GetCurrentTimestamp() > now + BEHIND_TIME)
			return now;
	}
	return next;
}

/*
 * count_wanted
 *		Count some queues, those first that wait longest, and return when to
 *		count the next.
 *
 * As many as the share allows until the next look, and one at least; if that
 * takes longer, there is a rest.
 */
static TimestampTz
count_wanted(TimestampTz now)
{
	TimestampTz began_at = GetCurrentTimestamp();
	TimestampTz at;
	QueueSlot  *slot;

	count_rested_at = Min(count_rested_at, now + MAX_REST);
	while ((slot = next_to_count(now, &at)) != NULL && count_rested_at <= now)
	{
		int64		share = queue_counters_is_known(slot) ? COUNT_SHARE :
			FIRST_COUNT_SHARE;
		int64		took;

		present = slot;
		count(slot, now, false);
		took = Max(GetCurrentTimestamp() - began_at, 0);
		if (took * share > LOOK_INTERVAL)
			count_rested_at = began_at + took * share;
	}
	return at == DT_NOEND ? at : Max(at, count_rested_at);
}

/* Return a queue that is to be counted; NULL: none is before *at. */
static QueueSlot *
next_to_count(TimestampTz now, TimestampTz *at)
{
	QueueSlot  *first = NULL;

	*at = DT_NOEND;
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);
		TimestampTz slot_at;

		if (slot == NULL || !is_mine(slot))
			continue;
		slot_at = queue_counters_count_at(slot);
		if (slot_at > now + 2 * FAILED_DELAY * 10)
			slot_at = now;		/* the clock was set back */
		if (slot_at < *at)
		{
			*at = slot_at;
			first = slot;
		}
	}
	return *at <= now ? first : NULL;
}

/* Count what a subscription has not passed, or put that off. */
static void
count_behind(QueueSlot *slot)
{
	bool		is_locked;
	Relation	rel = open_table(slot, &is_locked);
	bool		is_done = false;

	if (rel != NULL)
	{
		SubscriptionDef *def = queue_subscription_def(rel);

		is_done = def->is_subscription && def->problem == NULL &&
			queue_subscription_slot(def) == slot &&
			queue_behind_count(rel, def, slot, true /* is worker */ );
		table_close(rel, AccessShareLock);
	}
	if (!is_done)
		queue_counters_put_off(slot, GetCurrentTimestamp() + HELPER_DELAY);
}

/* Count one, or leave it to the process that counts what takes long. */
static void
count(QueueSlot *slot, TimestampTz now, bool is_helper)
{
	bool		is_locked;
	QueueDef   *def;
	Relation	rel;

	if (slot->kind == SLOT_SUBSCRIPTION)
	{
		count_behind(slot);
		return;
	}
	rel = open_queue(slot, &def, &is_locked);
	if (rel == NULL)
	{
		queue_counters_put_off(slot, now + (is_locked ? ROUND_LOCKED_DELAY :
											FAILED_DELAY));
		return;
	}
	if (!is_helper)
		walk_over(def->dead_letter);
	if (!is_helper && RelationGetNumberOfBlocks(rel) > LONG_PAGES)
	{
		queue_counters_set_long(slot, true);
		(void) queue_helper_call(HELPER_TALLY);
		queue_counters_put_off(slot, now + HELPER_DELAY);
	}
	else if (!queue_tally_count(rel, def, slot, COUNT_TRIES))
		queue_counters_put_off(slot, now + ROUND_RETRY_DELAY);
	table_close(rel, AccessShareLock);
}

/* Open a queue; NULL if that takes a wait (*is_locked), or it cannot be used. */
static Relation
open_queue(QueueSlot *slot, QueueDef **def, bool *is_locked)
{
	Relation	rel = open_table(slot, is_locked);

	if (rel == NULL)
		return NULL;
	*def = queue_def(rel);
	if ((*def)->is_queue && (*def)->problem == NULL &&
		queue_def_slot(*def) == slot)
		return rel;
	table_close(rel, AccessShareLock);
	return NULL;
}

/* The same for any table. */
static Relation
open_table(QueueSlot *slot, bool *is_locked)
{
	Oid			relid = slot->relid;

	*is_locked = false;
	if (!OidIsValid(relid) || get_rel_relkind(relid) != RELKIND_RELATION)
		return NULL;
	return queue_open_unless_locked(relid, AccessShareLock, is_locked);
}

/* ----------------------------------------------------------------
 *		The process that counts tables that are large
 * ----------------------------------------------------------------
 */

/* Its entry point */
void
queue_tally_main(Datum arg)
{
	uint32		wait_event;
	TimestampTz leave_at;

	queue_helper_begin(HELPER_TALLY, DatumGetObjectId(arg));
	wait_event = WaitEventExtensionNew("QueueTallyMain");
	leave_at = TimestampTzPlusMilliseconds(queue_clock(), TALLY_STAY);
	while (!ShutdownRequestPending)
	{
		QueueSlot  *slot;

		queue_process_reload();
		slot = next_long();
		if (slot != NULL)
		{
			(void) queue_process_run("counting messages", true, count_long,
									 queue_process_judge, slot);
			leave_at = TimestampTzPlusMilliseconds(queue_clock(), TALLY_STAY);
		}
		else if (queue_clock() >= leave_at)
			break;
		else
			queue_process_nap(leave_at, wait_event);
	}
	proc_exit(0);
}

/* Return a queue that is left to this process, or NULL. */
static QueueSlot *
next_long(void)
{
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && is_mine(slot) && queue_counters_is_long(slot))
			return slot;
	}
	return NULL;
}

/* Body of queue_process_run(): count it. */
static void
count_long(void *arg)
{
	QueueSlot  *slot = arg;

	queue_counters_set_long(slot, false);
	count(slot, GetCurrentTimestamp(), true);
}

/*-------------------------------------------------------------------------
 *
 * expire.c
 *		Messages that have expired: found, and marked to be moved.
 *
 * No consumer takes an expired message.  The worker finds it by the index of
 * expiry times and marks its entry in the in-flight table; counting failures
 * (count.c) then moves it to the dead letters or deletes it, as it moves those
 * at the limit of attempts.
 *
 * A message that somebody holds or sends is left alone.  A lease that began
 * before it expired may end after it, and its ack counts.  A consumer that
 * gives it back lets a consumer meet it, which calls the worker (look.c).
 * Without consumers the worker looks again by itself.
 *
 * The scan begins where the last one ended (shared/expiry.c), so the dead
 * prefix of the index is not passed over again.
 *
 * Memory knows the queues that somebody has used since the server started.  So
 * a worker that begins goes over all queues, and makes a slot for those that
 * have messages which expire.  It does so again when a queue without a slot
 * has changed, as a restore makes one from its table, and every ten minutes;
 * but not for more than a twentieth of the time, which matters with ten
 * thousand queues.  A restore makes indexes and triggers last: what cannot be
 * opened yet is tried again, after a second at first, then less often.
 *
 * Nothing here waits: a queue that is locked is left for later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "dispatch/turn.h"
#include "shared/attach.h"
#include "shared/expiry.h"
#include "table/definition.h"
#include "table/scan.h"
#include "table/settings.h"
#include "transaction/prepared.h"
#include "worker/duties.h"
#include "worker/expire.h"
#include "worker/round.h"

/* When to look again for messages that somebody holds */
#define MIN_HELD_DELAY		USECS_PER_SEC
#define MAX_HELD_DELAY		(60 * USECS_PER_SEC)

/* Queues that a round goes over, if memory does not know them */
#define WALK_BATCH			100

/* How often to go over all of them, and how much of the time that may take */
#define WALK_INTERVAL		(10 * 60 * USECS_PER_SEC)
#define WALK_SHARE			20

/* When to try again those that could not be opened; doubles */
#define MIN_LEFT_DELAY		USECS_PER_SEC
#define MAX_LEFT_DELAY		(60 * USECS_PER_SEC)

/* What is left of a queue */
typedef struct Left
{
	TimestampTz from;			/* none expires before */
	TimestampTz look_at;
} Left;

/* The queue that is being gone over; InvalidOid: none */
static Oid	present = InvalidOid;
static QueueSlot *present_slot;
static TimestampTz present_from;

/* The walk: queues to be gone over, and those that could not be opened */
static List *to_walk = NIL;
static List *left_over = NIL;
static int64 left_delay = MIN_LEFT_DELAY;

/* When to begin the next over all, over those left, and over any */
static TimestampTz walk_at = DT_NOBEGIN;
static TimestampTz left_at = TIMESTAMP_INFINITY;
static TimestampTz rested_at = DT_NOBEGIN;
static int64 time_spent;

static TimestampTz walk_due(TimestampTz now);
static void walk(TimestampTz now);
static void begin_walk(TimestampTz now);
static void look_at_queue(Oid relid);
static void expire_queue(QueueSlot *slot, TimestampTz now, int *nmarked);
static Relation open_queue(Oid relid, QueueDef **def, bool *is_locked);
static Left mark_expired(Relation rel, QueueDef *def, QueueSlot *slot,
						 TimestampTz from, TimestampTz now, int *nmarked);
static void leave(Left *left, TimestampTz from, TimestampTz look_at);
static bool mark(MessageRow *row, const MessageKey *key, QueueSlot *slot,
				 Relation rel, TimestampTz now, Left *left);
static void mark_claimed(InflightEntry *entry, int counted);

/*
 * queue_expire_due
 *		Return when to look at a queue of this database, by what commits and
 *		consumers have noted since.
 */
TimestampTz
queue_expire_due(void)
{
	TimestampTz due = walk_due(GetCurrentTimestamp());

	for (int i = queue_slot_next_expiring(0); i < queue_slot_count();
		 i = queue_slot_next_expiring(i + 1))
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && slot->dbid == MyDatabaseId)
			due = Min(due, queue_expiry_look_at(slot));
	}
	return due;
}

/*
 * queue_expire
 *		Mark expired messages, no more than a round takes on.
 *
 * A duty of the worker; returns when to be called again.
 */
TimestampTz
queue_expire(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	int			nmarked = 0;

	if (walk_due(now) <= now)
		walk(now);

	/* others have a round before it goes on */
	next = Max(walk_due(now), now);
	for (int i = queue_slot_next_expiring(0); i < queue_slot_count();
		 i = queue_slot_next_expiring(i + 1))
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot == NULL || slot->dbid != MyDatabaseId)
			continue;
		if (queue_expiry_look_at(slot) <= now && nmarked < ROUND_SIZE)
			expire_queue(slot, now, &nmarked);
		next = Min(next, queue_expiry_look_at(slot));
	}

	/* what was marked is moved by the next round */
	return nmarked > 0 ? now : next;
}

/*
 * walk_due
 *		Return when to go on with the walk, or begin another.
 *
 * The clock may have been set back.
 */
static TimestampTz
walk_due(TimestampTz now)
{
	TimestampTz due;

	if (to_walk != NIL)
		return DT_NOBEGIN;
	due = queue_database_is_walk_wanted(false) ? DT_NOBEGIN :
		Min(walk_at, left_at);
	due = Max(due, rested_at);
	return due > now + WALK_INTERVAL ? DT_NOBEGIN : due;
}

/*
 * walk
 *		Go over some queues.
 *
 * One that raises an error is left to the next walk.
 */
static void
walk(TimestampTz now)
{
	int			n = 0;

	if (to_walk == NIL)
		begin_walk(now);
	while (to_walk != NIL && n++ < WALK_BATCH)
	{
		Oid			relid = llast_oid(to_walk);

		to_walk = list_delete_last(to_walk);
		look_at_queue(relid);
	}
	time_spent += GetCurrentTimestamp() - now;
	if (to_walk != NIL)
		return;
	rested_at = now + Min(time_spent * WALK_SHARE, WALK_INTERVAL);
	left_at = left_over == NIL ? TIMESTAMP_INFINITY : now + left_delay;
}

/* Begin to go over those that could not be opened, or if it is time, all. */
static void
begin_walk(TimestampTz now)
{
	/* what changes from here on wants another one */
	if (queue_database_is_walk_wanted(true) || walk_at <= now ||
		walk_at > now + WALK_INTERVAL)
	{
		List	   *all = queue_settings_all();
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		list_free(left_over);
		left_over = list_copy(all);
		MemoryContextSwitchTo(old);
		walk_at = now + WALK_INTERVAL;
		left_delay = MIN_LEFT_DELAY;
	}
	else
		left_delay = Min(left_delay * 2, MAX_LEFT_DELAY);
	to_walk = left_over;
	left_over = NIL;
	time_spent = 0;
}

/*
 * look_at_queue
 *		Make a slot for a queue that nobody has used yet, if messages of it
 *		expire.
 */
static void
look_at_queue(Oid relid)
{
	Relation	rel;
	QueueDef   *def;
	bool		is_locked;
	QueueExpiryScan *scan;

	if (queue_slot_find(relid) != NULL)
		return;
	rel = open_queue(relid, &def, &is_locked);
	if (rel == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (get_rel_relkind(relid) == RELKIND_RELATION)
			left_over = lappend_oid(left_over, relid);
		MemoryContextSwitchTo(old);
		return;
	}
	scan = queue_expiry_scan_begin(rel, def, DT_NOBEGIN);
	if (queue_expiry_scan_next(scan) != NULL)
		(void) queue_def_slot(def);
	queue_expiry_scan_end(scan);
	table_close(rel, AccessShareLock);
}

/* After an error: that queue again, some time later. */
void
queue_expire_failed(void)
{
	if (OidIsValid(present))
		queue_expiry_put_back(present_slot, present, present_from,
							  GetCurrentTimestamp() + ROUND_RETRY_DELAY);
	present = InvalidOid;
}

/* Go over one queue. */
static void
expire_queue(QueueSlot *slot, TimestampTz now, int *nmarked)
{
	Oid			relid = slot->relid;
	Relation	rel;
	QueueDef   *def;
	bool		is_locked;

	if (!OidIsValid(relid) ||
		!queue_expiry_take(slot, relid, now, &present_from))
		return;
	present = relid;
	present_slot = slot;
	rel = open_queue(relid, &def, &is_locked);
	if (rel != NULL)
	{
		Left		left = mark_expired(rel, def, slot, present_from, now,
										nmarked);

		queue_expiry_put_back(slot, relid, left.from, left.look_at);
		table_close(rel, NoLock);
	}
	else if (is_locked)
		queue_expiry_put_back(slot, relid, present_from,
							  now + ROUND_LOCKED_DELAY);
	present = InvalidOid;
}

/*
 * open_queue
 *		Open a queue unless that takes a wait (*is_locked), or it cannot be
 *		used.
 *
 * Whatever makes it usable again announces every message of it.
 */
static Relation
open_queue(Oid relid, QueueDef **def, bool *is_locked)
{
	Relation	rel;

	*is_locked = false;
	if (get_rel_relkind(relid) != RELKIND_RELATION)
		return NULL;
	rel = queue_open_unless_locked(relid, AccessShareLock, is_locked);
	if (rel == NULL)
		return NULL;
	*def = queue_def(rel);
	if (!(*def)->is_queue || (*def)->problem != NULL)
	{
		table_close(rel, AccessShareLock);
		return NULL;
	}
	return rel;
}

/*
 * mark_expired
 *		Mark the messages of a queue that expire from "from" on, and have by
 *		"now".
 */
static Left
mark_expired(Relation rel, QueueDef *def, QueueSlot *slot, TimestampTz from,
			 TimestampTz now, int *nmarked)
{
	Left		left = {TIMESTAMP_INFINITY, TIMESTAMP_INFINITY};
	QueueExpiryScan *scan = queue_expiry_scan_begin(rel, def, from);
	MessageRow *row;

	while ((row = queue_expiry_scan_next(scan)) != NULL)
	{
		MessageKey	key;

		if (row->expires_at > now || *nmarked >= ROUND_SIZE)
		{
			leave(&left, row->expires_at, row->expires_at);
			break;
		}
		queue_message_key(&key, def->relid, row->id);
		if (row->state == ROW_BUSY ||
			(row->state == ROW_COMING &&
			 !queue_xact_will_announce(scan->dirty.xmin)))
			leave(&left, row->expires_at, now + MIN_HELD_DELAY);
		else if (row->state == ROW_LIVE &&
				 mark(row, &key, slot, rel, now, &left))
		{
			queue_turn_try(def, row);
			(*nmarked)++;
		}
	}
	queue_expiry_scan_end(scan);
	return left;
}

/* There is something left from this time on, to be looked at then. */
static void
leave(Left *left, TimestampTz from, TimestampTz look_at)
{
	left->from = Min(left->from, from);
	left->look_at = Min(left->look_at, look_at);
}

/*
 * mark
 *		Mark a message to be moved; returns false if somebody holds it.
 *
 * Without room in memory it is left as well.  If the row goes meanwhile, the
 * step finds that out.
 */
static bool
mark(MessageRow *row, const MessageKey *key, QueueSlot *slot, Relation rel,
	 TimestampTz now, Left *left)
{
	InflightEntry *entry;
	TimestampTz due = TIMESTAMP_INFINITY;

	switch (queue_row_claim(rel, row, key, slot, now, &entry, &due))
	{
		case CLAIM_OK:
			mark_claimed(entry, row->failures);
			return true;
		case CLAIM_NOT_DUE:

			/* it backs off, or is leased */
			if (queue_inflight_claim_step(key, now, &entry))
			{
				mark_claimed(entry, row->failures);
				return true;
			}
			break;
		case CLAIM_EXHAUSTED:
			return false;		/* marked already */
		case CLAIM_HELD:
		case CLAIM_EXAMINED:
		case CLAIM_OTHER:
		case CLAIM_FULL:
			break;
	}
	leave(left, row->expires_at,
		  Max(now + MIN_HELD_DELAY, Min(due, now + MAX_HELD_DELAY)));
	return false;
}

/*
 * mark_claimed
 *		The same for one that is claimed.
 *
 * There is no hold of the claim, because from its start to its end here nothing
 * throws.  What has expired does not hold its group.
 */
static void
mark_claimed(InflightEntry *entry, int counted)
{
	queue_inflight_leave_group(entry);
	queue_inflight_exhaust(entry, counted);
}

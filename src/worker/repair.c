/*-------------------------------------------------------------------------
 *
 * repair.c
 *		The safety net under the cover: a paced pass over the queues.
 *
 * The cover (cover.c) must include every message that is available.  If it
 * ever does not, for an unknown reason, the message would be hidden, which is
 * the one thing that a queue must not do.  So the worker goes over the rows
 * themselves, now and then, and adds those that are available but not covered.
 * It trusts no hint but the in-flight table, of which an entry either ends
 * with a transaction or has a time.
 *
 * One reason is known.  A trigger of a queue that is not enabled ALWAYS does
 * not fire in replica role, so what comes by replication then is not
 * announced.  (ENABLE TRIGGER does that, and so does what pg_restore
 * --disable-triggers runs at its end.)  Such a queue is deaf to replication.
 * It is gone over every second, and its ids are moved on beyond what has come;
 * queue.problem() says so.
 *
 * A queue is gone over when it has changed since the last pass began, and
 * otherwise every ten minutes.  A pass has a hundred thousand ids and is made
 * as often as once in a second, if that takes no more than a twentieth of the
 * time.  So up to that many messages are found within some seconds, and a queue
 * that is not used costs next to nothing.
 *
 * What the cover has is not hidden, so it is not read.  A deep queue is mostly
 * one range of the cover, and a start makes everything covered.  There the
 * worker has nothing to do, instead of reading millions of rows again and
 * again, at the cost of the pages that consumers need.
 *
 * What looks hidden may just be in the window of a consumer, or be announced
 * in a moment.  So suspects are looked at again after some milliseconds.  If
 * one is added without need, that costs a consumer a look.
 *
 * Nothing here waits: a queue that is locked is left for later.  If the
 * process dies, the next worker begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "common/compat.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "dispatch/turn.h"
#include "shared/availability.h"
#include "shared/inflight.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/scan.h"
#include "transaction/prepared.h"
#include "worker/duties.h"
#include "worker/repair.h"

/* How long a consumer scans a window, and a commit takes to announce */
#define SUSPECT_DELAY		10000L	/* usec */

/* How often to go over a queue that has not changed */
#define IDLE_INTERVAL		(10 * 60 * USECS_PER_SEC)

/* ... over a deaf one */
#define DEAF_INTERVAL		USECS_PER_SEC

/* How often to look for queues that have not changed for that long */
#define IDLE_LOOK_INTERVAL	(60 * USECS_PER_SEC)

/* Ids that are gone over at one go */
#define PART_WIDTH			1000

/* Suspects that are looked at again together */
#define MAX_SUSPECTS		1000

/*
 * Rows that are gone over in this time to see that none is hidden.  No more
 * than this share of the time, 1 in n, is spent on it, because dead rows that
 * an old snapshot keeps are slow.
 */
#define REPAIR_ROWS			100000
#define REPAIR_INTERVAL		USECS_PER_SEC
#define REPAIR_SHARE			20

/* A message that looks hidden */
typedef struct Suspect
{
	int64		id;
	TimestampTz enqueued_at;
	int			priority;
} Suspect;

/* Where the pass is: which slot, and where in the queue */
static int	slot_index = 0;
static Oid	part_relid = InvalidOid;	/* InvalidOid: at its beginning */
static QueueRange part;

/* Rows that the pass may still go over, 0: none is under way; and its begin */
static int	budget = 0;
static TimestampTz pass_began_at;

/* When to look at idle queues, and at how many slots this time */
static TimestampTz idle_look_at = 0;
static int	idle_slots = 0;

static bool needs_repair(QueueSlot *slot, TimestampTz now);
static bool is_idle_due(TimestampTz now);
static QueueSlot *next_slot(void);
static void skip_queue(void);
static void forget_place(Oid relid);
static bool repair_part(void);
static bool pass_over(Relation rel, QueueDef *def, QueueSlot *slot);
static bool is_hidden(QueueDef *def, QueueSlot *slot, MessageRow *row,
					  TimestampTz now, bool *is_certain);
static void check_suspects(Relation rel, QueueDef *def, QueueSlot *slot,
						   const Suspect *suspects, int n);

/*
 * queue_repair_is_needed
 *		Returns true if a pass is under way, or a queue of this database is
 *		due for one.
 */
bool
queue_repair_is_needed(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	/* a deaf one keeps the rounds going, whether it is due now or not */
	for (i = queue_slot_next_active(0); i < queue_slot_count();
		 i = queue_slot_next_active(i + 1))
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL &&
			(needs_repair(slot, now) ||
			 (queue_slot_is_deaf(slot) && slot->dbid == MyDatabaseId)))
			return true;
	}
	return OidIsValid(part_relid) || idle_slots > 0 || is_idle_due(now);
}

/* Is the worker to go over this queue? */
static bool
needs_repair(QueueSlot *slot, TimestampTz now)
{
	return slot->dbid == MyDatabaseId &&
		queue_slot_needs_repair(slot, IDLE_INTERVAL, DEAF_INTERVAL, now);
}

/* Is it time to look at idle queues?  The clock may have been set back. */
static bool
is_idle_due(TimestampTz now)
{
	return idle_look_at <= now || idle_look_at > now + IDLE_LOOK_INTERVAL;
}

/*
 * next_slot
 *		Return the queue that the pass is at, or the next that has changed.
 *
 * The others are looked at now and then, because their interval may be over.
 * NULL if there is none.
 */
static QueueSlot *
next_slot(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = queue_slot_count();
	bool		is_second = false;

	if (idle_slots == 0 && is_idle_due(now))
	{
		idle_look_at = now + IDLE_LOOK_INTERVAL;
		idle_slots = n;
	}
	for (;;)
	{
		QueueSlot  *slot = slot_index < n ? queue_slot_at(slot_index) : NULL;

		if (slot != NULL && slot->dbid == MyDatabaseId &&
			slot->kind == SLOT_QUEUE &&
			(slot->relid == part_relid || needs_repair(slot, now)))
			return slot;
		part_relid = InvalidOid;
		if (idle_slots > 0)
		{
			idle_slots--;
			slot_index++;
		}
		else
			slot_index = queue_slot_next_active(slot_index + 1);
		if (slot_index < n)
			continue;

		/* from the beginning, once; "slot_index" may not have been active */
		slot_index = 0;
		if (is_second)
			return NULL;
		is_second = true;
	}
}

/* Go on with the next queue. */
static void
skip_queue(void)
{
	slot_index++;
	part_relid = InvalidOid;
}

/*
 * queue_repair
 *		Go over a part of one queue that has changed.
 *
 * A pass consists of as many of these as it may have rows.  A duty of the
 * worker; returns when to be called again.
 */
TimestampTz
queue_repair(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (budget <= 0)
	{
		budget = REPAIR_ROWS;
		pass_began_at = now;
	}
	if (repair_part() && budget > 0)
		return DUTY_AGAIN;
	budget = 0;
	now = GetCurrentTimestamp();
	return pass_began_at + Max(REPAIR_INTERVAL,
							   REPAIR_SHARE * (now - pass_began_at));
}

/*
 * After an error: end the pass, and go on with the next queue some other time.
 */
void
queue_repair_failed(void)
{
	budget = 0;
	skip_queue();
}

/*
 * repair_part
 *		Go over a part of the present queue.
 *
 * Returns false if there is nothing more to do for now.
 */
static bool
repair_part(void)
{
	QueueSlot  *slot = next_slot();
	Oid			relid;
	Relation	rel;
	QueueDef   *def;
	bool		is_locked;
	bool		is_done = true;

	if (slot == NULL)
		return false;
	relid = slot->relid;
	budget -= 1;
	if (!OidIsValid(relid))
		return true;			/* freed meanwhile */
	if (get_rel_relkind(relid) != RELKIND_RELATION)
	{
		forget_place(relid);
		return true;
	}
	rel = queue_open_unless_locked(relid, RowExclusiveLock, &is_locked);
	if (is_locked)
	{
		/* another one first, and this one in the next round */
		if (part_relid == relid)
			queue_slot_repair_again(slot);
		skip_queue();
		return false;
	}
	if (rel == NULL)
	{
		forget_place(relid);
		return true;
	}
	def = queue_def(rel);
	if (!def->is_queue)
	{
		forget_place(relid);	/* before anybody can adopt it */
		table_close(rel, RowExclusiveLock);
		return true;
	}
	if (part_relid != relid)
	{
		queue_slot_begin_repair(slot);
		part_relid = relid;
		part.rank = 0;
		part.low = PG_INT64_MIN;
	}
	queue_slot_set_deaf(slot, MyDatabaseId, relid,
						def->problem == NULL && def->deaf_trigger != NULL);
	if (def->problem == NULL)
		is_done = pass_over(rel, def, slot);
	if (is_done)
		skip_queue();
	table_close(rel, RowExclusiveLock);
	return true;
}

/*
 * forget_place
 *		Free the slot of a table that is no queue.
 *
 * It was dropped by a prepared transaction, or has lost its settings.  If it
 * becomes one again, the first session that uses it makes another slot, whose
 * cover is everything.
 */
static void
forget_place(Oid relid)
{
	queue_inflight_leave_slot(relid);
	queue_slot_drop(MyDatabaseId, relid);
	part_relid = InvalidOid;
}

/*
 * pass_over
 *		Go on with this queue; returns true when it is done.
 */
static bool
pass_over(Relation rel, QueueDef *def, QueueSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();
	QueueScan  *scan = queue_scan_begin(rel, def);
	Suspect    *suspects = palloc(MAX_SUSPECTS * sizeof(Suspect));
	int			n = 0;
	MessageRow *row;

	/* the allocator of ids learns only here of ids that came unannounced */
	if (def->deaf_trigger != NULL && part.rank == 0 &&
		part.low == PG_INT64_MIN)
	{
		int64		last = queue_scan_last_id(scan);

		if (last > 0)
			queue_advance_id(def, last);
	}
	while (part.rank < NUM_RANKS && budget > 0)
	{
		bool		is_certain;

		/* a part of it, dead rows included, because those are not counted */
		part.low = queue_cover_gap(slot, part.rank, part.low);
		if (part.low < PG_INT64_MAX)
			part.low = queue_scan_probe(scan, &part);
		if (part.low == PG_INT64_MAX)
		{
			part.rank++;
			part.low = PG_INT64_MIN;
			continue;
		}
		part.high = part.low < PG_INT64_MAX - PART_WIDTH ?
			part.low + PART_WIDTH - 1 : PG_INT64_MAX - 1;
		budget -= PART_WIDTH;
		queue_scan_range(scan, &part);
		while ((row = queue_scan_next(scan)) != NULL)
		{
			if (!is_hidden(def, slot, row, now, &is_certain))
				continue;
			suspects[n].id = row->id;
			suspects[n].enqueued_at = row->enqueued_at;
			suspects[n++].priority = row->priority;
			if (n == MAX_SUSPECTS)
			{
				check_suspects(rel, def, slot, suspects, n);
				n = 0;
			}
		}
		part.low = part.high + 1;
	}
	queue_scan_end(scan);
	if (n > 0)
		check_suspects(rel, def, slot, suspects, n);
	return part.rank == NUM_RANKS;
}

/*
 * is_hidden
 *		Returns true if this message is available as far as row and in-flight
 *		table tell, and the cover does not know it.
 *
 * *is_certain is set if no process is about to add it.
 */
static bool
is_hidden(QueueDef *def, QueueSlot *slot, MessageRow *row, TimestampTz now,
		  bool *is_certain)
{
	MessageKey	key;
	InflightEntry entry;
	MessageStatus status;
	int			rank = queue_rank(row->priority);
	bool		has_entry;
	bool		is_out;

	/* what a group gives up meanwhile is in the cover when it has */
	if (queue_cover_has(slot, rank, row->id, row->visible_at, &is_out) ||
		queue_turn_is_known(def, row) ||
		queue_cover_has(slot, rank, row->id, row->visible_at, &is_out))
		return false;
	queue_message_key(&key, def->relid, row->id);
	has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
	queue_row_status(def, row, has_entry ? &entry : NULL, now, &status);
	*is_certain = !is_out && !(has_entry && entry.deadline != 0);

	/* what its entry makes wait is added when that is due */
	return !status.is_claimed &&
		(status.availability == MESSAGE_AVAILABLE ||
		 (status.availability == MESSAGE_NOT_DUE &&
		  !(has_entry && entry.deadline > now)));
}

/*
 * check_suspects
 *		Look again at messages that looked hidden, and add those that still
 *		do.
 *
 * One that is not due yet is added, too; the consumer that looks next sees
 * that.
 */
static void
check_suspects(Relation rel, QueueDef *def, QueueSlot *slot,
			   const Suspect *suspects, int n)
{
	MessageRow *row = queue_row_make(rel);
	bool		is_announcing;
	int			nrepaired = 0;
	int64		first_id = 0;
	int			i;

	pg_usleep(SUSPECT_DELAY);
	is_announcing = queue_xact_is_announcing();
	for (i = 0; i < n; i++)
	{
		MessageKey	key;
		bool		is_certain;

		row->id = suspects[i].id;
		row->enqueued_at = suspects[i].enqueued_at;
		row->priority = suspects[i].priority;
		ItemPointerSetInvalid(&row->tid);
		if (queue_row_find(rel, def, row) != ROW_LIVE ||
			!is_hidden(def, slot, row, GetCurrentTimestamp(),
					   &is_certain))
			continue;
		queue_message_key(&key, def->relid, row->id);
		queue_cover_add(slot, &key, row->priority, true /* wakes */ );
		if (is_certain && !is_announcing && def->deaf_trigger == NULL &&
			nrepaired++ == 0)
			first_id = row->id;
	}
	ExecDropSingleTupleTableSlot(row->slot);

	queue_slot_count_repaired(slot, nrepaired);
	if (nrepaired > 0)
		ereport(LOG,
				(errmsg("messages of queue \"%s\" were hidden from consumers: %d",
						queue_shown_name(RelationGetRelid(rel)), nrepaired),
				 errdetail("They are found from now on; the first is message %lld.  The only known cause is a change of the table past its triggers.",
						   (long long) first_id)));
}

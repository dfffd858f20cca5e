/*-------------------------------------------------------------------------
 *
 * forget.c
 *		Dedup keys whose time is over: deleted.
 *
 * A key keeps duplicates away for the queue's dedup_window, and while its
 * message is in the queue.  When both are over, its row in the key table is
 * rubbish.  If the message outlives the window, its consumer deletes the row
 * (dedup.c).  All others the worker finds, by walks over the key table, a few
 * pages a step.  An index by time would cost each sender more than the walks
 * cost.  A walk begins when the first key that the last one has left is over,
 * and an eighth of the window after the last one at the earliest.  So a key
 * table is an eighth longer than it need be; or more, if there are so many keys
 * that walks would take more than a twentieth of the time.
 *
 * Where no key is left, there is no next walk, until a sender calls the worker
 * for the time when its key is over (dedup.c).  A key whose message was removed
 * by a plain DELETE after the window goes with any other walk.
 *
 * All of this is in the memory of the worker, and a worker that begins walks
 * over all key tables once.  It then sees to it, too, that they are dropped with
 * their queues, because pg_upgrade does not keep that.
 *
 * Nothing here waits: a table that is locked is left for later, and so is one
 * beyond the white list.  The worker acts with the rights of the queue's owner.
 *
 * If the process dies, what was deleted in the last step comes back, and goes
 * with a walk of the next worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/key_ddl.h"
#include "common/compat.h"
#include "common/relation.h"
#include "shared/queue_slot.h"
#include "table/definition.h"
#include "table/key_end.h"
#include "table/key_row.h"
#include "table/key_table.h"
#include "table/settings.h"
#include "worker/forget.h"
#include "worker/round.h"

/* Pages of a step, and how much of the time steps may take */
#define STEP_PAGES			64
#define STEP_SHARE			20

/* How often to see which queues there are, if there is a round at all */
#define LIST_INTERVAL		USECS_PER_SEC

/* Between two walks, whatever the window */
#define MIN_REST			USECS_PER_SEC
#define MAX_REST			(10 * 60 * USECS_PER_SEC)

/* One queue */
typedef struct Walk
{
	Oid			relid;			/* hash key */
	bool		is_listed;
	bool		is_bound;		/* the key table is dropped with the queue */
	BlockNumber next;			/* where to go on */
	TimestampTz began_at;
	TimestampTz look_at;		/* when to go on, or to begin the next walk */
	TimestampTz first;			/* by then a key is over that this walk left */
	bool		is_wanted;		/* the worker is to wake for that */
} Walk;

static HTAB *walks = NULL;		/* by relid */
static TimestampTz listed_at = 0;
static Walk *present = NULL;	/* the one that is being made */

static void list_queues(TimestampTz now);
static void make_table(void);
static void list_queue(Oid relid);
static void make_step(Walk *walk, TimestampTz now);
static void step_over(Walk *walk, Relation rel, QueueDef *def, Relation keys,
					  TimestampTz now);
static int	forget_pages(Walk *walk, Relation rel, QueueDef *def,
						 Relation keys, TimestampTz now);
static void note_left(Walk *walk, TimestampTz until);
static void end_walk(Walk *walk, const QueueDef *def);
static void put_off(Walk *walk, int64 delay);

/*
 * queue_forget_due
 *		Return when the duty is due by what others have done since.
 *
 * They may have made queues, or called for a walk.  That is found out in rounds
 * that there are anyhow.
 */
TimestampTz
queue_forget_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = TIMESTAMP_INFINITY;
	HASH_SEQ_STATUS status;
	Walk	   *walk;

	if (walks == NULL || listed_at > now || listed_at + LIST_INTERVAL <= now)
		return DT_NOBEGIN;
	hash_seq_init(&status, walks);
	while ((walk = hash_seq_search(&status)) != NULL)
	{
		if (walk->look_at <= now)
			due = DT_NOBEGIN;
	}
	return due;
}

/*
 * queue_forget
 *		Delete keys whose time is over, one step of each walk that is due.
 */
TimestampTz
queue_forget(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TIMESTAMP_INFINITY;
	List	   *due = NIL;
	HASH_SEQ_STATUS status;
	Walk	   *walk;
	ListCell   *lc;

	if (walks == NULL || listed_at > now || listed_at + LIST_INTERVAL <= now)
		list_queues(now);

	/* an error must not come in the middle of a scan of the hash table */
	hash_seq_init(&status, walks);
	while ((walk = hash_seq_search(&status)) != NULL)
	{
		/* the clock may have been set back */
		if (walk->look_at <= now || walk->began_at > now)
			due = lappend(due, walk);
		else if (walk->is_wanted)
			next = Min(next, walk->look_at);
	}
	foreach(lc, due)
	{
		walk = lfirst(lc);
		make_step(walk, now);
		if (walk->is_wanted)
			next = Min(next, walk->look_at);
	}
	return next;
}

/* After an error: leave that queue for a while. */
void
queue_forget_failed(void)
{
	if (present != NULL)
		put_off(present, ROUND_RETRY_DELAY);
	present = NULL;
}

/* See which queues have key tables. */
static void
list_queues(TimestampTz now)
{
	List	   *relids = queue_settings_with_keys();
	HASH_SEQ_STATUS status;
	Walk	   *walk;
	ListCell   *lc;

	if (walks == NULL)
		make_table();
	hash_seq_init(&status, walks);
	while ((walk = hash_seq_search(&status)) != NULL)
		walk->is_listed = false;
	foreach(lc, relids)
		list_queue(lfirst_oid(lc));
	hash_seq_init(&status, walks);
	while ((walk = hash_seq_search(&status)) != NULL)
	{
		if (!walk->is_listed)
			hash_search(walks, &walk->relid, HASH_REMOVE, NULL);
	}
	list_free(relids);
	listed_at = now;
}

static void
make_table(void)
{
	HASHCTL		ctl = {0};

	ctl.hcxt = TopMemoryContext;
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Walk);
	walks = hash_create("walks over key tables", 32, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* One that is new begins at once. */
static void
list_queue(Oid relid)
{
	bool		found;
	Walk	   *walk = hash_search(walks, &relid, HASH_ENTER, &found);

	if (!found)
	{
		memset(walk, 0, sizeof(*walk));
		walk->relid = relid;
		walk->first = TIMESTAMP_INFINITY;
		walk->is_wanted = true;
	}
	walk->is_listed = true;
}

/*
 * make_step
 *		Go over some pages of the key table of a queue, unless that takes a
 *		wait.
 */
static void
make_step(Walk *walk, TimestampTz now)
{
	bool		is_locked = false;
	QueueDef   *def;
	Relation	rel = NULL;
	Relation	keys = NULL;

	present = walk;
	if (get_rel_relkind(walk->relid) == RELKIND_RELATION)
		rel = queue_open_unless_locked(walk->relid, AccessShareLock,
									   &is_locked);
	if (rel == NULL)
	{
		put_off(walk, is_locked ? ROUND_LOCKED_DELAY : MAX_REST);
		present = NULL;
		return;
	}
	def = queue_def(rel);
	if (def->is_queue && def->problem == NULL && def->dedup_window >= 0 &&
		get_rel_relkind(def->key_table) == RELKIND_RELATION)
		keys = queue_open_unless_locked(def->key_table, RowExclusiveLock,
										&is_locked);
	if (keys != NULL)
	{
		Relation	checked = queue_key_table_open(def, true);

		if (checked != NULL)
		{
			step_over(walk, rel, def, keys, now);
			table_close(checked, NoLock);
		}
		else
			put_off(walk, MAX_REST);
		table_close(keys, NoLock);
	}
	else
		put_off(walk, is_locked ? ROUND_LOCKED_DELAY : MAX_REST);
	table_close(rel, NoLock);
	present = NULL;
}

/* The same for tables that are open, as the owner of the queue */
static void
step_over(Walk *walk, Relation rel, QueueDef *def, Relation keys,
		  TimestampTz now)
{
	Oid			save_userid;
	int			save_sec_context;
	int			ndeleted;

	if (walk->next == 0)
		walk->began_at = now;
	if (!walk->is_bound)
		queue_key_table_bind(RelationGetRelid(keys), walk->relid);
	walk->is_bound = true;
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   save_sec_context | SECURITY_RESTRICTED_OPERATION);
	ndeleted = forget_pages(walk, rel, def, keys, now);
	SetUserIdAndSecContext(save_userid, save_sec_context);

	/* let its dead rows be looked at */
	if (ndeleted > 0)
		queue_slot_note_purge(walk->relid);
	if (walk->next == 0)
		end_walk(walk, def);
	else
	{
		TimestampTz after = GetCurrentTimestamp();

		walk->look_at = after + Max(after - now, 0) * STEP_SHARE;
		walk->is_wanted = true;
	}
}

/*
 * forget_pages
 *		Delete the keys of the next pages whose time is over, and return their
 *		number.
 *
 * walk->next is zero afterwards if these were the last ones.  A key that is
 * never over is none of the worker's business.
 */
static int
forget_pages(Walk *walk, Relation rel, QueueDef *def, Relation keys,
			 TimestampTz now)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(keys);
	BlockNumber last = Min(walk->next + STEP_PAGES, nblocks);
	SnapshotData dirty;
	ItemPointerData low;
	ItemPointerData high;
	TableScanDesc scan;
	TupleTableSlot *slot;
	MessageRow *row;
	int			ndeleted = 0;

	if (walk->next >= nblocks || def->dedup_window == PG_INT64_MAX)
	{
		walk->next = 0;
		return 0;
	}
	InitDirtySnapshot(dirty);
	ItemPointerSet(&low, walk->next, FirstOffsetNumber);
	ItemPointerSet(&high, last - 1, MaxOffsetNumber);
	slot = table_slot_create(keys, NULL);
	row = queue_row_make(rel);
	scan = table_beginscan_tidrange(keys, &dirty, &low, &high, 0);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		int64		id = queue_key_row_id(slot);
		TimestampTz enqueued_at = queue_key_row_enqueued_at(slot);
		TimestampTz until = queue_dedup_until(def, enqueued_at);

		if (TransactionIdIsValid(dirty.xmin))
			note_left(walk, Max(until, now + MIN_REST));
		else if (TransactionIdIsValid(dirty.xmax))
			continue;
		else if (until > now)
			note_left(walk, until);
		else if (queue_dedup_is_over(rel, def, row, id, enqueued_at) &&
				 queue_key_row_delete(keys, slot))
			ndeleted++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row->slot);
	ExecDropSingleTupleTableSlot(slot);
	walk->next = last < nblocks ? last : 0;
	return ndeleted;
}

/* A key is over then at the earliest. */
static void
note_left(Walk *walk, TimestampTz until)
{
	walk->first = Min(walk->first, until);
}

/*
 * end_walk
 *		Say when the next one is to begin.
 *
 * If nothing is left that will be over, that has time until somebody calls.
 */
static void
end_walk(Walk *walk, const QueueDef *def)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		rest = def->dedup_window == 0 ? MAX_REST :
		Max(MIN_REST, Min(def->dedup_window / 8, MAX_REST));

	walk->is_wanted = walk->first != TIMESTAMP_INFINITY;
	walk->look_at = now + rest;
	if (walk->is_wanted)
		walk->look_at = Max(walk->look_at, walk->first);
	walk->first = TIMESTAMP_INFINITY;
}

/* Go on after that time. */
static void
put_off(Walk *walk, int64 delay)
{
	walk->look_at = GetCurrentTimestamp() + delay;
	walk->is_wanted = delay < MAX_REST;
}

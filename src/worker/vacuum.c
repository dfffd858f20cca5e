/*-------------------------------------------------------------------------
 *
 * vacuum.c
 *		When a queue table is worth a vacuum.
 *
 * A message lives for milliseconds, so a queue table consists of dead rows
 * unless they are removed within seconds.  That is too much to ask of
 * autovacuum, which comes once in a minute and does not know whether anything
 * can be removed.
 *
 * The database's worker looks (queue_vacuum_check) and the vacuum worker
 * vacuums, so that no duty of the former waits for a vacuum.  There is at most
 * one of the latter in a database, started on demand.  It takes the queues
 * that are wanted, one after the other, with the server's own vacuum(), and
 * leaves when there was nothing to do for some seconds.
 *
 * When is a queue worth it?  The server counts dead rows.  Its statistics come
 * late by a second or, from a session that has gone idle, by ten, but include
 * all that happened: plain DML, rolled-back inserts, COMMIT PREPARED.  If
 * there are enough, the next transaction id is noted as a mark.  All rows that
 * were dead then have been deleted by transactions before the mark.  So when
 * no snapshot is older than the mark, all of them can be removed, and a vacuum
 * is not in vain.  Until then nothing is done, however many more die.
 *
 * All of this is hints: after a crash the counters begin with zero, and what
 * was dead before goes with the next vacuum.  Queues without a slot in shared
 * memory, and tables that are not in order, are left to autovacuum, and so is
 * the prevention of wraparound.
 *
 * A topic has dead rows when retention has deleted from it (retain.c), and is
 * vacuumed by the same rules.
 *
 * Locks: the fields of a queue that only the database's worker uses need none;
 * the others are guarded by the lock of the queue's slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "common/relation.h"
#include "common/guc.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "table/topic.h"
#include "worker/helper.h"
#include "worker/vacuum.h"

/*
 * A queue is looked at for this long after it was used, because the statistics
 * may be as late
 */
#define LOOK_TIME			(15 * USECS_PER_SEC)

/* ... and otherwise this often */
#define LOOK_INTERVAL		(60 * USECS_PER_SEC)

/*
 * After a look that found something to do, and after one that set a mark: the
 * transactions that were under way then are mostly short
 */
#define LOOK_AGAIN			(1 * USECS_PER_SEC)
#define MARK_PASSES			(USECS_PER_SEC / 10)

#define Natts_vacuums		4
#define Natts_held_back		3

/* Of the worker: the queue that it looks at */
static int	looked_at = -1;
static TimestampTz all_looked_at = 0;

/*
 * The horizon of the queues looked at so far: no table has a later one, but
 * one that logical decoding uses as a catalog has an earlier one
 */
static TransactionId pass_horizon;

PG_FUNCTION_INFO_V1(queue_vacuums);
PG_FUNCTION_INFO_V1(queue_held_back);

static TimestampTz look_at_slot(QueueSlot *slot, TimestampTz now);
static bool has_dead_in(Oid relid, int factor);
static Oid	keys_of(Oid relid);
static bool is_in_order(Relation rel);
static bool get_vacuum(int i, Oid *relid, VacuumPart *vacuum);
static bool is_held_back(const VacuumPart *vacuum);

/*
 * queue_vacuum_check
 *		Find the queues that are worth a vacuum now, and see that there is a
 *		process that does it.
 *
 * Called by the database's worker, in a transaction without a snapshot; waits
 * for nothing.  Returns when to look again, TIMESTAMP_INFINITY if that has
 * time until a queue is used.
 */
TimestampTz
queue_vacuum_check(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TIMESTAMP_INFINITY;
	bool		is_wanted = false;
	bool		is_for_all;
	int			n = queue_slot_count();
	int			i;

	/* plain DML makes no queue active; the clock may have been set back */
	is_for_all = all_looked_at > now || all_looked_at + LOOK_INTERVAL <= now;
	if (is_for_all)
		all_looked_at = now;
	pass_horizon = InvalidTransactionId;
	for (i = is_for_all ? 0 : queue_slot_next_active(0); i < n;
		 i = is_for_all ? i + 1 : queue_slot_next_active(i + 1))
	{
		QueueSlot  *slot = queue_slot_at(i);
		TimestampTz look_again;

		if (slot == NULL || slot->dbid != MyDatabaseId)
			continue;
		looked_at = i;
		look_again = queue_vacuum_threshold < 0 ?
			TIMESTAMP_INFINITY : look_at_slot(slot, now);
		queue_slot_review_active(slot, look_again != TIMESTAMP_INFINITY);
		next = Min(next, look_again);
		is_wanted |= slot->vacuum.is_wanted;
	}
	looked_at = -1;
	if (is_wanted)
		(void) queue_helper_call(HELPER_VACUUM);
	return next;
}

/*
 * queue_vacuum_skip
 *		After an error of the last look: put off the queue that it was at, so
 *		that it does not fail the next one.
 */
void
queue_vacuum_skip(void)
{
	QueueSlot  *slot = looked_at < 0 ? NULL : queue_slot_at(looked_at);

	if (slot != NULL)
		slot->vacuum.retry_at = GetCurrentTimestamp() + VACUUM_RETRY_DELAY;
}

/*
 * look_at_slot
 *		Look at one queue, and return when it has to be looked at again.
 *
 * Only this process and the one that it has started change these fields, and
 * the latter only while the queue is wanted; so what is read here stays true.
 */
static TimestampTz
look_at_slot(QueueSlot *slot, TimestampTz now)
{
	VacuumPart *vacuum = &slot->vacuum;
	Oid			relid = slot->relid;
	TimestampTz next = TIMESTAMP_INFINITY;
	bool		is_held;

	if (vacuum->is_wanted)
		return now + LOOK_AGAIN;
	if (vacuum->nremoved != queue_slot_nwindows_taken(slot) ||
		queue_slot_is_purged(slot))
	{
		vacuum->nremoved = queue_slot_nwindows_taken(slot);
		queue_slot_clear_purge(slot);
		vacuum->look_until = now + LOOK_TIME;
	}
	else if (vacuum->look_until <= now &&
			 !FullTransactionIdIsValid(vacuum->mark) &&
			 vacuum->looked_at <= now &&
			 vacuum->looked_at + LOOK_INTERVAL > now)
		return TIMESTAMP_INFINITY;
	vacuum->looked_at = now;
	if (vacuum->retry_at > now && vacuum->retry_at <= now + VACUUM_RETRY_DELAY)
		return now + LOOK_AGAIN;

	if (FullTransactionIdIsValid(vacuum->mark) || vacuum->look_until > now)
		next = now + LOOK_AGAIN;
	if ((!FullTransactionIdIsValid(vacuum->mark) || vacuum->follow_up_at > 0) &&
		queue_vacuum_has_dead_rows(relid, 1))
	{
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		vacuum->mark = ReadNextFullTransactionId();
		vacuum->follow_up_at = 0;
		LWLockRelease(slot->lock);
		next = now + MARK_PASSES;
	}
	if (!FullTransactionIdIsValid(vacuum->mark) || vacuum->follow_up_at > now)
		vacuum->held_since = 0;
	else if (queue_vacuum_is_removable(relid, vacuum->mark, &pass_horizon,
									   &is_held))
	{
		LWLockAcquire(slot->lock, LW_EXCLUSIVE);
		vacuum->is_wanted = slot->dbid == MyDatabaseId &&
			slot->relid == relid;
		LWLockRelease(slot->lock);
		vacuum->held_since = 0;
		next = now + LOOK_AGAIN;
	}
	else if (is_held && (vacuum->held_since == 0 || vacuum->held_since > now))
		vacuum->held_since = now;	/* from now on, or the clock was set back */
	return next;
}

/*
 * queue_vacuum_has_dead_rows
 *		Returns true if there are "factor" times enough dead rows for a
 *		vacuum, in the table, in its TOAST table or in its key table.
 */
bool
queue_vacuum_has_dead_rows(Oid relid, int factor)
{
	Oid			other;

	if (has_dead_in(relid, factor))
		return true;
	other = queue_vacuum_toast_of(relid);
	if (OidIsValid(other) && has_dead_in(other, factor))
		return true;
	other = keys_of(relid);
	return OidIsValid(other) && has_dead_in(other, factor);
}

/* Return the key table of a queue; InvalidOid if it has none, or is gone. */
static Oid
keys_of(Oid relid)
{
	QueueDef   *def = queue_def_known(relid);

	return def != NULL ? def->key_table : queue_settings_key_table(relid);
}

/*
 * queue_vacuum_keys_due
 *		Return the key table of a queue if it is worth a vacuum itself.
 */
Oid
queue_vacuum_keys_due(Oid relid)
{
	Oid			keys = keys_of(relid);

	return OidIsValid(keys) && has_dead_in(keys, 1) ? keys : InvalidOid;
}

/*
 * queue_vacuum_toast_of
 *		Return the TOAST table of a table; InvalidOid if it has none, or is
 *		gone.
 */
Oid
queue_vacuum_toast_of(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			toast_relid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	toast_relid = ((Form_pg_class) GETSTRUCT(tuple))->reltoastrelid;
	ReleaseSysCache(tuple);
	return toast_relid;
}

/* The same for one of them */
static bool
has_dead_in(Oid relid, int factor)
{
	PgStat_StatTabEntry *entry = pgstat_fetch_stat_tabentry(relid);

	return entry != NULL && entry->dead_tuples > 0 &&
		entry->dead_tuples >= factor *
		(queue_vacuum_threshold +
		 queue_vacuum_scale_factor * entry->live_tuples);
}

/*
 * queue_vacuum_is_removable
 *		Returns true if all rows can be removed that were dead when the mark
 *		was set.
 *
 * Returns false if the table is locked, or is not in order; *is_held tells that
 * somebody may still see some of them.  *latest is the latest horizon that a
 * table has had, Invalid at first; it saves looks at others.
 */
bool
queue_vacuum_is_removable(Oid relid, FullTransactionId mark,
						  TransactionId *latest, bool *is_held)
{
	TransactionId mark_xid = XidFromFullTransactionId(mark);
	TransactionId horizon = InvalidTransactionId;
	Relation	rel;
	bool		is_locked;

	*is_held = TransactionIdIsValid(*latest) &&
		TransactionIdPrecedes(*latest, mark_xid);
	if (*is_held)
		return false;
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel == NULL)
		return false;
	if (rel->rd_rel->relkind == RELKIND_RELATION && is_in_order(rel))
	{
		/* looking at catalogs has taken a snapshot, which would count */
		InvalidateCatalogSnapshot();
		horizon = GetOldestNonRemovableTransactionId(rel);
		if (!RelationIsAccessibleInLogicalDecoding(rel) &&
			(!TransactionIdIsValid(*latest) ||
			 TransactionIdPrecedes(*latest, horizon)))
			*latest = horizon;
	}
	table_close(rel, AccessShareLock);
	if (!TransactionIdIsValid(horizon))
		return false;
	*is_held = TransactionIdPrecedes(horizon, mark_xid);
	return !*is_held;
}

/* Is it a queue, a topic or a subscription that can be used? */
static bool
is_in_order(Relation rel)
{
	SubscriptionDef *subscription;
	TopicDef   *topic;
	QueueDef   *def;

	/* what is cached first: the other definition would be built each time */
	if (queue_def_known(RelationGetRelid(rel)) != NULL)
		return true;
	topic = queue_topic_def(rel);
	if (topic->is_topic)
		return topic->problem == NULL;
	subscription = queue_subscription_def(rel);
	if (subscription->is_subscription)
		return subscription->problem == NULL;
	def = queue_def(rel);
	return def->is_queue && def->problem == NULL;
}

/* ----------------------------------------------------------------
 *		What people look at
 * ----------------------------------------------------------------
 */

/* vacuums(): what view queue.storage shows of this */
Datum
queue_vacuums(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);

	for (int i = 0; i < queue_slot_count(); i++)
	{
		Datum		values[Natts_vacuums] = {0};
		bool		nulls[Natts_vacuums] = {0};
		VacuumPart	vacuum;
		Oid			relid;

		if (!get_vacuum(i, &relid, &vacuum))
			continue;
		values[0] = ObjectIdGetDatum(relid);
		values[1] = Int64GetDatum(vacuum.nvacuums);
		values[2] = TimestampTzGetDatum(vacuum.vacuumed_at);
		nulls[2] = vacuum.vacuumed_at == 0;
		values[3] = BoolGetDatum(is_held_back(&vacuum));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * held_back(): of which tables somebody keeps dead rows, for queue.health()
 *
 * Since when it has been seen, which is not when a holder of them came; and
 * the mark, which a holder of them precedes.
 */
Datum
queue_held_back(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);

	for (int i = 0; i < queue_slot_count(); i++)
	{
		Datum		values[Natts_held_back] = {0};
		bool		nulls[Natts_held_back] = {0};
		VacuumPart	vacuum;
		Oid			relid;

		if (!get_vacuum(i, &relid, &vacuum) || !is_held_back(&vacuum) ||
			vacuum.held_since == 0)
			continue;
		values[0] = ObjectIdGetDatum(relid);
		values[1] = TimestampTzGetDatum(vacuum.held_since);
		values[2] =
			TransactionIdGetDatum(XidFromFullTransactionId(vacuum.mark));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * get_vacuum
 *		Copy what a slot says of vacuums, and of which table; false if that is
 *		none of this database, or the user may not know of it.
 */
static bool
get_vacuum(int i, Oid *relid, VacuumPart *vacuum)
{
	QueueSlot  *slot = queue_slot_at(i);

	if (slot == NULL)
		return false;
	LWLockAcquire(slot->lock, LW_SHARED);
	*relid = slot->dbid == MyDatabaseId ? slot->relid : InvalidOid;
	*vacuum = slot->vacuum;
	LWLockRelease(slot->lock);
	return OidIsValid(*relid) && queue_may_watch(*relid);
}

/* Is it worth a vacuum, and waits only for snapshots to end? */
static bool
is_held_back(const VacuumPart *vacuum)
{
	return FullTransactionIdIsValid(vacuum->mark) &&
		vacuum->follow_up_at == 0 &&
		vacuum->retry_at <= GetCurrentTimestamp() &&
		queue_vacuum_threshold >= 0 &&
		!vacuum->is_wanted;
}

/*-------------------------------------------------------------------------
 *
 * stats.c
 *		What has happened to the messages of queues, and how many there are:
 *		views queue.stats, queue.latency, queue.top.
 *
 * All of it is read from memory, and what transactions did that were prepared
 * before the start from what they wrote down.  What takes little is brought up to date before,
 * so that a session that has made a queue, or sent a message, sees it: a small
 * queue that has not been counted is counted, and where something has
 * happened, the oldest message of a queue is looked for, and how far a
 * subscription is behind; as long as that takes some milliseconds in all.  The
 * worker does the rest (worker/tally.c).
 *
 * A user that may neither read a queue nor watch it gets nulls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "common/compat.h"
#include "common/relation.h"
#include "dispatch/lease.h"
#include "dispatch/tally_rows.h"
#include "shared/counters.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/waiter.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/settings.h"
#include "table/subscription.h"
#include "topic/behind.h"
#include "transaction/in_doubt_note.h"
#include "transaction/prepared.h"
#include "transaction/recovered.h"

/* For so long numbers are brought up to date; and what is small */
#define REFRESH_TIME		(10 * INT64CONST(1000))
#define SMALL_PAGES			16

/* Columns of counters(), and of latencies() */
#define Natts_counters		25
#define Anum_delayed		5
#define Anum_retrying		6
#define Anum_bytes			8
#define Anum_enqueued		13
#define Anum_enqueue_rate	20
#define Natts_latencies		9

/* What a subscription does not have */
static const int of_queues[] = {
	Anum_delayed, Anum_retrying, Anum_bytes, Anum_enqueued, Anum_enqueue_rate
};

PG_FUNCTION_INFO_V1(queue_counters);
PG_FUNCTION_INFO_V1(queue_latencies);
PG_FUNCTION_INFO_V1(queue_reset_stats);

/* A queue, and how many of its messages are in doubt */
typedef struct InDoubt
{
	Oid			relid;			/* must be first */
	int64		n;
} InDoubt;

static void refresh(TimestampTz now);
static void refresh_queue(Oid relid, TimestampTz now);
static void refresh_subscription(Relation rel);
static bool is_here(QueueSlot *slot);
static HTAB *count_in_doubt(void);
static void add_in_doubt(TransactionId xid, Oid dbid, Oid relid,
						 PreparedHold kind, int64 n, void *arg);
static void put_counters(ReturnSetInfo *rsinfo, QueueSlot *slot,
						 TimestampTz now, HTAB *in_doubt);
static void put_latency(ReturnSetInfo *rsinfo, const CounterValues *values,
						const char *kind, Counter first, Datum bounds);
static int64 total(const CounterValues *values, Counter first);
static Datum percentile(const int64 *buckets, double share, bool *isnull);
static Datum interval_of(int64 usec);
static QueueSlot *own_queue(Oid relid);
static QueueSlot *own_subscription(Oid relid);

/*
 * counters(): all numbers of the queues of this database that memory knows
 *
 * The number of rows is told of each, for the view to show that of a dead-letter
 * queue; the view decides who sees it.
 */
Datum
queue_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	TimestampTz now = GetCurrentTimestamp();
	HTAB	   *in_doubt;

	queue_lease_load_to_look();

	/*
	 * what this transaction has done would be counted, and added at its
	 * commit
	 */
	if (!RecoveryInProgress() &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		refresh(now);
	in_doubt = count_in_doubt();
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && is_here(slot))
			put_counters(rsinfo, slot, now, in_doubt);
	}
	return (Datum) 0;
}

/*
 * refresh
 *		Bring numbers up to date, where that takes little.
 *
 * If the time is not enough for all, it is for others in the next call: each
 * begins at another one.
 */
static void
refresh(TimestampTz now)
{
	List	   *relids = list_concat(queue_settings_all(),
									 queue_subscriptions_all());
	int			n = list_length(relids);
	int			first = n > 0 ? (int) (now % n) : 0;

	for (int i = 0; i < n; i++)
	{
		Oid			relid = list_nth_oid(relids, (first + i) % n);
		QueueSlot  *slot = queue_slot_find(relid);

		if (slot != NULL ? queue_counters_is_known(slot) &&
			!queue_counters_want_oldest(slot) : !queue_tally_has_places())
			continue;
		refresh_queue(relid, now);
		if (GetCurrentTimestamp() > now + REFRESH_TIME)
			break;
	}
}

/* The same for one.  One that is locked, large or broken is left as it is. */
static void
refresh_queue(Oid relid, TimestampTz now)
{
	Relation	rel = NULL;
	bool		is_locked;
	QueueDef   *def;
	QueueSlot  *slot;

	if (queue_may_watch(relid) && get_rel_relkind(relid) == RELKIND_RELATION)
		rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel == NULL)
		return;
	if (queue_is_subscription(relid))
	{
		refresh_subscription(rel);
		table_close(rel, AccessShareLock);
		return;
	}
	def = queue_def(rel);
	slot = def->is_queue && def->problem == NULL ? queue_def_slot(def) : NULL;
	if (slot != NULL && !queue_counters_is_known(slot) &&
		RelationGetNumberOfBlocks(rel) <= SMALL_PAGES)
		(void) queue_tally_count(rel, def, slot, 1);
	if (slot != NULL && queue_counters_is_known(slot))
		queue_tally_oldest(rel, def, slot, now);
	table_close(rel, AccessShareLock);
}

/* The same for a subscription */
static void
refresh_subscription(Relation rel)
{
	SubscriptionDef *def = queue_subscription_def(rel);
	QueueSlot  *slot = def->is_subscription && def->problem == NULL ?
		queue_subscription_slot(def) : NULL;

	if (slot != NULL)
		(void) queue_behind_count(rel, def, slot, false /* is worker */ );
}

/* Is it a queue, or a subscription, of this database?  Unlocked. */
static bool
is_here(QueueSlot *slot)
{
	return slot->dbid == MyDatabaseId && slot->kind != SLOT_TOPIC;
}

/* Count what prepared transactions hold and have sent; NULL: there are none. */
static HTAB *
count_in_doubt(void)
{
	HASHCTL		info;
	HTAB	   *counts;
	TransactionId *xids = palloc(Max(queue_prepared_max(), 1) *
								 sizeof(TransactionId));
	int			n = queue_prepared_xids(xids);
	bool		are_recovered = queue_recovered_are_there();

	pfree(xids);
	if (n == 0 && !are_recovered)
		return NULL;
	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(InDoubt);
	info.hcxt = CurrentMemoryContext;
	counts = hash_create("queue messages in doubt", 64, &info,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	queue_xact_visit_prepared(add_in_doubt, counts);
	if (are_recovered)
		queue_in_doubt_note_visit(add_in_doubt, counts);
	return counts;
}

/* Visitor of prepared transactions: add what one has done to a queue. */
static void
add_in_doubt(TransactionId xid, Oid dbid, Oid relid, PreparedHold kind, int64 n,
			 void *arg)
{
	InDoubt    *count;
	bool		found;

	if (!OidIsValid(relid) || dbid != MyDatabaseId)
		return;
	count = hash_search(arg, &relid, HASH_ENTER, &found);
	if (!found)
		count->n = 0;
	count->n += n;
}

/* Return the numbers of one queue as a row. */
static void
put_counters(ReturnSetInfo *rsinfo, QueueSlot *slot, TimestampTz now,
			 HTAB *in_doubt)
{
	Datum		values[Natts_counters] = {0};
	bool		nulls[Natts_counters] = {0};
	CounterValues c;
	InDoubt    *doubt = NULL;
	int64		held;
	int64		ready;
	int			i = 0;

	queue_counters_read(slot, now, false, &c);
	if (c.dbid != MyDatabaseId)
		return;					/* dropped meanwhile */
	values[i++] = ObjectIdGetDatum(c.relid);
	values[i] = Int64GetDatum(Max(c.rows, 0));
	nulls[i++] = !c.is_counted;
	if (!queue_may_watch(c.relid))
	{
		values[i++] = BoolGetDatum(false);
		memset(&nulls[i], true, Natts_counters - i);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		return;
	}
	if (!queue_held_is_complete(slot))
		queue_inflight_count_held(slot, c.relid);
	held = queue_held_count(slot) + c.recovered;
	ready = c.rows;
	if (c.kind == SLOT_QUEUE)
		ready -= held + Max(c.later[LATER_DELAYED], 0) +
			Max(c.later[LATER_RETRYING], 0) + c.exhausted;
	if (in_doubt != NULL)
		doubt = hash_search(in_doubt, &c.relid, HASH_FIND, NULL);

	/* how many there are */
	values[i++] = BoolGetDatum(true);
	memset(&nulls[i], !c.is_counted, 5);
	values[i++] = Int64GetDatum(Max(ready, 0));
	values[i++] = Int64GetDatum(Max(c.later[LATER_DELAYED], 0));
	values[i++] = Int64GetDatum(Max(c.later[LATER_RETRYING], 0));
	values[i++] = Int64GetDatum(Max(c.exhausted, 0));
	values[i++] = Int64GetDatum(Max(c.bytes, 0));
	values[i++] = Int64GetDatum(held);
	values[i++] = Int64GetDatum(doubt != NULL ? doubt->n : 0);
	values[i] = TimestampTzGetDatum(c.oldest_at);
	nulls[i++] = !c.is_counted || c.oldest_at == 0 || ready <= 0;
	values[i] = TimestampTzGetDatum(c.counted_at);
	nulls[i++] = !c.is_counted;

	/* what has happened */
	values[i++] = Int64GetDatum(c.n[COUNTER_SENT]);
	values[i++] = Int64GetDatum(total(&c, COUNTER_WAIT));
	values[i++] = Int64GetDatum(c.n[COUNTER_ACKED]);
	values[i++] = Int64GetDatum(c.n[COUNTER_FAILED]);
	values[i++] = Int64GetDatum(c.n[COUNTER_EXPIRED] + c.n[COUNTER_EXPIRED_DEAD] +
								c.n[COUNTER_OVERTAKEN]);
	values[i++] = Int64GetDatum(c.n[COUNTER_DEAD] + c.n[COUNTER_EXPIRED_DEAD]);
	values[i++] = TimestampTzGetDatum(c.reset_at);
	for (int j = 0; j < NUM_RATES; j++)
		values[i++] = Float8GetDatum(c.rates[j]);
	values[i++] = Int32GetDatum(queue_waiter_count(slot));
	values[i++] = Int64GetDatum(c.n[COUNTER_REMOVED]);
	Assert(i == Natts_counters);
	for (int j = 0; j < lengthof(of_queues) && c.kind == SLOT_SUBSCRIPTION; j++)
		nulls[of_queues[j] - 1] = true;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* latencies(): how long messages waited, and were processed, by queue and kind */
Datum
queue_latencies(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = queue_call_begin_rows(fcinfo);
	TimestampTz now = GetCurrentTimestamp();
	Datum		bounds[NUM_BUCKETS];
	Datum		array;

	for (int i = 0; i < NUM_BUCKETS; i++)
		bounds[i] = interval_of(queue_bucket_bound(i));
	array = PointerGetDatum(construct_array(bounds, NUM_BUCKETS, INTERVALOID,
											sizeof(Interval), false,
											TYPALIGN_DOUBLE));
	for (int i = 0; i < queue_slot_count(); i++)
	{
		QueueSlot  *slot = queue_slot_at(i);
		CounterValues c;

		if (slot == NULL || !is_here(slot))
			continue;
		queue_counters_read(slot, now, true, &c);
		if (c.dbid != MyDatabaseId || !queue_may_watch(c.relid))
			continue;
		put_latency(rsinfo, &c, "wait", COUNTER_WAIT, array);
		put_latency(rsinfo, &c, "processing", COUNTER_PROCESSING, array);
	}
	return (Datum) 0;
}

/* Return one histogram as a row. */
static void
put_latency(ReturnSetInfo *rsinfo, const CounterValues *c, const char *kind,
			Counter first, Datum bounds)
{
	const int64 *buckets = &c->n[first];
	Datum		values[Natts_latencies] = {0};
	bool		nulls[Natts_latencies] = {0};
	Datum		counts[NUM_BUCKETS];

	for (int i = 0; i < NUM_BUCKETS; i++)
		counts[i] = Int64GetDatum(buckets[i]);
	values[0] = ObjectIdGetDatum(c->relid);
	values[1] = CStringGetTextDatum(kind);
	values[2] = Int64GetDatum(total(c, first));
	values[3] = percentile(buckets, 0.5, &nulls[3]);
	values[4] = percentile(buckets, 0.9, &nulls[4]);
	values[5] = percentile(buckets, 0.99, &nulls[5]);
	values[6] = percentile(buckets, 1, &nulls[6]);
	values[7] = PointerGetDatum(construct_array(counts, NUM_BUCKETS, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	values[8] = bounds;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Return how many are in the buckets of a histogram. */
static int64
total(const CounterValues *c, Counter first)
{
	int64		n = 0;

	for (int i = 0; i < NUM_BUCKETS; i++)
		n += c->n[first + i];
	return n;
}

/* Return the bound that this share of all is within; null: there is none. */
static Datum
percentile(const int64 *buckets, double share, bool *isnull)
{
	int64		n = 0;
	int64		below = 0;

	for (int i = 0; i < NUM_BUCKETS; i++)
		n += buckets[i];
	*isnull = n <= 0;
	if (*isnull)
		return (Datum) 0;
	for (int i = 0; i < NUM_BUCKETS; i++)
	{
		below += buckets[i];
		if ((double) below >= share * n)
			return interval_of(queue_bucket_bound(i));
	}
	return interval_of(queue_bucket_bound(NUM_BUCKETS - 1));
}

static Datum
interval_of(int64 usec)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = usec;
	return IntervalPGetDatum(interval);
}

/*
 * reset_stats(queue)
 *
 * Of a queue its owner may; of all queues of the database the owner of that.
 */
Datum
queue_reset_stats(PG_FUNCTION_ARGS)
{
	QueueSlot  *slot;
	Oid			relid;

	queue_call_begin(fcinfo, "queue.reset_stats()", CALL_READS, NULL);
	if (PG_ARGISNULL(0))
	{
		if (!object_ownercheck(DatabaseRelationId, MyDatabaseId, GetUserId()))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be owner of the database to reset the statistics of all queues"),
					 errhint("Name a queue that you own.")));
		for (int i = 0; i < queue_slot_count(); i++)
		{
			slot = queue_slot_at(i);
			if (slot != NULL && is_here(slot))
				queue_counters_reset(slot, slot->relid);
		}
		PG_RETURN_VOID();
	}
	relid = PG_GETARG_OID(0);
	slot = queue_is_subscription(relid) ? own_subscription(relid) :
		own_queue(relid);
	if (slot != NULL)
		queue_counters_reset(slot, relid);
	PG_RETURN_VOID();
}

/* The place of a queue that the user owns; NULL: it has none */
static QueueSlot *
own_queue(Oid relid)
{
	QueueDef   *def;
	Relation	rel = queue_open(relid, QUEUE_OWN, &def);
	QueueSlot  *slot = queue_def_slot(def);

	table_close(rel, queue_lockmode(QUEUE_OWN));
	return slot;
}

/* ... of a subscription */
static QueueSlot *
own_subscription(Oid relid)
{
	SubscriptionDef *def;
	Relation	rel = queue_subscription_open(relid, SUBSCRIPTION_OWN, &def);
	QueueSlot  *slot = queue_subscription_slot(def);

	table_close(rel, queue_subscription_lockmode(SUBSCRIPTION_OWN));
	return slot;
}

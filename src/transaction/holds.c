/*-------------------------------------------------------------------------
 *
 * holds.c
 *		What a transaction holds: claims, takes, leases, settlements.
 *
 * Every entry of the in-flight table that a transaction holds is noted here,
 * with the subtransaction that took it.  The life of a note:
 *
 *	reserve -> push (CLAIM) -> DEQUEUE | LEASE, or popped with the claim
 *	reserve -> push (STEP), or popped with the claim
 *	reserve -> push (SETTLE), or popped when the lease was settled at once
 *	reserve -> push (EXHAUST): a claim until the commit tells the worker
 *	reserve -> push (DROP, TRUNCATE), which holds nothing: a commit forgets the
 *		messages
 *	reserve -> push (GROUP), which holds nothing: a commit looks at the group
 *	reserve -> push (MOVE), which holds nothing: a commit moves what is held on
 *
 *	event				CLAIM		DEQUEUE		LEASE	  SETTLE	 STEP
 *	subcommit			(becomes the parent's, all alike)
 *	subabort, abort		given back	counts *	ends,	  lease		 given back
 *												counts *  goes on
 *	commit				-			gone		stays	  gone		 counted
 *	prepare				-			registry	registry  registry	 -
 *	  commit prepared				gone		stays	  gone
 *	  rollback prepared				counts		ends,	  lease goes on
 *												counts
 *
 *	MOVE: a subabort of what was dequeued is noted with the DEQUEUE that it is
 *	about, and counts when that commits, if what failed is then next.
 *
 *	A DEQUEUE may be a partition whose position is set.  A rollback of that
 *	leaves all as it was, and counts nothing.
 *
 *	* not after a deadlock, a serialization failure or what the server itself
 *	  could not do, as far as the error is known (fault.c), nor when the
 *	  server shuts down, nor with queue.count_failures off.  Nor if the very
 *	  call that took them has failed, or the statement that received them,
 *	  because no consumer has seen its result.
 *
 * The functions that the end of a transaction calls allocate nothing and throw
 * nothing: all that they need is in the holds and in the entries.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/counters.h"
#include "shared/cover.h"
#include "shared/database.h"
#include "shared/place.h"
#include "shared/saved_counters.h"
#include "shared/topic_slot.h"
#include "shared/usage.h"
#include "table/definition.h"
#include "transaction/fault.h"
#include "transaction/holds.h"
#include "transaction/taking_statement.h"

#define FIRST_HOLDS			256

/* What this transaction holds, oldest first */
static Hold *holds = NULL;
static int	nholds = 0;
static int	max_holds = 0;

/* Holds from here on are of a call that has not returned; -1: no such call */
static int	first_of_call = -1;

/* Number of the statement that this call is a part of; 0: a function's call */
static uint64 statement_of_call = 0;

static void note_end_of(Oid relid, HoldKind kind);
static void note_batch(void);
static void abort_hold(Hold *hold, FailureNote *failure);
static void note_failed(Hold *move, const FailureNote *failure);
static void undo_move(Hold *move);
static Hold *hold_before(Hold *move);
static void forget_counts(const MessageKey *key);
static void note_moved(const Hold *hold);
static bool is_truncated(const Hold *hold);

/*
 * queue_xact_reserve
 *		Make room for one more hold.  May throw.
 *
 * To be called before an entry is claimed or settled, so that
 * queue_xact_push() cannot fail.
 */
void
queue_xact_reserve(void)
{
	if (nholds < max_holds)
		return;
	if (holds == NULL)
	{
		holds = MemoryContextAlloc(TopMemoryContext,
								   FIRST_HOLDS * sizeof(Hold));
		max_holds = FIRST_HOLDS;
	}
	else
	{
		holds = repalloc_huge(holds, (Size) max_holds * 2 * sizeof(Hold));
		max_holds *= 2;
	}
}

/*
 * queue_xact_push
 *		Note an entry that this transaction holds from now on.
 *
 * Never throws.  The hold is good until the next queue_xact_reserve().
 */
Hold *
queue_xact_push(HoldKind kind, const MessageKey *key, InflightEntry *entry)
{
	Hold		hold = {
		.kind = kind,
		.subid = GetCurrentSubTransactionId(),
		.entry = entry,
		.key = *key,
		.statement = first_of_call >= 0 ? statement_of_call : 0,
		.position = -1
	};

	Assert(nholds < max_holds);
	queue_is_used = true;
	holds[nholds] = hold;
	return &holds[nholds++];
}

/* Return the hold of this kind about a partition; NULL: there is none. */
Hold *
queue_xact_find(HoldKind kind, const MessageKey *key)
{
	for (int i = nholds - 1; i >= 0; i--)
		if (holds[i].kind == kind && holds[i].is_partition &&
			queue_message_key_compare(&holds[i].key, key) == 0)
			return &holds[i];
	return NULL;
}

/* Is the position of a partition set that this transaction holds? */
bool
queue_xact_is_set(const Hold *hold)
{
	if (hold->is_set)
		return true;
	for (int i = nholds - 1; &holds[i] > hold; i--)
		if (holds[i].kind == HOLD_MOVE && holds[i].is_set &&
			&holds[holds[i].first] == hold)
			return true;
	return false;
}

/* Forget the hold pushed last, which is dealt with. */
void
queue_xact_pop(Hold *hold)
{
	Assert(hold == &holds[nholds - 1]);
	nholds--;
}

/* Forget the last n holds, all HOLD_SETTLE. */
void
queue_xact_pop_settled(int n)
{
	Assert(n <= nholds && (n == 0 || holds[nholds - 1].kind == HOLD_SETTLE));
	nholds -= n;
}

/*
 * queue_xact_begin_take
 *		A call that takes messages begins.
 *
 * What it takes does not count as failed if it fails or is ended before
 * queue_xact_end_take(), because no consumer has seen it.  "is_top_level"
 * tells that the client's own statement makes the call.  May throw.
 */
void
queue_xact_begin_take(bool is_top_level)
{
	first_of_call = nholds;
	statement_of_call = is_top_level ? queue_taking_statement_number() : 0;
}

/* The call has its result. */
void
queue_xact_end_take(void)
{
	if (first_of_call >= 0 && first_of_call < nholds)
		note_batch();
	first_of_call = -1;
}

/*
 * note_batch
 *		Note how many messages the call has taken, because those fail together.
 *
 * A lease is told by the commit.  If that does not follow at once, it is told
 * here, because it may end earlier.
 */
static void
note_batch(void)
{
	bool		is_told_now = statement_of_call == 0 || IsTransactionBlock();
	int			n = 0;

	for (int i = first_of_call; i < nholds; i++)
		if (holds[i].kind == HOLD_DEQUEUE || holds[i].kind == HOLD_LEASE)
			n++;
	for (int i = first_of_call; i < nholds; i++)
	{
		if (holds[i].is_partition)
			continue;			/* it knows */
		holds[i].batch = n;
		if (holds[i].kind == HOLD_LEASE && is_told_now)
			queue_inflight_set_batch(&holds[i].key, holds[i].number, n);
	}
}

/*
 * queue_xact_note_drop
 *		Forget the messages of this queue, and what memory knows of it, when
 *		this transaction commits.
 */
void
queue_xact_note_drop(Oid relid)
{
	note_end_of(relid, HOLD_DROP);
}

/*
 * queue_xact_note_truncate
 *		Forget the messages of this queue when this transaction commits, if
 *		its table is then locked as TRUNCATE locks it.
 */
void
queue_xact_note_truncate(Oid relid)
{
	note_end_of(relid, HOLD_TRUNCATE);
}

/*
 * queue_xact_note_group
 *		Look anew at what waits of this group when this transaction commits.
 *
 * 0: of all groups of the queue that are left alone for a time.
 */
void
queue_xact_note_group(Oid relid, uint64 hash)
{
	MessageKey	key;

	queue_message_key(&key, relid, (int64) hash);
	queue_xact_reserve();
	(void) queue_xact_push(HOLD_GROUP, &key, NULL);
}

/* Push a hold about a whole queue.  May throw. */
static void
note_end_of(Oid relid, HoldKind kind)
{
	MessageKey	key;

	queue_message_key(&key, relid, 0);
	queue_xact_reserve();
	(void) queue_xact_push(kind, &key, NULL);
}

/* ----------------------------------------------------------------
 *		Ends of transactions
 * ----------------------------------------------------------------
 */

/* The number of holds */
int
queue_holds_count(void)
{
	return nholds;
}

/* The i-th hold */
Hold *
queue_hold_at(int i)
{
	return &holds[i];
}

/*
 * queue_holds_commit
 *		The transaction is committed: deal with all holds.
 *
 * Exhausted messages stay held: see queue_holds_release().
 */
void
queue_holds_commit(void)
{
	int			nexhausted = 0;
	int			i;

	queue_holds_join();
	for (i = 0; i < nholds; i++)
	{
		if (holds[i].kind == HOLD_EXHAUST)
			holds[nexhausted++] = holds[i];
		else
			queue_hold_commit(&holds[i]);
	}
	queue_counters_flush();
	nholds = nexhausted;
}

/*
 * queue_holds_join
 *		The transaction commits, or is prepared: what was moved again is where it
 *		was moved last.
 */
void
queue_holds_join(void)
{
	for (int i = 0; i < nholds; i++)
	{
		if (holds[i].kind != HOLD_MOVE)
			continue;
		holds[holds[i].first].position = holds[i].position;
		holds[holds[i].first].goes_on = holds[i].goes_on;
		holds[holds[i].first].nconsumed += holds[i].nconsumed;
	}
}

/*
 * queue_holds_release
 *		Its locks are released: let go of exhausted messages.
 *
 * Not earlier, because the worker would not move a message before it sees the
 * settings by which it is exhausted.
 */
void
queue_holds_release(void)
{
	int			i;

	for (i = 0; i < nholds; i++)
		queue_hold_commit(&holds[i]);
	if (nholds > 0)
		queue_holds_reset();
}

/*
 * queue_holds_pass_on
 *		The subtransaction is released: its holds become its parent's.
 *
 * They are the last ones.  Its children's are among them, because those were
 * passed on or undone when they ended.
 */
void
queue_holds_pass_on(SubTransactionId subid, SubTransactionId parent)
{
	int			i;

	for (i = nholds - 1; i >= 0 && holds[i].subid == subid; i--)
		holds[i].subid = parent;
}

/*
 * queue_holds_abort
 *		The transaction is rolled back: undo all holds.
 *
 * Unless that is NULL, it is a failure of the messages that it took, except by
 * a call that has not returned.
 */
void
queue_holds_abort(FailureNote *failure)
{
	int			i;

	for (i = nholds - 1; i >= 0; i--)
		abort_hold(&holds[i], first_of_call < 0 || i < first_of_call ?
				   failure : NULL);
	nholds = 0;
	first_of_call = -1;
}

/* The same for a subtransaction */
void
queue_holds_abort_sub(SubTransactionId subid, FailureNote *failure)
{
	while (nholds > 0 && holds[nholds - 1].subid == subid)
	{
		if (holds[nholds - 1].kind == HOLD_MOVE &&
			holds[holds[nholds - 1].first].subid != subid)
			undo_move(&holds[nholds - 1]);
		nholds--;
		abort_hold(&holds[nholds], first_of_call < 0 || nholds < first_of_call ?
				   failure : NULL);
	}
	first_of_call = -1;
}

/* Nothing is held any more. */
void
queue_holds_reset(void)
{
	nholds = 0;
	queue_fault_forget();

	/* a large batch should not stay with a pooled session */
	if (max_holds > 16 * FIRST_HOLDS)
	{
		pfree(holds);
		holds = NULL;
		max_holds = 0;
	}
}

/* The transaction, or the subtransaction that took this, is rolled back. */
static void
abort_hold(Hold *hold, FailureNote *failure)
{
	if (failure != NULL)
		failure->batch = Min(hold->batch, FAILURE_MAX_BATCH);
	switch (hold->kind)
	{
		case HOLD_DROP:
		case HOLD_GROUP:
			break;
		case HOLD_MOVE:
			if (failure != NULL && hold->batch > 0)
				note_failed(hold, failure);
			break;
		case HOLD_TRUNCATE:
			/* a sender after it has counted an empty table */
			queue_usage_forget(NULL, hold->key.dbid, hold->key.relid);
			break;
		case HOLD_CLAIM:
			queue_inflight_unclaim(hold->entry);
			break;
		case HOLD_EXHAUST:
		case HOLD_STEP:
			queue_inflight_unclaim_step(hold->entry);
			break;
		case HOLD_DEQUEUE:
			queue_inflight_undo_dequeue(hold->entry, failure);
			queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_LEASE:
			if (queue_inflight_undo_lease(&hold->key, hold->number,
										  queue_taking_statement_has_failed(hold->statement) ?
										  NULL : failure))
				queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_SETTLE:
			queue_inflight_undo_settle(hold->entry);
			queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			break;
	}
}

/*
 * note_failed
 *		What a rolled-back subtransaction has taken more of a partition has
 *		failed, and its transaction, which holds the partition, goes on.
 *
 * All that the subtransaction took is one failure, of the first message.  It
 * counts when the transaction commits, if that has not gone on beyond.  A PREPARE
 * forgets it.
 */
static void
note_failed(Hold *move, const FailureNote *failure)
{
	Hold	   *hold = &holds[move->first];
	Hold	   *before = hold_before(move);

	if (before != hold && before->subid == move->subid && before->batch > 0)
	{
		/* the next one to be undone */
		before->position = move->position;
		before->batch += move->batch;
		return;
	}
	if (hold->nfailed == 0 || hold->failed_after != before->position)
		hold->nfailed = 0;
	hold->nfailed++;
	hold->failed_after = before->position;
	hold->failed_until = move->position;
	hold->failed = *failure;
}

/*
 * undo_move
 *		What a rolled-back subtransaction has taken more of a partition does not
 *		fail with what its transaction has taken before.
 */
static void
undo_move(Hold *move)
{
	Hold	   *hold = &holds[move->first];

	if (move->batch == 0)
		return;
	hold->batch -= move->nconsumed;
	if (!queue_xact_is_set(hold))
		queue_inflight_set_last(hold->entry, hold_before(move)->position);
}

/* Return what moved the same partition before. */
static Hold *
hold_before(Hold *move)
{
	Hold	   *before = move - 1;

	while (before > &holds[move->first] &&
		   (before->kind != HOLD_MOVE || before->first != move->first))
		before--;
	return before;
}

/* The transaction is committed. */
void
queue_hold_commit(Hold *hold)
{
	switch (hold->kind)
	{
		case HOLD_LEASE:
			if (queue_inflight_keep_lease(&hold->key, hold->number,
										  hold->batch))
				queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_CLAIM:
			note_moved(hold);
			if (hold->is_partition)
				queue_hold_passed(hold->entry, 0, 0);
			queue_inflight_unclaim(hold->entry);
			break;
		case HOLD_DEQUEUE:
		case HOLD_SETTLE:
			note_moved(hold);
			if (hold->is_partition)
				queue_hold_passed(hold->entry, hold->nconsumed,
								  GetCurrentTransactionStopTimestamp());
			if (hold->goes_on)
				queue_inflight_go_on(hold->entry, hold->nconsumed);
			else if (hold->nfailed > 0 && hold->failed_after == hold->position)
			{
				queue_inflight_fail_next(hold->entry, &hold->failed,
										 hold->nfailed, hold->failed_until);
				queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			}
			else if (queue_hold_done(&hold->key, hold->entry,
									 GetCurrentTransactionStopTimestamp()))
				queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp() +
									   (int64) queue_lease_write_delay * 1000);
			break;
		case HOLD_STEP:
			if (hold->is_partition && hold->is_gone)
				queue_place_moved(hold->key.dbid, hold->key.relid,
								  (int) hold->key.id, -1);
			else if (hold->is_partition)
				queue_place_failed(hold->key.dbid, hold->key.relid,
								   (int) hold->key.id, hold->counted);
			queue_inflight_counted(hold->entry, hold->counted,
								   hold->is_exhausted, hold->is_gone,
								   hold->is_log_ended);
			break;
		case HOLD_EXHAUST:
			queue_inflight_exhaust(hold->entry, hold->counted);
			queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_DROP:
			/* waiters are to find that out */
			queue_cover_add_all(hold->key.dbid, hold->key.relid);
			queue_inflight_drop(hold->key.dbid, hold->key.relid);
			queue_slot_drop(hold->key.dbid, hold->key.relid);
			queue_topic_slot_drop(hold->key.dbid, hold->key.relid);
			queue_place_drop(hold->key.dbid, hold->key.relid);
			queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			break;
		case HOLD_TRUNCATE:
			if (is_truncated(hold))
			{
				queue_inflight_drop(hold->key.dbid, hold->key.relid);
				queue_usage_forget(NULL, hold->key.dbid, hold->key.relid);
				forget_counts(&hold->key);
				queue_database_wake_by(hold->key.dbid, GetCurrentTimestamp());
			}
			break;
		case HOLD_GROUP:
			if (hold->key.id == 0)
				queue_group_end_due(NULL, hold->key.relid, DT_NOEND);
			else
				queue_group_try(&hold->key);
			break;
		case HOLD_MOVE:
			break;				/* joined to what it is about */
	}
}

/* How many messages its queue has is not known. */
static void
forget_counts(const MessageKey *key)
{
	QueueSlot  *slot = queue_slot_find(key->relid);

	if (slot != NULL)
		queue_counters_forget(slot);
	else
	{
		/* not used since the start: what the file kept of it is wrong, too */
		(void) queue_saved_take(key->dbid, key->relid);
	}
}

/* A partition is where it was moved to. */
static void
note_moved(const Hold *hold)
{
	if (hold->is_partition && hold->position >= 0)
		queue_place_moved(hold->key.dbid, hold->key.relid, (int) hold->key.id,
						  hold->position);
}

/*
 * queue_hold_done
 *		What was held is consumed.
 *
 * A message is gone then; a partition is free again, and may have more.  Returns
 * true if the log of leases knows of it.
 */
bool
queue_hold_done(const MessageKey *key, InflightEntry *entry, TimestampTz now)
{
	MessageKey	held = *key;
	bool		is_partition = entry->enqueued_at == QUEUE_PARTITION_ROW;
	bool		is_durable;

	if (!is_partition)
		queue_counters_note(entry->queue, key->relid, COUNTER_PROCESSING,
							now - entry->since, 1);
	is_durable = queue_inflight_done(entry);
	if (is_partition)
		queue_cover_add(NULL, &held, 0, true /* wakes */ );
	return is_durable;
}

/*
 * queue_hold_passed
 *		The position of a partition has moved past so many messages that were
 *		consumed.
 *
 * If there are none, it was set, and how far it is behind is not what it was.
 */
void
queue_hold_passed(InflightEntry *entry, int n, TimestampTz now)
{
	if (n > 0)
		queue_counters_note(entry->queue, entry->key.relid, COUNTER_PROCESSING,
							now - entry->since, n);
	else if (entry->queue != NULL)
		queue_counters_doubt(entry->queue);
}

/*
 * is_truncated
 *		Returns true if the table was really truncated.
 *
 * TRUNCATE was noted before it had its lock, and another table may have got
 * the name before it had.  Callbacks run while locks are still held.
 */
static bool
is_truncated(const Hold *hold)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, hold->key.dbid, hold->key.relid);
	return LockHeldByMe(&tag, AccessExclusiveLock, false);
}

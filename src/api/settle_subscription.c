/*-------------------------------------------------------------------------
 *
 * settle_subscription.c
 *		The end of leases that a subscription has given.
 *
 * A batch of messages of one partition is one lease, and there is one receipt
 * for each of its messages.  An ack consumes all up to its message: it moves the
 * position there, in the caller's transaction.  If that commits, the lease goes
 * on for the rest of the batch; with the last message it ends.
 *
 * What is given back, or rejected, must be what comes next, because there is
 * one position, which passes all or nothing.  A receipt says which message is
 * before its own, so it can be told without reading the topic.  Those behind it
 * are given back with it, uncounted.
 *
 * A transaction may settle several messages of one lease, one call after the
 * other.  It holds the lease from the first of these on, and what the commit
 * does is what the last one says that was not rolled back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "api/settle_subscription.h"
#include "api/settling.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "shared/database.h"
#include "table/position.h"
#include "table/topic.h"
#include "table/topic_scan.h"
#include "topic/letter.h"
#include "transaction/charge.h"
#include "transaction/moves.h"

/* A lease, and the receipts of it that a call has */
typedef struct PartitionLease
{
	const Receipt *receipts;
	int			n;
	InflightEntry *entry;
	bool		is_mine;		/* this transaction has settled a part of it */
	Relation	rel;
	SubscriptionDef *def;
	Position   *position;
} PartitionLease;

/* What the second step of a call needs to know of it */
struct MarkedLease
{
	InflightEntry *entry;
	RetryPolicy retry;
	int			counted;
	int64		last_id;		/* of the messages that are given back */
	int			n;				/* ... and how many they are */
};

static int	next_lease(const SubscriptionReceipts *given, int first,
					   PartitionLease *lease);
static const char *try_begin(PartitionLease *lease, SettleResult *result);
static void begin(PartitionLease *lease);
static bool is_passed(PartitionLease *lease);
static const char *read_position(PartitionLease *lease,
								 SettleResult *result);
static const char *check_log(PartitionLease *lease, SettleResult *result);
static void let_go(PartitionLease *lease);
static void end(PartitionLease *lease);
static void settled_already(const Receipt *receipt);
static void require_next(const PartitionLease *lease, const Receipt *receipt);
static int	first_left(const PartitionLease *lease);
static int	nconsumed(const PartitionLease *lease, int nreceipts,
					  bool is_last);
static void move(PartitionLease *lease, const Receipt *receipt, bool goes_on,
				 GoneKind kind, int n);
static void send_letter(PartitionLease *lease, const Receipt *receipt,
						const char *reason, bool is_first);

/* ----------------------------------------------------------------
 *		In the caller's transaction
 * ----------------------------------------------------------------
 */

/* Consume all up to the last of the messages of each lease. */
int
queue_subscription_ack(const SubscriptionReceipts *given)
{
	PartitionLease lease;
	int			nsettled = 0;

	for (int i = 0; i < given->n; i += lease.n)
	{
		const Receipt *last;
		int			first;

		lease.n = next_lease(given, i, &lease);
		begin(&lease);
		first = first_left(&lease);
		last = &lease.receipts[lease.n - 1];
		if (first < lease.n)
		{
			bool		is_last = last->is_last ||
				last->message == lease.entry->last_id;

			move(&lease, last, !is_last, GONE_ACKED,
				 nconsumed(&lease, lease.n - first, is_last));
		}
		else
		{
			if (!given->is_array)
				settled_already(last);
			let_go(&lease);
		}
		nsettled += lease.n - first;
		end(&lease);
	}
	return nsettled;
}

/* Send messages that come next to the dead letters; their leases end. */
int
queue_subscription_reject(const SubscriptionReceipts *given,
						  const char *reason)
{
	PartitionLease lease;
	int			nsettled = 0;

	for (int i = 0; i < given->n; i += lease.n)
	{
		int			first;

		lease.n = next_lease(given, i, &lease);
		begin(&lease);
		first = first_left(&lease);
		if (first == lease.n)
		{
			if (!given->is_array)
				settled_already(&lease.receipts[lease.n - 1]);
			let_go(&lease);
		}
		if (!OidIsValid(lease.def->dead_letter))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("subscription \"%s\" has no dead-letter queue",
							queue_shown_name(RelationGetRelid(lease.rel))),
					 errhint("Give it one with queue.alter_subscription(), or settle the message with queue.ack().")));
		for (int j = first; j < lease.n; j++)
		{
			require_next(&lease, &lease.receipts[j]);
			send_letter(&lease, &lease.receipts[j], reason, j == first);
			move(&lease, &lease.receipts[j], false /* it ends */ , GONE_DEAD, 1);
		}
		nsettled += lease.n - first;
		end(&lease);
	}
	return nsettled;
}

/*
 * send_letter
 *		Send a message to the dead letters.
 *
 * What has failed before is the first of those that are left.
 */
static void
send_letter(PartitionLease *lease, const Receipt *receipt, const char *reason,
			bool is_first)
{
	TopicDef   *topic;
	Relation	rel = queue_topic_open(lease->def->topic, TOPIC_READ, &topic);
	TopicScan  *scan = queue_topic_scan_begin(rel, topic,
											  GetActiveSnapshot(), 1);
	TupleTableSlot *slot = NULL;
	NullableDatum log = {0, true};
	FailureNews news = {0};
	int			failures = 0;
	int64		id;

	if (is_first)
	{
		failures = queue_add_failures(lease->position->failures,
									  lease->entry->failures);
		log = queue_position_failure_log(lease->position);
		queue_inflight_read_news(lease->entry, &news);
	}
	if (queue_topic_scan_add(scan, (int) receipt->key.id, receipt->message - 1,
							 receipt->message + 1, &id))
		while ((slot = queue_topic_scan_next_of(scan, (int) receipt->key.id,
												&id)) != NULL)
			if (queue_topic_row_state(scan) == TOPIC_ROW_SEEN)
				break;
	if (slot == NULL)
		queue_settling_report_lost(receipt,
								   "The message has been deleted from the topic.");
	queue_letter_send(lease->rel, lease->def, slot, reason, failures, log,
					  &news);
	queue_topic_scan_end(scan);
	table_close(rel, NoLock);
}

/* ----------------------------------------------------------------
 *		At once
 * ----------------------------------------------------------------
 */

/*
 * queue_subscription_mark
 *		First step: mark the leases, and look where they stand.
 *
 * An error lets the leases go on.
 */
MarkedLease *
queue_subscription_mark(const SubscriptionReceipts *given, int *n,
						int *nmessages)
{
	MarkedLease *marked = palloc(Max(given->n, 1) * sizeof(MarkedLease));
	PartitionLease lease;

	*n = *nmessages = 0;
	for (int i = 0; i < given->n; i += lease.n)
	{
		const Receipt *last;
		int			first;

		lease.n = next_lease(given, i, &lease);
		begin(&lease);
		if (lease.is_mine)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot give back message " INT64_FORMAT " of subscription \"%s\"",
							lease.receipts[0].message,
							queue_shown_name(lease.receipts[0].key.relid)),
					 errdetail("This transaction has settled messages before it, and has not committed."),
					 errhint("Commit, then call this.")));
		first = first_left(&lease);
		last = &lease.receipts[lease.n - 1];
		if (first < lease.n)
		{
			require_next(&lease, &lease.receipts[first]);
			marked[*n].entry = lease.entry;
			marked[*n].retry = lease.def->retry;
			marked[*n].counted = lease.position->failures;
			marked[*n].last_id = last->message;
			marked[*n].n = lease.n - first;
			*nmessages += lease.n - first;
			(*n)++;
		}
		else
		{
			if (!given->is_array)
				settled_already(last);
			let_go(&lease);
		}
		end(&lease);
	}
	return marked;
}

/* Count a failure of what comes next; those that were given fail together. */
void
queue_subscription_nack(MarkedLease *leases, int n, int64 delay,
						const FailureNote *failure)
{
	for (int i = 0; i < n; i++)
	{
		queue_inflight_set_last(leases[i].entry, leases[i].last_id);
		queue_inflight_nack(leases[i].entry, &leases[i].retry,
							leases[i].counted, delay, failure, leases[i].n);
	}
	queue_xact_pop_settled(n);
}

/* Give the messages back for later, as if they had not been received. */
void
queue_subscription_release(MarkedLease *leases, int n, int64 delay)
{
	for (int i = 0; i < n; i++)
		queue_inflight_release(leases[i].entry, delay);
	queue_xact_pop_settled(n);
}

/* Let a lease end at another time. */
bool
queue_subscription_extend(const Receipt *receipt, int64 lease,
						  bool missing_ok, TimestampTz *deadline)
{
	PartitionLease partition = {.receipts = receipt,.n = 1};
	SettleResult result;
	const char *detail = try_begin(&partition, &result);

	if (detail != NULL && missing_ok)
		return false;
	if (detail != NULL && queue_settling_is_busy(result))
		queue_settling_report_busy(receipt, detail);
	if (detail != NULL)
		queue_settling_report_lost(receipt, detail);
	queue_subscription_check_lease(partition.def, lease);
	*deadline = GetCurrentTimestamp() + lease;
	if (partition.is_mine)
		queue_inflight_extend_settling(partition.entry, *deadline);
	else
	{
		queue_inflight_extend(partition.entry, *deadline);
		queue_xact_pop_settled(1);
	}
	queue_database_wake_by(MyDatabaseId, *deadline);
	end(&partition);
	return true;
}

/* ----------------------------------------------------------------
 *		Common parts
 * ----------------------------------------------------------------
 */

/* Return how many of the receipts, from this one on, are of one lease. */
static int
next_lease(const SubscriptionReceipts *given, int first, PartitionLease *lease)
{
	const Receipt *receipt = &given->receipts[first];
	int			n = 1;

	while (first + n < given->n &&
		   queue_message_key_compare(&receipt[n].key, &receipt->key) == 0 &&
		   receipt[n].number == receipt->number &&
		   receipt[n].epoch == receipt->epoch)
		n++;
	memset(lease, 0, sizeof(PartitionLease));
	lease->receipts = receipt;
	lease->n = n;
	return n;
}

/*
 * try_begin
 *		Open the subscription, hold the lease, read the position.
 *
 * Returns NULL if that succeeds, or else why not, with nothing held.
 */
static const char *
try_begin(PartitionLease *lease, SettleResult *result)
{
	const Receipt *receipt = lease->receipts;
	const char *detail;

	*result = SETTLE_LOST;
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(receipt->key.relid)))
		return "The subscription does not exist any more.";
	lease->rel = queue_subscription_open(receipt->key.relid,
										 SUBSCRIPTION_SETTLE, &lease->def);
	detail = queue_settling_begin(receipt, &lease->entry, result);
	if (*result == SETTLE_SELF)
	{
		Hold	   *hold = queue_xact_find(HOLD_SETTLE, &receipt->key);

		if (hold != NULL && queue_xact_is_set(hold))
		{
			*result = SETTLE_LOST;
			detail = "This transaction has set the position of the partition, which ends the lease.";
		}
		else if (hold != NULL)
		{
			lease->is_mine = true;
			lease->entry = hold->entry;
			detail = NULL;
		}
	}
	else if (*result == SETTLE_OK)
	{
		Hold	   *hold = queue_xact_push(HOLD_SETTLE, &receipt->key,
										   lease->entry);

		hold->is_partition = true;
		hold->goes_on = true;
	}
	else if (!queue_settling_is_busy(*result) && is_passed(lease))
		detail = "It is settled already, or was passed by seek or skip.";
	if (detail == NULL)
		detail = read_position(lease, result);
	if (detail == NULL && !lease->is_mine)
		detail = check_log(lease, result);
	if (detail != NULL)
		end(lease);
	return detail;
}

/* The same, or an error. */
static void
begin(PartitionLease *lease)
{
	SettleResult result;
	const char *detail = try_begin(lease, &result);

	if (detail == NULL)
		return;
	if (queue_settling_is_busy(result))
		queue_settling_report_busy(lease->receipts, detail);
	queue_settling_report_lost(lease->receipts, detail);
}

/* Does the partition stand behind the message of a lease that is lost? */
static bool
is_passed(PartitionLease *lease)
{
	Position   *position = queue_position_make(lease->rel);
	bool		is_passed =
		queue_position_read(lease->rel, lease->def,
							(int) lease->receipts->key.id,
							position) == POSITION_FOUND &&
		position->id >= lease->receipts->message;

	queue_position_free(position);
	return is_passed;
}

/* Read where the partition stands; returns what is in the way. */
static const char *
read_position(PartitionLease *lease, SettleResult *result)
{
	lease->position = queue_position_make(lease->rel);
	switch (queue_position_read(lease->rel, lease->def,
								(int) lease->receipts->key.id,
								lease->position))
	{
		case POSITION_FOUND:
			queue_position_next_is(lease->position, lease->entry->first_id);
			return NULL;
		case POSITION_BUSY:
			let_go(lease);
			*result = SETTLE_BUSY;
			return "Another transaction is changing the position of the subscription.";
		case POSITION_MISSING:
			let_go(lease);
			*result = SETTLE_LOST;
			return "The position of the subscription has been deleted.";
	}
	return NULL;				/* not reached */
}

/*
 * check_log
 *		Was the position, which has been read, set by a transaction that was
 *		prepared before the start, and that has ended the lease?
 *
 * Then forget the lease, as the worker is about to do (worker/gone.c).
 */
static const char *
check_log(PartitionLease *lease, SettleResult *result)
{
	const Receipt *receipt = lease->receipts;
	LeaseFence	fence = {receipt->key, receipt->epoch, receipt->number};

	if (!queue_lease_is_ended(&fence))
		return NULL;
	let_go(lease);
	(void) queue_inflight_forget_lease(&fence.key, fence.epoch, fence.number);
	queue_cover_add(NULL, &fence.key, 0, true /* wakes */ );
	*result = SETTLE_LOST;
	return "The position of the partition was set, which ends the lease.";
}

/* Give the lease back as it is, if this call was the first to hold it. */
static void
let_go(PartitionLease *lease)
{
	if (lease->is_mine)
		return;
	queue_inflight_undo_settle(lease->entry);
	queue_xact_pop_settled(1);
}

/* Close the subscription. */
static void
end(PartitionLease *lease)
{
	if (lease->position != NULL)
		queue_position_free(lease->position);
	lease->position = NULL;
	table_close(lease->rel, NoLock);
}

/* Return the number of the first receipt that is not covered already. */
static int
first_left(const PartitionLease *lease)
{
	int			i = 0;

	while (i < lease->n && lease->receipts[i].message <= lease->position->id)
		i++;
	return i;
}

/* Raise QU001: it is covered by an ack of this lease. */
static void
settled_already(const Receipt *receipt)
{
	queue_settling_report_lost(receipt, "It is settled already.");
}

/* 55000 unless what is before this message is settled. */
static void
require_next(const PartitionLease *lease, const Receipt *receipt)
{
	if (receipt->after <= lease->position->id)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("message " INT64_FORMAT " of subscription \"%s\" is not the next",
					receipt->message, queue_shown_name(receipt->key.relid)),
			 errdetail("Message " INT64_FORMAT " of its batch comes before it, and is not acknowledged.",
					   receipt->after),
			 errhint("Acknowledge what comes before it first.")));
}

/*
 * nconsumed
 *		Return how many messages an ack consumes, of which so many receipts were
 *		given.
 *
 * Memory knows how many are left of the batch, but not which ones; so what has no
 * receipt here is counted with the last one of the batch.
 */
static int
nconsumed(const PartitionLease *lease, int nreceipts, bool is_last)
{
	int			nleft = lease->entry->nleft;

	if (!is_last || nleft == 0)
		return nreceipts;
	if (lease->is_mine)
		nleft -= queue_xact_nconsumed(queue_xact_find(HOLD_SETTLE,
													  &lease->receipts->key));
	return Max(nreceipts, nleft);
}

/*
 * move
 *		Move the position to this message, past so many; the lease goes on, or
 *		ends, at commit.
 */
static void
move(PartitionLease *lease, const Receipt *receipt, bool goes_on,
	 GoneKind kind, int n)
{
	Hold	   *hold;

	if (!queue_position_move(lease->rel, lease->def, lease->position,
							 receipt->message))
		queue_settling_report_busy(receipt,
								   "Another transaction has locked the position of the subscription.");
	queue_xact_reserve();
	hold = queue_xact_find(HOLD_SETTLE, &receipt->key);
	if (lease->is_mine)
		hold = queue_xact_push_move(hold);
	hold->position = receipt->message;
	hold->goes_on = goes_on;
	hold->nconsumed = n;
	lease->is_mine = true;
	queue_charge_passed(lease->def, kind, n);
}

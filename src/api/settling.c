/*-------------------------------------------------------------------------
 *
 * settling.c
 *		Leases that are about to be settled, of messages and of partitions.
 *
 * Settling begins with the fence: the entry in the in-flight table must be the
 * very lease of the receipt.  It is marked as being settled, and then neither
 * its deadline nor another process can end it before this transaction does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "api/settling.h"
#include "common/errcodes.h"
#include "common/relation_name.h"
#include "transaction/holds.h"

/*
 * A lease that ran out can be settled when no consumer is examining the
 * message.  That takes less than as many milliseconds.
 */
#define MAX_LOOKS		1000

static int64 message_of(const Receipt *receipt);
static const char *noun_of(const Receipt *receipt);

/*
 * queue_settling_begin
 *		Begin to settle a lease.
 *
 * Returns NULL if that succeeds, else why not.  On SETTLE_LOST, what is said is
 * only that it is lost.
 */
const char *
queue_settling_begin(const Receipt *receipt, InflightEntry **entry,
					 SettleResult *result)
{
	int			nlooks = 0;

	queue_xact_reserve();
	while ((*result = queue_inflight_settle(&receipt->key, receipt->epoch,
											receipt->number, entry)) ==
		   SETTLE_EXAMINED && nlooks++ < MAX_LOOKS)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
	switch (*result)
	{
		case SETTLE_OK:
			return NULL;
		case SETTLE_LOST:
			return queue_settling_lost(receipt);
		case SETTLE_HELD:
			return "The lease has ended, and another lease or transaction holds the message.";
		case SETTLE_GIVEN_BACK:
			return "The message has been given back.";
		case SETTLE_EXAMINED:
			return "Another session is looking at the message.";
		case SETTLE_SELF:
			return "This transaction has settled the message already.";
		case SETTLE_BUSY:
			return "Another open transaction has settled the message.";
	}
	return "";					/* not reached */
}

/* Return what to say of a lease of which nothing is remembered. */
const char *
queue_settling_lost(const Receipt *receipt)
{
	if (receipt->epoch != queue_inflight_epoch())
		return "The lease has ended, or was lost when the server started anew.";
	return "The lease has ended.";
}

/* Is another transaction in the way? */
bool
queue_settling_is_busy(SettleResult result)
{
	return result == SETTLE_EXAMINED || result == SETTLE_BUSY;
}

/* Return the id of the message that a receipt is about. */
static int64
message_of(const Receipt *receipt)
{
	return receipt->message != 0 ? receipt->message : receipt->key.id;
}

/* ... and what it was received from */
static const char *
noun_of(const Receipt *receipt)
{
	return receipt->message != 0 ? "subscription" : "queue";
}

/* Raise QU001: the lease is not, or not any more, the caller's. */
void
queue_settling_report_lost(const Receipt *receipt, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUEUE_LEASE_LOST),
			 errmsg("lease on message " INT64_FORMAT " of %s \"%s\" is lost",
					message_of(receipt), noun_of(receipt),
					queue_shown_name(receipt->key.relid)),
			 errdetail_internal("%s", detail),
			 errhint("Roll back; the message may be delivered again, or is consumed already.")));
}

/* Raise 55P03: another transaction is in the way. */
void
queue_settling_report_busy(const Receipt *receipt, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not settle message " INT64_FORMAT " of %s \"%s\"",
					message_of(receipt), noun_of(receipt),
					queue_shown_name(receipt->key.relid)),
			 errdetail_internal("%s", detail),
			 errhint("Try again when that transaction has ended.")));
}

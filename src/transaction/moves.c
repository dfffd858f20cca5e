/*-------------------------------------------------------------------------
 *
 * moves.c
 *		Partitions of subscriptions that this transaction holds, and how it
 *		moves their positions.
 *
 * The first hold of a partition says how it came to it, by dequeue(), by an ack
 * or by setting its position.  What moves the position again in the same
 * transaction is a hold of its own, HOLD_MOVE, so that a savepoint can take it
 * back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/inflight.h"
#include "transaction/moves.h"

static int	place_of(const Hold *hold);

/* Has this transaction dequeued messages of a partition, or set its position? */
bool
queue_xact_holds_partition(const MessageKey *key)
{
	InflightEntry entry;

	return queue_holds_count() > 0 &&
		queue_inflight_peek(key, QUEUE_PARTITION_ROW, &entry) &&
		entry.state == INFLIGHT_DEQUEUED && !entry.is_prepared &&
		entry.holder == MyProcNumber;
}

/*
 * queue_xact_find_taken
 *		Return the hold of a partition of which this transaction can dequeue, or
 *		dequeue more; NULL: there is none.
 *
 * That is one of which it has dequeued what had not failed, or has set the
 * position, also where that ends a lease.  With what an ack has settled it has
 * to wait until the commit: a rollback lets that lease go on, and would count
 * no failure of the rest.
 */
Hold *
queue_xact_find_taken(const MessageKey *key)
{
	InflightEntry entry;
	Hold	   *hold;

	if (queue_holds_count() == 0 ||
		!queue_inflight_peek(key, QUEUE_PARTITION_ROW, &entry) ||
		entry.is_prepared || entry.holder != MyProcNumber)
		return NULL;
	if (entry.state == INFLIGHT_DEQUEUED)
	{
		hold = queue_xact_find(HOLD_DEQUEUE, key);
		if (hold != NULL && hold->has_failed && !queue_xact_is_set(hold))
			return NULL;
		return hold;
	}
	if (entry.state != INFLIGHT_LEASED || !entry.is_settling)
		return NULL;
	hold = queue_xact_find(HOLD_SETTLE, key);
	return hold != NULL && queue_xact_is_set(hold) ? hold : NULL;
}

/*
 * queue_xact_push_move
 *		Note that a partition that is held is moved again.
 *
 * A rolled-back subtransaction takes that back, and nothing else.  A lease goes
 * on only if the caller says so.  Never throws; the hold given is good
 * afterwards.
 */
Hold *
queue_xact_push_move(Hold *hold)
{
	Hold	   *move = queue_xact_push(HOLD_MOVE, &hold->key, NULL);

	move->is_partition = true;
	move->first = place_of(hold);
	return move;
}

/* Return how many messages of a partition that is held are consumed so far. */
int
queue_xact_nconsumed(const Hold *hold)
{
	int			first = place_of(hold);
	int			n = hold->nconsumed;

	for (int i = first + 1; i < queue_holds_count(); i++)
	{
		const Hold *move = queue_hold_at(i);

		if (move->kind == HOLD_MOVE && move->first == first)
			n += move->nconsumed;
	}
	return n;
}

/* The place of a hold among all. */
static int
place_of(const Hold *hold)
{
	return (int) (hold - queue_hold_at(0));
}

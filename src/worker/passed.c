/*-------------------------------------------------------------------------
 *
 * passed.c
 *		Positions moved past what filters have passed over.
 *
 * A consumer that meets messages that its subscription does not want passes over
 * them, which memory knows (shared/place.c).  The next one that consumes something
 * behind them moves the position past them, too.  Until then they would hold back
 * retention, and would be passed over again after a restart.  So the worker moves
 * positions there, a second later, of all partitions of a subscription together.
 *
 * Nothing is written where no message was passed over, and nothing is passed over
 * where nobody consumes.
 *
 * The worker claims a partition as a consumer does, and lets go of it with the
 * commit.  Consumers that meet it meanwhile look again a moment later.  One that is
 * held is left for later, because its holder may move it.
 *
 * What if the settings change?  What was passed over by another filter is not what
 * memory says of this one.
 *
 * Locks: the subscription, if it can be had at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/relation.h"
#include "shared/inflight.h"
#include "shared/place.h"
#include "table/position.h"
#include "table/topic_settings.h"
#include "transaction/holds.h"
#include "worker/duties.h"
#include "worker/passed.h"

/* When to try again what is held, and after an error */
#define HELD_DELAY			(10 * USECS_PER_SEC)

/* How often messages had been passed over when the last look began */
static uint64 npassed = 0;

/* Not before that */
static TimestampTz move_at = DT_NOBEGIN;

/* The look that is under way: up to which subscription, and is something left? */
static Oid	done = InvalidOid;
static bool is_left = false;

static int	collect(Oid *relid, int *partitions);
static void move_those_of(Oid relid, const int *partitions, int n);
static bool move_one(Relation rel, SubscriptionDef *def, int partition,
					 Position *position);
static bool has_not_failed(Position *position, int64 next);

/* Return when positions are to be moved. */
TimestampTz
queue_passed_due(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (npassed == queue_place_npassed() && !is_left)
		return TIMESTAMP_INFINITY;
	if (move_at > now + HELD_DELAY)
		move_at = now;			/* the clock has been set back */
	return move_at;
}

/*
 * queue_passed_move
 *		Move the positions of the next subscription.
 *
 * A duty of the worker; returns when to be called again.
 */
TimestampTz
queue_passed_move(void)
{
	int			partitions[MAX_PARTITIONS];
	Oid			relid = InvalidOid;
	int			n;

	if (!OidIsValid(done))
	{
		npassed = queue_place_npassed();
		is_left = false;
	}
	n = collect(&relid, partitions);
	if (n > 0)
	{
		done = relid;
		move_those_of(relid, partitions, n);
		return DUTY_AGAIN;
	}
	done = InvalidOid;
	move_at = GetCurrentTimestamp() +
		(is_left ? HELD_DELAY : PLACE_WRITE_DELAY);
	return is_left ? move_at : TIMESTAMP_INFINITY;
}

/* After an error: it is another subscription's turn, then this one's again. */
void
queue_passed_failed(void)
{
	is_left = true;
	move_at = GetCurrentTimestamp() + HELD_DELAY;
}

/*
 * collect
 *		Find the next subscription of which something was passed over, by its
 *		number, and all such partitions of it; returns how many they are.
 */
static int
collect(Oid *relid, int *partitions)
{
	Oid			found;
	int			partition;
	int			i = 0;
	int			n = 0;

	while (queue_place_next_passed(&i, &found, &partition))
	{
		if (found <= done)
			continue;
		if (n > 0 && found < *relid)
			n = 0;
		if (n == 0)
			*relid = found;
		if (found == *relid && n < MAX_PARTITIONS)
			partitions[n++] = partition;
	}
	return n;
}

/* Move the positions of these partitions of a subscription. */
static void
move_those_of(Oid relid, const int *partitions, int n)
{
	bool		is_locked;
	Oid			save_userid;
	int			save_sec_context;
	SubscriptionDef *def;
	Position   *position;
	Relation	rel = queue_open_unless_locked(relid, RowExclusiveLock,
											   &is_locked);

	if (rel == NULL)
	{
		is_left |= is_locked;
		return;
	}
	def = queue_subscription_def(rel);
	if (def->is_subscription && def->problem == NULL)
	{
		GetUserIdAndSecContext(&save_userid, &save_sec_context);
		SetUserIdAndSecContext(rel->rd_rel->relowner, save_sec_context |
							   SECURITY_RESTRICTED_OPERATION);
		position = queue_position_make(rel);
		for (int i = 0; i < n; i++)
			if (!move_one(rel, def, partitions[i], position))
				is_left = true;
		queue_position_free(position);
		SetUserIdAndSecContext(save_userid, save_sec_context);
	}
	table_close(rel, NoLock);
}

/*
 * move_one
 *		Move one position; false if somebody holds the partition.
 *
 * Not if a message behind them has failed, because a move forgets that.  Its
 * consumer moves past them as well.
 */
static bool
move_one(Relation rel, SubscriptionDef *def, int partition, Position *position)
{
	MessageKey	key;
	InflightEntry *entry;
	Hold	   *hold;
	Place		place;
	TimestampTz due = TIMESTAMP_INFINITY;
	TimestampTz other;

	queue_message_key(&key, RelationGetRelid(rel), partition);
	queue_xact_reserve();
	if (queue_inflight_claim(&key, QUEUE_PARTITION_ROW,
							 queue_subscription_slot(def), 0 /* priority */ ,
							 GetCurrentTimestamp(), &entry, &due,
							 &other) != CLAIM_OK)
		return false;
	hold = queue_xact_push(HOLD_CLAIM, &key, entry);
	if (entry->failures == 0 &&
		queue_position_read(rel, def, partition, position) == POSITION_FOUND &&
		queue_place_get(RelationGetRelid(rel), partition, &place) &&
		place.unwanted > position->id &&
		queue_place_look_after(&place, def->filter,
							   position->id) == place.passed &&
		has_not_failed(position, place.passed + 1) &&
		queue_position_move(rel, def, position, place.passed))
	{
		hold->is_partition = true;
		hold->position = place.passed;
		return true;
	}
	queue_inflight_unclaim(entry);
	queue_xact_pop(hold);
	return true;
}

/* Has what comes next not failed, which is this id or a higher one? */
static bool
has_not_failed(Position *position, int64 next)
{
	queue_position_next_is(position, next);
	return position->failures == 0;
}

/*-------------------------------------------------------------------------
 *
 * inflight_lapse.c
 *		Leases of the in-flight table run out, or end because one before them
 *		in their group has failed.
 *
 * A lease that runs out counts as a failure on time, but its fence moves only
 * when a consumer takes the message.  Until then the entry remembers the lease
 * (is_lapsed), and the receipt can revive it, which takes the failure back.
 * An entry that is there for that alone goes when there is no room for a
 * claim.
 *
 * A message of a group that keeps an order holds the group (group.c) from the
 * moment that a consumer takes it until it is gone, or may be taken again: also
 * while it backs off, or waits for the worker to move it.  If a lease fails,
 * leases on messages of the group behind it end as well.  A lease that runs out
 * frees the group, so its fence moves when any message of the group is taken,
 * or fails.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "shared/availability.h"
#include "shared/counters.h"
#include "shared/deadline.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"

/* Leases and back-offs that are ended at one go */
#define DUE_BATCH			32

static bool expire_if_due(InflightEntry *entry, TimestampTz now,
						  LeasesBehind *leases);
static bool forget_fence(InflightEntry *entry, void *arg);

/*
 * queue_inflight_expire
 *		End a lease that is past its deadline; returns true if it was.
 */
bool
queue_inflight_expire(const MessageKey *key, TimestampTz now)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);
	LeasesBehind leases = {0};
	bool		expired = expire_if_due(entry, now, &leases);

	LWLockRelease(lock);
	queue_lapse_end_behind(key, &leases);
	return expired;
}

/*
 * queue_inflight_end_due
 *		End the leases and back-offs of a queue that are due.
 *
 * Expiry is computed, not performed: the first process that looks at a queue
 * ends what is due there.  An entry that has changed since its due time was
 * set is left to the process that changed it.  Lower ids come first, because
 * each of them wakes a waiter, which takes what it finds.
 */
void
queue_inflight_end_due(QueueSlot *queue, Oid relid, TimestampTz now)
{
	MessageKey	keys[DUE_BATCH];
	int			n;

	do
	{
		int			i;

		n = queue_deadline_pop(queue, relid, now, keys, DUE_BATCH);
		if (n > 1)
			qsort(keys, n, sizeof(MessageKey), queue_message_key_compare);
		for (i = 0; i < n; i++)
		{
			LWLock	   *lock;
			InflightEntry *entry = queue_entry_find(&keys[i], &lock);
			LeasesBehind leases = {0};

			if (!expire_if_due(entry, now, &leases) && entry != NULL)
			{
				if (queue_entry_is_plain_lease(entry))
					queue_entry_watch_deadline(entry);
				else if (entry->state == INFLIGHT_IDLE)
					queue_entry_offer(entry, true);
			}
			LWLockRelease(lock);
			queue_lapse_end_behind(&keys[i], &leases);
		}
	} while (n == DUE_BATCH);
}

/*
 * queue_lapse_expire
 *		A lease ran out: a failure, but without a back-off, because the
 *		message has waited long enough.
 *
 * If the log has the lease, that tells the failure as well.  The partition is
 * locked; the leases returned are to end when it is not any more.
 */
LeasesBehind
queue_lapse_expire(InflightEntry *entry)
{
	LeasesBehind leases = queue_lapse_behind(entry);
	bool		is_written = entry->is_written;

	queue_group_move_fence(&entry->member);
	queue_lapse_set(entry);
	entry->is_written = is_written;
	entry->is_lapsed = entry->number != 0;
	if (!entry->is_lapse_counted)
	{
		FailureNote note = queue_failure_note(FAILURE_LEASE_RAN_OUT, NULL, 0,
											  entry->role, entry->application);

		note.batch = entry->batch;
		queue_entry_count_failure(entry, &note);
	}
	if (queue_entry_is_at_limit(entry))
		entry->is_exhausted = true;
	return leases;
}

/*
 * expire_if_due
 *		The same with what follows for consumers, if there is an entry and
 *		its deadline has passed; returns true if it has.
 */
static bool
expire_if_due(InflightEntry *entry, TimestampTz now, LeasesBehind *leases)
{
	if (entry == NULL || !queue_lease_has_run_out(entry, now))
		return false;
	*leases = queue_lapse_expire(entry);
	queue_entry_offer(entry, true);
	return true;
}

/*
 * queue_lapse_set
 *		Held by none from now on, because the lease ran out.
 *
 * The transaction that received it may still be in progress, or in doubt, so
 * that is remembered.  The partition is locked.
 */
void
queue_lapse_set(InflightEntry *entry)
{
	bool		is_open = entry->is_open;
	int			receive_slot = entry->receive_slot;

	queue_entry_set_idle(entry, 0);
	entry->is_open = is_open;
	entry->receive_slot = receive_slot;
}

/*
 * queue_lapse_end_uncounted
 *		End a lease as if it had not been given; its receipt is not good any
 *		more.
 *
 * The partition is locked.
 */
void
queue_lapse_end_uncounted(InflightEntry *entry)
{
	queue_entry_set_idle(entry, 0);
	entry->number = 0;
	queue_entry_offer(entry, true);
	queue_entry_remove_if_nothing_left(entry);
}

/*
 * queue_lapse_behind
 *		Return the leases that are behind this message, if it fails now.
 *
 * The partition is locked, or the caller holds the entry.
 */
LeasesBehind
queue_lapse_behind(const InflightEntry *entry)
{
	LeasesBehind leases;

	leases.group_hash = entry->group_hash;
	leases.before = queue_inflight_next_number();
	return leases;
}

/*
 * queue_lapse_end_behind
 *		A lease has failed: end those on messages of the group behind it.
 *
 * That is no failure of theirs.  One that a transaction is settling ends if
 * that is rolled back.  When this message has let go of the group somebody else
 * may have it, whose leases have later numbers.  No partition is locked.
 */
void
queue_lapse_end_behind(const MessageKey *key, const LeasesBehind *leases)
{
	MessageKey	next = *key;

	if (leases->group_hash == 0)
		return;
	while (queue_group_next_member(&next, leases->group_hash, &next))
	{
		LWLock	   *lock;
		InflightEntry *entry = queue_entry_find(&next, &lock);

		if (entry != NULL && entry->state == INFLIGHT_LEASED &&
			entry->group_hash == leases->group_hash &&
			(entry->number < leases->before ||
			 entry->epoch != queue_inflight_epoch()))
		{
			if (entry->is_settling)
				entry->is_behind_failed = true;
			else
				queue_lapse_end_uncounted(entry);
		}
		LWLockRelease(lock);
	}
}

/*
 * queue_lapse_revive
 *		A lease that ran out is settled all the same: it is as if it had not.
 *
 * Unless its group was taken since, or somebody is about to.  The partition is
 * locked.
 */
SettleResult
queue_lapse_revive(InflightEntry *entry)
{
	bool		is_out;

	if (entry->group_hash != 0 &&
		!queue_group_rejoin(&entry->member, &entry->key, entry->group_hash,
							&is_out))
		return is_out ? SETTLE_EXAMINED : SETTLE_LOST;
	entry->state = INFLIGHT_LEASED;
	entry->is_counted = queue_held_add(entry->queue);
	entry->is_lapsed = false;
	entry->deadline = entry->since;
	if (!entry->is_lapse_counted && entry->failures > 0)
	{
		entry->failures--;
		queue_counters_fail(entry->queue, entry->key.relid, -1);
		if (entry->nnotes > 0)
			entry->nnotes--;
	}
	entry->is_exhausted = false;
	if (entry->failures == 0)
	{
		queue_entry_forget_notes(entry);
		entry->failed_at = 0;
	}
	return SETTLE_OK;
}

/*
 * queue_lapse_move_fence
 *		A consumer takes the message: no earlier receipt is good for it, nor
 *		of its group.
 *
 * The partition is locked.
 */
void
queue_lapse_move_fence(InflightEntry *entry)
{
	queue_lapse_forget(entry);
	entry->number = 0;
	queue_group_move_fence(&entry->member);
}

/*
 * queue_lapse_end_fence
 *		The receipt of the lease that ran out is not good any more.
 *
 * The partition is locked.
 */
void
queue_lapse_end_fence(InflightEntry *entry)
{
	queue_lapse_forget(entry);
	if (entry->state == INFLIGHT_IDLE)
		queue_entry_remove_if_nothing_left(entry);
}

/*
 * queue_lapse_make_room
 *		Remove what is there for late receipts alone; returns false if there
 *		is none.
 *
 * No partition is locked.
 */
bool
queue_lapse_make_room(void)
{
	if (!queue_inflight_clear_lapsed())
		return false;
	queue_inflight_walk(InvalidOid, forget_fence, NULL);
	return true;
}

/*
 * Visitor: an entry kept for a late receipt alone can go when room is scarce.
 */
static bool
forget_fence(InflightEntry *entry, void *arg)
{
	if (entry->state == INFLIGHT_IDLE && entry->is_lapsed)
		queue_lapse_end_fence(entry);
	return true;
}

/*-------------------------------------------------------------------------
 *
 * inflight_log.c
 *		What the log of leases says of messages, for the in-flight table.
 *
 * It is loaded after a start, mostly before queues have slots, and written by
 * the worker since.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/lwlock.h"

#include "common/compat.h"
#include "shared/held.h"
#include "shared/inflight.h"
#include "shared/inflight_entry.h"
#include "shared/quota.h"

/* What count_held() is told */
typedef struct HeldCount
{
	QueueSlot  *slot;
	Oid			relid;
} HeldCount;

static bool count_held(InflightEntry *entry, void *arg);
static bool leave_slot(InflightEntry *entry, void *arg);

/*
 * queue_inflight_restore
 *		After a start, enter what the log says of a message.
 *
 * Returns false if there is no room.  The row may have gone, and another one
 * may have its id; the first claim sees that.
 *
 * A lease whose time is over may have been ended before the memory was lost,
 * and the message given to another consumer.  So it is over now, and its
 * receipt is not good any more.
 */
bool
queue_inflight_restore(const LeaseRecord *record)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	bool		found;
	InflightEntry *entry = queue_entry_make(&record->key, record->enqueued_at,
											false, &lock, &found);

	if (entry != NULL && !found)
	{
		entry->queue = queue_slot_find(record->key.relid);
		entry->since = now;
		entry->is_durable = true;
		entry->logged = record->kind;
		entry->failures = record->failures;
		entry->logged_failures = record->failures;
		if (queue_entry_is_partition(entry))
			entry->last_id = (int64) record->group_hash;
		else
			entry->group_hash = record->group_hash;
		if (entry->group_hash != 0)
			queue_group_join_hash(&entry->member, &entry->key,
								  entry->group_hash, entry->queue);
		if (record->kind == LOG_LEASE)
		{
			entry->state = INFLIGHT_LEASED;
			entry->is_counted = queue_held_add(entry->queue);
			entry->is_written = true;
			entry->epoch = record->epoch;
			entry->number = record->number;
			entry->deadline = record->deadline;
			if (record->since != 0)
				entry->since = record->since;
			entry->role = record->role;
			strlcpy(entry->application, record->application,
					SHORT_NAME_SIZE);
			if (entry->deadline > now)
				queue_entry_watch_deadline(entry);
			else
			{
				entry->number = 0;
				(void) queue_lapse_expire(entry);
				if (entry->member.group != NULL)
					queue_entry_offer(entry, false);
			}
		}
		else if (record->kind == LOG_DEQUEUED)
		{
			FailureNote lost = {now, 0, 0, FAILURE_ROLLED_BACK, 0};

			queue_entry_count_failure(entry, &lost);
			if (entry->member.group != NULL)
				queue_entry_offer(entry, false);
		}
		else if (record->deadline > now)
		{
			entry->deadline = record->deadline;
			entry->is_delayed = true;
			queue_entry_offer(entry, false);
		}
		else if (entry->member.group != NULL)
			queue_entry_offer(entry, false);
	}
	LWLockRelease(lock);
	return entry != NULL;
}

/*
 * queue_inflight_watch
 *		Let a lease end on time that was loaded before its queue had a slot.
 */
void
queue_inflight_watch(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find_to_read(key, &lock);

	if (entry != NULL && queue_entry_is_plain_lease(entry))
		queue_entry_watch_deadline(entry);
	LWLockRelease(lock);
}

/*
 * queue_inflight_count_held
 *		Let a queue count what is held since before it had a slot, or since it
 *		had another one.
 */
void
queue_inflight_count_held(QueueSlot *slot, Oid relid)
{
	HeldCount	count = {slot, relid};

	if (!queue_quota_is_unused(MyDatabaseId, relid))
		queue_inflight_walk(MyDatabaseId, count_held, &count);
	queue_held_set_complete(slot);
}

/* Visitor: count one. */
static bool
count_held(InflightEntry *entry, void *arg)
{
	HeldCount  *count = arg;

	if (entry->key.relid == count->relid && !entry->is_counted &&
		(entry->state == INFLIGHT_LEASED ||
		 entry->state == INFLIGHT_DEQUEUED))
	{
		entry->queue = count->slot;
		entry->is_counted = queue_held_add(count->slot);
	}
	return true;
}

/*
 * queue_inflight_leave_slot
 *		The slot of a queue is about to be freed, but what is held stays.
 *
 * If it becomes a queue again, that is counted in the slot that it has then,
 * and in no other queue's that has got this one.
 */
void
queue_inflight_leave_slot(Oid relid)
{
	if (!queue_quota_is_unused(MyDatabaseId, relid))
		queue_inflight_walk(MyDatabaseId, leave_slot, &relid);
}

/* Visitor: let one leave it. */
static bool
leave_slot(InflightEntry *entry, void *arg)
{
	if (entry->key.relid == *(Oid *) arg)
	{
		entry->queue = NULL;
		entry->is_counted = false;
	}
	return true;
}

/* Note what the log now says of a message. */
void
queue_inflight_log_written(const LeaseRecord *record)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(&record->key, &lock);

	if (entry != NULL && entry->enqueued_at == record->enqueued_at)
	{
		entry->logged = record->kind;
		entry->logged_failures = record->failures;
		entry->is_written = record->kind == LOG_LEASE &&
			entry->state == INFLIGHT_LEASED &&
			entry->number == record->number &&
			entry->deadline == record->deadline;
		if (queue_inflight_logged_failures(entry) >= entry->failures)
			entry->failed_at = 0;
	}
	LWLockRelease(lock);
}

/*
 * queue_inflight_log_ended
 *		Note that the log does not mention the message any more.
 *
 * A lease that began meanwhile is written in the next round, because only the
 * worker writes, and has not written that one.
 */
void
queue_inflight_log_ended(const MessageKey *key)
{
	LWLock	   *lock;
	InflightEntry *entry = queue_entry_find(key, &lock);

	if (entry != NULL)
	{
		queue_entry_end_log(entry);
		if (entry->state == INFLIGHT_IDLE)
			queue_entry_remove_if_nothing_left(entry);
	}
	LWLockRelease(lock);
}

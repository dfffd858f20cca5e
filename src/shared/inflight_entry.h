/*-------------------------------------------------------------------------
 *
 * inflight_entry.h
 *		What the files of the in-flight table share; no other file includes it.
 *
 * Unless a function says otherwise, the partition of the entry is locked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_INFLIGHT_ENTRY_H
#define QUEUE_INFLIGHT_ENTRY_H

#include "storage/lwlock.h"

#include "shared/availability.h"
#include "shared/deadline.h"
#include "shared/inflight.h"

/* Leases on messages of a group that end because one before them has failed */
typedef struct LeasesBehind
{
	uint64		group_hash;		/* 0: none */
	uint64		before;			/* those with a number less than this */
} LeasesBehind;

/*
 * inflight_table.c: show all entries of a database, or all there are; the
 * number of the next lease; may there be entries for late receipts alone?
 */
extern void queue_inflight_walk(Oid dbid, InflightVisitor visitor, void *arg);
extern uint64 queue_inflight_next_number(void);
extern void queue_inflight_note_lapsed(void);
extern bool queue_inflight_clear_lapsed(void);

/*
 * inflight_table.c: make an entry, look it up, or lock one that this process holds, which locks
 * its partition; remove it; it has changed
 */
extern InflightEntry *queue_entry_make(const MessageKey *key,
									   TimestampTz enqueued_at, bool enforce,
									   LWLock **lock, bool *found);
extern InflightEntry *queue_entry_find(const MessageKey *key, LWLock **lock);
extern InflightEntry *queue_entry_find_to_read(const MessageKey *key,
											   LWLock **lock);
extern LWLock *queue_entry_lock(InflightEntry *entry);
extern void queue_entry_remove(InflightEntry *entry);
extern void queue_entry_note_change(InflightEntry *entry);

/* inflight_entry.c: it is held by none, or forgotten */
extern void queue_entry_set_idle(InflightEntry *entry, TimestampTz due);
extern void queue_entry_offer(InflightEntry *entry, bool wakes);
extern bool queue_entry_has_nothing_left(const InflightEntry *entry);
extern void queue_entry_remove_if_nothing_left(InflightEntry *entry);
extern void queue_entry_forget(InflightEntry *entry);

/* inflight_entry.c: failures that neither the row nor the log tells yet */
extern void queue_entry_count_failure(InflightEntry *entry,
									  const FailureNote *failure);
extern void queue_entry_set_batch(InflightEntry *entry, int batch);
extern void queue_entry_add_note(InflightEntry *entry,
								 const FailureNote *failure);
extern void queue_entry_note_untold(InflightEntry *entry, TimestampTz now);
extern void queue_entry_end_log(InflightEntry *entry);

/*
 * inflight_lapse.c: a lease runs out, ends uncounted, or goes on by a late
 * receipt
 */
extern LeasesBehind queue_lapse_expire(InflightEntry *entry);
extern void queue_lapse_set(InflightEntry *entry);
extern void queue_lapse_end_uncounted(InflightEntry *entry);
extern SettleResult queue_lapse_revive(InflightEntry *entry);

/* Those behind it, which end when no partition is locked any more */
extern LeasesBehind queue_lapse_behind(const InflightEntry *entry);
extern void queue_lapse_end_behind(const MessageKey *key,
								   const LeasesBehind *leases);

/*
 * Receipts of leases that ran out are not good any more: of the message and its
 * group; of this lease; of all there are, to make room
 */
extern void queue_lapse_move_fence(InflightEntry *entry);
extern void queue_lapse_end_fence(InflightEntry *entry);
extern bool queue_lapse_make_room(void);

/* Is it about a partition of a topic, which a subscription holds? */
static inline bool
queue_entry_is_partition(const InflightEntry *entry)
{
	return entry->enqueued_at == QUEUE_PARTITION_ROW;
}

/* Is it leased, and not being settled? */
static inline bool
queue_entry_is_plain_lease(const InflightEntry *entry)
{
	return entry->state == INFLIGHT_LEASED && !entry->is_settling;
}

/*
 * Is it, if not NULL, the lease of that number, given since the start, or has
 * that run out, and is its receipt still good?
 */
static inline bool
queue_entry_has_fence(const InflightEntry *entry, uint64 number)
{
	return entry != NULL &&
		(entry->state == INFLIGHT_LEASED || entry->is_lapsed) &&
		entry->epoch == queue_inflight_epoch() && entry->number == number;
}

/* Does a process or a prepared transaction hold it? */
static inline bool
queue_entry_is_held(const InflightEntry *entry)
{
	return entry->state == INFLIGHT_CLAIMED ||
		entry->state == INFLIGHT_DEQUEUED || entry->is_settling;
}

/* Has it failed as often as its queue allows? */
static inline bool
queue_entry_is_at_limit(const InflightEntry *entry)
{
	return queue_is_at_limit(entry->retry.max_attempts,
							 entry->counted + entry->failures);
}

/* The rank of its priority; if that is not known, a guess, which will do */
static inline int
queue_entry_rank(const InflightEntry *entry)
{
	return queue_rank(entry->priority >= 0 ? entry->priority :
					  QUEUE_DEFAULT_PRIORITY);
}

/* See to it that the deadline is noticed. */
static inline void
queue_entry_watch_deadline(InflightEntry *entry)
{
	if (entry->due.slot == NULL)
		queue_deadline_set(entry->queue, &entry->key, &entry->due,
						   entry->deadline);
}

/* The row tells all there is, or nothing is to be told. */
static inline void
queue_entry_forget_notes(InflightEntry *entry)
{
	entry->nnotes = 0;
	entry->is_retold = false;
}

/* Forget what is remembered of a lease that ran out, and its transaction. */
static inline void
queue_lapse_forget(InflightEntry *entry)
{
	entry->is_lapsed = false;
	entry->is_lapse_counted = false;
	entry->is_open = false;
	entry->receive_slot = 0;
}

#endif							/* QUEUE_INFLIGHT_ENTRY_H */

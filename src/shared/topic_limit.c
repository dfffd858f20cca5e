/*-------------------------------------------------------------------------
 *
 * topic_limit.c
 *		How far a topic can be read.
 *
 * See the rules at the top of topic_slot.c.
 *
 * Locks: that of the slot, for a few instructions; nothing below it allocates,
 * does I/O or throws.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"

#include "common/compat.h"
#include "shared/topic_slot.h"

static void tell(TopicSlot *slot, int partition, TopicLimit *limit);
static int64 stable_id(TopicSlot *slot, int partition, Registration *first);

/*
 * queue_topic_limit
 *		Find how far a partition, or all of them, can be read.
 */
TopicOutcome
queue_topic_limit(TopicSlot *slot, Oid relid, int partition,
				  TopicLimit *limit)
{
	TopicOutcome outcome = TOPIC_GONE;

	if (!queue_topic_slot_lock(slot, relid))
		return TOPIC_GONE;
	if (slot->is_open)
	{
		tell(slot, partition, limit);
		outcome = TOPIC_DONE;
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/*
 * queue_topic_limits
 *		Find how far each partition can be read, all at once.
 */
TopicOutcome
queue_topic_limits(TopicSlot *slot, Oid relid, int npartitions,
				   TopicLimit *limits)
{
	TopicOutcome outcome = TOPIC_GONE;

	if (!queue_topic_slot_lock(slot, relid))
		return TOPIC_GONE;
	if (slot->is_open)
	{
		for (int i = 0; i < npartitions; i++)
			tell(slot, i, &limits[i]);
		outcome = TOPIC_DONE;
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/* Tell a reader how far a partition, or all of them, can be read. */
static void
tell(TopicSlot *slot, int partition, TopicLimit *limit)
{
	Registration *first = queue_registration_first(&slot->lists, partition);

	limit->stable_id = stable_id(slot, partition, first);
	limit->next_id = slot->highest + 1;
	limit->greatest = partition == ANY_PARTITION ? slot->highest :
		slot->greatest[partition];
	limit->procno = first != NULL ? first->procno : NO_PROC;
	limit->xid = first != NULL ? first->xid : InvalidTransactionId;
	limit->since = first != NULL ? first->since : 0;
	limit->nviolations = slot->nviolations;
}

/*
 * stable_id
 *		Return the stable id of a partition, or of all, and note that it is
 *		told.
 *
 * "first" is the registration that can draw the least id.  An id given by hand
 * may be below what was told of other partitions, which goes on to hold for
 * these.  The slot is locked.
 */
static int64
stable_id(TopicSlot *slot, int partition, Registration *first)
{
	int64		id = slot->highest + 1;
	int64	   *told = partition == ANY_PARTITION ? &slot->told_all :
		&slot->told[partition];

	if (first != NULL)
		id = Min(id, first->first);
	id = Max(id, queue_topic_limit_told(slot, partition));
	*told = id;
	slot->told_most = Max(slot->told_most, id);
	return id;
}

/* The highest stable id of a partition, or of all, that a reader was told */
int64
queue_topic_limit_told(const TopicSlot *slot, int partition)
{
	return partition == ANY_PARTITION ? slot->told_all :
		Max(slot->told_all, slot->told[partition]);
}

/*
 * queue_topic_limit_to_write
 *		Return the stable id of a topic, of all partitions, for the worker to
 *		write down.
 *
 * Changes from now on are told to it anew.  *nviolations are those that it has
 * not yet reported.
 */
TopicOutcome
queue_topic_limit_to_write(Oid relid, int64 *stable, uint64 *nviolations)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);
	TopicOutcome outcome = TOPIC_GONE;

	if (slot == NULL || !queue_topic_slot_lock(slot, relid))
		return TOPIC_GONE;
	if (slot->is_open)
	{
		slot->is_changed = false;
		*stable = stable_id(slot, ANY_PARTITION,
							queue_registration_first(&slot->lists,
													 ANY_PARTITION));
		*nviolations = slot->nviolations - slot->nreported;
		slot->nreported = slot->nviolations;
		outcome = TOPIC_DONE;
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/*-------------------------------------------------------------------------
 *
 * topic_publisher.c
 *		Who publishes to a topic: registered, then given ids, then struck off.
 *
 * See the rules at the top of topic_slot.c.
 *
 * Locks: that of the slot, for a few instructions; nothing below it allocates,
 * does I/O or throws.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "common/compat.h"
#include "shared/topic_slot.h"

static Registration *find_registration(const Publishing *publishing,
									   int partition);
static Registration *register_for(Publishing *publishing, int partition);
static Registration *new_registration(Publishing *publishing, int partition,
									  int64 first);
static void forget_drawn(Publishing *publishing);
static void note_drawn(Registration *registration, int64 id);
static bool has_drawn(dlist_head *list, const Publishing *publishing,
					  int64 id);
static bool is_own(const Publishing *publishing,
				   const Registration *registration);
static void note_id(TopicSlot *slot, Registration *registration,
					int partition, int64 id);
static void check_end(TopicSlot *slot, const Registration *registration);
static bool note_change(TopicSlot *slot);

/* ----------------------------------------------------------------
 *		Ids
 * ----------------------------------------------------------------
 */

/*
 * queue_topic_draw
 *		Register a transaction for partitions, and draw ids of them.
 *
 * Goes on where it was left when it is called again with another block.
 */
TopicOutcome
queue_topic_draw(Publishing *publishing, TopicDraw *draw)
{
	TopicSlot  *slot = publishing->slot;
	TopicOutcome outcome = TOPIC_DONE;

	if (!queue_topic_slot_lock(slot, publishing->relid))
		return TOPIC_GONE;
	if (!slot->is_open)
		outcome = TOPIC_GONE;
	if (draw->ndrawn == 0)
		forget_drawn(publishing);
	while (draw->ndrawn < draw->n && outcome == TOPIC_DONE)
	{
		int			partition = draw->partitions[draw->ndrawn];
		Registration *registration;

		if (slot->nlooked != slot->naltered)
		{
			draw->naltered = slot->naltered;
			outcome = TOPIC_ALTERED;
			break;
		}
		if (slot->file != draw->file || slot->next > slot->last)
		{
			outcome = TOPIC_NO_IDS;
			break;
		}
		if (partition == ANY_PARTITION)
		{
			if (draw->chosen == ANY_PARTITION)
				draw->chosen = (int) (slot->next % slot->npartitions);
			partition = draw->chosen;
		}

		/* before the id is drawn */
		registration = register_for(publishing, partition);
		if (registration == NULL)
		{
			outcome = TOPIC_NO_ROOM;
			break;
		}
		slot->highest = slot->next++;
		note_id(slot, registration, partition, slot->highest);
		note_drawn(registration, slot->highest);
		draw->partitions[draw->ndrawn] = partition;
		draw->ids[draw->ndrawn++] = slot->highest;
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/*
 * queue_topic_add_block
 *		Let all sessions draw from this block of the sequence.
 *
 * It is dropped, and the next one needed, if it is not above all ids that were
 * handed out; *highest is these then.  If another session was quicker its block
 * is in use, and this one is dropped, too.
 */
TopicOutcome
queue_topic_add_block(TopicSlot *slot, Oid relid, Oid file,
					  int64 first, int64 last, int64 *highest)
{
	TopicOutcome outcome = TOPIC_DONE;

	if (!queue_topic_slot_lock(slot, relid))
		return TOPIC_GONE;
	*highest = slot->highest;
	if (slot->file != file || slot->next > slot->last)
	{
		if (first > slot->highest)
		{
			if (slot->file != file)
				slot->reserved = 0;
			slot->file = file;
			slot->next = first;
			slot->last = last;
			slot->reserved = Max(slot->reserved, last);

			/* rows without our trigger may have those in between */
			if (first > slot->highest + 1)
				queue_topic_slot_note_unknown(slot, first - 1);
		}
		else
			outcome = TOPIC_NO_IDS;
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/*
 * queue_topic_pass_rows
 *		Hand out ids beyond those that rows have, which nobody has told of.
 *
 * "id" is the highest of them, found after the table was altered for the time
 * with this number.  In which partitions there are some is not known.  Readers
 * that were told to go on to a higher id than theirs do not come back for them.
 */
void
queue_topic_pass_rows(TopicSlot *slot, Oid relid, int64 id, uint64 naltered)
{
	if (!queue_topic_slot_lock(slot, relid))
		return;
	slot->nlooked = Max(slot->nlooked, naltered);
	if (id > slot->highest)
	{
		slot->highest = id;
		queue_topic_slot_note_unknown(slot, id);
	}
	if (slot->next <= id)
		slot->next = id + 1;
	LWLockRelease(slot->lock);
}

/*
 * queue_topic_admit
 *		Register an id that is given by hand.
 *
 * One that readers may have passed is not.  There is an id after it, as there is
 * after each (publishing.c).  If the sequence may give it again, *moves_sequence
 * is set.
 */
TopicOutcome
queue_topic_admit(Publishing *publishing, int partition, int64 id,
				  Oid file, int64 *stable, bool *moves_sequence)
{
	TopicSlot  *slot = publishing->slot;
	TopicOutcome outcome = TOPIC_DONE;
	Registration *registration;

	if (!queue_topic_slot_lock(slot, publishing->relid))
		return TOPIC_GONE;
	*stable = Max(queue_topic_limit_told(slot, partition), 1);
	registration = find_registration(publishing, partition);
	if (!slot->is_open)
		outcome = TOPIC_GONE;
	else if (id < *stable)
	{
		/* it is stored all the same in replica role */
		slot->greatest[partition] = Max(slot->greatest[partition], id);
		outcome = TOPIC_PASSED;
	}
	else if (registration == NULL)
	{
		registration = new_registration(publishing, partition, id);
		if (registration == NULL)
			outcome = TOPIC_NO_ROOM;
	}
	else if (registration->first > id)
	{
		queue_registration_unlink(&slot->lists, registration);
		registration->first = id;
		queue_registration_link(&slot->lists, registration);
	}
	if (outcome == TOPIC_DONE)
	{
		*moves_sequence = slot->file != file || id > slot->reserved;

		/* nobody has said in which partitions there is something between */
		if (id > slot->highest + 1)
			queue_topic_slot_note_unknown(slot, id - 1);
		if (id > slot->highest)
			slot->highest = id;
		if (slot->next <= id)
			slot->next = id + 1;
		note_id(slot, registration, partition, id);
	}
	LWLockRelease(slot->lock);
	return outcome;
}

/*
 * queue_topic_is_drawn
 *		May another transaction be about to insert a message with this id, which
 *		was given, and admitted?
 *
 * It has drawn the id, but its row need not be there yet, so nothing else would
 * tell.  An id that is admitted is not drawn any more.
 */
bool
queue_topic_is_drawn(const Publishing *publishing, int partition, int64 id)
{
	TopicSlot  *slot = publishing->slot;
	bool		result;

	if (!queue_topic_slot_lock(slot, publishing->relid))
		return false;
	result = has_drawn(&slot->lists.partitions[partition], publishing, id) ||
		has_drawn(&slot->lists.any, publishing, id);
	LWLockRelease(slot->lock);
	return result;
}

/* Has a transaction in this list, but this one, drawn the id? */
static bool
has_drawn(dlist_head *list, const Publishing *publishing, int64 id)
{
	dlist_iter	iter;

	dlist_foreach(iter, list)
	{
		Registration *registration =
			dlist_container(Registration, link, iter.cur);

		/*
		 * the list is in the order of first ids, and none has drawn a lower
		 * one
		 */
		if (registration->first > id)
			break;
		if (registration->drawn_from <= id && id <= registration->drawn_to &&
			!is_own(publishing, registration))
			return true;
	}
	return false;
}

/* Is it one of this transaction? */
static bool
is_own(const Publishing *publishing, const Registration *registration)
{
	for (int i = 0; i < publishing->n; i++)
		if (publishing->registrations[i] == registration)
			return true;
	return false;
}

/*
 * queue_topic_note_given
 *		An id was given by hand, while the table is no topic.
 */
void
queue_topic_note_given(Oid relid, int partition, int64 id)
{
	TopicSlot  *slot = queue_topic_slot_find(relid);

	if (slot == NULL || !queue_topic_slot_lock(slot, relid))
		return;
	slot->greatest[partition] = Max(slot->greatest[partition], id);
	LWLockRelease(slot->lock);
}

/*
 * queue_topic_reserve
 *		The sequence gives no id up to this one again.
 */
void
queue_topic_reserve(TopicSlot *slot, Oid relid, Oid file, int64 id)
{
	if (!queue_topic_slot_lock(slot, relid))
		return;
	if (slot->file != file)
	{
		slot->file = file;
		slot->last = slot->next - 1;
		slot->reserved = 0;
	}
	slot->reserved = Max(slot->reserved, id);
	LWLockRelease(slot->lock);
}

/* What a transaction has registered that covers this partition, or NULL */
static Registration *
find_registration(const Publishing *publishing, int partition)
{
	for (int i = publishing->n - 1; i >= 0; i--)
	{
		Registration *registration = publishing->registrations[i];

		if (registration->partition == partition ||
			registration->partition == ANY_PARTITION)
			return registration;
	}
	return NULL;
}

/*
 * register_for
 *		Register for a partition, unless that is done; NULL: there is no room.
 *
 * The next id of the block is the least that it can draw from now on.  The slot
 * is locked.
 */
static Registration *
register_for(Publishing *publishing, int partition)
{
	Registration *registration = find_registration(publishing, partition);

	if (registration == NULL)
		registration = new_registration(publishing, partition,
										publishing->slot->next);
	return registration;
}

/*
 * new_registration
 *		Register for a partition, with a first id, or for any.
 *
 * For any, if there are too many already.  What was registered before stays,
 * because its first ids are lower.
 */
static Registration *
new_registration(Publishing *publishing, int partition, int64 first)
{
	TopicSlot  *slot = publishing->slot;
	Registration *registration = NULL;

	if (publishing->n < MAX_PUBLISHED)
		registration = queue_registration_take(partition);
	if (registration == NULL)
		registration = queue_registration_take(ANY_PARTITION);
	if (registration == NULL)
		return NULL;
	registration->topic = queue_topic_slot_number(slot);
	registration->first = first;
	registration->procno = MyProcNumber;
	registration->since = GetCurrentTransactionStartTimestamp();
	queue_registration_link(&slot->lists, registration);
	publishing->registrations[publishing->n++] = registration;
	return registration;
}

/* What this transaction drew before it has inserted, or never will. */
static void
forget_drawn(Publishing *publishing)
{
	for (int i = 0; i < publishing->n; i++)
	{
		publishing->registrations[i]->drawn_from = PG_INT64_MAX;
		publishing->registrations[i]->drawn_to = 0;
	}
}

/* Note that this id was drawn with others. */
static void
note_drawn(Registration *registration, int64 id)
{
	registration->drawn_from = Min(registration->drawn_from, id);
	registration->drawn_to = id;
}

/*
 * note_id
 *		Note that a registered transaction has this id.
 *
 * One that is given, of a transaction that registered for any partition, may be
 * below what was told of others.  The slot is locked.
 */
static void
note_id(TopicSlot *slot, Registration *registration, int partition, int64 id)
{
	if (id < queue_topic_limit_told(slot, partition))
		slot->nviolations++;
	if (registration->partition == partition || id >= slot->told_most)
		registration->least = Min(registration->least, id);
	registration->greatest = Max(registration->greatest, id);
	registration->nids++;
	slot->greatest[partition] = Max(slot->greatest[partition], id);
}

/* ----------------------------------------------------------------
 *		Ends of transactions: no allocation, no error
 * ----------------------------------------------------------------
 */

/*
 * queue_topic_strike_off
 *		Strike a transaction off that has left the process array.
 *
 * Returns true if the worker is to be told that a stable id is to be written
 * down.
 */
bool
queue_topic_strike_off(Publishing *publishing)
{
	TopicSlot  *slot = publishing->slot;
	bool		is_news = false;

	if (publishing->n == 0)
		return false;
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	for (int i = 0; i < publishing->n; i++)
	{
		Registration *registration = publishing->registrations[i];

		/* else the slot was given up, with the extension */
		if (registration->topic != NO_TOPIC)
		{
			check_end(slot, registration);
			queue_registration_unlink(&slot->lists, registration);
			is_news |= note_change(slot);
		}
		queue_registration_free(registration);
	}
	publishing->n = 0;
	LWLockRelease(slot->lock);
	return is_news;
}

/* A publisher ends: have readers passed what it has drawn? */
static void
check_end(TopicSlot *slot, const Registration *registration)
{
	if (registration->least < (registration->partition == ANY_PARTITION ?
							   slot->told_most :
							   queue_topic_limit_told(slot, registration->partition)))
		slot->nviolations++;
}

/* The stable id may be another: returns true if the worker does not know. */
static bool
note_change(TopicSlot *slot)
{
	slot->nends++;
	if (slot->is_changed)
		return false;
	slot->is_changed = true;
	return true;
}

/*
 * queue_topic_pass
 *		The transaction is prepared: what it has registered stays, by its
 *		transaction id.
 */
void
queue_topic_pass(Publishing *publishing, TransactionId xid)
{
	TopicSlot  *slot = publishing->slot;

	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	for (int i = 0; i < publishing->n; i++)
	{
		Registration *registration = publishing->registrations[i];

		if (registration->topic == NO_TOPIC)
		{
			queue_registration_free(registration);
			continue;
		}
		registration->procno = NO_PROC;
		registration->xid = xid;
		queue_topic_slot_count_prepared(1);
	}
	publishing->n = 0;
	LWLockRelease(slot->lock);
}

/*
 * queue_topic_end_prepared
 *		The prepared transaction that this registration is of has ended.
 *
 * Returns true if the worker of its database is to be told.  *relid is the topic
 * whose readers may go on, or InvalidOid.
 */
bool
queue_topic_end_prepared(int number, TransactionId xid, Oid *dbid, Oid *relid)
{
	Registration *registration = queue_registration_at(number);
	int			topic = registration->topic;	/* an unlocked look */
	TopicSlot  *slot;
	bool		is_news = false;

	*dbid = *relid = InvalidOid;
	if (topic == NO_TOPIC)
		return false;
	slot = queue_topic_slot_at(topic);
	LWLockAcquire(slot->lock, LW_EXCLUSIVE);
	if (registration->topic == topic && registration->xid == xid)
	{
		check_end(slot, registration);
		queue_registration_unlink(&slot->lists, registration);
		queue_registration_free(registration);
		queue_topic_slot_count_prepared(-1);
		is_news = note_change(slot);
		*dbid = slot->dbid;
		*relid = slot->relid;
	}
	LWLockRelease(slot->lock);
	return is_news;
}

/*-------------------------------------------------------------------------
 *
 * group_out.c
 *		Groups that a process has out, to look at what waits of them.
 *
 * The rules are those of windows (window.c): a consumer that takes a group out
 * empties the set of waiting messages under the lock, then scans without.
 * What others note meanwhile stays.  What was not taken is put back, an error
 * puts all of it back.  As long as it is out, nobody else takes anything of
 * the group.
 *
 * A process may have several out at a time: one that it is scanning, and those
 * of which its statement's snapshot did not see the first message.  It
 * remembers them in a list; the links are in the entries.
 *
 * Locks: as in group.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "shared/group.h"

/* What this process has out, linked by next_out */
static GroupEntry *out_list = NULL;

static void take_out(GroupEntry *group);
static void forget_out(GroupEntry *group);

/*
 * queue_group_enter
 *		A consumer has met this message, which is in its window.
 *
 * On GROUP_OURS the group was not known, or this session may take more of it:
 * this process has it out, *group->out tells what waits, this message
 * included, and it must put it back.  On GROUP_BEHIND the message is noted,
 * and need not be in the cover.  Otherwise nothing has happened.
 */
GroupTurn
queue_group_enter(QueueSlot *slot, Oid relid, const GroupName *name,
				  int rank, int64 id, uint64 call, GroupEntry **group)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *entry;
	GroupTurn	turn = GROUP_BEHIND;

	queue_group_key(&key, MyDatabaseId, relid, name->hash);
	entry = queue_group_make(&key, slot, &lock);
	if (entry == NULL)
		turn = GROUP_FULL;
	else if (entry->check != 0 && entry->check != name->check)
		turn = GROUP_OTHER;
	else
	{
		bool		is_new = entry->nmembers == 0 && entry->wait.is_empty &&
			entry->looker == NO_PROC;

		queue_group_set_name(entry, name);
		if (is_new || queue_group_is_owned(entry, call))
		{
			queue_group_add(entry, rank, id, PG_INT64_MAX);
			take_out(entry);
			turn = GROUP_OURS;
		}
		else
		{
			queue_group_add(entry, rank, id, PG_INT64_MAX);
			if (entry->looker == NO_PROC)
				queue_group_rest(entry, false /* wakes */ );
		}
	}
	LWLockRelease(lock);
	*group = entry;
	return turn;
}

/*
 * queue_group_pick
 *		Take out the group of this message, because the message is wanted.
 *
 * As queue_group_enter(), but a group that is ready is taken out, too; if
 * another process has it out, nothing has happened (GROUP_OUT).
 */
GroupTurn
queue_group_pick(QueueSlot *slot, Oid relid, const GroupName *name, int rank,
				 int64 id, uint64 call, GroupEntry **group)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *entry;
	GroupTurn	turn = GROUP_BEHIND;

	queue_group_key(&key, MyDatabaseId, relid, name->hash);
	entry = queue_group_make(&key, slot, &lock);
	if (entry == NULL)
		turn = GROUP_FULL;
	else if (entry->check != 0 && entry->check != name->check)
		turn = GROUP_OTHER;
	else if (entry->looker != NO_PROC)
		turn = GROUP_OUT;
	else
	{
		/* its time may have been that of another message, or be out of date */
		queue_group_add(entry, rank, id, PG_INT64_MAX);
		if (queue_group_is_owned(entry, call) ||
			(entry->nmembers == 0 && entry->until <= GetCurrentTimestamp()))
		{
			queue_group_set_name(entry, name);
			take_out(entry);
			turn = GROUP_OURS;
		}
		else
			queue_group_rest(entry, false /* wakes */ );
	}
	LWLockRelease(lock);
	*group = entry;
	return turn;
}

/*
 * queue_group_note
 *		Note a message for consumers, by a process that takes none.
 *
 * Returns false if there is no room, and nothing has happened.
 */
bool
queue_group_note(QueueSlot *slot, Oid relid, const GroupName *name, int rank,
				 int64 id)
{
	GroupEntry *group;
	GroupWait	left;

	/* nothing that is held can be ours */
	switch (queue_group_enter(slot, relid, name, rank, id, QUEUE_NO_CALL,
							  &group))
	{
		case GROUP_OURS:
			left = group->out;
			queue_group_put_back(group, &left, 0, false /* wakes */ );
			return true;
		case GROUP_BEHIND:
			return true;
		case GROUP_OUT:
		case GROUP_OTHER:
		case GROUP_FULL:
			break;
	}
	return false;
}

/*
 * queue_group_pop
 *		Take out the first ready group, unless it comes after (rank, id).
 *
 * The key is copied under the lock of the slot, and the entry is looked up
 * again under that of its partition.  If it has changed meanwhile, whoever
 * changed it has put it where it belongs.
 */
GroupEntry *
queue_group_pop(QueueSlot *hint, Oid relid, int rank, int64 id)
{
	for (;;)
	{
		QueueSlot  *slot = queue_slot_lock(hint, MyDatabaseId, relid);
		GroupEntry *top;
		MessageKey	key;
		LWLock	   *lock;

		if (slot == NULL)
			return NULL;
		top = queue_group_first_ready(slot);
		if (top == NULL || top->wait.rank > rank ||
			(top->wait.rank == rank && top->wait.id > id))
		{
			LWLockRelease(slot->lock);
			return NULL;
		}
		queue_group_unlink_ready(slot, top);
		slot->groups.turn = Max(slot->groups.turn, top->turn);
		key = top->key;
		LWLockRelease(slot->lock);

		top = queue_group_find(&key, &lock);
		if (top != NULL && !top->is_ready && top->looker == NO_PROC &&
			top->nmembers == 0)
		{
			/* one of a queue that had the slot before finds nothing any more */
			if (key.relid != relid || key.dbid != MyDatabaseId)
			{
				queue_group_wait_init(&top->wait);
				queue_group_rest(top, false /* wakes */ );
			}
			else if (!top->wait.is_empty && top->waiting.slot == NULL)
			{
				take_out(top);
				LWLockRelease(lock);
				return top;
			}
			else if (top->wait.is_empty)
				queue_group_rest(top, false /* wakes */ );
		}
		LWLockRelease(lock);
	}
}

/*
 * queue_group_put_back
 *		End the look at a group that this process has out.
 *
 * What is left waits again, and its first message is not to be tried before
 * "until".  If "wakes", a waiter is woken if the group is ready.
 */
void
queue_group_put_back(GroupEntry *group, const GroupWait *left,
					 TimestampTz until, bool wakes)
{
	LWLock	   *lock = queue_group_lock(group);

	forget_out(group);
	group->looker = NO_PROC;
	if (!left->is_empty)
		queue_group_add(group, left->rank, left->id, left->others);
	if (left->id == group->wait.id)
		group->until = Max(group->until, until);
	queue_group_rest(group, wakes);
	LWLockRelease(lock);
}

/*
 * queue_group_delay
 *		Return for how long to leave a group alone whose first message is
 *		being changed by a transaction that may tell nobody when it ends.
 *
 * This process has it out.  The delay doubles each time, until something is
 * taken.
 */
int64
queue_group_delay(GroupEntry *group)
{
	Assert(group->looker == MyProcNumber);
	group->delay = group->delay == 0 ? FIRST_BUSY_DELAY :
		Min(group->delay * 2, MAX_BUSY_DELAY);
	return group->delay;
}

/*
 * queue_group_add_below
 *		Add to a set, as ids of rank 0, what was noted of a group since this
 *		process has it out, and may come before this id.
 */
void
queue_group_add_below(GroupEntry *group, int64 id, RangeSet *set)
{
	LWLock	   *lock = queue_group_lock(group);

	Assert(group->looker == MyProcNumber);
	if (!group->wait.is_empty && group->wait.id < id)
		queue_ranges_add(set, 0, group->wait.id, id - 1);
	LWLockRelease(lock);
}

/*
 * queue_group_keep_out
 *		This look takes nothing of the group: it stays out until the end of
 *		the look, so that the look does not come upon it again.
 *
 * It is then where it was in the order of turns.
 */
void
queue_group_keep_out(GroupEntry *group, const GroupWait *left)
{
	Assert(group->looker == MyProcNumber);
	group->out = *left;
	group->keeps_place = true;
}

/*
 * queue_group_return
 *		Put back all groups that this process has out.
 *
 * At the end of a look, and of a (sub)transaction that is rolled back.
 */
void
queue_group_return(void)
{
	while (out_list != NULL)
	{
		GroupWait	left = out_list->out;

		queue_group_put_back(out_list, &left, 0, true /* wakes */ );
	}
}

/* Note the key of the group, unless it is known or long. */
void
queue_group_set_name(GroupEntry *group, const GroupName *name)
{
	if (group->check != 0)
		return;
	group->check = name->check;
	group->is_fair = name->is_fair;
	group->is_keyless = name->text == NULL;
	if (name->length > GROUP_TEXT)
		return;
	group->length = name->length;
	if (name->length > 0)
		memcpy(group->text, name->text, name->length);
}

/* Take what waits out, and the group with it. */
static void
take_out(GroupEntry *group)
{
	queue_group_unlink(group);
	group->looker = MyProcNumber;
	group->until = 0;
	group->keeps_place = false;
	group->out = group->wait;
	queue_group_wait_init(&group->wait);
	group->next_out = out_list;
	out_list = group;
}

/* It is not out any more. */
static void
forget_out(GroupEntry *group)
{
	GroupEntry **link = &out_list;

	while (*link != group)
		link = &(*link)->next_out;
	*link = group->next_out;
}

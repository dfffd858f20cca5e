/*-------------------------------------------------------------------------
 *
 * group_ask.c
 *		What is known of a group?  Questions of views.
 *
 * Nothing changes here.  An answer may be out of date at once, and if memory
 * has forgotten the group, it is that nothing is known.
 *
 * Locks: the partition of the group, for the moment of a look.  Nothing is
 * allocated, and nothing is left behind if the process dies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "shared/group.h"

static void add_below(RangeSet *set, const GroupWait *wait, int64 id);

/*
 * queue_group_add_waiting
 *		Add to a set, as ids of rank 0, what is known to wait of a group and
 *		comes before this id.
 */
void
queue_group_add_waiting(Oid relid, const GroupName *name, int64 id,
						RangeSet *set)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *group;

	queue_group_key(&key, MyDatabaseId, relid, name->hash);
	group = queue_group_find(&key, &lock);
	if (group != NULL &&
		(group->check == 0 || group->check == name->check))
	{
		add_below(set, &group->wait, id);
		add_below(set, &group->out, id);
	}
	LWLockRelease(lock);
}

/*
 * queue_group_is_others_turn
 *		Returns true if a group is ready that comes before this one.
 *
 * Locks the partition of the group, then the slot, as making it ready does.
 */
bool
queue_group_is_others_turn(QueueSlot *slot, Oid relid, const GroupName *name)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *group;
	GroupEntry *first;
	bool		is_others;

	queue_group_key(&key, MyDatabaseId, relid, name->hash);
	group = queue_group_find(&key, &lock);
	LWLockAcquire(slot->lock, LW_SHARED);
	first = slot->dbid == MyDatabaseId && slot->relid == relid ?
		queue_group_first_ready(slot) : NULL;
	is_others = first != NULL && first != group;
	LWLockRelease(slot->lock);
	LWLockRelease(lock);
	return is_others;
}

/* Add those ids of what waits that are below this one. */
static void
add_below(RangeSet *set, const GroupWait *wait, int64 id)
{
	if (!wait->is_empty && wait->id < id)
		queue_ranges_add(set, 0, wait->id, id - 1);
}

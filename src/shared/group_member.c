/*-------------------------------------------------------------------------
 *
 * group_member.c
 *		Messages that hold their group.
 *
 * Each is an entry of the in-flight table, of which the member is a part, so
 * it leaves with the entry at the latest.  Members are in the order of their
 * ids.  A session or a call that owns the group may take more of it; others
 * wait until the last member has left.
 *
 * Locks: as in group.c.  The partition of the message's entry may be locked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "common/compat.h"
#include "shared/cover.h"
#include "shared/group.h"

/*
 * queue_group_join
 *		A message that this process has claimed holds the group, which it has
 *		out.
 */
void
queue_group_join(GroupMember *member, GroupEntry *group, uint64 call)
{
	LWLock	   *lock = queue_group_lock(group);

	Assert(group->looker == MyProcNumber && member->group == NULL);
	queue_group_add_member(group, member);
	group->owner = MyProcNumber;
	group->owner_call = call;
	LWLockRelease(lock);
}

/*
 * queue_group_join_hash
 *		A message holds its group again, of which only the hash is known.
 *
 * Without room it does not.
 */
void
queue_group_join_hash(GroupMember *member, const MessageKey *key, uint64 hash,
					  QueueSlot *slot)
{
	MessageKey	name;
	LWLock	   *lock;
	GroupEntry *group;

	queue_group_key(&name, key->dbid, key->relid, hash);
	group = queue_group_make(&name, slot, &lock);
	if (group != NULL)
	{
		queue_group_unlink(group);
		member->key = key;
		queue_group_add_member(group, member);
	}
	LWLockRelease(lock);
}

/*
 * queue_group_join_step
 *		The same for a step of the worker on a message that nobody holds.
 *
 * Returns false if a process has the group out: that may be about to judge the
 * message, or those behind it.
 */
bool
queue_group_join_step(GroupMember *member, const MessageKey *key, uint64 hash,
					  QueueSlot *slot)
{
	MessageKey	name;
	LWLock	   *lock;
	GroupEntry *group;
	bool		is_free;

	queue_group_key(&name, key->dbid, key->relid, hash);
	group = queue_group_make(&name, slot, &lock);
	is_free = group == NULL || group->looker == NO_PROC;
	if (group != NULL && is_free)
	{
		queue_group_unlink(group);
		member->key = key;
		queue_group_add_member(group, member);
	}
	LWLockRelease(lock);
	return is_free;
}

/*
 * queue_group_leave
 *		A message does not hold its group any more.
 *
 * If "gives_back", it waits, as others of the group may do, and is not to be
 * tried before "until".  No allocation, no error, so this may be called from
 * callbacks, with the partition of the message's entry locked.
 */
void
queue_group_leave(GroupMember *member, bool gives_back, int rank,
				  TimestampTz until, bool wakes)
{
	GroupEntry *group = member->group;
	LWLock	   *lock;

	if (group == NULL)
		return;
	lock = queue_group_lock(group);
	dlist_delete(&member->link);
	member->group = NULL;
	group->nmembers--;
	if (gives_back)
	{
		queue_group_add(group, rank, member->key->id, PG_INT64_MAX);
		queue_cover_note_news(group->slot, member->key, rank);
	}
	group->until = gives_back ? Max(group->until, until) : 0;
	if (group->nmembers == 0)
		group->owner = NO_PROC;
	queue_group_rest(group, wakes);
	LWLockRelease(lock);
}

/* PREPARE: the session may not take more of the group. */
void
queue_group_disown(GroupMember *member)
{
	GroupEntry *group = member->group;
	LWLock	   *lock;

	if (group == NULL)
		return;
	lock = queue_group_lock(group);
	group->owner = NO_PROC;
	LWLockRelease(lock);
}

/*
 * queue_group_next_member
 *		Find the next message, by id, that holds the same group as this one.
 *
 * *next is its key.  Returns false if there is none.
 */
bool
queue_group_next_member(const MessageKey *key, uint64 hash, MessageKey *next)
{
	MessageKey	name;
	LWLock	   *lock;
	GroupEntry *group;
	dlist_iter	iter;
	bool		found = false;
	int64		after = key->id;

	queue_group_key(&name, key->dbid, key->relid, hash);
	group = queue_group_find(&name, &lock);
	if (group != NULL)
		dlist_foreach(iter, &group->members)
	{
		GroupMember *member = dlist_container(GroupMember, link, iter.cur);

		if (member->key->id <= after)
			continue;
		*next = *member->key;
		found = true;
		break;
	}
	LWLockRelease(lock);
	return found;
}

/* Add a member; they are in the order of their ids. */
void
queue_group_add_member(GroupEntry *group, GroupMember *member)
{
	dlist_iter	iter;

	member->group = group;
	group->nmembers++;
	dlist_reverse_foreach(iter, &group->members)
	{
		const GroupMember *last = dlist_container(GroupMember, link, iter.cur);

		if (last->key->id <= member->key->id)
		{
			dlist_insert_after(iter.cur, &member->link);
			return;
		}
	}
	dlist_push_head(&group->members, &member->link);
}

/*-------------------------------------------------------------------------
 *
 * group_fence.c
 *		Groups in which a lease ran out: is its receipt still good?
 *
 * The message of such a lease does not hold its group any more, so others of
 * the group may be taken, or one before it may fail, as the end of its own
 * lease is noticed.  From then on the receipt is not good: with it two consumers
 * would have the group, or the message would overtake another.  So each of
 * these events gives the group a new number, its fence.  A message remembers
 * the one of its own failure, which is good as long as it is that of the group.
 *
 * Locks: as in group.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "shared/group.h"

/*
 * queue_group_rejoin
 *		A message whose lease ran out is settled all the same, so it holds its
 *		group again.
 *
 * Returns false if another message of the group was taken or failed since, or
 * if a process is about to take one (*is_out).  That is not known any more if
 * the group was forgotten meanwhile, as one of a queue without a slot is.
 */
bool
queue_group_rejoin(GroupMember *member, const MessageKey *key, uint64 hash,
				   bool *is_out)
{
	MessageKey	name;
	LWLock	   *lock;
	GroupEntry *group;
	bool		is_good;

	queue_group_key(&name, key->dbid, key->relid, hash);
	group = queue_group_find(&name, &lock);
	is_good = group != NULL && group->fence == member->fence;
	*is_out = is_good && group->looker != NO_PROC;
	is_good = is_good && !*is_out;
	if (is_good && member->group == NULL)
	{
		queue_group_unlink(group);
		member->key = key;
		queue_group_add_member(group, member);
	}
	LWLockRelease(lock);
	return is_good;
}

/*
 * queue_group_move_fence
 *		A message that holds its group is taken, or has failed.
 *
 * Receipts of leases on others of the group that ran out before are not good
 * any more: those would overtake it.
 */
void
queue_group_move_fence(GroupMember *member)
{
	GroupEntry *group = member->group;
	LWLock	   *lock;

	if (group == NULL)
		return;
	lock = queue_group_lock(group);
	group->fence = member->fence = queue_group_new_call();
	LWLockRelease(lock);
}

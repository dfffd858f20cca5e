/*-------------------------------------------------------------------------
 *
 * group_fair.c
 *		Groups that take turns: who comes next?
 *
 * In a fair queue a group names a tenant, and keeps no order.  It has an entry
 * in the table of groups (group.c) while messages of it wait, one for each
 * priority, since the higher one always comes first.  Messages in flight do
 * not hold it, and it is out only for the moment in which a consumer looks for
 * its next message.
 *
 * A turn is a number.  The group with the least one is served, and the queue
 * remembers that number.  A group that becomes ready gets the next one, so it
 * comes after each other one has been served once at most, however much waits
 * of these; and for a batch, as many as there were messages in it.  A group
 * that was idle has saved nothing up.
 *
 * Without room for an entry messages stay in the cover, and are taken as they
 * come.  So that groups which keep an order find room, no more than half of it
 * is for these.
 *
 * Locks, and what if the process dies: as in group.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "shared/group.h"

/* By what memory knows the messages of a rank that have no key */
#define KEYLESS_HASH		UINT64CONST(0x5bd1e9955bd1e995)

/*
 * queue_fair_name
 *		Fill in by what memory knows the group with this key, of one rank.
 *
 * "text" is NULL for messages without key.  It must live as long as the name
 * does.
 */
void
queue_fair_name(GroupName *name, const char *text, int length, int rank)
{
	if (text == NULL)
	{
		name->hash = name->check = KEYLESS_HASH;
		name->text = NULL;
		name->length = 0;
	}
	else
		queue_group_name(name, text, length);
	name->is_fair = true;
	name->hash = hash_combine64(name->hash, rank + 1);
	if (name->hash == 0)
		name->hash = 1;
}

/*
 * queue_fair_note
 *		Note that a message waits, and perhaps others with ids from "others"
 *		on.
 *
 * Returns GROUP_BEHIND, or GROUP_OTHER or GROUP_FULL with nothing done.
 */
GroupTurn
queue_fair_note(QueueSlot *slot, Oid relid, const GroupName *name, int rank,
				int64 id, int64 others)
{
	GroupTurn	turn = GROUP_BEHIND;
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *group;

	queue_group_key(&key, MyDatabaseId, relid, name->hash);
	if (queue_group_is_crowded())
		group = queue_group_find(&key, &lock);
	else
		group = queue_group_make(&key, slot, &lock);
	if (group == NULL)
		turn = GROUP_FULL;
	else if (group->check != 0 && group->check != name->check)
		turn = GROUP_OTHER;
	else
	{
		queue_group_set_name(group, name);
		queue_group_add(group, rank, id, others);
		queue_group_rest(group, true /* wakes */ );
	}
	LWLockRelease(lock);
	return turn;
}

/*
 * queue_fair_charge
 *		A group got so many messages more than one in its turn.
 *
 * If nothing of it waits any more, it owes nothing.
 */
void
queue_fair_charge(Oid relid, uint64 hash, int n)
{
	MessageKey	key;
	LWLock	   *lock;
	GroupEntry *group;

	queue_group_key(&key, MyDatabaseId, relid, hash);
	group = queue_group_find(&key, &lock);
	if (group != NULL && group->is_fair)
	{
		queue_group_unlink(group);
		group->turn += n;
		queue_group_rest(group, false /* wakes */ );
	}
	LWLockRelease(lock);
}

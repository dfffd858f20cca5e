/*-------------------------------------------------------------------------
 *
 * group_ready.c
 *		Ready groups, in the order in which consumers come to them.
 *
 * Priority comes first.  Groups that keep an order then come in that of the
 * first messages that wait, which are compared with those that are covered.
 * Groups that take turns come by these (group_fair.c), and of those with the
 * same turn the one comes first that has waited longer.
 *
 * Locks: that of the queue's slot, which the caller holds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/group.h"

static int	compare(const pairingheap_node *a, const pairingheap_node *b,
					void *arg);

/*
 * queue_group_link_ready
 *		Link a group into the heap.
 *
 * It is the last of those with its turn, unless it keeps its place.
 */
void
queue_group_link_ready(QueueSlot *slot, GroupEntry *group)
{
	if (!group->keeps_place)
	{
		if (group->is_fair)
			group->turn = Max(group->turn, slot->groups.turn + 1);
		group->number = ++slot->groups.nlinked;
	}
	group->keeps_place = false;
	slot->groups.ready.ph_compare = compare;
	pairingheap_add(&slot->groups.ready, &group->ready);
	slot->groups.nready++;
	group->ready_slot = slot;
	group->is_ready = true;
}

/* Unlink it. */
void
queue_group_unlink_ready(QueueSlot *slot, GroupEntry *group)
{
	pairingheap_remove(&slot->groups.ready, &group->ready);
	slot->groups.nready--;
	group->is_ready = false;
}

/* Return the group that is first, or NULL. */
GroupEntry *
queue_group_first_ready(QueueSlot *slot)
{
	if (pairingheap_is_empty(&slot->groups.ready))
		return NULL;
	return pairingheap_container(GroupEntry, ready,
								 pairingheap_first(&slot->groups.ready));
}

/*
 * A pairing heap has the largest on top, so the comparison is reversed.  Groups
 * that keep an order all have turn 0.
 */
static int
compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const GroupEntry *one = pairingheap_const_container(GroupEntry, ready, a);
	const GroupEntry *other = pairingheap_const_container(GroupEntry, ready, b);

	if (one->wait.rank != other->wait.rank)
		return one->wait.rank < other->wait.rank ? 1 : -1;
	if (one->turn != other->turn)
		return one->turn < other->turn ? 1 : -1;
	if (one->turn > 0)
		return one->number < other->number ? 1 : -1;
	return one->wait.id < other->wait.id ? 1 :
		one->wait.id > other->wait.id ? -1 : 0;
}

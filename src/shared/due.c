/*-------------------------------------------------------------------------
 *
 * due.c
 *		Which entries of the in-flight table are due when.
 *
 * Leases of one length arrive in the order of their ends, and most of them end
 * early.  They go into a list, where both operations are nearly free.  All
 * other entries go into a heap.
 *
 * The nodes lie in the entries.  The list and the heap are a part of the
 * queue's slot, whose lock guards both.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/due.h"

static int	compare_due(const pairingheap_node *a, const pairingheap_node *b,
						void *arg);

/*
 * queue_due_init
 *		Prepare the part of a queue's slot that has just been given to it.
 *
 * Entries of an earlier queue may still be linked here; they unlink
 * themselves.  The caller holds the lock of the slot, here and in the
 * functions below.
 */
void
queue_due_init(DuePart *due)
{
	due->heap.ph_compare = compare_due;
	due->heap.ph_arg = NULL;
}

/* A pairing heap has the largest on top, so the comparison is reversed. */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz left = pairingheap_const_container(DueNode, node, a)->due;
	TimestampTz right = pairingheap_const_container(DueNode, node, b)->due;

	return left < right ? 1 : left > right ? -1 : 0;
}

/*
 * queue_due_link
 *		Link a node, whose due time is set, into the list or the heap.
 *
 * It goes to the tail of the list if it is not due before the present tail.
 */
void
queue_due_link(DuePart *due, DueNode *node)
{
	node->is_listed = dlist_is_empty(&due->list) ||
		dlist_tail_element(DueNode, link, &due->list)->due <= node->due;
	if (node->is_listed)
		dlist_push_tail(&due->list, &node->link);
	else
		pairingheap_add(&due->heap, &node->node);
}

/*
 * queue_due_unlink
 *		Remove a node from the list or heap that it is linked into.
 */
void
queue_due_unlink(DuePart *due, DueNode *node)
{
	if (node->is_listed)
		dlist_delete(&node->link);
	else
		pairingheap_remove(&due->heap, &node->node);
}

/*
 * queue_due_first
 *		Return the node that is due first, or NULL if there is none.
 */
DueNode *
queue_due_first(DuePart *due)
{
	DueNode    *listed = NULL;
	DueNode    *heaped = NULL;

	if (!dlist_is_empty(&due->list))
		listed = dlist_head_element(DueNode, link, &due->list);
	if (!pairingheap_is_empty(&due->heap))
		heaped = pairingheap_container(DueNode, node,
									   pairingheap_first(&due->heap));
	if (listed == NULL || (heaped != NULL && heaped->due < listed->due))
		return heaped;
	return listed;
}

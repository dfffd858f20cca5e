/*-------------------------------------------------------------------------
 *
 * due.c
 *		What is due when: entries of the in-flight table, in the order of time.
 *
 * Leases of one length come in the order of their ends, and mostly end early:
 * for them there is a list, where both cost next to nothing.  The others are
 * in a heap.
 *
 * The nodes are in the entries; the list and the heap are part of the slot of
 * a queue, whose lock guards both.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/due.h"

static int	compare_due(const pairingheap_node *a, const pairingheap_node *b,
						void *arg);

/*
 * For a new queue.  Entries of an earlier one may still be linked here; they
 * unlink themselves.
 */
void
queue_due_init(DuePart *due)
{
	due->heap.ph_compare = compare_due;
	due->heap.ph_arg = NULL;
}

/* The heap has the largest on top, so this is the other way round. */
static int
compare_due(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	TimestampTz left = pairingheap_const_container(DueNode, node, a)->due;
	TimestampTz right = pairingheap_const_container(DueNode, node, b)->due;

	return left < right ? 1 : left > right ? -1 : 0;
}

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

void
queue_due_unlink(DuePart *due, DueNode *node)
{
	if (node->is_listed)
		dlist_delete(&node->link);
	else
		pairingheap_remove(&due->heap, &node->node);
}

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

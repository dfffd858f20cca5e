/*-------------------------------------------------------------------------
 *
 * due.h
 *		Which entries of the in-flight table are due when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DUE_H
#define QUEUE_DUE_H

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "shared/key.h"

struct QueueSlot;

/* The due time of an entry of the in-flight table */
typedef struct DueNode
{
	pairingheap_node node;		/* member of the heap */
	dlist_node	link;			/* ... or of the list */
	bool		is_listed;
	const MessageKey *key;		/* of the entry that this is part of */
	struct QueueSlot *slot;		/* where it is linked, or NULL */
	TimestampTz due;
} DueNode;

/* The due times of one queue */
typedef struct DuePart
{
	dlist_head	list;			/* linked in the order of their due times */
	pairingheap heap;			/* all others */
} DuePart;

/* All with the lock of the queue's slot held */
extern void queue_due_init(DuePart *due);
extern void queue_due_link(DuePart *due, DueNode *node);
extern void queue_due_unlink(DuePart *due, DueNode *node);

/* The node that is due first, or NULL */
extern DueNode *queue_due_first(DuePart *due);

#endif							/* QUEUE_DUE_H */

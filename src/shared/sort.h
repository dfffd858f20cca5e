/*-------------------------------------------------------------------------
 *
 * sort.h
 *		A part of the cover that is on its way into groups.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SORT_H
#define QUEUE_SORT_H

#include "shared/queue_slot.h"

/* The rank of what has been put off; NUM_RANKS: nothing */
extern int	queue_sort_rank(QueueSlot *hint, Oid relid);

/* Put the rest off; false: there is another one, or no slot */
extern bool queue_sort_put_off(QueueSlot *hint, Oid relid,
							   const SortPlace *place);

/* Go on with it, as the window of this process; false: there is none */
extern bool queue_sort_resume(QueueSlot *hint, Oid relid, SortPlace *place);

/* Groups of this queue take no turns any more: cover it again */
extern void queue_sort_forget(QueueSlot *hint, Oid relid);

#endif							/* QUEUE_SORT_H */

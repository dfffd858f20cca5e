/*-------------------------------------------------------------------------
 *
 * taking.h
 *		What becomes of a message that a call of dequeue() or receive() has
 *		claimed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TAKING_H
#define QUEUE_TAKING_H

#include "nodes/execnodes.h"

#include "dispatch/look.h"
#include "transaction/holds.h"

/* One call of dequeue() or receive() */
typedef struct Take
{
	Oid			relid;
	bool		is_lease;
	int64		lease;			/* usec; -1: the queue's */
	int			max;
	ReturnSetInfo *rsinfo;
	int			ntaken;
	Selection  *selection;		/* what is wanted; NULL: any message */
	int			limit;			/* of the batch, if what it has has failed
								 * before; 0: it has not */
	uint64		group_call;		/* receive(): who may take more of a group */
	MemoryContext row_context;	/* reset for each message */
} Take;

/* What to do after a candidate */
typedef enum Verdict
{
	VERDICT_NEXT,
	VERDICT_STOP
} Verdict;

/*
 * May a message with this limit (queue_row_batch_limit) come with those that
 * were taken?  So many are wanted from here on
 */
extern bool queue_take_fits(const Take *take, int limit, bool is_behind);
extern int	queue_take_wanted(const Take *take);

/* Take it; false: another transaction was quicker, and nothing is done */
extern bool queue_take_message(Take *take, CandidateScan *look,
							   MessageRow *row, Hold *hold, int attempt,
							   int limit);

/* Leave it to the worker, or as it is, because it is at its limit */
extern bool queue_stays_exhausted(const CandidateScan *look,
								  const MessageRow *row, int failures);
extern void queue_leave_exhausted(CandidateScan *look, MessageRow *row,
								  Hold *hold, int failures);

/* Give the claim back that was pushed last */
extern void queue_give_back(Hold *hold);

/* There is no room for a claim: 53400, unless something was taken */
extern void queue_take_note_full(Take *take, CandidateScan *look);

/* grouped.c: messages of groups that keep an order */
extern Verdict queue_take_grouped(Take *take, CandidateScan *look,
								  Snapshot snapshot, MessageRow *row);
extern Verdict queue_take_from_group(Take *take, CandidateScan *look,
									 Snapshot snapshot);

#endif							/* QUEUE_TAKING_H */

/*-------------------------------------------------------------------------
 *
 * bound.h
 *		What a queue does not take of what is published.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BOUND_H
#define QUEUE_BOUND_H

#include "shared/queue_slot.h"

/* Why a queue does not take what is published */
typedef enum Refusal
{
	REFUSAL_NONE,
	REFUSAL_LOCKED,				/* its lock is not to be had at once */
	REFUSAL_ALTERED,			/* it is no (proper) queue any more */
	REFUSAL_PAUSED,
	REFUSAL_FULL
} Refusal;

/* What publishers have left out; at 0: nothing */
typedef struct SkippedCount
{
	uint64		n;
	TimestampTz at;				/* the last time, and why */
	Refusal		refusal;
} SkippedCount;

/* Publishers have left out so many messages; no slot: not counted */
extern void queue_bound_skip(QueueSlot *hint, Oid relid, int64 n,
							 Refusal refusal);
extern void queue_bound_skipped(QueueSlot *hint, Oid relid,
								SkippedCount *count);

/*
 * The table is locked for an instant by a worker, to be cut: begin, or end.
 * Who cannot lock it asks before and afterwards whether that may be why
 */
extern void queue_bound_cut(Oid relid);
extern uint32 queue_bound_ncuts(const QueueSlot *slot);
extern bool queue_bound_was_cut(const QueueSlot *slot, uint32 before);

#endif							/* QUEUE_BOUND_H */

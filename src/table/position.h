/*-------------------------------------------------------------------------
 *
 * position.h
 *		Where a subscription stands in a partition: rows of its table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_POSITION_H
#define QUEUE_POSITION_H

#include "executor/tuptable.h"
#include "storage/itemptr.h"

#include "common/compat.h"
#include "shared/failure.h"
#include "table/subscription.h"

/* One partition; what the row says, as it is now */
typedef struct Position
{
	int			partition;
	int64		id;				/* up to this one all is done */
	int			failures;		/* of the message that is next */
	int64		alone_until;	/* it failed together with those up to this
								 * id; 0: alone */
	TimestampTz moved_at;
	ItemPointerData tid;
	bool		is_own;			/* this transaction has moved it */
	bool		has_gone;		/* what the row tells of failures is about
								 * messages that are gone from the topic */
	TransactionId changer;		/* POSITION_BUSY: who is changing it */
	TupleTableSlot *slot;		/* the row itself */
} Position;

typedef enum PositionState
{
	POSITION_FOUND,
	POSITION_BUSY,				/* another transaction is changing the row */
	POSITION_MISSING			/* somebody has deleted it */
} PositionState;

/* A position without a row yet, in the current memory context */
extern Position *queue_position_make(Relation rel);
extern void queue_position_free(Position *position);

/*
 * Read the newest version of a partition's row, by what memory knows or by its
 * key.  The holder of the partition sees what will be there; others, what was
 */
extern PositionState queue_position_read(Relation rel, SubscriptionDef *def,
										 int partition, Position *position);

/* What the row of a partition tells of failures */
typedef struct PositionFailure
{
	int			failures;		/* of the message that is next */
	int64		alone_until;	/* as of Position */
} PositionFailure;

/*
 * Read all rows as they are committed, whoever holds them: positions, and
 * failures unless NULL, one a partition, those without a row left as they are;
 * returns when the last of them has moved
 */
extern TimestampTz queue_positions_read(Relation rel, int partitions,
										int64 *positions,
										PositionFailure *failures);

/*
 * Move it, in this transaction, for the holder of the partition.  False:
 * somebody has locked the row
 */
extern bool queue_position_move(Relation rel, SubscriptionDef *def,
								Position *position, int64 id);

/* The message that is next has failed so often, as these tell */
extern bool queue_position_fail(Relation rel, SubscriptionDef *def,
								Position *position, int failures,
								int64 alone_until, const FailureNews *news);

/*
 * Make a row that is missing, in this transaction.  False: another one is about
 * to
 */
extern bool queue_position_put(Relation rel, SubscriptionDef *def,
							   int partition, int64 id);

/*
 * The message that is next has this id, or a higher one; 0: that is not known.
 * If what failed is gone from the topic, its failures are forgotten
 */
extern void queue_position_next_is(Position *position, int64 id);

/* 42809: a row is not there */
pg_noreturn extern void queue_position_report_missing(Relation rel,
													  int partition);

/* What the row tells of the failures */
extern NullableDatum queue_position_failure_log(Position *position);

#endif							/* QUEUE_POSITION_H */

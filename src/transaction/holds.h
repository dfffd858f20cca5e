/*-------------------------------------------------------------------------
 *
 * holds.h
 *		What a transaction holds: claims, takes, leases, settlements.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_HOLDS_H
#define QUEUE_HOLDS_H

#include "shared/inflight.h"

typedef enum HoldKind
{
	HOLD_CLAIM,					/* being examined */
	HOLD_DEQUEUE,				/* dequeued: this transaction has deleted the
								 * row */
	HOLD_LEASE,					/* received: ends, and counts, at a rollback */
	HOLD_SETTLE,				/* lease settled: this transaction has deleted
								 * the row */
	HOLD_MOVE,					/* no message, but a partition that this
								 * transaction holds: it was moved again */
	HOLD_STEP,					/* of the worker: row rewritten or moved */
	HOLD_EXHAUST,				/* claimed: to be moved after the commit */
	HOLD_DROP,					/* no message: the queue is dropped */
	HOLD_TRUNCATE,				/* no message: all rows of the queue go */
	HOLD_GROUP					/* no message, but a group, by its hash: it
								 * may go on */
} HoldKind;

typedef struct Hold
{
	HoldKind	kind;
	SubTransactionId subid;
	InflightEntry *entry;		/* not for HOLD_LEASE, HOLD_DROP,
								 * HOLD_TRUNCATE, HOLD_GROUP, HOLD_MOVE */
	MessageKey	key;
	uint64		number;			/* HOLD_LEASE: fence */
	uint64		statement;		/* number of the statement that took it; 0: a
								 * function's statement did */
	int			batch;			/* HOLD_DEQUEUE, HOLD_LEASE: its call took so
								 * many, of a partition: its batch has, and
								 * HOLD_MOVE: its call took */
	bool		is_partition;	/* of a topic; HOLD_CLAIM, HOLD_DEQUEUE,
								 * HOLD_SETTLE, HOLD_MOVE: ... */
	bool		goes_on;		/* ... its lease, when this commits */
	bool		is_set;			/* HOLD_SETTLE, HOLD_MOVE: ... its position is
								 * set, not moved on by an ack */
	bool		has_failed;		/* HOLD_DEQUEUE: ... it came after a failure,
								 * with what failed with it alone */
	int64		position;		/* ... is moved to; -1: it is not */
	int			nconsumed;		/* ... messages that this consumes */
	int			first;			/* HOLD_MOVE: number of the hold that it is
								 * about */
	int			nfailed;		/* HOLD_DEQUEUE, of a partition: so often what
								 * comes after a position, which a savepoint
								 * went back to, has failed ... */
	int64		failed_after;	/* ... that position, */
	int64		failed_until;	/* the last message that failed with it, */
	FailureNote failed;			/* and the last of these failures */
	int			counted;		/* HOLD_STEP: failures that the row now
								 * counts; HOLD_EXHAUST: all that it counts */
	bool		is_exhausted;	/* HOLD_STEP: it still waits to be moved */
	bool		is_gone;		/* HOLD_STEP: the message is moved, or was
								 * gone */
	bool		is_log_ended;	/* HOLD_STEP: the log says so, too */
} Hold;

/*
 * Reserve first (may throw), then claim or settle, then push (never throws),
 * so that no entry is ever held that the end of the transaction does not know
 * of.  A pointer is good until the next reserve.
 */
extern void queue_xact_reserve(void);
extern Hold *queue_xact_push(HoldKind kind, const MessageKey *key,
							 InflightEntry *entry);

/* The hold that was pushed for a partition that this transaction holds, or NULL */
extern Hold *queue_xact_find(HoldKind kind, const MessageKey *key);

/* Has this transaction set the position of the partition that it holds? */
extern bool queue_xact_is_set(const Hold *hold);

/*
 * How often what comes after this position has failed since the partition was
 * dequeued, as ROLLBACK TO tells; *until is set if it has
 */
static inline int
queue_hold_failures(const Hold *hold, int64 position, int64 *until)
{
	if (hold->nfailed == 0 || hold->failed_after != position)
		return 0;
	*until = hold->failed_until;
	return hold->nfailed;
}

/* The hold pushed last is dealt with */
extern void queue_xact_pop(Hold *hold);

/* ... the last n of them, all HOLD_SETTLE */
extern void queue_xact_pop_settled(int n);

/* A call that takes messages begins, and has its result */
extern void queue_xact_begin_take(bool is_top_level);
extern void queue_xact_end_take(void);

/* Forget the messages of this queue when this transaction commits */
extern void queue_xact_note_drop(Oid relid);
extern void queue_xact_note_truncate(Oid relid);

/* Look at this group anew when this transaction commits */
extern void queue_xact_note_group(Oid relid, uint64 hash);

/* ----------------------------------------------------------------
 *		xact.c and prepared.c: ends of transactions
 * ----------------------------------------------------------------
 */

extern int	queue_holds_count(void);
extern Hold *queue_hold_at(int i);

/* The transaction commits; then, when its locks are released, the rest */
extern void queue_holds_commit(void);
extern void queue_holds_release(void);
extern void queue_hold_commit(Hold *hold);

/* Before that, or a PREPARE: what was moved again is where it was moved last */
extern void queue_holds_join(void);

/* The position of a partition has moved past so many that were consumed */
extern void queue_hold_passed(InflightEntry *entry, int n, TimestampTz now);

/* What is held is consumed; true: the log of leases knows of it */
extern bool queue_hold_done(const MessageKey *key, InflightEntry *entry,
							TimestampTz now);

/* It rolls back: a failure of the messages that it took, unless that is NULL */
extern void queue_holds_abort(FailureNote *failure);

/* The same for a subtransaction; and for one that is released */
extern void queue_holds_abort_sub(SubTransactionId subid,
								  FailureNote *failure);
extern void queue_holds_pass_on(SubTransactionId subid,
								SubTransactionId parent);

/* None is held any more */
extern void queue_holds_reset(void);

#endif							/* QUEUE_HOLDS_H */

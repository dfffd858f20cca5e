/*-------------------------------------------------------------------------
 *
 * xact.h
 *		What a transaction holds, and what its end does about it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_XACT_H
#define QUEUE_XACT_H

#include "shared/inflight.h"

typedef enum HoldKind
{
	HOLD_CLAIM,					/* being judged */
	HOLD_TAKE,					/* dequeued: the row is deleted by us */
	HOLD_LEASE,					/* received: ends, and counts, if we roll back */
	HOLD_SETTLE,				/* lease settled: the row is deleted by us */
	HOLD_STEP,					/* the worker's: row rewritten or moved */
	HOLD_EXHAUST,				/* claimed: to be moved when we have committed */
	HOLD_DROP,					/* no message: the queue is dropped */
	HOLD_TRUNCATE				/* no message: all rows of the queue go */
} HoldKind;

typedef struct Hold
{
	HoldKind	kind;
	SubTransactionId subid;
	InflightEntry *entry;		/* not for HOLD_LEASE, HOLD_DROP,
								 * HOLD_TRUNCATE */
	MessageKey	key;
	uint64		number;			/* HOLD_LEASE: fence */
	uint64		statement;		/* number of the one that took it; 0: it did
								 * not do so itself */
	int			counted;		/* HOLD_STEP: failures the row tells now;
								 * HOLD_EXHAUST: all that it tells */
	bool		is_exhausted;	/* HOLD_STEP: it still waits to be moved */
	bool		is_gone;		/* HOLD_STEP: the message is moved, or was
								 * gone */
	bool		is_log_ended;	/* HOLD_STEP: the log says so, too */
} Hold;

/* What a prepared transaction has done to a message */
typedef enum PreparedHold
{
	PREPARED_SENT,
	PREPARED_TAKEN,
	PREPARED_SETTLED,
	PREPARED_RECEIVED
} PreparedHold;

#define NPREPARED_HOLDS		4

/* Has the block that has failed, and is not yet ended, used a queue? */
extern bool queue_xact_failed_used_queue(void);

extern Size queue_xact_shmem_size(void);
extern void queue_xact_shmem_init(void);

/* registers the callbacks; from _PG_init, in every backend */
extern void queue_xact_init(void);

/*
 * Holds.  Reserve first (may throw), then claim or settle, then push (never
 * throws): so no entry is ever held that the end of the transaction does not
 * know of.  A pointer is good until the next reserve.
 */
extern void queue_xact_reserve(void);
extern Hold *queue_xact_push(HoldKind kind, const MessageKey *key,
							 InflightEntry *entry);

/* the hold pushed last is dealt with */
extern void queue_xact_pop(Hold *hold);

/* ... the last n of them, all HOLD_SETTLE */
extern void queue_xact_pop_settled(int n);

/*
 * A call that takes messages begins, and has its result.  What it took in
 * between, if it fails or is ended there, nobody has seen: it does not count.
 */
extern void queue_xact_begin_take(bool is_top_level);
extern void queue_xact_end_take(void);

/*
 * Before a row is written: messages that are to be announced when this
 * transaction commits.  Assigns a transaction id.  May throw.
 */
extern void queue_xact_note_sent(Oid relid, int priority, int64 low,
								 int64 high);

/* Any message of this queue may be available when this transaction commits,
 * and who waits for it is to look at its settings. */
extern void queue_xact_note_queue(Oid relid);

/* A look at these by a transaction that has written something: what it has
 * not seen may be back when it, or a part of it, is rolled back. */
extern void queue_xact_note_look(Oid relid, const QueueRange *window);

/* Is there one that has ended, and whose announcement may be under way? */
extern bool queue_xact_is_announcing(void);

/* Will this transaction, which is in progress, announce what it sends? */
extern bool queue_xact_will_announce(TransactionId xid);

/*
 * Forget the messages of this queue when this transaction commits: with the
 * queue itself, or, if its table is locked as TRUNCATE locks it, those that
 * were there
 */
extern void queue_xact_note_drop(Oid relid);
extern void queue_xact_note_truncate(Oid relid);

/* Tell the leader about this database when this transaction commits. */
extern void queue_xact_note_database(void);

/*
 * Finish what prepared transactions of this database held, if they ended, and
 * wake who waits; true if there was any.
 */
extern bool queue_xact_resolve_prepared(int *remaining);

/*
 * Tell what prepared transactions of all databases have done, as far as the
 * registry knows: once for each of them without a queue, with a number above
 * zero if it does not know what was sent, and again for each queue and kind, any
 * number of times.  Messages sent that a savepoint rolled back are counted.
 */
typedef void (*PreparedVisitor) (TransactionId xid, Oid dbid, Oid relid,
								 PreparedHold kind, int64 n, void *arg);
extern void queue_xact_visit_prepared(PreparedVisitor visitor, void *arg);

#endif							/* QUEUE_XACT_H */

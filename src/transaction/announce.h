/*-------------------------------------------------------------------------
 *
 * announce.h
 *		What a transaction has sent and looked at, for its end to announce.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ANNOUNCE_H
#define QUEUE_ANNOUNCE_H

#include "shared/queue_slot.h"
#include "shared/waiter.h"
#include "table/draft.h"

#define NOTE_ROOM			16

/* Messages of one queue that are due later, or expire */
typedef struct LaterNote
{
	int			ranks;			/* delayed: a bit for each rank */
	TimestampTz due;			/* ... none of them before */
	TimestampTz expires_at;		/* none expires before */
} LaterNote;

/* What a transaction has done to one queue, for its end to announce */
typedef struct PendingAnnounce
{
	Oid			relid;
	QueueSlot  *queue;			/* hint */
	bool		is_all;			/* any message, and all waiters */
	int			nmessages;		/* sent: waiters to wake */
	LaterNote	later;
	WakeKeys	keys;			/* of those sent: correlation_ids */
	RangeSet	sent;
	QueueRange	ranges[RANGE_PLACES(NOTE_ROOM)];
} PendingAnnounce;

/*
 * What a subtransaction of a transaction that has written looked at in one
 * queue, with what its own subtransactions looked at that have ended.  It is
 * to be looked at again if the subtransaction rolls back.
 */
typedef struct LookNote
{
	Oid			relid;
	SubTransactionId subid;
	bool		is_writer;		/* had the subtransaction written anything? */
	QueueSlot  *queue;			/* hint */
	RangeSet	ids;
	QueueRange	ranges[RANGE_PLACES(NOTE_ROOM)];
} LookNote;

/*
 * Before a row is written: messages to be announced at the commit; may throw
 */
extern void queue_announce_sent(Oid relid, int priority, int64 low,
								int64 high);

/*
 * The same if queue_announce_key() is called for each correlation_id among
 * them, so that those that wait for others need not be woken
 */
extern void queue_announce_keyed(Oid relid, int priority, int64 low,
								 int64 high);
extern void queue_announce_key(Oid relid, Datum correlation_id);
extern uint32 queue_announce_hash(Datum correlation_id);

/* The same for one that is not due before "due", and by what its row says */
extern void queue_announce_delayed(Oid relid, int priority, TimestampTz due);
extern void queue_announce_row(Oid relid, const MessageDraft *draft);

/* Messages that were announced in either way expire then */
extern void queue_announce_expiry(Oid relid, TimestampTz expires_at);

/* Announce any message, and the settings, of this queue at the commit */
extern void queue_announce_all(Oid relid);

/* A transaction that has written looks at this window */
extern void queue_announce_undone(Oid relid, const QueueRange *window);

/* It has deleted or changed this message, which others find busy until then */
extern void queue_announce_changed(Oid relid, int priority, int64 id);

/* Tell the leader about this database at the commit */
extern void queue_xact_note_database(void);

/* ----------------------------------------------------------------
 *		xact.c and prepared.c: ends of transactions
 * ----------------------------------------------------------------
 */

extern void queue_announce_later(Oid dbid, Oid relid, QueueSlot *hint,
								 const LaterNote *later);
extern bool queue_announce_has_notes(void);
extern bool queue_announce_has_database(void);
extern const PendingAnnounce *queue_announce_notes(int *n);
extern const LookNote *queue_announce_looks(int *n);

/* Others can see it now; then, when locks are released, wake them */
extern void queue_announce_commit(void);
extern bool queue_announce_is_pending(void);
extern void queue_announce_wake(void);

/*
 * What a subtransaction has deleted is back, or all (InvalidSubTransactionId)
 */
extern void queue_announce_abort(SubTransactionId subid);
extern void queue_announce_pass_on(SubTransactionId subid,
								   SubTransactionId parent);

extern void queue_announce_reset(void);

#endif							/* QUEUE_ANNOUNCE_H */

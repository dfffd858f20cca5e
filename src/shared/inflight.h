/*-------------------------------------------------------------------------
 *
 * inflight.h
 *		The in-flight table: who holds which message, in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_INFLIGHT_H
#define QUEUE_INFLIGHT_H

#include "lib/ilist.h"
#include "storage/itemptr.h"
#include "utils/timestamp.h"

#include "common/client.h"
#include "shared/cover.h"
#include "shared/failure.h"
#include "shared/group.h"

/*
 * A message without an entry is held by none, and has no failure that its row
 * does not count.  Nor has one whose row was sent at another time than the
 * entry says: that entry is about an earlier row with this id.
 */
typedef enum InflightState
{
	INFLIGHT_IDLE,				/* held by none, but there is something to
								 * remember: failures that its row does not
								 * count, a due time, or what the log says */
	INFLIGHT_CLAIMED,			/* a consumer is examining it, or the worker
								 * is rewriting or moving its row */
	INFLIGHT_DEQUEUED,			/* dequeued by a transaction in progress */
	INFLIGHT_LEASED				/* received, until the deadline */
} InflightState;

/*
 * What the log of leases says of a message, and what a crash would make of
 * that
 */
typedef enum LogKind
{
	LOG_NOTHING,
	LOG_FAILURES,				/* so many */
	LOG_DEQUEUED,				/* held by an open transaction: one more */
	LOG_LEASE					/* until its deadline: then one more */
} LogKind;

/* Room for the name of the application that received a message, which is cut */
#define SHORT_NAME_SIZE		32

/*
 * A partition of a topic, as a subscription holds it, is as a message here: its
 * number is the id, and it always was.  What fails is the message that is next
 * in it.
 */
#define QUEUE_PARTITION_ROW	MIN_TIMESTAMP

typedef struct InflightEntry
{
	MessageKey	key;			/* must be first */
	uint32		hashcode;		/* of the key */
	TimestampTz enqueued_at;	/* of the row that all of this is about */
	uint8		state;			/* InflightState */
	bool		is_settling;	/* LEASED: a transaction in progress has
								 * settled it; until that ends, the lease
								 * neither ends nor changes */
	bool		is_step;		/* CLAIMED: by the worker, to count or move */
	bool		is_prepared;	/* holder is a slot of the prepared registry */
	bool		is_exhausted;	/* IDLE: limit of attempts reached */
	bool		is_lapsed;		/* IDLE, CLAIMED: the lease with this fence
								 * ran out, but no consumer has taken the
								 * message since, so its receipt is good */
	bool		is_lapse_counted;	/* ... or LEASED again by that receipt:
									 * the row counts that it ran out */
	bool		is_durable;		/* the log may have a row for it */
	uint8		logged;			/* LogKind of that, when last written */
	bool		is_written;		/* LOG_LEASE: that of this very lease, or of
								 * the one that ran out last */
	bool		is_open;		/* LEASED, or lapsed: the receiving
								 * transaction has not committed; if it never
								 * does, there was no lease, so none is
								 * written */
	bool		is_passed_over; /* LEASED, is_open: ... when its time came */
	bool		is_counted;		/* DEQUEUED, LEASED: its queue counts it as
								 * held */
	bool		is_delayed;		/* IDLE: the due time is to go to the row */
	bool		is_behind_failed;	/* LEASED, is_settling: one before it in
									 * its group has failed meanwhile, so if
									 * it is not settled, the lease ends */
	uint16		failures;		/* not yet counted in the row */
	uint16		logged_failures;	/* of these, what the log says */
	int			counted;		/* failures in the row, as last read */
	int			priority;		/* of the row, as last read; -1: unknown */
	int			holder;			/* CLAIMED, DEQUEUED or settling: proc number */
	int			holder_pid;		/* for views */
	int			receive_slot;	/* LEASED, or lapsed: 1 + registry slot of the
								 * prepared transaction that received it, 0:
								 * none */
	uint8		nnotes;			/* of failures that the row does not tell */
	bool		is_retold;		/* the first of them is about the newest that
								 * the row tells */
	uint16		batch;			/* DEQUEUED, LEASED: taken together with so
								 * many, itself among them; 0: unknown */
	FailureNote notes[FAILURES_KEPT];	/* the newest is the last */
	Oid			role;			/* LEASED, or lapsed: who received it ... */
	char		application[SHORT_NAME_SIZE];	/* ... and with which program */
	int			receiver_pid;	/* ... of which process, for views; 0: before
								 * a restart ... */
	ClientAddress receiver_address; /* ... from where */
	ItemPointerData tid;		/* hint: where the row was */
	uint64		epoch;			/* of the last lease: fence, with number */
	uint64		number;
	TimestampTz since;			/* when it came into this state */
	TimestampTz failed_at;		/* the oldest failure that neither the row nor
								 * the log tells; 0: none */
	TimestampTz deadline;		/* LEASED: end of the lease; IDLE: not to be
								 * taken before */
	RetryPolicy retry;
	QueueSlot  *queue;			/* hint: where the slot of the queue is */
	DueNode		due;			/* LEASED, IDLE: linked until the deadline */
	dlist_node	node;			/* in the list of its partition */
	dlist_node	changed;		/* in the list of those that the worker is to
								 * look at, if ... */
	bool		is_changed;
	int64		last_id;		/* of a partition: the last message of the
								 * batch that is taken, or has failed; 0:
								 * unknown */
	int64		first_id;		/* ... the first one, when it was taken; 0:
								 * unknown */
	bool		goes_on;		/* of a partition, is_settling, is_prepared:
								 * if that commits, so does the lease */
	int			nleft;			/* of a partition, LEASED: messages of the
								 * batch that no commit has acknowledged; 0:
								 * unknown */
	int			nconsumed;		/* of a partition, is_prepared: messages that
								 * are consumed if that commits */
	bool		is_uncounted;	/* of a partition, DEQUEUED: its position is
								 * set, which a rollback takes back, and that
								 * is no failure */
	uint64		group_hash;		/* of the group of the message; 0: none that
								 * keeps an order */
	GroupMember member;			/* the group that it holds, if it does */
	struct InflightEntry *next_prepared;	/* held by one registry slot */
} InflightEntry;

/* What the log is to say of a message */
typedef struct LeaseRecord
{
	MessageKey	key;
	TimestampTz enqueued_at;	/* of the row that all of this is about */
	LogKind		kind;			/* not LOG_NOTHING */
	int			failures;
	uint64		group_hash;		/* 0: none; of a partition: its last_id */
	uint64		epoch;			/* LOG_LEASE */
	uint64		number;			/* LOG_LEASE */
	TimestampTz deadline;		/* LOG_LEASE: its end; LOG_FAILURES: not due
								 * before, or 0 */
	TimestampTz since;			/* LOG_LEASE, for views: when it was received;
								 * 0, here and below: unknown */
	Oid			role;			/* ... by whom ... */
	char		application[SHORT_NAME_SIZE];	/* ... and with which program */
} LeaseRecord;

/* What became of a claim */
typedef enum ClaimResult
{
	CLAIM_OK,
	CLAIM_HELD,					/* held by another process or lease; waiters
								 * are woken when that ends */
	CLAIM_EXAMINED,				/* another consumer is examining it, and may
								 * give it back unannounced */
	CLAIM_NOT_DUE,				/* leased or backing off: *due is lowered */
	CLAIM_EXHAUSTED,			/* the worker is to move it */
	CLAIM_OTHER,				/* there is something to remember of another
								 * row with this id */
	CLAIM_FULL					/* no room in shared memory */
} ClaimResult;

/* What became of an attempt to settle */
typedef enum SettleResult
{
	SETTLE_OK,
	SETTLE_LOST,				/* no such lease any more */
	SETTLE_HELD,				/* ... and another consumer has the message */
	SETTLE_GIVEN_BACK,			/* ... since this one was given back */
	SETTLE_EXAMINED,			/* it ran out, and a consumer is examining the
								 * message: try again in a moment */
	SETTLE_BUSY,				/* another open transaction has settled it */
	SETTLE_SELF					/* this transaction has settled it before */
} SettleResult;

extern Size queue_inflight_shmem_size(void);
extern void queue_inflight_shmem_init(void);
extern int	queue_inflight_nlocks(void);

extern int	queue_inflight_size(void);

/*
 * Claims: the banner of inflight.c says in which order these are called, and
 * queue_row_claim() what to do about CLAIM_OTHER
 */
extern ClaimResult queue_inflight_claim(const MessageKey *key,
										TimestampTz enqueued_at,
										QueueSlot *queue, int priority,
										TimestampTz now,
										InflightEntry **entry,
										TimestampTz *due,
										TimestampTz *other);
extern bool queue_inflight_claim_step(const MessageKey *key, TimestampTz now,
									  InflightEntry **entry);
extern bool queue_inflight_claim_idle(const MessageKey *key,
									  InflightEntry **entry);
extern void queue_inflight_forget(const MessageKey *key,
								  TimestampTz enqueued_at);
extern void queue_inflight_unclaim(InflightEntry *entry);
extern void queue_inflight_hold_group(InflightEntry *entry, GroupEntry *group,
									  uint64 call);
extern void queue_inflight_unclaim_step(InflightEntry *entry);
extern void queue_inflight_end_delay(InflightEntry *entry);
extern void queue_inflight_exhaust(InflightEntry *entry, int counted);
extern void queue_inflight_leave_group(InflightEntry *entry);
extern void queue_inflight_dequeue(InflightEntry *entry,
								   const RetryPolicy *retry,
								   int counted, ItemPointer tid);
extern void queue_inflight_hold(InflightEntry *entry);
extern uint64 queue_inflight_new_number(void);
extern void queue_inflight_lease(InflightEntry *entry, uint64 number,
								 const RetryPolicy *retry,
								 int counted, ItemPointer tid,
								 TimestampTz deadline, int batch);
extern Client queue_inflight_receiver(const InflightEntry *entry);

/* So many were taken together */
extern void queue_inflight_set_batch(const MessageKey *key, uint64 number,
									 int batch);

/* The worker: no step on this message until then */
extern void queue_inflight_postpone(const MessageKey *key, TimestampTz until);

/* inflight_settle.c: settling a lease */
extern SettleResult queue_inflight_settle(const MessageKey *key, uint64 epoch,
										  uint64 number,
										  InflightEntry **entry);
extern SettleResult queue_inflight_settle_any(const MessageKey *key,
											  TimestampTz enqueued_at,
											  InflightEntry **entry);
extern void queue_inflight_nack(InflightEntry *entry, const RetryPolicy *retry,
								int counted, int64 delay,
								const FailureNote *failure, int together);
extern void queue_inflight_release(InflightEntry *entry, int64 delay);
extern void queue_inflight_extend(InflightEntry *entry, TimestampTz deadline);

/* The same, while this transaction goes on settling it */
extern void queue_inflight_extend_settling(InflightEntry *entry,
										   TimestampTz deadline);

/*
 * The batch of a partition that is about to be taken begins and ends with these
 * ids; that of one that is dequeued, or leased, ends with this one
 */
extern void queue_inflight_set_batch_ids(InflightEntry *entry, int64 first_id,
										 int64 last_id);
extern void queue_inflight_set_last(InflightEntry *entry, int64 last_id);

/*
 * Is what is remembered of a partition about messages up to this position, all
 * of which are consumed?  Then forget it, of a partition that is claimed; and
 * the lease of this number, if it is still that; false: somebody holds it
 */
extern bool queue_inflight_is_consumed(const InflightEntry *entry,
									   int64 position);
extern void queue_inflight_forget_consumed(InflightEntry *entry);
extern bool queue_inflight_forget_lease(const MessageKey *key, uint64 epoch,
										uint64 number);

/*
 * inflight_end.c: ends of transactions; callable from callbacks.  A failure
 * that is NULL does not count.
 */
extern bool queue_inflight_done(InflightEntry *entry);
extern void queue_inflight_go_on(InflightEntry *entry, int nconsumed);
extern void queue_inflight_fail_next(InflightEntry *entry,
									 const FailureNote *failure, int nfailed,
									 int64 last_id);
extern void queue_inflight_undo_dequeue(InflightEntry *entry,
										const FailureNote *failure);
extern void queue_inflight_undo_prepared(InflightEntry *entry,
										 const FailureNote *failure);
extern void queue_inflight_undo_settle(InflightEntry *entry);
extern bool queue_inflight_keep_lease(const MessageKey *key, uint64 number,
									  int batch);
extern bool queue_inflight_undo_lease(const MessageKey *key, uint64 number,
									  const FailureNote *failure);
extern void queue_inflight_counted(InflightEntry *entry, int counted,
								   bool is_exhausted, bool is_gone,
								   bool is_log_ended);
extern void queue_inflight_drop(Oid dbid, Oid relid);
extern void queue_inflight_set_prepared(InflightEntry *entry, int slot,
										int batch, bool goes_on, int nconsumed,
										InflightEntry **list);

extern bool queue_inflight_receive_prepared(const MessageKey *key,
											uint64 number, int batch,
											int slot);
extern void queue_inflight_receive_ended(int slot, bool committed,
										 const FailureNote *failure);

/* inflight_lapse.c: a lease that is past its deadline */
extern bool queue_inflight_expire(const MessageKey *key, TimestampTz now);

/* End what is due in a queue; for each process that looks at it */
extern void queue_inflight_end_due(QueueSlot *queue, Oid relid,
								   TimestampTz now);

/* inflight_log.c: what the log of leases says, and said before a start */
extern bool queue_inflight_restore(const LeaseRecord *record);
extern void queue_inflight_watch(const MessageKey *key);
extern void queue_inflight_count_held(QueueSlot *slot, Oid relid);
extern void queue_inflight_leave_slot(Oid relid);
extern void queue_inflight_log_written(const LeaseRecord *record);
extern void queue_inflight_log_ended(const MessageKey *key);

/* inflight_entry.c: what the row of a message does not tell */
extern int	queue_inflight_logged_failures(const InflightEntry *entry);
extern bool queue_inflight_has_news(const InflightEntry *entry);
extern void queue_inflight_read_news(const InflightEntry *entry,
									 FailureNews *news);

/* inflight_table.c: all entries, for the worker */
typedef bool (*InflightVisitor) (InflightEntry *entry, void *arg);
extern void queue_inflight_visit(InflightVisitor visitor, void *arg);
extern void queue_inflight_visit_changed(InflightVisitor visitor, void *arg);

/* One of them */
extern bool queue_inflight_is_durable(const MessageKey *key);
extern bool queue_inflight_is_step(const MessageKey *key,
								   TimestampTz enqueued_at, int *holder);

/* For views: keys of this database in a partition; a copy of an entry */
extern int	queue_inflight_keys(int partition, MessageKey *keys, int max);
extern bool queue_inflight_copy(const MessageKey *key, InflightEntry *copy);

/* Copy of the entry about this row; false if there is none */
extern bool queue_inflight_peek(const MessageKey *key,
								TimestampTz enqueued_at, InflightEntry *copy);

/* The fence of all leases that are given while shared memory lives */
extern uint64 queue_inflight_epoch(void);

#endif							/* QUEUE_INFLIGHT_H */

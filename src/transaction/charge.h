/*-------------------------------------------------------------------------
 *
 * charge.h
 *		What a transaction adds to queues, and takes from them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CHARGE_H
#define QUEUE_CHARGE_H

#include "shared/counters.h"
#include "shared/usage.h"
#include "table/rows.h"
#include "table/subscription.h"

/* What a subtransaction has done to one queue, or with one subscription */
typedef struct Charge
{
	Oid			relid;
	SubTransactionId subid;
	QueueSlot  *queue;			/* hint */
	bool		is_limited;		/* the queue has limits: ... */
	UsageChange change;			/* ... what counts for these */
	CounterChange counts;
} Charge;

/* The charge of a queue with limits; NULL: there is none */
extern Charge *queue_charge_find(QueueDef *def);

/* Count what no limit keeps out; take back what is not sent after all */
extern void queue_charge_exempt(QueueDef *def, const Amount *amount);
extern void queue_charge_undo(QueueDef *def, const Amount *amount);

/* Another version of a row has so many bytes instead */
extern void queue_charge_version(QueueDef *def, int64 old_bytes,
								 int64 new_bytes);

/* Messages are sent, that are due then (0: at once), and have failed so often */
extern void queue_charge_sent(QueueDef *def, int64 n, int64 bytes,
							  TimestampTz due, int failures);
extern void queue_charge_sent_draft(QueueDef *def, const MessageDraft *draft);

/* A row says something else of when it is due, and how often it has failed */
extern void queue_charge_due(QueueDef *def, const MessageRow *row,
							 TimestampTz due, int failures);

/* Delete a row, as queue_row_delete() does, and count it as gone */
extern bool queue_charge_delete(Relation rel, QueueDef *def, MessageRow *row,
								GoneKind kind);

/* A subscription has passed messages, which go for it alone */
extern void queue_charge_passed(SubscriptionDef *def, GoneKind kind, int64 n);

/* ----------------------------------------------------------------
 *		xact.c and prepared.c: ends of transactions
 * ----------------------------------------------------------------
 */

extern Size queue_charge_shmem_size(void);
extern void queue_charge_shmem_init(void);

extern bool queue_charge_has_any(void);
extern const Charge *queue_charges(int *n);

/* About to commit; and committed */
extern void queue_charge_begin_commit(void);
extern void queue_charge_commit(void);

/* Transactions of other processes that have begun that, and not ended it */
extern int	queue_charge_endings(TransactionId *xids);

/* A subtransaction is rolled back, or all (InvalidSubTransactionId) is */
extern void queue_charge_abort(SubTransactionId subid);
extern void queue_charge_pass_on(SubTransactionId subid,
								 SubTransactionId parent);

/* They are done, or were passed to the registry of prepared transactions */
extern void queue_charge_reset(void);

#endif							/* QUEUE_CHARGE_H */

/*-------------------------------------------------------------------------
 *
 * reason.h
 *		Why a transaction, which is about to roll back, failed what it took.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_REASON_H
#define QUEUE_REASON_H

#include "c.h"

/* Give a reason.  May throw. */
extern void queue_reason_give(const char *text);

/*
 * The reason for the rollback of a (sub)transaction, InvalidSubTransactionId:
 * of all of it; NULL: none was given
 */
extern const char *queue_reason_at_abort(SubTransactionId subid);

/* The subtransaction is released, or rolled back */
extern void queue_reason_pass_on(SubTransactionId subid,
								 SubTransactionId parent);
extern void queue_reason_abort_sub(SubTransactionId subid);

/* Something else has gone wrong since, or the transaction goes on */
extern void queue_reason_note_error(void);

/* The transaction is over */
extern void queue_reason_forget(void);

#endif							/* QUEUE_REASON_H */

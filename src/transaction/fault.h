/*-------------------------------------------------------------------------
 *
 * fault.h
 *		Is a rollback the fault of the messages that the transaction took?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAULT_H
#define QUEUE_FAULT_H

#include "utils/timestamp.h"

#include "shared/failure.h"

/* Register the hook; from _PG_init(), in every backend */
extern void queue_fault_init(void);

/*
 * Does a rollback of this (sub)transaction, InvalidSubTransactionId: of all,
 * count as a failure?  Then note it
 */
extern bool queue_fault_note(SubTransactionId subid, FailureNote *failure);

/* ... and would one of what is being prepared? */
extern bool queue_fault_note_prepared(FailureNote *failure);

/* When the statement began that the last error has ended, or 0 */
extern TimestampTz queue_fault_statement(void);

/* The transaction goes on after an error, or is over */
extern void queue_fault_forget(void);

/* A subtransaction is rolled back, after queue_fault_note() */
extern void queue_fault_abort_sub(void);

#endif							/* QUEUE_FAULT_H */

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

/* Register the hook; from _PG_init(), in every backend */
extern void queue_fault_init(void);

/* Does a rollback at this point count as a failure? */
extern bool queue_fault_counts(void);

/* When the statement began that the last error has ended, or 0 */
extern TimestampTz queue_fault_statement(void);

/* The transaction goes on after an error, or is over */
extern void queue_fault_forget(void);

#endif							/* QUEUE_FAULT_H */

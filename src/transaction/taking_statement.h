/*-------------------------------------------------------------------------
 *
 * taking_statement.h
 *		Statements of the client that take messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TAKING_STATEMENT_H
#define QUEUE_TAKING_STATEMENT_H

/* The number of the one that is being executed; 0: none is.  May throw */
extern uint64 queue_taking_statement_number(void);

/* Has this one failed, so that no consumer has seen its result? */
extern bool queue_taking_statement_has_failed(uint64 number);

#endif							/* QUEUE_TAKING_STATEMENT_H */

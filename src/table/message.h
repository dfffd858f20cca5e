/*-------------------------------------------------------------------------
 *
 * message.h
 *		Messages as values: what goes into a row, what a consumer gets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MESSAGE_H
#define QUEUE_MESSAGE_H

#include "table/storage.h"

/* The columns that messages are returned in */
#define Natts_result		9

/*
 * One row of a result, with its values fetched from TOAST, so that it stands
 * on its own when the message is gone.
 */
extern HeapTuple queue_message_result(TupleDesc desc, MessageRow *row,
									  int attempt, const char *receipt);

/*
 * Move a message to the dead letters of its queue: delete the row, insert a
 * new one there.  False, with nothing done, if the row is not ours to delete.
 * Throws if the dead-letter queue cannot take it.
 */
extern bool queue_message_bury(Relation rel, QueueDef *def, MessageRow *row,
							   const char *reason, int attempts,
							   const char *last_error);

/*
 * Why messages at the limit of attempts have nowhere to go, as a sentence;
 * NULL if they have, or a lock is in the way of finding out.
 */
extern char *queue_dead_letter_problem(const QueueDef *def, Oid owner);

#endif							/* QUEUE_MESSAGE_H */

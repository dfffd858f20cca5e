/*-------------------------------------------------------------------------
 *
 * move.h
 *		Messages that go from one queue to another.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MOVE_H
#define QUEUE_MOVE_H

#include "table/rows.h"

/*
 * Move a message to the dead letters of its queue: delete the row, insert a
 * new one there.  False, with nothing done, if the row is not ours to delete.
 * Throws if the dead-letter queue cannot take it.
 */
extern bool queue_message_dead_letter(Relation rel, QueueDef *def,
									  MessageRow *row, const char *reason,
									  int attempts, const char *last_error);

/*
 * Why messages at the limit of attempts have nowhere to go, as a sentence;
 * NULL if they have, or a lock is in the way of finding out.
 */
extern char *queue_dead_letter_problem(const QueueDef *def, Oid owner);

#endif							/* QUEUE_MOVE_H */

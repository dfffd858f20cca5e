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

/* Move a message to the dead letters; false: the row cannot be deleted */
extern bool queue_message_dead_letter(Relation rel, QueueDef *def,
									  MessageRow *row, const char *reason,
									  int attempts, const FailureNews *news);

/* Why exhausted messages of a queue have nowhere to go, or NULL */
extern char *queue_dead_letter_problem(const QueueDef *def, Oid owner);

#endif							/* QUEUE_MOVE_H */

/*-------------------------------------------------------------------------
 *
 * move.h
 *		Messages that go from one queue to another.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MOVE_H
#define QUEUE_MOVE_H

#include "table/draft.h"
#include "table/rows.h"

/* What the header of a dead letter says */
typedef struct DeadLetter
{
	Oid			source;
	int64		source_id;
	const char *reason;
	int			attempts;
	NullableDatum log;			/* of its failures */
	TimestampTz expires_at;		/* 0: never */
	TimestampTz deliver_at;		/* 0: at once */
} DeadLetter;

/* Move a message to the dead letters; false: the row cannot be deleted */
extern bool queue_message_dead_letter(Relation rel, QueueDef *def,
									  MessageRow *row, const char *reason,
									  int attempts, const FailureNews *news,
									  bool is_expired);

/* Send one with the rights of this role, whose headers are to say this, too */
extern void queue_dead_letter_send(Oid target, Oid owner, MessageDraft *draft,
								   const DeadLetter *letter);

/* Why exhausted messages of a queue have nowhere to go, or NULL */
extern char *queue_dead_letter_problem(const QueueDef *def, Oid owner);
extern char *queue_dead_letter_problem_of(Oid target, int max_attempts,
										  Oid owner);

#endif							/* QUEUE_MOVE_H */

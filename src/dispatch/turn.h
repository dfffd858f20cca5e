/*-------------------------------------------------------------------------
 *
 * turn.h
 *		Whose turn is it?  A look at the messages of a group.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TURN_H
#define QUEUE_TURN_H

#include "dispatch/look.h"

/* Does the message wait for others of its group? */
extern bool queue_turn_is_grouped(const CandidateScan *look,
								  const MessageRow *row);

/* Before the first window of a look */
extern void queue_turn_prepare(CandidateScan *look);

/*
 * Groups are taken out one after the other, the first ready one that comes
 * before the next window, or that of a row in a window; rows are fetched in
 * order until there are no more, or the caller has enough
 */
extern bool queue_turn_begin(CandidateScan *look);
extern GroupTurn queue_turn_enter(CandidateScan *look, MessageRow *row);
extern MessageRow *queue_turn_row(CandidateScan *look);
extern bool queue_turn_has_earlier(CandidateScan *look, MessageRow *row);

/* ... and that has gone since */
extern void queue_turn_note_gone(CandidateScan *look, const MessageRow *row);
extern bool queue_turn_is_held_by_old(CandidateScan *look,
									  const MessageRow *row);
extern bool queue_turn_is_taken(const CandidateScan *look,
								const MessageRow *row);
extern bool queue_turn_keeps_none(const CandidateScan *look,
								  MessageRow *row);
extern bool queue_turn_is_late(const CandidateScan *look,
							   const MessageRow *row);

/* When to try again, if the end of what is in the way may not be told */
#define TURN_BUSY	(-1)

extern void queue_turn_leave(CandidateScan *look, const MessageRow *row);
extern void queue_turn_end(CandidateScan *look, TimestampTz until);
extern void queue_turn_end_unseen(CandidateScan *look);
extern void queue_turn_forget(CandidateScan *look);

/*
 * turn_name.c: a process that takes nothing has met a row; false: no room to
 * note it
 */
extern bool queue_turn_note(CandidateScan *look, MessageRow *row);

/* Is it known that this message waits for its turn? */
extern bool queue_turn_is_known(const QueueDef *def, const MessageRow *row);

/* By what memory knows the group of a row, and the key of one that is out */
extern void queue_turn_name(const QueueDef *def, const MessageRow *row,
							GroupName *name);
extern bool queue_turn_find_key(CandidateScan *look, Datum *key);
extern Datum queue_turn_copy_key(Datum key);

/* Cover what waits of the group that is out: it is of no use as a group */
extern void queue_turn_dissolve(CandidateScan *look);

/* A message is deleted or due at another time; has expired */
extern void queue_turn_note_end(const QueueDef *def, MessageRow *row);
extern void queue_turn_try(const QueueDef *def, const MessageRow *row);

/* What others have noted of groups that this transaction owns is looked at */
extern void queue_turn_look_at_own(void);

#endif							/* QUEUE_TURN_H */

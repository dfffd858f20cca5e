/*-------------------------------------------------------------------------
 *
 * sequence.h
 *		Sequences that ids come from, without regard to privileges on them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SEQUENCE_H
#define QUEUE_SEQUENCE_H

/* nextval(); if ids have come to their end, says so of a "queue" or "topic" */
extern int64 queue_sequence_next(Oid sequence, const char *what);

/* The last id that was drawn; if none was, *is_called is false */
extern int64 queue_sequence_last(Oid sequence, bool *is_called);

/* setval() */
extern void queue_sequence_move(Oid sequence, int64 id);

/* Let it go on beyond an id of its table, which is no queue yet */
extern void queue_sequence_pass(Oid sequence, int64 id);

#endif							/* QUEUE_SEQUENCE_H */

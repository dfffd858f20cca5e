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

/*
 * For a caller that moves it beyond an id that was given by hand: exclude
 * others that do, for a moment.  Those that only draw ids do not take this
 * lock, so a sequence that is near is moved step by step, which cannot go
 * backwards
 */
#define SEQUENCE_NEAR		1000

extern void queue_sequence_lock(Oid sequence);
extern void queue_sequence_unlock(Oid sequence);

/* Let it go on beyond an id of its table, which is no queue yet */
extern void queue_sequence_pass(Oid sequence, int64 id);

#endif							/* QUEUE_SEQUENCE_H */

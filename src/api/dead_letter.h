/*-------------------------------------------------------------------------
 *
 * dead_letter.h
 *		Which queue may get the dead letters of another.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DEAD_LETTER_H
#define QUEUE_DEAD_LETTER_H

/*
 * May the caller make this the dead-letter queue of "source"?  InvalidOid: of a
 * queue that is yet to be made, or of a subscription
 */
extern void queue_check_dead_letter(Oid dead_letter, Oid source);

#endif							/* QUEUE_DEAD_LETTER_H */

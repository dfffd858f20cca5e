/*-------------------------------------------------------------------------
 *
 * in_doubt_note.h
 *		What prepared transactions have done to queues, on disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_IN_DOUBT_NOTE_H
#define QUEUE_IN_DOUBT_NOTE_H

#include "transaction/prepared.h"

/* Before PREPARE: write down what this transaction has done */
extern void queue_in_doubt_note_write(void);

/*
 * What those of before the server's start have done, as the visitor of the
 * registry is told; the registry does not know them
 */
extern void queue_in_doubt_note_visit(PreparedVisitor visitor, void *arg);

#endif							/* QUEUE_IN_DOUBT_NOTE_H */

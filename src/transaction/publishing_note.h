/*-------------------------------------------------------------------------
 *
 * publishing_note.h
 *		What prepared transactions have published, on disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PUBLISHING_NOTE_H
#define QUEUE_PUBLISHING_NOTE_H

#include "shared/topic_slot.h"

/* Before PREPARE: write down what this transaction has registered */
extern void queue_publishing_note_write(const Publishing *publishings, int n);

/* What prepared transactions have registered in a topic; palloc'd */
extern RecoveredPublisher *queue_publishing_note_read(Oid relid, int *n);

#endif							/* QUEUE_PUBLISHING_NOTE_H */

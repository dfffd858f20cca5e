/*-------------------------------------------------------------------------
 *
 * note_row.h
 *		What prepared transactions have written down: table
 *		queue.prepared_note.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_NOTE_ROW_H
#define QUEUE_NOTE_ROW_H

#include "datatype/timestamp.h"
#include "utils/relcache.h"

/* Columns of queue.prepared_note */
#define Natts_note				6
#define Anum_note_relation		1
#define Anum_note_partition		2
#define Anum_note_first_id		3
#define Anum_note_last_id		4
#define Anum_note_messages		5
#define Anum_note_since			6

/* One row; of a queue "partition" says what was done to its messages */
typedef struct NoteRow
{
	TransactionId xid;			/* who wrote it */
	Oid			relid;
	int			partition;		/* or ANY_PARTITION */
	int64		first;
	int64		last;
	int64		messages;
	TimestampTz since;
} NoteRow;

/* The table, to write to; NULL: it is not there */
extern Relation queue_note_rows_open(void);

/* Write one of this transaction, which is about to be prepared */
extern void queue_note_row_write(Relation rel, const NoteRow *note);

/* Visit those whose transaction is in progress */
typedef void (*NoteRowVisitor) (const NoteRow *note, void *arg);
extern void queue_note_rows_visit(NoteRowVisitor visitor, void *arg);

#endif							/* QUEUE_NOTE_ROW_H */

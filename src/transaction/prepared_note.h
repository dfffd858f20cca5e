/*-------------------------------------------------------------------------
 *
 * prepared_note.h
 *		What prepared transactions announce at their end.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PREPARED_NOTE_H
#define QUEUE_PREPARED_NOTE_H

#include "shared/counters.h"
#include "shared/usage.h"
#include "transaction/announce.h"

/* Notes in the pool, for each slot of the registry */
#define PREPARED_NOTES		16

#define NO_NOTE				(-1)

/* What a prepared transaction announces of one queue */
typedef struct PreparedNote
{
	int			next;			/* of this slot, or of the free ones */
	Oid			relid;
	bool		is_all;
	bool		is_charged;		/* change is set */
	bool		is_counted;		/* counts is set */
	int			nmessages;
	LaterNote	later;
	UsageChange change;			/* of a queue with limits */
	CounterChange counts;
	RangeSet	ids;
	QueueRange	ranges[RANGE_PLACES(NOTE_ROOM)];
} PreparedNote;

/* The notes of one */
typedef struct PreparedNotes
{
	int			slot;			/* of the registry of prepared.c */
	bool		is_all;			/* it may have sent to any queue */
	bool		has_slots;		/* ... or to those whose bits are set */
	int			first;			/* or NO_NOTE */
} PreparedNotes;

extern Size queue_prepared_note_shmem_size(int nslots);
extern void queue_prepared_note_shmem_init(int nslots);

/* None yet; those of this transaction; it has ended, and they are free again */
extern void queue_prepared_notes_init(PreparedNotes *notes, int slot);
extern void queue_prepared_notes_make(PreparedNotes *notes);
extern void queue_prepared_notes_announce(PreparedNotes *notes, Oid dbid,
										  bool committed);

/* One of them, by its number */
extern const PreparedNote *queue_prepared_note(int number);

#endif							/* QUEUE_PREPARED_NOTE_H */

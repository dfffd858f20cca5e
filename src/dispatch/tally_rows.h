/*-------------------------------------------------------------------------
 *
 * tally_rows.h
 *		How many messages a queue has, by its rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TALLY_ROWS_H
#define QUEUE_TALLY_ROWS_H

#include "shared/counters.h"
#include "table/definition.h"

/* May a queue that nobody has used have a place? */
extern bool queue_tally_has_places(void);

/* Make one, if so, and if it is not locked; true: that took its time */
extern bool queue_tally_make_place(Oid relid, SlotKind kind);

/*
 * Count all rows of a queue, which is open; false: somebody waits for its lock.
 * Take off what has fallen due
 */
extern bool queue_tally_count(Relation rel, QueueDef *def, QueueSlot *slot,
							  int max_tries);
extern void queue_tally_due_rows(Relation rel, QueueDef *def, QueueSlot *slot,
								 TimestampTz now);

/* Look for the oldest message that is ready */
extern void queue_tally_oldest(Relation rel, QueueDef *def, QueueSlot *slot,
							   TimestampTz now);

#endif							/* QUEUE_TALLY_ROWS_H */

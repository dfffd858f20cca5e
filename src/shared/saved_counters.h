/*-------------------------------------------------------------------------
 *
 * saved_counters.h
 *		The counters of queues over a clean stop of the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SAVED_COUNTERS_H
#define QUEUE_SAVED_COUNTERS_H

#include "shared/counters.h"

extern Size queue_saved_shmem_size(void);
extern void queue_saved_shmem_init(void);

/* Is the server shut down, and has not crashed? */
extern bool queue_saved_is_shut_down(void);

/* Take what is kept of a queue, unless somebody has; NULL: there is nothing */
extern const SavedCounters *queue_saved_take(Oid dbid, Oid relid);

/* All of them; has this one been taken? */
extern const SavedCounters *queue_saved_all(int *n);
extern bool queue_saved_is_taken(int i);

/* Write some; NULL begins.  After the last, the file is put in its place */
extern FILE *queue_saved_begin_file(void);
extern bool queue_saved_write(FILE *file, const SavedCounters *saved);
extern void queue_saved_end_file(FILE *file, bool is_good);

#endif							/* QUEUE_SAVED_COUNTERS_H */

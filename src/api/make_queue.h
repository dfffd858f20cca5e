/*-------------------------------------------------------------------------
 *
 * make_queue.h
 *		Tables that become queues, and the dead-letter queues that come along.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MAKE_QUEUE_H
#define QUEUE_MAKE_QUEUE_H

/* Give a table its row in queue.queue, which makes it a queue; may throw */
extern void queue_make_settings(Oid relid, Datum *values, bool *nulls);

/*
 * The dead-letter queue that comes with a table of that name, whose row of
 * queue.queue this is, or would be
 */
extern Oid	queue_make_dead_letter(Oid schema, const char *source,
								   const Datum *source_values,
								   const bool *source_nulls);

#endif							/* QUEUE_MAKE_QUEUE_H */

/*-------------------------------------------------------------------------
 *
 * counter_writer.h
 *		Keeping the counters of queues when the server stops.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COUNTER_WRITER_H
#define QUEUE_COUNTER_WRITER_H

/* The postmaster is to write them when it ends; NULL size, no lock */
extern Size queue_counter_writer_shmem_size(void);
extern void queue_counter_writer_shmem_init(void);

#endif							/* QUEUE_COUNTER_WRITER_H */

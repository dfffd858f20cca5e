/*-------------------------------------------------------------------------
 *
 * guc.h
 *		The settings of the server, queue.*.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_GUC_H
#define QUEUE_GUC_H

extern bool queue_count_failures;
extern int	queue_max_in_flight;
extern int	queue_max_databases;
extern int	queue_max_queues;
extern int	queue_max_topics;
extern int	queue_max_wait;		/* ms */
extern int	queue_lease_write_delay;	/* ms */
extern int	queue_in_doubt_warning; /* s, -1: off */
extern int	queue_vacuum_threshold; /* dead rows; -1: off */
extern double queue_vacuum_scale_factor;
extern double queue_vacuum_cost_delay;	/* ms */
extern int	queue_resolve_interval; /* ms */

/* Define them; from _PG_init(), while preloading */
extern void queue_guc_init(void);

#endif							/* QUEUE_GUC_H */

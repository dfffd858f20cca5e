/*-------------------------------------------------------------------------
 *
 * tally.h
 *		Keeping the counters of queues right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TALLY_H
#define QUEUE_TALLY_H

#include "utils/timestamp.h"

/* A duty of the worker */
extern TimestampTz queue_tally(void);
extern TimestampTz queue_tally_due(void);
extern bool queue_tally_is_urgent(void);
extern void queue_tally_failed(void);

/* The process that counts tables that are large */
PGDLLEXPORT extern void queue_tally_main(Datum arg);

#endif							/* QUEUE_TALLY_H */

/*-------------------------------------------------------------------------
 *
 * count.h
 *		Counting failures in the rows, and moving what is at its limit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COUNT_H
#define QUEUE_COUNT_H

#include "worker/round.h"

/* An entry held by none, seen while its partition is locked */
extern void queue_count_note(Round *round, InflightEntry *entry);

/* Do what has been noted */
extern void queue_count_noted(Round *round);

#endif							/* QUEUE_COUNT_H */

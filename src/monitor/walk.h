/*-------------------------------------------------------------------------
 *
 * walk.h
 *		Going over what a user may see of the in-flight table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WALK_H
#define QUEUE_WALK_H

#include "shared/inflight.h"

/* Gets a copy, with nothing locked */
typedef void (*EntryShow) (const InflightEntry *entry, void *arg);

/* Those of this database whose queues the current user may watch */
extern void queue_walk_entries(EntryShow show, void *arg);

#endif							/* QUEUE_WALK_H */

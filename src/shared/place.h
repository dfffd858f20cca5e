/*-------------------------------------------------------------------------
 *
 * place.h
 *		Where subscriptions stand in their topics, as memory knows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PLACE_H
#define QUEUE_PLACE_H

#include "storage/itemptr.h"

/* Of one partition; a hint */
typedef struct Place
{
	ItemPointerData tid;		/* a version of its row, committed */
	int64		position;		/* that it says; -1: not known */
	uint32		filter;			/* a filter of this hash wants nothing ... */
	int64		after;			/* ... after this id ... */
	int64		passed;			/* ... up to this one, included */
	int64		nrows;			/* so many messages were passed over; 0: there
								 * was nothing */
} Place;

extern Size queue_place_shmem_size(void);
extern void queue_place_shmem_init(void);

/* What is known of a partition; false: nothing */
extern bool queue_place_get(Oid relid, int partition, Place *place);

/* Its row, as last committed, is here and says this */
extern void queue_place_set(Oid relid, int partition, const ItemPointerData * tid,
							int64 position);

/* The transaction that moved it has committed; for callbacks */
extern void queue_place_moved(Oid dbid, Oid relid, int partition,
							  int64 position);

/*
 * A filter wants nothing after the one id, up to the other; so many messages
 * that it does not want are there
 */
extern void queue_place_pass(Oid relid, int partition, uint32 filter,
							 int64 after, int64 passed, int64 nrows);

/* From which id on is there something to look at, after the position? */
static inline int64
queue_place_look_after(const Place *place, uint32 filter, int64 position)
{
	return place->filter == filter && place->after <= position &&
		place->passed > position ? place->passed : position;
}

#endif							/* QUEUE_PLACE_H */

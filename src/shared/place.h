/*-------------------------------------------------------------------------
 *
 * place.h
 *		Where subscriptions stand in their topics, as memory knows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PLACE_H
#define QUEUE_PLACE_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

/* Of one partition; a hint */
typedef struct Place
{
	ItemPointerData tid;		/* a version of its row, committed */
	int64		position;		/* that it says; -1: not known */
	int			failures;		/* ... of what is next */
	uint32		filter;			/* a filter of this hash wants nothing ... */
	int64		after;			/* ... after this id ... */
	int64		passed;			/* ... up to this one, included; */
	int64		unwanted;		/* the last message there is among these, or 0 */
} Place;

/* How soon the worker is to write down what filters have passed over */
#define PLACE_WRITE_DELAY	USECS_PER_SEC

extern Size queue_place_shmem_size(void);
extern void queue_place_shmem_init(void);

/* What is known of a partition; false: nothing */
extern bool queue_place_get(Oid relid, int partition, Place *place);

/* The same, and a number that tells queue_place_set() of moves since then */
extern bool queue_place_get_to_read(Oid relid, int partition, Place *place,
									uint32 *nmoves);

/* Its row, read after that, as committed, is here and says this */
extern void queue_place_set(Oid relid, int partition, const ItemPointerData * tid,
							int64 position, int failures, uint32 nmoves);

/*
 * The transaction that moved it (-1: to where is not known), or counted more
 * failures, has committed; for callbacks
 */
extern void queue_place_moved(Oid dbid, Oid relid, int partition,
							  int64 position);
extern void queue_place_failed(Oid dbid, Oid relid, int partition,
							   int failures);

/*
 * A filter wants nothing after the one id, up to the other; the last message
 * that it passed over there, or 0
 */
extern void queue_place_pass(Oid relid, int partition, uint32 filter,
							 int64 after, int64 passed, int64 unwanted);

/* How often a position came to be just before what was passed over */
extern uint64 queue_place_npassed(void);

/*
 * The next partition of this database, from *i on, behind whose position there
 * are messages that were passed over; false: there is none
 */
extern bool queue_place_next_passed(int *i, Oid *relid, int *partition);

/* The subscription is dropped, or all of a database; for callbacks */
extern void queue_place_drop(Oid dbid, Oid relid);
extern void queue_place_drop_database(Oid dbid);

/* From which id on is there something to look at, after the position? */
static inline int64
queue_place_look_after(const Place *place, uint32 filter, int64 position)
{
	return place->filter == filter && place->after <= position &&
		place->passed > position ? place->passed : position;
}

#endif							/* QUEUE_PLACE_H */

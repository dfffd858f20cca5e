/*-------------------------------------------------------------------------
 *
 * oldest.h
 *		The oldest messages of a topic: deleted, some at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_OLDEST_H
#define QUEUE_OLDEST_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

#include "table/live_size.h"
#include "table/topic.h"

/* One step, in a transaction of the worker */
typedef struct OldestStep
{
	/* what is to go, and where to go on: in each partition after an id */
	TimestampTz cutoff;			/* published by then; DT_NOBEGIN: none */
	LiveSize	size;			/* of the topic, if bytes are to go */
	int64		excess;			/* ... how many; less, afterwards */
	int64	   *after;
	ItemPointerData *tids;		/* for removed_id.c */

	/* what has become of it */
	int			ndeleted;
	bool		is_full;		/* more is to be done at once */
	bool		is_held;		/* something is to go, and must not yet */
	bool		has_left;		/* somebody has locked a row */
	TimestampTz first_kept;		/* when the oldest was published that need not
								 * go; TIMESTAMP_INFINITY: there is none */
} OldestStep;

/* Delete the oldest messages; the caller has locked the table */
extern void queue_oldest_delete(Relation rel, TopicDef *topic,
								OldestStep *step);

#endif							/* QUEUE_OLDEST_H */

/*-------------------------------------------------------------------------
 *
 * start.h
 *		Where in a topic a subscription starts to read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_START_H
#define QUEUE_START_H

#include "fmgr.h"

#include "datatype/timestamp.h"
#include "table/topic.h"

typedef enum StartKind
{
	START_BEGIN,				/* all that is there */
	START_END,					/* what becomes readable from now on */
	START_ID,					/* from this id on, where it is or would be */
	START_TIME					/* from what was published then on */
} StartKind;

typedef struct Start
{
	StartKind	kind;
	int64		id;
	TimestampTz time;
} Start;

/*
 * Read the arguments (start text, start_id bigint, start_at timestamptz), of
 * which this is the first; 22023 if more than one of them says something
 */
extern Start queue_start_argument(FunctionCallInfo fcinfo, int argno);

/* The same where "start" may be null; 22023 unless just one says something */
extern Start queue_start_argument_given(FunctionCallInfo fcinfo, int argno);

/*
 * Find the last id that is passed by, in each partition; may throw.  What
 * retention has deleted is passed by.  START_TIME reads the whole table
 */
extern void queue_start_find(const Start *start, Relation rel,
							 TopicDef *topic, int64 *positions);

#endif							/* QUEUE_START_H */

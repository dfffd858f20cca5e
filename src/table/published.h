/*-------------------------------------------------------------------------
 *
 * published.h
 *		Messages of a topic, as readers want them and get them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PUBLISHED_H
#define QUEUE_PUBLISHED_H

#include "nodes/execnodes.h"

#include "common/compat.h"
#include "table/pattern.h"
#include "table/selector.h"
#include "table/topic_column.h"

/* Which messages a reader wants */
typedef struct TopicFilter
{
	QueuePattern *pattern;		/* NULL: all match */
	QueueSelector *selector;	/* NULL: all match */
	int			attempt;		/* that the selector sees; 0: the first */
	MemoryContext context;		/* reset for each message */
} TopicFilter;

/* Does the reader want this message? */
extern bool queue_published_is_wanted(TopicFilter *filter,
									  TupleTableSlot *slot, int64 id);

/* Add it to a result, with what is in TOAST fetched from there */
extern void queue_published_show(ReturnSetInfo *rsinfo, TupleTableSlot *slot,
								 int attempt, const char *receipt);

/* What a row that a scan has returned begins with */
extern const PublishedStart *queue_published_start(TupleTableSlot *slot);

/* Is some of it in TOAST? */
extern bool queue_published_is_toasted(TupleTableSlot *slot);

/* One column of a row */
extern NullableDatum queue_published_column(TupleTableSlot *slot, int att);

#endif							/* QUEUE_PUBLISHED_H */

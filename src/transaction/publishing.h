/*-------------------------------------------------------------------------
 *
 * publishing.h
 *		What a transaction has published, and how far topics can be read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PUBLISHING_H
#define QUEUE_PUBLISHING_H

#include "shared/topic_slot.h"
#include "table/topic.h"

/* How soon after a publisher has ended the worker writes the stable id down */
#define STABLE_ID_DELAY			(200 * 1000)	/* usec */

/*
 * Register, then draw n ids, rising, one for each of these partitions, before
 * the rows are written.  ANY_PARTITION: what the first such id says, and is set
 * to that.  May throw
 */
extern void queue_publishing_draw(TopicDef *topic, int n, int *partitions,
								  int64 *ids);

/*
 * The same for a row that comes with its id.  55000 if readers have passed it,
 * unless it is not to be refused
 */
extern void queue_publishing_given(TopicDef *topic, int partition, int64 id,
								   bool may_refuse);

/*
 * How far a partition, or all (ANY_PARTITION), can be read; may throw.  If there
 * is no room for the topic in memory, false if "missing_ok", else 53400
 */
extern bool queue_publishing_limit(TopicDef *topic, int partition,
								   TopicLimit *limit, bool missing_ok);

/* The same for each of them, at one time */
extern void queue_publishing_limits(TopicDef *topic, TopicLimit *limits);

/* Prepared ones that have ended; how many of this database are left */
extern int	queue_publishing_resolve(void);

/* ----------------------------------------------------------------
 *		xact.c: ends of transactions
 * ----------------------------------------------------------------
 */

extern bool queue_publishing_has_any(void);

/* Before PREPARE; may throw */
extern void queue_publishing_before_prepare(void);

/* It is prepared; it has ended, and left the process array */
extern void queue_publishing_pass(void);
extern void queue_publishing_end(void);

#endif							/* QUEUE_PUBLISHING_H */

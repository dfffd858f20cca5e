/*-------------------------------------------------------------------------
 *
 * news.h
 *		What has been added to the cover of a queue lately.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_NEWS_H
#define QUEUE_NEWS_H

#include "common/ranges.h"

typedef struct NewsLog NewsLog;

extern Size queue_news_shmem_size(void);
extern void queue_news_shmem_init(void);

/* How many slots can have one */
extern int	queue_news_num_logs(void);

/* A log for a slot that has none, or NULL; a slot begins with another queue */
extern NewsLog *queue_news_make(void);
extern void queue_news_restart(NewsLog *log);

/* Ids were added */
extern void queue_news_add(NewsLog *log, int rank, int64 low, int64 high);
extern void queue_news_add_set(NewsLog *log, const RangeSet *set);

/* The number of the last addition */
extern uint64 queue_news_number(const NewsLog *log);

/* Add to a set what was added after that one; false: the log does not know */
extern bool queue_news_read(const NewsLog *log, uint64 number, RangeSet *set);

#endif							/* QUEUE_NEWS_H */

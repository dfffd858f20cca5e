/*-------------------------------------------------------------------------
 *
 * removed_id.h
 *		How far retention has deleted from topics: table queue.topic_removed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_REMOVED_ID_H
#define QUEUE_REMOVED_ID_H

#include "storage/itemptr.h"
#include "utils/snapshot.h"

/* Columns of queue.topic_removed */
#define Natts_removed			3
#define Anum_removed_topic		1
#define Anum_removed_partition	2
#define Anum_removed_id			3

/* How far, by what this snapshot sees; 0: nothing was deleted */
extern int64 queue_removed_id_read(Oid relid, int partition,
								   Snapshot snapshot);

/* The highest of all partitions, by what has been committed now */
extern int64 queue_removed_id_highest(Oid relid, int npartitions);

/*
 * The worker has deleted up to these ids, one a partition; 0: nothing.  *tids
 * are where the rows were when last written, or invalid
 */
extern void queue_removed_ids_write(Oid relid, int npartitions,
									const int64 *ids, ItemPointerData * tids);

/* The topic is dropped */
extern void queue_removed_ids_forget(Oid relid);

#endif							/* QUEUE_REMOVED_ID_H */

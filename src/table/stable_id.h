/*-------------------------------------------------------------------------
 *
 * stable_id.h
 *		Stable ids of topics, written down: table queue.topic_stable.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_STABLE_ID_H
#define QUEUE_STABLE_ID_H

#include "utils/snapshot.h"

/* Columns of queue.topic_stable */
#define Natts_stable			2
#define Anum_stable_topic		1
#define Anum_stable_id			2

/* The stable id that this snapshot sees; 1 if it sees none */
extern int64 queue_stable_id_read(Oid relid, Snapshot snapshot);

/* The worker writes it down; the topic is dropped */
extern void queue_stable_id_write(Oid relid, int64 stable_id);
extern void queue_stable_id_forget(Oid relid);

#endif							/* QUEUE_STABLE_ID_H */

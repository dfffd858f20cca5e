/*-------------------------------------------------------------------------
 *
 * worker.h
 *		Processes: the leader, and one worker per database.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WORKER_H
#define QUEUE_WORKER_H

#include "nodes/parsenodes.h"
#include "utils/timestamp.h"

/* leader.c: register the leader; from _PG_init while preloading */
extern void queue_leader_register(void);

/* Keep a database's worker away while DDL needs the database alone */
extern Oid	queue_worker_exclude(Node *stmt);
extern void queue_worker_readmit(Oid dbid);

PGDLLEXPORT extern void queue_leader_main(Datum arg);
PGDLLEXPORT extern void queue_worker_main(Datum arg);

#endif							/* QUEUE_WORKER_H */

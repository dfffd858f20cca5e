/*-------------------------------------------------------------------------
 *
 * attach.h
 *		Which processes a database has, and how they are kept away.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ATTACH_H
#define QUEUE_ATTACH_H

#include "shared/database.h"

/* The worker's side */
extern DatabaseSlot *queue_database_attach(Oid dbid);
extern void queue_database_begin_round(DatabaseSlot *slot);
extern void queue_database_set_extension(DatabaseSlot *slot, bool exists);
extern TimestampTz queue_database_publish_due(DatabaseSlot *slot,
											  TimestampTz due); /* by clock.h */

/* The helpers' side; waking one is up to the worker */
extern bool queue_database_attach_helper(Oid dbid, DatabaseHelper helper);
extern bool queue_database_wake_helper(DatabaseHelper helper);

/* A branch was prepared or finished: call the resolver; is it called? */
extern void queue_database_want_resolver(Oid dbid);
extern bool queue_database_is_resolver_wanted(bool take);

/* The same for the worker's walk over queues without a slot (expire.c) */
extern void queue_database_want_walk(Oid dbid);
extern bool queue_database_is_walk_wanted(bool take);

extern bool queue_database_is_excluded(DatabaseSlot *slot);

/* Signal a worker to leave, if it is still this one */
extern void queue_database_dismiss(DatabaseSlot *slot, pid_t worker_pid);

/* Keep the worker and the helpers away; false: there is no slot */
extern bool queue_database_exclude_workers(Oid dbid);
extern void queue_database_readmit_workers(void);

#endif							/* QUEUE_ATTACH_H */

/*-------------------------------------------------------------------------
 *
 * helper.h
 *		Processes that a database's worker starts for what takes long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_HELPER_H
#define QUEUE_HELPER_H

#include "shared/database.h"

/*
 * The worker's side: wake this helper, or start it.  False if it is just
 * starting or ending, or there is no process to be had (which is logged once).
 * In a transaction.
 */
extern bool queue_helper_call(DatabaseHelper helper);

/*
 * The helper's side.  Begin connects to the database, or ends the process if
 * it is not wanted.  Afterwards SIGTERM sets ShutdownRequestPending and cancels
 * what is under way.
 */
extern void queue_helper_begin(DatabaseHelper helper, Oid dbid);

#endif							/* QUEUE_HELPER_H */

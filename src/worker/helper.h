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

/* The worker's side: wake this helper, or start it.  In a transaction */
extern bool queue_helper_call(DatabaseHelper helper);

/* The helper's side: connect, or exit if it is not wanted */
extern void queue_helper_begin(DatabaseHelper helper, Oid dbid);

#endif							/* QUEUE_HELPER_H */

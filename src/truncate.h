/*-------------------------------------------------------------------------
 *
 * truncate.h
 *		Returns the empty end of a table to the system, under traffic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TRUNCATE_H
#define QUEUE_TRUNCATE_H

/*
 * Called by the vacuum worker, outside of a transaction.  True if it was worth
 * trying: then this should not be called again for a while.  A small end is
 * worth it only when it is "final", with no traffic to make use of it.  Throws
 * ERRCODE_LOCK_NOT_AVAILABLE if somebody was in the way.
 */
extern bool queue_truncate(Oid relid, bool final);

#endif							/* QUEUE_TRUNCATE_H */

/*-------------------------------------------------------------------------
 *
 * truncate.h
 *		Returns the empty end of a table to the system, under traffic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TRUNCATE_H
#define QUEUE_TRUNCATE_H

/* in the order in which they count, if there are several tables */
typedef enum TruncateResult
{
	TRUNCATE_NEEDLESS,			/* the end is not empty, or too short */
	TRUNCATE_DONE,
	TRUNCATE_UNFINISHED			/* somebody is in the way, or it was enough
								 * for once */
} TruncateResult;

/*
 * Called by the vacuum worker, outside of a transaction.  Unless it was
 * needless, this should not be called again for a while.  When it is "final",
 * with no traffic to make use of it, a small end is worth it, too.  Throws
 * ERRCODE_LOCK_NOT_AVAILABLE if somebody was in the way.
 */
extern TruncateResult queue_truncate(Oid relid, bool final);

#endif							/* QUEUE_TRUNCATE_H */

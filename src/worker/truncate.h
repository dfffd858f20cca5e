/*-------------------------------------------------------------------------
 *
 * truncate.h
 *		Returns the empty end of a table to the system, under traffic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TRUNCATE_H
#define QUEUE_TRUNCATE_H

/* In the order in which they count, if there are several tables */
typedef enum TruncateResult
{
	TRUNCATE_NEEDLESS,			/* the end is not empty, or too short */
	TRUNCATE_DONE,
	TRUNCATE_UNFINISHED			/* the table is in use, or enough was done for
								 * once */
} TruncateResult;

/* For the vacuum worker; not again for a while unless it was needless */
extern TruncateResult queue_truncate(Oid relid, bool final);

#endif							/* QUEUE_TRUNCATE_H */

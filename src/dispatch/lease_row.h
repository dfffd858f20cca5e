/*-------------------------------------------------------------------------
 *
 * lease_row.h
 *		Rows of the log of leases.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LEASE_ROW_H
#define QUEUE_LEASE_ROW_H

#include "shared/inflight.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

typedef struct LogRow
{
	int64		seq;
	bool		is_end;			/* there is nothing to say any more; or, if
								 * lease.number is not 0, not of that lease,
								 * whatever its seq */
	LeaseRecord lease;			/* only the key and that lease, if is_end */
} LogRow;

/* The table; InvalidOid: there is none */
extern Oid	queue_lease_rows_relid(void);

/* It is opened; NULL: there is none, because the extension is being dropped */
extern Relation queue_lease_rows_open(Oid relid, LOCKMODE lockmode);

/* What it says, and rows appended to it */
extern LogRow *queue_lease_rows_read(Relation rel, int *nrows, int64 *last_seq,
									 bool *is_ours);
extern void queue_lease_rows_append(Relation rel, const LogRow *rows,
									int nrows);

#endif							/* QUEUE_LEASE_ROW_H */

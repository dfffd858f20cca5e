/*-------------------------------------------------------------------------
 *
 * decision.h
 *		Decisions about global transactions, in the database that makes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DECISION_H
#define QUEUE_DECISION_H

#include "access/xlogdefs.h"

/*
 * This transaction waits for synchronous standbys when it commits or is
 * prepared, whatever the session prefers.
 */
extern void queue_decision_wait_for_standbys(void);

/* Is WAL up to here on the others as well, if it should be? */
extern bool queue_decision_is_durable(XLogRecPtr lsn);

/* ereport(ERROR, 08007) if it is not. */
extern void queue_decision_require_durable(XLogRecPtr lsn);

#endif							/* QUEUE_DECISION_H */

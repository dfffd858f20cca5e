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
 * ereport(ERROR, 08007) if WAL up to here may be lost with this server,
 * although it should be on others too.
 */
extern void queue_decision_require_durable(XLogRecPtr lsn);

#endif							/* QUEUE_DECISION_H */

/*-------------------------------------------------------------------------
 *
 * standby.h
 *		What must outlive the loss of this server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_STANDBY_H
#define QUEUE_STANDBY_H

#include "access/xlogdefs.h"

/* Let this transaction wait for synchronous standbys when it ends */
extern void queue_standby_wait(void);

/* Is WAL up to here on the standbys as well, if it should be? */
extern bool queue_standby_is_durable(XLogRecPtr lsn);

/* 08007 if it is not */
extern void queue_standby_require_durable(XLogRecPtr lsn);

#endif							/* QUEUE_STANDBY_H */

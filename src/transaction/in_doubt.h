/*-------------------------------------------------------------------------
 *
 * in_doubt.h
 *		Prepared transactions that a statement on a queue would have to wait
 *		for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_IN_DOUBT_H
#define QUEUE_IN_DOUBT_H

#include "nodes/nodes.h"
#include "storage/lock.h"

/* 55006 if a prepared transaction holds a lock on it that conflicts */
extern void queue_in_doubt_refuse(Oid relid, LOCKMODE mode);

/* A duty of the worker: warn of old ones; is it wanted; is it urgent? */
extern TimestampTz queue_in_doubt_warn(void);
extern bool queue_in_doubt_is_wanted(void);
extern bool queue_in_doubt_is_urgent(void);

#endif							/* QUEUE_IN_DOUBT_H */

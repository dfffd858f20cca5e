/*-------------------------------------------------------------------------
 *
 * fate.h
 *		What has become of a row, and who is changing it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FATE_H
#define QUEUE_FATE_H

#include "table/rows.h"

/* Of several versions of a row, what is said of it is the last of these */
typedef enum RowFate
{
	FATE_UNKNOWN,				/* there is no row, and none that is dead */
	FATE_ROLLED_BACK,			/* its inserter has rolled back */
	FATE_DELETED,				/* by a transaction that has committed */
	FATE_DELETED_HERE,			/* by this transaction */
	FATE_COMING,				/* inserted by one that has not ended */
	FATE_BUSY,					/* deleted or changed by one that has not */
	FATE_LOCKED,				/* live, and somebody has locked it */
	FATE_LIVE
} RowFate;

typedef struct Fate
{
	RowFate		fate;
	bool		is_change;		/* BUSY, DELETED_HERE: a new version is there */
	TransactionId xid;			/* who does it, perhaps a subtransaction; this
								 * one's included; or Invalid */
} Fate;

/* Of the row in a slot, which a scan of whatever is there has found */
extern void queue_fate_read(TupleTableSlot *slot, Fate *fate);

/* Find a message by its id alone, and read it unless nothing is there */
extern void queue_fate_find(Relation rel, QueueDef *def, int64 id,
							MessageRow *row, Fate *fate);

#endif							/* QUEUE_FATE_H */

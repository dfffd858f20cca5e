/*-------------------------------------------------------------------------
 *
 * drop_table.h
 *		Tables of queues, topics and subscriptions dropped by functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DROP_TABLE_H
#define QUEUE_DROP_TABLE_H

#include "utils/relcache.h"

#include "table/form.h"

/* Lock it for that, if the caller owns it and it is of this kind */
extern Relation queue_drop_open(Oid relid, const TableForm *form);

/* Drop it */
extern void queue_drop_table(Oid relid, const TableForm *form);

#endif							/* QUEUE_DROP_TABLE_H */

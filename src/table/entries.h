/*-------------------------------------------------------------------------
 *
 * entries.h
 *		Index entries of the rows of a queue table, and new versions of rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ENTRIES_H
#define QUEUE_ENTRIES_H

#include "access/tableam.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

#include "common/compat.h"
#include "table/index.h"

/* Where entries go; private to entries.c */
typedef struct QueueEntries
{
	Relation	rel;
	const TableForm *form;
	Relation	pkey;			/* NULL if there are indexes of a user */
	Oid			oids[NUM_OWN_INDEXES];
	Relation	own[NUM_OWN_INDEXES];	/* NULL: no row has needed it */
	EState	   *estate;			/* without "pkey": all indexes */
	ResultRelInfo *info;
} QueueEntries;

/* Begin; the indexes are those that its definition knows */
extern void queue_entries_begin(QueueEntries *entries, Relation rel,
								const TableForm *form,
								const QueueIndexes *indexes);

/* Those of a new row */
extern void queue_entries_insert(QueueEntries *entries, TupleTableSlot *slot);

/* Those that a new version of a row needs */
extern void queue_entries_update(QueueEntries *entries, TupleTableSlot *slot,
								 TU_UpdateIndexes update_indexes);

extern void queue_entries_end(QueueEntries *entries);

/*
 * A new version of a row, with its entries; false if another transaction is in
 * the way
 */
extern bool queue_entries_replace(Relation rel, const TableForm *form,
								  const QueueIndexes *indexes,
								  TupleTableSlot *old, TupleTableSlot *slot);

#endif							/* QUEUE_ENTRIES_H */

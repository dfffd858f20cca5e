/*-------------------------------------------------------------------------
 *
 * index.h
 *		The indexes of a queue or topic: what they may be, and which are its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_INDEX_H
#define QUEUE_INDEX_H

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

#include "table/form.h"

/* Which were found; InvalidOid: that one is missing */
typedef struct QueueIndexes
{
	Oid			pkey;
	Oid			own[NUM_OWN_INDEXES];
	bool		lacks_pkey_only;	/* all indexes there are are in order */
} QueueIndexes;

/* What an index of a table has that none of its kind may have; NULL: nothing */
extern char *queue_index_violation(Relation rel, const TableForm *form,
								   QueueIndexes *indexes);

/* Does this statement make one of its own? */
extern bool queue_index_is_own(const TableForm *form, IndexStmt *stmt);

/* The statement that makes one; "table" is quoted */
extern char *queue_index_ddl(const TableForm *form, int which,
							 const char *table);

/* The columns of one, as "(priority, visible_at, id)" */
extern char *queue_index_columns(const TableForm *form, int which);

#endif							/* QUEUE_INDEX_H */

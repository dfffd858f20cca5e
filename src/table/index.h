/*-------------------------------------------------------------------------
 *
 * index.h
 *		The indexes of a queue table: what they may be, and which are its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_INDEX_H
#define QUEUE_INDEX_H

#include "nodes/parsenodes.h"
#include "utils/relcache.h"

/* Those of a queue's own beside the primary key; each is partial */
typedef enum OwnIndex
{
	DUE_INDEX,					/* messages with a due time */
	EXPIRY_INDEX,				/* ... with an end */
	GROUP_INDEX,				/* ... of a group */
	CORRELATION_INDEX			/* ... that belong together, by correlation_id */
} OwnIndex;

#define NUM_OWN_INDEXES		4
#define MAX_INDEX_COLUMNS	3

/* One of them, by columns of the table (draft.h) */
typedef struct OwnIndexForm
{
	int			ncolumns;
	AttrNumber	columns[MAX_INDEX_COLUMNS];
	AttrNumber	wanted;			/* rows where this one is null have no entry */
} OwnIndexForm;

extern const OwnIndexForm queue_own_indexes[NUM_OWN_INDEXES];

/* Which were found; InvalidOid: that one is missing */
typedef struct QueueIndexes
{
	Oid			pkey;
	Oid			own[NUM_OWN_INDEXES];
	bool		lacks_pkey_only;	/* all indexes there are are in order */
} QueueIndexes;

/* What an index of a table has that none of a queue may have; NULL: nothing */
extern char *queue_index_violation(Relation rel, QueueIndexes *indexes);

/* Does this statement make one of a queue's own? */
extern bool queue_index_is_own(IndexStmt *stmt);

/* The statement that makes one; "table" is quoted */
extern char *queue_index_ddl(OwnIndex which, const char *table);

/* The columns of one, as "(priority, visible_at, id)" */
extern char *queue_index_columns(OwnIndex which);

#endif							/* QUEUE_INDEX_H */

/*-------------------------------------------------------------------------
 *
 * member.h
 *		The tables of the extension, as this library knows them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MEMBER_H
#define QUEUE_MEMBER_H

#include "access/htup.h"
#include "utils/relcache.h"

typedef enum MemberTable
{
	MEMBER_QUEUE,
	MEMBER_LEASE_LOG,
	MEMBER_DECIDING_DATABASE,
	MEMBER_OUTCOME,
	MEMBER_RESTORED_SETTINGS,
	MEMBER_COMMITTED_BRANCH
} MemberTable;

/* OID of the table or index queue.<name>, InvalidOid if absent */
extern Oid	queue_catalog_relid(const char *name);

/* registers relcache callback; from _PG_init, in every backend */
extern void queue_member_init(void);

/* 55000 unless the extension is of the version that this library is made for;
 * costs a look at a flag but for the first time */
extern void queue_member_check_version(void);

/* The same, and unless the library is preloaded: every SQL entry point calls
 * it before it looks at its arguments */
extern void queue_require_preload(void);

/* ALTER EXTENSION: let everybody look at the version again */
extern void queue_member_version_changed(void);

/*
 * CREATE EXTENSION: until the transaction has ended, no worker clears away what
 * memory has of an earlier one; waits for one that is at it.  And the worker's
 * side, which waits for nobody.
 */
extern void queue_member_lock_creation(void);
extern bool queue_member_lock_absence(void);

/* 55000 unless this open table has the columns that this library knows, and no
 * others */
extern void queue_member_check(Relation rel, MemberTable table);

/* Has it those columns, whatever others behind them? */
extern bool queue_member_resembles(Relation rel, MemberTable table);

/* Both of the above, of version and all tables, for the worker: what is wrong,
 * or NULL */
extern char *queue_member_problem(void);

/*
 * Rows, whose arrays have a place for each column that is known.  Columns that
 * were added behind them and dropped again stay NULL.
 */
extern HeapTuple queue_member_form(Relation rel, MemberTable table,
								   const Datum *values, const bool *nulls);
extern HeapTuple queue_member_modify(Relation rel, MemberTable table,
									 HeapTuple tuple, const Datum *values,
									 const bool *nulls, const bool *replaces);
extern void queue_member_deform(Relation rel, MemberTable table,
								HeapTuple tuple, Datum *values, bool *nulls);

#endif							/* QUEUE_MEMBER_H */

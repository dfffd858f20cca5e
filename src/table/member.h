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
	MEMBER_COMMITTED_BRANCH,
	MEMBER_TOPIC,
	MEMBER_RESTORED_TOPICS,
	MEMBER_BINDING,
	MEMBER_RESTORED_BINDINGS,
	MEMBER_PREPARED_NOTE,
	MEMBER_TOPIC_STABLE,
	MEMBER_SUBSCRIPTION,
	MEMBER_RESTORED_SUBSCRIPTIONS,
	MEMBER_TOPIC_REMOVED,
	NUM_MEMBER_TABLES
} MemberTable;

/* Its name, without the schema */
extern const char *queue_member_name(MemberTable table);

/* OID of the table or index queue.<name>, InvalidOid if absent */
extern Oid	queue_catalog_relid(const char *name);

/* Register the relcache callback; from _PG_init(), in every backend */
extern void queue_member_init(void);

/*
 * 55000 unless the library is preloaded, and the extension of its version:
 * every SQL function begins with it
 */
extern void queue_require_preload(void);

/* ALTER EXTENSION: let all sessions look at the version again */
extern void queue_member_version_changed(void);

/* CREATE EXTENSION and the worker that clears memory exclude each other */
extern void queue_member_lock_creation(void);
extern bool queue_member_lock_absence(void);

/* 55000 unless this table has the columns of this library, and no others */
extern void queue_member_check(Relation rel, MemberTable table);

/* Does it have those columns, whatever others follow them? */
extern bool queue_member_resembles(Relation rel, MemberTable table);

/* For the worker: what is wrong with version or tables, or NULL */
extern char *queue_member_problem(void);

/* Rows, whose arrays have a place for each known column */
extern HeapTuple queue_member_form(Relation rel, MemberTable table,
								   const Datum *values, const bool *nulls);
extern HeapTuple queue_member_modify(Relation rel, MemberTable table,
									 HeapTuple tuple, const Datum *values,
									 const bool *nulls, const bool *replaces);
extern void queue_member_deform(Relation rel, MemberTable table,
								HeapTuple tuple, Datum *values, bool *nulls);

#endif							/* QUEUE_MEMBER_H */

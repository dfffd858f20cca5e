/*-------------------------------------------------------------------------
 *
 * access.h
 *		Queues, topics and subscriptions opened for the current user.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ACCESS_H
#define QUEUE_ACCESS_H

#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "common/compat.h"
#include "table/form.h"

/* Hints: what to do with a table that turns out to be another's kind */
typedef struct Instead
{
	const char *queue;
	const char *topic;
	const char *subscription;
} Instead;

/* 42704: there is no such relation; 42809: it is no table, but of this kind */
pg_noreturn extern void queue_access_report_missing(Oid relid,
													const TableForm *form);
pg_noreturn extern void queue_access_report_relkind(Oid relid,
													const TableForm *form,
													char relkind);

/* The table, locked; 42704, or 42809 if it is none */
extern Relation queue_access_open(Oid relid, LOCKMODE lockmode,
								  const TableForm *form);

/* 42501 unless the current user has all of these privileges, or owns it */
extern void queue_access_check(Relation rel, AclMode needed);
extern void queue_access_check_owner(Relation rel);

/* 42809: it is not of this kind; what to do with one of another kind */
pg_noreturn extern void queue_access_refuse(Oid relid, const TableForm *form,
											const Instead *instead);

#endif							/* QUEUE_ACCESS_H */

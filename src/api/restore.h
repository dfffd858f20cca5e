/*-------------------------------------------------------------------------
 *
 * restore.h
 *		Settings that come out of a dump.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RESTORE_H
#define QUEUE_RESTORE_H

#include "fmgr.h"
#include "fmgr.h"
#include "nodes/plannodes.h"

#include "table/member.h"

#include "table/member.h"

/* ProcessUtility hook: send COPY to queue.queue to the other table */
extern PlannedStmt *queue_restore_redirect(PlannedStmt *planned);

/* The row that the trigger on such a table was given */
extern void queue_restore_read(FunctionCallInfo fcinfo, MemberTable table,
							   const char *funcname, Datum *values,
							   bool *nulls);

/* The table of a name, or InvalidOid */
extern Oid	queue_restore_find(const char *name);

/* The row that the trigger on such a table was given */
extern void queue_restore_read(FunctionCallInfo fcinfo, MemberTable table,
							   const char *funcname, Datum *values,
							   bool *nulls);

/* The table of a name, or InvalidOid */
extern Oid	queue_restore_find(const char *name);

#endif							/* QUEUE_RESTORE_H */

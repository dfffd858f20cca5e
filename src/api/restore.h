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
#include "nodes/plannodes.h"

#include "table/form.h"
#include "table/member.h"

/* ProcessUtility hook: send COPY to queue.queue to the other table */
extern PlannedStmt *queue_restore_redirect(PlannedStmt *planned);

/* The row that the trigger on such a table was given */
extern void queue_restore_read(FunctionCallInfo fcinfo, MemberTable table,
							   const char *funcname, Datum *values,
							   bool *nulls);

/* The table of a name, or InvalidOid */
extern Oid	queue_restore_find(const char *name);

/* May the current user give it settings?  Else warns; it is locked if so */
extern bool queue_restore_may_have_settings(Oid relid, const char *name,
											const TableForm *form);

/* ... and send its dead letters there? */
extern bool queue_restore_may_have_dead_letter(const TableForm *form,
											   Oid relid, const char *name,
											   Oid dead_letter,
											   const char *dead_name);

#endif							/* QUEUE_RESTORE_H */

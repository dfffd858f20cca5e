/*-------------------------------------------------------------------------
 *
 * guard_table.h
 *		ALTER TABLE that would make a queue or topic something else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_GUARD_TABLE_H
#define QUEUE_GUARD_TABLE_H

#include "nodes/parsenodes.h"

#include "table/form.h"

/* What this command makes wrong, or NULL; an unknown one is refused */
extern char *queue_guard_command(const TableForm *form, Oid relid,
								 AlterTableCmd *cmd);

#endif							/* QUEUE_GUARD_TABLE_H */

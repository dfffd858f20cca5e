/*-------------------------------------------------------------------------
 *
 * relation.c
 *		Tables that are opened without waiting for a lock.
 *
 * For what waits for nobody: steps of the worker, views, hooks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "storage/lmgr.h"

#include "common/relation.h"

/*
 * queue_open_unless_locked
 *		Open a table, unless somebody else has a lock on it that conflicts.
 *
 * Returns NULL then, with *is_locked set, or if the table is gone.
 */
Relation
queue_open_unless_locked(Oid relid, LOCKMODE lockmode, bool *is_locked)
{
	Relation	rel;

	*is_locked = !ConditionalLockRelationOid(relid, lockmode);
	if (*is_locked)
		return NULL;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, lockmode);
	return rel;
}

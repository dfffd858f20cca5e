/*-------------------------------------------------------------------------
 *
 * relation.h
 *		Tables that are opened without waiting for a lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RELATION_H
#define QUEUE_RELATION_H

#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* NULL: *is_locked by somebody else, or gone */
extern Relation queue_open_unless_locked(Oid relid, LOCKMODE lockmode,
										 bool *is_locked);

#endif							/* QUEUE_RELATION_H */

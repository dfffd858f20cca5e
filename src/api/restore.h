/*-------------------------------------------------------------------------
 *
 * restore.h
 *		Settings that come out of a dump.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RESTORE_H
#define QUEUE_RESTORE_H

#include "nodes/plannodes.h"

/* ProcessUtility hook: send COPY to queue.queue to the other table */
extern PlannedStmt *queue_restore_redirect(PlannedStmt *planned);

#endif							/* QUEUE_RESTORE_H */

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

/*
 * From the hook of utility statements: the same, or for a COPY to queue.queue
 * one that goes to queue.restored_settings.
 */
extern PlannedStmt *queue_restore_redirect(PlannedStmt *planned);

#endif							/* QUEUE_RESTORE_H */

/*-------------------------------------------------------------------------
 *
 * failure_log.h
 *		The last failures of a message, as its row has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAILURE_LOG_H
#define QUEUE_FAILURE_LOG_H

#include "shared/failure.h"

/* A log with what it does not tell yet */
extern Datum queue_failure_log_add(NullableDatum log, const FailureNews *news);

/* The newest text in it, palloc'd; NULL if there is none */
extern char *queue_failure_log_message(NullableDatum log);

/* With how many others the newest failed, itself among them; 0: unknown */
extern int	queue_failure_log_batch(NullableDatum log);

/* The log as it is; an empty one if it is none */
extern Datum queue_failure_log_normal(NullableDatum log);

#endif							/* QUEUE_FAILURE_LOG_H */

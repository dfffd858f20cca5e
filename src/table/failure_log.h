/*-------------------------------------------------------------------------
 *
 * failure_log.h
 *		The last failures of a message, as its row has them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAILURE_LOG_H
#define QUEUE_FAILURE_LOG_H

#include "datatype/timestamp.h"

/* So many failures are kept */
#define FAILURE_LOG_LENGTH	5

/* A log with one failure more, or with another text of the newest */
extern Datum queue_failure_log_add(NullableDatum log, TimestampTz at,
								   const char *message, bool is_new);

/* The text of the newest failure, palloc'd; NULL if there is none */
extern char *queue_failure_log_message(NullableDatum log);

/* The log as it is; an empty one if it is none */
extern Datum queue_failure_log_normal(NullableDatum log);

#endif							/* QUEUE_FAILURE_LOG_H */

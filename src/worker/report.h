/*-------------------------------------------------------------------------
 *
 * report.h
 *		Has the log been told of this lately?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_REPORT_H
#define QUEUE_REPORT_H

#include "datatype/timestamp.h"

/* Is it time to report this about the queue?  Then it counts as reported */
extern bool queue_report_is_due(Oid relid, uint32 reason, TimestampTz now);

#endif							/* QUEUE_REPORT_H */

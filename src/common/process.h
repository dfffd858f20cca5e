/*-------------------------------------------------------------------------
 *
 * process.h
 *		What all background processes of ours do alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PROCESS_H
#define QUEUE_PROCESS_H

#include "utils/timestamp.h"

extern void queue_process_pin_settings(void);
extern void queue_process_report_name(const char *name);
extern void queue_process_name_errors(ErrorContextCallback *context);

/* Sleep until that time, by clock.h, unless the latch is set */
extern void queue_process_nap(TimestampTz wake_at, uint32 wait_event);

/* Is this process to leave?  A round of the worker asks between two
 * transactions, and returns early if so; it is ended by force some seconds
 * later. */
extern bool queue_process_must_leave(void);

#endif							/* QUEUE_PROCESS_H */

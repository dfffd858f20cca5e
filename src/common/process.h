/*-------------------------------------------------------------------------
 *
 * process.h
 *		What all background processes of ours do alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PROCESS_H
#define QUEUE_PROCESS_H

#include "postmaster/bgworker.h"
#include "utils/elog.h"
#include "utils/timestamp.h"

/* What is to become of an error that a process has caught? */
typedef enum ErrorVerdict
{
	ERROR_REPORT,				/* report it, and go on */
	ERROR_IGNORE,				/* go on */
	ERROR_RAISE					/* it is not the process's to catch */
} ErrorVerdict;

typedef void (*ProcessBody) (void *arg);
typedef ErrorVerdict (*ErrorJudge) (const ErrorData *error, void *arg);

/* Describe a process, for one of the functions that register it */
extern void queue_process_describe(BackgroundWorker *worker, const char *type,
								   const char *function);

/* What SIGHUP has asked for */
extern void queue_process_reload(void);

/* A transaction of a process */
extern void queue_process_begin(const char *activity);
extern void queue_process_commit(void);

/* Did somebody only hold a lock, or drop what this was about? */
extern bool queue_process_is_locked(const ErrorData *error);

/* That is not reported; and a request to leave is not caught */
extern ErrorVerdict queue_process_judge(const ErrorData *error, void *arg);

/* Do something that may fail; false if it did, and was not ERROR_RAISE.  Where
 * "judge" is NULL it is the one above. */
extern bool queue_process_try(ProcessBody body, ErrorJudge judge, void *arg);

/* The same in a transaction of its own, with a snapshot or without */
extern bool queue_process_run(const char *activity, bool has_snapshot,
							  ProcessBody body, ErrorJudge judge, void *arg);

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

/*-------------------------------------------------------------------------
 *
 * process.h
 *		What all background processes of the extension have in common.
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

/* Fill in what is common to all processes, to register one */
extern void queue_process_describe(BackgroundWorker *worker, const char *type,
								   const char *function);

/* Do what SIGHUP has asked for */
extern void queue_process_reload(void);

/* A transaction of a process */
extern void queue_process_begin(const char *activity);
extern void queue_process_commit(void);

/* What it does now, for pg_stat_activity and queue.workers; NULL: nothing */
extern void queue_process_show(const char *activity);

/* Was only a lock in the way, or is what this was about gone? */
extern bool queue_process_is_locked(const ErrorData *error);

/* The usual verdict on an error */
extern ErrorVerdict queue_process_judge(const ErrorData *error, void *arg);

/* Do something that may fail; false if it did */
extern bool queue_process_try(ProcessBody body, ErrorJudge judge, void *arg);

/* The same in a transaction of its own, with a snapshot or without */
extern bool queue_process_run(const char *activity, bool has_snapshot,
							  ProcessBody body, ErrorJudge judge, void *arg);

extern void queue_process_pin_settings(void);
extern void queue_process_report_name(const char *name);
extern void queue_process_name_errors(ErrorContextCallback *context);

/* Sleep until that time, by clock.h, unless the latch is set */
extern void queue_process_nap(TimestampTz wake_at, uint32 wait_event);

/* Is this process to leave? */
extern bool queue_process_must_leave(void);

#endif							/* QUEUE_PROCESS_H */

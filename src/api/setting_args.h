/*-------------------------------------------------------------------------
 *
 * setting_args.h
 *		Settings of a queue, as arguments of create_queue() and alter_queue().
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SETTING_ARGS_H
#define QUEUE_SETTING_ARGS_H

#include "fmgr.h"

/*
 * Rows of queue.queue, by Anum_settings_xxx.  22023 for what is not valid; the
 * dead-letter queue is not looked at.
 */

/* The row of a new queue, but for the column "queue" */
extern void queue_setting_args_create(FunctionCallInfo fcinfo, Datum *values,
									  bool *nulls);

/* What the call changes in a row */
extern void queue_setting_args_alter(FunctionCallInfo fcinfo, Datum *values,
									 bool *nulls);

/* Does a call of alter_queue() give this one? */
extern bool queue_setting_args_given(FunctionCallInfo fcinfo, int attnum);

/* Make the row of a queue that of the dead-letter queue that comes with it */
extern void queue_setting_args_dead(Datum *values, bool *nulls);

/* 22023 unless a row is valid */
extern void queue_setting_args_check(const Datum *values, const bool *nulls);

/* The same for a few of them; returns the microseconds of the lease */
extern int64 queue_setting_args_retries(Datum lease, Datum max_attempts,
										Datum retry_delay,
										Datum retry_max_delay);

#endif							/* QUEUE_SETTING_ARGS_H */

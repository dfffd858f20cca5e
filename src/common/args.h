/*-------------------------------------------------------------------------
 *
 * args.h
 *		Checks with which SQL functions begin.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ARGS_H
#define QUEUE_ARGS_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "common/compat.h"

/* False unless loaded by shared_preload_libraries; set by _PG_init() */
extern bool queue_is_preloaded;

/* 55000 unless preloaded; others call queue_require_preload() (member.h) */
extern void queue_require_library(void);

/* Microseconds in an interval; 22023 if it is out of range */
extern int64 queue_interval_usec(const Interval *span, const char *argname);

/* The same for the length of a lease, which must not be zero either */
extern int64 queue_lease_usec(const Interval *lease, const char *argname);

/* The same for the time in which a message expires */
extern int64 queue_expiry_usec(const Interval *span, const char *argname);

/* A time at which a message is due; 22023 if it is out of range */
extern TimestampTz queue_due_time(TimestampTz due, const char *argname);

/* 22004 if this argument is null */
extern void queue_require_arg(FunctionCallInfo fcinfo, int argno,
							  const char *argname);

/* Argument "max" of functions that return messages; 22023 if below 1 */
extern int	queue_max_argument(FunctionCallInfo fcinfo, int argno);

#endif							/* QUEUE_ARGS_H */

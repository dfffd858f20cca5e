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

/* false unless loaded by shared_preload_libraries; set by _PG_init */
extern bool queue_is_preloaded;

/* ereport(ERROR, 55000) unless preloaded: for what the install script itself
 * calls.  Everything else calls queue_require_preload(), which also looks at
 * the version of the extension (table/member.h). */
extern void queue_require_library(void);

/* microseconds in an interval (month = 30 days, day = 24 hours); 22023 if it
 * is negative, infinite or longer than a hundred years */
extern int64 queue_interval_usec(const Interval *span, const char *argname);

/* the same for the length of a lease, which must not be zero either */
extern int64 queue_lease_usec(const Interval *lease, const char *argname);

/* ereport(ERROR, 22004) if this argument is null */
extern void queue_require_arg(FunctionCallInfo fcinfo, int argno,
							  const char *argname);

/* ereport(ERROR, 0A000): an argument of the contract that is not built yet */
pg_noreturn extern void queue_not_supported(const char *argname);

#endif							/* QUEUE_ARGS_H */

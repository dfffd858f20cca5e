/*-------------------------------------------------------------------------
 *
 * queue.h
 *		What every module shares: settings, error codes, the preload check.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "common/compat.h"

/* SQLSTATEs of our own, class QU (docs/reference.md lists them) */
#define ERRCODE_QUEUE_LEASE_LOST		MAKE_SQLSTATE('Q', 'U', '0', '0', '1')
#define ERRCODE_QUEUE_PAUSED			MAKE_SQLSTATE('Q', 'U', '0', '0', '2')
#define ERRCODE_QUEUE_INVALID_RECEIPT	MAKE_SQLSTATE('Q', 'U', '0', '0', '4')

#define QUEUE_SCHEMA			"queue"
#define QUEUE_EXTENSION			"queue"
#define QUEUE_VERSION			"0.2.0" /* as in queue.control */

#define QUEUE_DEFAULT_PRIORITY	4
#define QUEUE_MAX_PRIORITY		9

/* settings, defined in queue.c */
extern int	queue_max_in_flight;
extern int	queue_max_databases;
extern int	queue_max_queues;
extern int	queue_max_wait;			/* ms */
extern int	queue_lease_write_delay;	/* ms */
extern int	queue_in_doubt_warning; /* s, -1: off */
extern int	queue_vacuum_threshold; /* dead rows; -1: off */
extern double queue_vacuum_scale_factor;
extern double queue_vacuum_cost_delay;	/* ms */
extern int	queue_resolve_interval; /* ms */

/* false unless loaded by shared_preload_libraries */
extern bool queue_is_preloaded;

/* ereport(ERROR, 55000) unless preloaded, and of the version that the extension
 * of this database has; every SQL entry point calls it before it looks at its
 * arguments */
extern void queue_require_preload(void);

/* ... unless preloaded: for what the install script itself calls */
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

#endif							/* QUEUE_QUEUE_H */

/*-------------------------------------------------------------------------
 *
 * args.c
 *		Checks with which SQL functions begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "common/args.h"

/* A hundred years, by the lengths that intervals have here */
#define MAX_SPAN_USEC \
	(INT64CONST(100) * MONTHS_PER_YEAR * DAYS_PER_MONTH * USECS_PER_DAY)

bool		queue_is_preloaded = false;

/*
 * queue_require_library
 *		Raise 55000 unless the library was preloaded.
 *
 * For functions that the install script itself calls.  All others call
 * queue_require_preload(), which also looks at the version of the extension
 * (table/member.h).
 */
void
queue_require_library(void)
{
	if (!queue_is_preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue must be loaded via shared_preload_libraries"),
				 errhint("Add the line shared_preload_libraries = 'queue' to postgresql.conf and restart the server.")));
}

/* Raise 22004 if this argument is null. */
void
queue_require_arg(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", argname)));
}

/*
 * queue_interval_usec
 *		Return the microseconds in an interval (month = 30 days, day = 24
 *		hours).
 *
 * Raises 22023 if it is negative, infinite or longer than a hundred years.
 */
int64
queue_interval_usec(const Interval *span, const char *argname)
{
	double		estimate;

	if (!INTERVAL_NOT_FINITE(span))
	{
		/* in floating point, so that nothing overflows before it is judged */
		estimate = ((double) span->month * DAYS_PER_MONTH + span->day) *
			(double) USECS_PER_DAY + (double) span->time;
		if (estimate >= 0 && estimate <= (double) MAX_SPAN_USEC)
			return ((int64) span->month * DAYS_PER_MONTH + span->day) *
				USECS_PER_DAY + span->time;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s is out of range", argname),
			 errdetail("It must be between zero and a hundred years.")));
	return 0;
}

/*
 * queue_expiry_usec
 *		The same for the time in which a message expires: zero would mean that
 *		it is never delivered.
 */
int64
queue_expiry_usec(const Interval *span, const char *argname)
{
	int64		usec = queue_interval_usec(span, argname);

	if (usec == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be longer than zero", argname),
				 errdetail("A message that expires when it is due would never be delivered.")));
	return usec;
}

/*
 * queue_due_time
 *		Return a time at which a message is due.
 *
 * Raises 22023 if it is infinite, or so late that an expiry cannot follow.
 */
TimestampTz
queue_due_time(TimestampTz due, const char *argname)
{
	if (TIMESTAMP_NOT_FINITE(due) || due > END_TIMESTAMP - MAX_SPAN_USEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is out of range", argname),
				 errdetail("It must be a finite time, a hundred years before the last timestamp at the latest."),
				 errhint("Leave it out to have the message delivered at once.")));
	return due;
}

/*
 * queue_lease_usec
 *		The same for the length of a lease, which must not be zero either.
 */
int64
queue_lease_usec(const Interval *lease, const char *argname)
{
	int64		usec = queue_interval_usec(lease, argname);

	if (usec == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be longer than zero", argname),
				 strcmp(argname, "lease") != 0 ? 0 :
				 errhint("To give a message back use queue.release().")));
	return usec;
}

/*
 * queue_max_argument
 *		Return argument "max", how many messages at most.
 *
 * More than fit an int are not to be had.
 */
int
queue_max_argument(FunctionCallInfo fcinfo, int argno)
{
	int64		max;

	queue_require_arg(fcinfo, argno, "max");
	max = PG_GETARG_INT64(argno);
	if (max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max must be at least 1"),
				 errdetail("The value given is " INT64_FORMAT ".", max)));
	return (int) Min(max, PG_INT32_MAX);
}

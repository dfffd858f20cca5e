/*-------------------------------------------------------------------------
 *
 * duties.c
 *		What a database's worker does from time to time.
 *
 * Each duty is a line of a table, which queue.c has, because it names
 * functions of all folders.  A duty is done in a transaction of its own.  If it
 * fails, the error is reported, the others are done all the same, and it is
 * tried again later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "common/process.h"
#include "worker/duties.h"

/* After an error of a duty that has no interval */
#define RETRY_DELAY			(10 * USECS_PER_SEC)

/* the table */
static Duty *all = NULL;
static int	nduties = 0;

static TimestampTz do_duty(Duty *duty, TimestampTz now);
static bool is_due(const Duty *duty, TimestampTz now);
static bool run_duty(Duty *duty, TimestampTz *next);
static void call_work(void *arg);

/* A duty that is done, and what it returned */
typedef struct Work
{
	const Duty *duty;
	TimestampTz next;
} Work;

/*
 * queue_duties_set
 *		Set the table of duties, when the library is loaded.
 */
void
queue_duties_set(Duty *duties, int n)
{
	all = duties;
	nduties = n;
}

/*
 * queue_duties_do
 *		Do the duties that are due, and return when to come again.
 *
 * Called outside a transaction.  None is begun when the process is to leave.
 */
TimestampTz
queue_duties_do(TimestampTz now)
{
	TimestampTz next = TIMESTAMP_INFINITY;
	int			i;

	for (i = 0; i < nduties && !queue_process_must_leave(); i++)
	{
		TimestampTz at = do_duty(&all[i], now);

		next = Min(next, at);
	}
	return next;
}

/*
 * do_duty
 *		Do one duty if it is due, and return when to come again for it.
 */
static TimestampTz
do_duty(Duty *duty, TimestampTz now)
{
	TimestampTz next;

	if (duty->is_wanted != NULL && !duty->is_wanted())
		return TIMESTAMP_INFINITY;
	if (duty->due != NULL)
		duty->at = Min(duty->at, duty->due());
	if (!is_due(duty, now))
		return duty->at;

	if (!run_duty(duty, &next))
	{
		if (duty->failed != NULL)
			duty->failed();
		next = now + (duty->interval > 0 ? duty->interval : RETRY_DELAY);
	}
	duty->at = duty->interval > 0 ? Min(next, now + duty->interval) : next;

	/* what is in no hurry is not worth a round of its own */
	if ((duty->is_lazy && next == TIMESTAMP_INFINITY) ||
		(duty->is_wanted != NULL && !duty->is_wanted()))
		return TIMESTAMP_INFINITY;
	return duty->at;
}

/* Is it time for this duty, or is it urgent? */
static bool
is_due(const Duty *duty, TimestampTz now)
{
	return duty->at <= now ||
		(duty->is_urgent != NULL && duty->is_urgent());
}

/*
 * run_duty
 *		Call a duty as often as it asks for at once.
 *
 * Returns false if there was an error; *next is when to call it again.
 */
static bool
run_duty(Duty *duty, TimestampTz *next)
{
	Work		work = {duty, TIMESTAMP_INFINITY};
	bool		done;

	do
	{
		done = queue_process_run(duty->activity, !duty->lacks_snapshot,
								 call_work, queue_process_judge, &work);
	} while (done && work.next == DUTY_AGAIN && !queue_process_must_leave());
	*next = work.next;
	return done;
}

/* Body of queue_process_run() */
static void
call_work(void *arg)
{
	Work	   *work = arg;

	work->next = work->duty->work();
}

/* The clock has been set by so much: move all due times along. */
void
queue_duties_move(TimestampTz change)
{
	int			i;

	for (i = 0; i < nduties; i++)
		if (!TIMESTAMP_NOT_FINITE(all[i].at) && all[i].at != 0)
			all[i].at += change;
}

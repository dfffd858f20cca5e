/*-------------------------------------------------------------------------
 *
 * duties.c
 *		Lets src/worker/duties.c do duties that say what they are told to.
 *
 * What runs a duty in a transaction is here, and runs nothing else.  It is
 * linked with the object file of the duties alone, so it also shows that this
 * needs nothing else.  The last line of the output is "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/compat.h"
#include "common/process.h"
#include "worker/duties.h"

/* no server, no library of its: the C library's will do */
#undef printf

#define NOW		((TimestampTz) 1000 * USECS_PER_SEC)
#define AFTER(s)	(NOW + (s) * USECS_PER_SEC)

/* what the duty answers, and how often it was called; so for a second one */
static TimestampTz answer = TIMESTAMP_INFINITY;
static int	nerrors = 0;
static bool is_wanted = true;
static bool is_urgent = false;
static bool must_leave = false;
static int	leaves_after = 0;
static int	ncalls = 0;
static int	nfailed_calls = 0;
static int	nothers = 0;

static int	npassed = 0;
static int	nfailed = 0;

/* ----------------------------------------------------------------
 *		In the place of process.c
 * ----------------------------------------------------------------
 */

bool
queue_process_run(const char *activity, bool has_snapshot, ProcessBody body,
				  ErrorJudge judge, void *arg)
{
	body(arg);
	if (nerrors == 0)
		return true;
	nerrors--;
	return false;
}

ErrorVerdict
queue_process_judge(const ErrorData *error, void *arg)
{
	return ERROR_REPORT;
}

bool
queue_process_must_leave(void)
{
	return must_leave || (leaves_after > 0 && ncalls >= leaves_after);
}

/* ----------------------------------------------------------------
 *		Duties
 * ----------------------------------------------------------------
 */

static TimestampTz
work(void)
{
	ncalls++;
	return answer;
}

static TimestampTz
other_work(void)
{
	nothers++;
	return TIMESTAMP_INFINITY;
}

static bool
wanted(void)
{
	return is_wanted;
}

static bool
urgent(void)
{
	return is_urgent;
}

static void
failed(void)
{
	nfailed_calls++;
}

/* ----------------------------------------------------------------
 *		Plays
 * ----------------------------------------------------------------
 */

static void
check(bool is_right, const char *what)
{
	if (is_right)
		npassed++;
	else
		nfailed++;
	printf("%s: %s\n", what, is_right ? "ok" : "FAILED");
}

/* A table of this duty and another one, which has nothing to do but once */
static Duty *
begin(int64 interval)
{
	static Duty table[2];

	memset(table, 0, sizeof(table));
	table[0].work = work;
	table[0].interval = interval;
	table[1].work = other_work;
	queue_duties_set(table, lengthof(table));
	answer = TIMESTAMP_INFINITY;
	is_wanted = true;
	is_urgent = must_leave = false;
	nerrors = leaves_after = ncalls = nfailed_calls = nothers = 0;
	return &table[0];
}

/* A round at that time: does it return this, and is this called so often? */
static void
play(TimestampTz now, TimestampTz next, int calls, const char *what)
{
	ncalls = 0;
	check(queue_duties_do(now) == next && ncalls == calls, what);
}

static void
play_times(void)
{
	(void) begin(0);
	play(NOW, TIMESTAMP_INFINITY, 1, "without an interval: once");
	play(AFTER(3600), TIMESTAMP_INFINITY, 0, "... and not again");
	check(nothers == 1, "the other one, too");

	(void) begin(0);
	answer = AFTER(5);
	play(NOW, AFTER(5), 1, "without an interval: when it says");
	play(AFTER(4), AFTER(5), 0, "... not before");
	answer = TIMESTAMP_INFINITY;
	play(AFTER(5), TIMESTAMP_INFINITY, 1, "... but then");

	(void) begin(60 * USECS_PER_SEC);
	play(NOW, AFTER(60), 1, "with an interval: by that");
	play(AFTER(59), AFTER(60), 0, "... not before");
	play(AFTER(60), AFTER(120), 1, "... but then");
	answer = AFTER(300);
	play(AFTER(120), AFTER(180), 1, "... if it says later");
	answer = AFTER(200);
	play(AFTER(180), AFTER(200), 1, "... before that if it says so");

	begin(USECS_PER_SEC)->is_lazy = true;
	play(NOW, TIMESTAMP_INFINITY, 1, "lazy: not worth a round");
	answer = AFTER(9);
	play(AFTER(1), AFTER(2), 1, "... done if there is one, and has something");
	play(NOW, AFTER(2), 0, "... not before its interval is over");
}

static void
play_conditions(void)
{
	begin(USECS_PER_SEC)->is_wanted = wanted;
	is_wanted = false;
	play(NOW, TIMESTAMP_INFINITY, 0, "not wanted: not done");
	is_wanted = true;
	play(NOW, AFTER(1), 1, "... until it is wanted");

	begin(0)->is_urgent = urgent;
	answer = AFTER(60);
	play(NOW, AFTER(60), 1, "not urgent: when it says");
	is_urgent = true;
	answer = AFTER(70);
	play(AFTER(1), AFTER(70), 1, "urgent: at once");

	(void) begin(0);
	answer = AFTER(60);
	play(NOW, AFTER(60), 1, "the clock is set back by an hour");
	queue_duties_move(-3600 * USECS_PER_SEC);
	play(AFTER(-3541), AFTER(-3540), 0, "... so are the times");
	play(AFTER(-3540), AFTER(60), 1, "... no more than that");
}

static void
play_errors(void)
{
	begin(0)->failed = failed;
	nerrors = 1;
	play(NOW, AFTER(10), 1, "an error: again after 10 seconds");
	check(nfailed_calls == 1, "... and it is told");
	check(nothers == 1, "... and the other one is done");
	play(AFTER(10), TIMESTAMP_INFINITY, 1, "... then it goes on");
	check(nfailed_calls == 1, "... and is not told");

	begin(USECS_PER_SEC)->is_lazy = true;
	nerrors = 1;
	play(NOW, AFTER(1), 1, "an error, and an interval: by that");
}

static void
play_leaving(void)
{
	(void) begin(0);
	answer = DUTY_AGAIN;
	leaves_after = 3;
	(void) queue_duties_do(NOW);
	check(ncalls == 3, "again, until the process is to leave");
	check(nothers == 0, "... then nothing else is begun");

	(void) begin(0);
	must_leave = true;
	(void) queue_duties_do(NOW);
	check(ncalls == 0 && nothers == 0, "nothing is begun on the way out");
}

int
main(void)
{
	play_times();
	play_conditions();
	play_errors();
	play_leaving();
	printf("%d passed, %d failed\n", npassed, nfailed);
	return nfailed == 0 ? 0 : 1;
}

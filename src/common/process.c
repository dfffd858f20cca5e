/*-------------------------------------------------------------------------
 *
 * process.c
 *		What all background processes of ours do alike.
 *
 * Settings that nobody may change under them, the name that they are shown by,
 * how they sleep, how they learn that they are to leave.  The handler of SIGTERM
 * is each one's own, since that depends on what it has to finish; all of them
 * set ShutdownRequestPending.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "common/clock.h"
#include "common/process.h"

static void process_error_context(void *arg);

/*
 * Set what ALTER DATABASE SET and ALTER ROLE SET may have changed and what
 * matters to us, in a way that neither they nor a reload override.
 */
void
queue_process_pin_settings(void)
{
	static const char *const settings[][2] = {
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"row_security", "off"},
		{"session_replication_role", "origin"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"synchronous_commit", "on"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"},	/* from 17 on */
		{"lock_timeout", "100ms"},
		{"track_counts", "on"},
		{"jit", "off"}
	};

	/* not even this one is beyond ALTER DATABASE SET */
	if (GetSessionUserId() != GetAuthenticatedUserId())
	{
		StartTransactionCommand();
		SetConfigOption("session_authorization",
						GetUserNameFromId(GetAuthenticatedUserId(), false),
						PGC_SUSET, PGC_S_OVERRIDE);
		CommitTransactionCommand();
	}

	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1],
							PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* Show the process in pg_stat_activity under this name, cut as usual. */
void
queue_process_report_name(const char *name)
{
	char		buf[NAMEDATALEN];

	strlcpy(buf, name, sizeof(buf));
	SetConfigOption("application_name", buf, PGC_USERSET, PGC_S_OVERRIDE);
}

/*
 * Say in the log which process an error is of.  "context" is the caller's, for
 * the life of the process, as bgw_name is ours.
 */
void
queue_process_name_errors(ErrorContextCallback *context)
{
	context->callback = process_error_context;
	context->arg = MyBgworkerEntry->bgw_name;
	context->previous = error_context_stack;
	error_context_stack = context;
}

static void
process_error_context(void *arg)
{
	errcontext("%s", (char *) arg);
}

/*
 * Wait for the latch until some time, of clock.h.  There is no statement here that a
 * cancel could be meant for; letting it in would end the process.
 */
void
queue_process_nap(TimestampTz wake_at, uint32 wait_event)
{
	long		timeout;

	timeout = TimestampDifferenceMilliseconds(queue_clock(), wake_at);
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, wait_event);
	ResetLatch(MyLatch);
	QueryCancelPending = false;
	/* signals of other backends (DROP DATABASE waits for all to react) */
	CHECK_FOR_INTERRUPTS();
}

/* Called between two transactions, by what may take long */
bool
queue_process_must_leave(void)
{
	return ShutdownRequestPending;
}

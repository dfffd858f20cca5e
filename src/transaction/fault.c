/*-------------------------------------------------------------------------
 *
 * fault.c
 *		Is a rollback the fault of the messages that the transaction took?
 *
 * No callback is told why a transaction fails, but the error has gone to the
 * log just before, and a hook remembers it.  What queue.fail() has said comes
 * before that (reason.c).
 *
 * The callbacks run before what SET LOCAL has set is undone, so they see
 * queue.count_failures as it was at the end of the (sub)transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/pidfile.h"

#include "common/guc.h"
#include "transaction/fault.h"
#include "transaction/reason.h"

/*
 * The postmaster's lock file, in the data directory, which is the current one
 */
#define DIRECTORY_LOCK_FILE	"postmaster.pid"

/*
 * The last error sent to the log in this transaction: its SQLSTATE, its text,
 * and when the statement began that it ended, 0 if none was being executed
 */
static int	last_error = 0;

/*
 * queue.count_failures was off when a subtransaction was rolled back, which may
 * have taken the setting with it.  A ROLLBACK of all rolls back the savepoints
 * first that are open; see reason.c.
 */
static bool was_off = false;
static char last_message[FAILURE_TEXT_SIZE];
static TimestampTz failed_statement = 0;
static emit_log_hook_type prev_emit_log_hook = NULL;

static void note_error_code(ErrorData *edata);
static bool has_failed_before(const ErrorData *edata);
static bool counts(void);
static bool server_is_stopping(void);

/* Register the hook; from _PG_init(), in every backend. */
void
queue_fault_init(void)
{
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = note_error_code;
}

/*
 * note_error_code
 *		Emit log hook: remember the SQLSTATE of an error.
 *
 * An error that is not logged, or that PL/pgSQL caught, counts.
 *
 * What comes when the transaction has failed tells nothing of why, unless it
 * ends the session.
 */
static void
note_error_code(ErrorData *edata)
{
	if (edata->elevel >= ERROR)
	{
		bool		is_first = !has_failed_before(edata);

		if (is_first)
		{
			queue_reason_note_error();
			was_off = false;
		}
		if (is_first || edata->elevel > ERROR)
		{
			const char *message = edata->message != NULL ? edata->message : "";
			int			length = pg_mbcliplen(message, strlen(message),
											  FAILURE_TEXT_SIZE - 1);

			last_error = edata->sqlerrcode;
			memcpy(last_message, message, length);
			last_message[length] = '\0';
			failed_statement = edata->elevel == ERROR &&
				debug_query_string != NULL ?
				GetCurrentStatementStartTimestamp() : 0;
		}
	}
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

/*
 * has_failed_before
 *		Returns true if this error comes in a transaction that an earlier one
 *		has failed.
 *
 * PREPARE has begun to end the transaction when it is refused for that.
 */
static bool
has_failed_before(const ErrorData *edata)
{
	return last_error != 0 &&
		(IsAbortedTransactionBlockState() ||
		 edata->sqlerrcode == ERRCODE_IN_FAILED_SQL_TRANSACTION);
}

/* Forget the last error: the transaction goes on after it, or is over. */
void
queue_fault_forget(void)
{
	last_error = 0;
	was_off = false;
	failed_statement = 0;
}

/* A subtransaction is rolled back, and its settings with it. */
void
queue_fault_abort_sub(void)
{
	was_off |= !queue_count_failures;
}

/*
 * queue_fault_statement
 *		Return when the statement began that the last error has ended, 0 if
 *		none was being executed.
 */
TimestampTz
queue_fault_statement(void)
{
	return failed_statement;
}

/*
 * queue_fault_note
 *		Note why a (sub)transaction has failed the messages it took; returns
 *		false if its rollback does not count.
 *
 * Callable from callbacks: no allocation, no error.
 */
bool
queue_fault_note(SubTransactionId subid, FailureNote *failure)
{
	const char *reason;
	FailureKind kind = FAILURE_ROLLED_BACK;

	if (!counts())
		return false;
	reason = queue_reason_at_abort(subid);
	if (proc_exit_inprogress &&
		(last_error == 0 ||
		 ERRCODE_TO_CATEGORY(last_error) == ERRCODE_CONNECTION_EXCEPTION))
		kind = FAILURE_CONNECTION_LOST;
	else if (reason == NULL && last_error != 0)
		reason = last_message;
	*failure = queue_failure_note_own(kind, reason, last_error);
	return true;
}

/*
 * queue_fault_note_prepared
 *		Note what a later ROLLBACK PREPARED of this transaction would be;
 *		returns false if it would not count.
 */
bool
queue_fault_note_prepared(FailureNote *failure)
{
	if (!queue_count_failures)
		return false;
	*failure = queue_failure_note_own(FAILURE_ROLLED_BACK,
									  queue_reason_at_abort(InvalidSubTransactionId),
									  0);
	return true;
}

/*
 * counts
 *		Returns true if a rollback at this point is the fault of the messages
 *		taken, as far as is known.
 *
 * What the server could not do is not their fault.  A statement that was
 * cancelled or timed out counts, and so does a session that was terminated or
 * has lost its client, because a message that takes too long shows in that
 * way.
 */
static bool
counts(void)
{
	if (!queue_count_failures || was_off)
		return false;
	switch (last_error)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
			return false;
	}
	switch (ERRCODE_TO_CATEGORY(last_error))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:	/* class 53 */
		case ERRCODE_SYSTEM_ERROR:	/* class 58 */
		case ERRCODE_INTERNAL_ERROR:	/* class XX */
			return false;
	}
	return !proc_exit_inprogress || !server_is_stopping();
}

/*
 * server_is_stopping
 *		Returns true if this process ends because all of them are to.
 *
 * The error, 57P01, is that of pg_terminate_backend() as well, and memory that
 * is shared with the postmaster does not tell.  But the postmaster notes in
 * its lock file that it stops, before it signals any process.  Callable from
 * callbacks: no allocation, no error.
 */
static bool
server_is_stopping(void)
{
	char		buf[MAXPGPATH + 512];
	char	   *line = buf;
	ssize_t		len;
	int			fd = open(DIRECTORY_LOCK_FILE, O_RDONLY | PG_BINARY, 0);
	int			i;

	if (fd < 0)
		return false;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return false;
	buf[len] = '\0';
	for (i = 1; i < LOCK_FILE_LINE_PM_STATUS && line != NULL; i++)
	{
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return line != NULL && strncmp(line, PM_STATUS_STOPPING,
								   strlen(PM_STATUS_STOPPING)) == 0;
}

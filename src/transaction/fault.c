/*-------------------------------------------------------------------------
 *
 * fault.c
 *		Is a rollback the fault of the messages that the transaction took?
 *
 * No callback is told why a transaction fails, but the error has gone to the
 * log just before, and a hook remembers it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/pidfile.h"

#include "transaction/fault.h"

/*
 * The postmaster's lock file, in the data directory, which is the current one
 */
#define DIRECTORY_LOCK_FILE	"postmaster.pid"

/*
 * The last error sent to the log in this transaction: its SQLSTATE, and when
 * the statement began that it ended, 0 if none was being executed
 */
static int	last_error = 0;
static TimestampTz failed_statement = 0;
static emit_log_hook_type prev_emit_log_hook = NULL;

static void note_error_code(ErrorData *edata);
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
 */
static void
note_error_code(ErrorData *edata)
{
	if (edata->elevel >= ERROR)
	{
		last_error = edata->sqlerrcode;
		failed_statement = edata->elevel == ERROR &&
			debug_query_string != NULL ? GetCurrentStatementStartTimestamp() : 0;
	}
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

/* Forget the last error: the transaction goes on after it, or is over. */
void
queue_fault_forget(void)
{
	last_error = 0;
	failed_statement = 0;
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
 * queue_fault_counts
 *		Returns true if a rollback at this point is the fault of the messages
 *		taken, as far as is known.
 *
 * What the server could not do is not their fault.  A statement that was
 * cancelled or timed out counts, and so does a session that was terminated or
 * has lost its client, because a message that takes too long shows in that
 * way.
 */
bool
queue_fault_counts(void)
{
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

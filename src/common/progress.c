/*-------------------------------------------------------------------------
 *
 * progress.c
 *		How far a long operation of this process has come.
 *
 * By what the server has for its own commands (backend_progress.h): some
 * numbers beside the state of each process, which it clears at an error and at
 * the end of the process, so there is nothing to be cleaned up here.  Our command
 * has a number of its own, so no view of the server shows it.  An operation
 * within a command that the server reports, such as a COPY, reports nothing; nor
 * does one within another of ours.
 *
 * Nothing is shown with track_activities off.
 *
 * No locks: a reader looks whether they have changed meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/progress.h"
#include "fmgr.h"
#include "utils/backend_progress.h"
#include "utils/backend_status.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/progress.h"

/* Not one of the server's, which are a few small numbers */
#define PROGRESS_COMMAND_QUEUE	((ProgressCommandType) 5017)

/* What the numbers are */
#define PROGRESS_PARAM_KIND		0
#define PROGRESS_PARAM_DONE		1
#define PROGRESS_PARAM_TOTAL	2
#define PROGRESS_PARAM_STARTED	3

static const char *const kind_names[] = {
	"redrive", "purge", "drop_queue", "retention"
};

/* Is it ours that this process reports? */
static bool
is_ours(void)
{
	return MyBEEntry != NULL &&
		MyBEEntry->st_progress_command == PROGRESS_COMMAND_QUEUE;
}

/* Begin to report, unless another command does. */
void
queue_progress_begin(ProgressKind kind, Oid relid, int64 total)
{
	if (MyBEEntry == NULL ||
		MyBEEntry->st_progress_command != PROGRESS_COMMAND_INVALID)
		return;
	pgstat_progress_start_command(PROGRESS_COMMAND_QUEUE, relid);
	pgstat_progress_update_param(PROGRESS_PARAM_KIND, kind);
	pgstat_progress_update_param(PROGRESS_PARAM_TOTAL, total);
	pgstat_progress_update_param(PROGRESS_PARAM_STARTED,
								 GetCurrentTimestamp());
}

/* So many messages are done. */
void
queue_progress_update(int64 done)
{
	if (is_ours())
		pgstat_progress_update_param(PROGRESS_PARAM_DONE, done);
}

/* It is over. */
void
queue_progress_end(void)
{
	if (is_ours())
		pgstat_progress_end_command();
}

/* Return how many rows a table has, as the statistics estimate. */
int64
queue_progress_estimate(Oid relid)
{
	return DatumGetInt64(DirectFunctionCall1(pg_stat_get_live_tuples,
											 ObjectIdGetDatum(relid)));
}

/*
 * queue_progress_next
 *		Return what the next process is at, from *i on.
 *
 * As the server's views, this sees the processes as they were when the
 * transaction first looked at them.
 */
bool
queue_progress_next(int *i, Progress *progress)
{
	while (*i < pgstat_fetch_stat_numbackends())
	{
		LocalPgBackendStatus *local =
			pgstat_get_local_beentry_by_index(++*i);
		PgBackendStatus *entry = &local->backendStatus;
		int64		kind;

		if (entry->st_progress_command != PROGRESS_COMMAND_QUEUE)
			continue;
		kind = entry->st_progress_param[PROGRESS_PARAM_KIND];
		if (kind < 0 || kind >= lengthof(kind_names))
			continue;
		progress->pid = entry->st_procpid;
		progress->dbid = entry->st_databaseid;
		progress->relid = entry->st_progress_command_target;
		progress->kind = kind_names[kind];
		progress->done = entry->st_progress_param[PROGRESS_PARAM_DONE];
		progress->total = entry->st_progress_param[PROGRESS_PARAM_TOTAL];
		progress->started_at = entry->st_progress_param[PROGRESS_PARAM_STARTED];
		return true;
	}
	return false;
}

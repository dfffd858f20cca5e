/*-------------------------------------------------------------------------
 *
 * activity.c
 *		What the processes of the extension do now, and what went wrong, for
 *		view queue.workers.
 *
 * pg_stat_activity shows what they do as a query, which only their role and
 * monitors may read, and forgets what went wrong.  So each process has a place
 * in shared memory: of which kind it is, since when it does what, and the last
 * warning or error that it sent to the log.  When it ends, the place stays for
 * the next one of its kind and database, which inherits the error: why a worker
 * is started again and again is what somebody wants to know.
 *
 * A table is noted by its OID, because other databases have other encodings, and
 * people who may not know its name.  The text of an error is in the encoding of
 * its process, so that is noted as well.
 *
 * There are as many places as processes, so there is always one, if need be that
 * of one that ended, whose error is forgotten then.  A process that dies takes
 * shared memory along; one that exits lets go of its place.
 *
 * Lock: one LWLock, the last in every order, held while a place is copied.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "common/activity.h"

static Activity *places = NULL;
static LWLock *lock = NULL;

/* That of this process, NULL: it has none */
static Activity *mine = NULL;

static emit_log_hook_type prev_emit_log_hook = NULL;

static Activity *find_place(const char *kind, Oid dbid);
static void end_at_exit(int code, Datum arg);
static void note_logged(ErrorData *error);
static void note_error(const ErrorData *error);

/*
 * queue_activity_shmem_size
 *		Shared memory needed for the places.
 */
Size
queue_activity_shmem_size(void)
{
	return mul_size(queue_activity_count(), sizeof(Activity));
}

/*
 * queue_activity_shmem_init
 *		Create or attach to the places.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_activity_shmem_init(void)
{
	bool		found;

	places = ShmemInitStruct("queue activities", queue_activity_shmem_size(),
							 &found);
	if (!found)
		memset(places, 0, queue_activity_shmem_size());
	lock = &GetNamedLWLockTranche("queue_activity")->lock;
}

/* How many places are there? */
int
queue_activity_count(void)
{
	return max_worker_processes;
}

/*
 * queue_activity_start
 *		Take a place for this process, until it exits.
 */
void
queue_activity_start(const char *kind, Oid dbid)
{
	Activity   *place;
	TimestampTz now = GetCurrentTimestamp();

	Assert(mine == NULL);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	place = find_place(kind, dbid);
	if (place != NULL)
	{
		place->pid = MyProcPid;
		place->started_at = now;
		place->since = now;
		place->doing[0] = '\0';
		place->relid = InvalidOid;
	}
	LWLockRelease(lock);
	mine = place;
	on_shmem_exit(end_at_exit, (Datum) 0);
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = note_logged;
}

/*
 * find_place
 *		Find the place that the last process like this one had, or else the one
 *		whose error is the oldest.
 */
static Activity *
find_place(const char *kind, Oid dbid)
{
	Activity   *oldest = NULL;

	for (int i = 0; i < queue_activity_count(); i++)
	{
		Activity   *place = &places[i];

		if (place->pid != 0)
			continue;
		if (place->dbid == dbid && strcmp(place->kind, kind) == 0)
			return place;
		if (oldest == NULL || place->error_at < oldest->error_at)
			oldest = place;
	}
	if (oldest != NULL)
	{
		memset(oldest, 0, sizeof(Activity));
		oldest->dbid = dbid;
		strlcpy(oldest->kind, kind, ACTIVITY_SIZE);
	}
	return oldest;
}

/* A process that exits lets go of its place. */
static void
end_at_exit(int code, Datum arg)
{
	Activity   *place = mine;

	mine = NULL;
	if (place == NULL)
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	place->pid = 0;
	LWLockRelease(lock);
}

/*
 * queue_activity_show
 *		This process does that now, with a table or without; NULL: nothing.
 */
void
queue_activity_show(const char *doing, Oid relid)
{
	TimestampTz now;

	if (mine == NULL || (doing == NULL && mine->doing[0] == '\0'))
		return;
	now = GetCurrentTimestamp();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	strlcpy(mine->doing, doing != NULL ? doing : "", ACTIVITY_SIZE);
	mine->relid = relid;
	mine->since = now;
	LWLockRelease(lock);
}

/*
 * note_logged
 *		Emit log hook: note a warning, or an error, whether it ends the process
 *		or not.
 *
 * That somebody wants it to leave, or to stop what it does, is neither.
 */
static void
note_logged(ErrorData *error)
{
	if (error->elevel >= WARNING && error->sqlerrcode != ERRCODE_ADMIN_SHUTDOWN &&
		error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		note_error(error);
	if (prev_emit_log_hook)
		prev_emit_log_hook(error);
}

/* Note what went wrong.  No allocation, no error. */
static void
note_error(const ErrorData *error)
{
	const char *message = error->message != NULL ? error->message : "";
	int			length = pg_mbcliplen(message, strlen(message),
									  ACTIVITY_ERROR_SIZE - 1);
	TimestampTz now = GetCurrentTimestamp();

	if (mine == NULL || LWLockHeldByMe(lock))
		return;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	memcpy(mine->error, message, length);
	mine->error[length] = '\0';
	mine->error_encoding = GetDatabaseEncoding();
	mine->error_at = now;
	LWLockRelease(lock);
}

/*
 * queue_activity_copy
 *		Copy a place; false if it is no process's.
 */
bool
queue_activity_copy(int i, Activity *copy)
{
	LWLockAcquire(lock, LW_SHARED);
	*copy = places[i];
	LWLockRelease(lock);
	return copy->pid != 0;
}

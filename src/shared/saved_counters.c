/*-------------------------------------------------------------------------
 *
 * saved_counters.c
 *		The counters of queues over a clean stop of the server.
 *
 * As the server does with its own statistics, the postmaster writes them into a
 * file when it ends (counter_writer.c), and reads and removes that when it
 * starts.  They are good only if nothing can have happened in between: the
 * control file says whether the server was shut down, and a file that was found
 * after a crash, or is of another form, is thrown away.
 *
 * What is read stays in the memory of the postmaster, which all processes
 * inherit.  A queue takes what is kept of it when it gets its place in shared
 * memory; a byte for each says which have done so.  What nobody has taken is
 * written again at the next stop.  After a crash the postmaster forgets all.
 *
 * What if memory is full?  Then nothing is read.  What if the disk is full?
 * Then the file is removed, the log says so, and all begin with zero.
 *
 * Locks: none; the bytes are set under the lock of the place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/saved_counters.h"

#define FILE_NAME		PGSTAT_STAT_PERMANENT_DIRECTORY "/queue.stat"
#define TEMPORARY_NAME	FILE_NAME ".tmp"

/* Changes with the form of the file, as SavedCounters does */
#define FILE_MAGIC		UINT64CONST(0x5155455545000001)

static SavedCounters *all = NULL;	/* sorted */
static int	nall = 0;
static volatile bool *taken = NULL;

static bool is_standby(void);
static void read_file(void);
static int	compare(const void *a, const void *b);

/* Shared memory needed: a byte for each queue that may be kept */
Size
queue_saved_shmem_size(void)
{
	return mul_size(queue_max_queues, sizeof(bool));
}

/*
 * queue_saved_shmem_init
 *		Create or attach to that; the postmaster reads the file.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_saved_shmem_init(void)
{
	bool		found;

	taken = ShmemInitStruct("queue saved counters", queue_saved_shmem_size(),
							&found);
	if (found)
		return;
	memset((void *) taken, 0, queue_saved_shmem_size());

	/* after a crash, too: they were those of before */
	if (all != NULL)
		pfree(all);
	all = NULL;
	nall = 0;
	if (queue_saved_is_shut_down() && !is_standby())
		read_file();
	(void) unlink(FILE_NAME);
}

/*
 * queue_saved_is_shut_down
 *		Is the server shut down, and has not crashed, as the control file says?
 */
bool
queue_saved_is_shut_down(void)
{
	bool		is_good;
	ControlFileData *control = get_controlfile(DataDir, &is_good);
	bool		result = is_good && (control->state == DB_SHUTDOWNED ||
									 control->state == DB_SHUTDOWNED_IN_RECOVERY);

	pfree(control);
	return result;
}

/*
 * Is it to be a standby, or to recover to another time?  Then messages come and
 * go that nobody counts here.
 */
static bool
is_standby(void)
{
	struct stat st;

	return stat(STANDBY_SIGNAL_FILE, &st) == 0 ||
		stat(RECOVERY_SIGNAL_FILE, &st) == 0;
}

/* Read the file, if there is one. */
static void
read_file(void)
{
	FILE	   *file = AllocateFile(FILE_NAME, PG_BINARY_R);
	uint64		header[2];
	SavedCounters *read = NULL;
	size_t		n = 0;

	if (file == NULL)
	{
		if (errno != ENOENT)
			ereport(LOG,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", FILE_NAME)));
		return;
	}
	if (fread(header, sizeof(header), 1, file) == 1 &&
		header[0] == FILE_MAGIC && header[1] == sizeof(SavedCounters))
	{
		read = MemoryContextAllocExtended(TopMemoryContext,
										  Max(queue_max_queues, 1) *
										  sizeof(SavedCounters),
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (read != NULL)
			n = fread(read, sizeof(SavedCounters), queue_max_queues, file);
	}
	(void) FreeFile(file);
	if (n == 0)
	{
		if (read != NULL)
			pfree(read);
		return;
	}
	all = read;
	nall = (int) n;
	qsort(all, nall, sizeof(SavedCounters), compare);
}

/* Comparator for qsort() and bsearch() */
static int
compare(const void *a, const void *b)
{
	const SavedCounters *left = a;
	const SavedCounters *right = b;

	if (left->dbid != right->dbid)
		return left->dbid < right->dbid ? -1 : 1;
	if (left->relid != right->relid)
		return left->relid < right->relid ? -1 : 1;
	return 0;
}

/*
 * queue_saved_take
 *		Take what is kept of a queue; NULL if there is nothing, or somebody has
 *		taken it.
 *
 * The place that it is for is locked.
 */
const SavedCounters *
queue_saved_take(Oid dbid, Oid relid)
{
	SavedCounters key;
	const SavedCounters *found;

	if (nall == 0)
		return NULL;
	key.dbid = dbid;
	key.relid = relid;
	found = bsearch(&key, all, nall, sizeof(SavedCounters), compare);
	if (found == NULL || taken[found - all])
		return NULL;
	taken[found - all] = true;
	return found;
}

/* Return all, and their number. */
const SavedCounters *
queue_saved_all(int *n)
{
	*n = nall;
	return all;
}

bool
queue_saved_is_taken(int i)
{
	return taken[i];
}

/* ----------------------------------------------------------------
 *		Writing
 * ----------------------------------------------------------------
 */

/* Begin the file under another name; NULL: that cannot be done. */
FILE *
queue_saved_begin_file(void)
{
	const uint64 header[] = {FILE_MAGIC, sizeof(SavedCounters)};
	FILE	   *file = AllocateFile(TEMPORARY_NAME, PG_BINARY_W);

	if (file == NULL)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", TEMPORARY_NAME)));
		return NULL;
	}
	if (fwrite(header, sizeof(header), 1, file) == 1)
		return file;
	queue_saved_end_file(file, false);
	return NULL;
}

bool
queue_saved_write(FILE *file, const SavedCounters *saved)
{
	return fwrite(saved, sizeof(SavedCounters), 1, file) == 1;
}

/* End it, and give it its name, or if it could not be written, remove it. */
void
queue_saved_end_file(FILE *file, bool is_good)
{
	if (!is_good)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", TEMPORARY_NAME)));
	if (FreeFile(file) != 0 && is_good)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", TEMPORARY_NAME)));
		is_good = false;
	}
	if (is_good)
		(void) durable_rename(TEMPORARY_NAME, FILE_NAME, LOG);
	else
		(void) unlink(TEMPORARY_NAME);
}

/*-------------------------------------------------------------------------
 *
 * counter_writer.c
 *		Keeping the counters of queues when the server stops.
 *
 * The postmaster writes them when all others have ended, so they are complete,
 * and nobody waits for it.  It does nothing if it ends otherwise, or makes
 * shared memory new after a crash: saved_counters.c says why.  If it cannot start,
 * it writes what it has read.
 *
 * Locks: none, because nobody else is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "common/compat.h"
#include "shared/counter_writer.h"
#include "shared/saved_counters.h"

static void write_all(int code, Datum arg);

/* It needs no shared memory of its own. */
Size
queue_counter_writer_shmem_size(void)
{
	return 0;
}

/* Called when shared memory is made, or attached to. */
void
queue_counter_writer_shmem_init(void)
{
	if (!IsUnderPostmaster)
		on_shmem_exit(write_all, (Datum) 0);
}

/* Callback at the end of the postmaster: write all that there is. */
static void
write_all(int code, Datum arg)
{
	FILE	   *file;
	const SavedCounters *left;
	SavedCounters saved;
	bool		is_good = true;
	int			nleft;

	if (!queue_saved_is_shut_down())
		return;
	file = queue_saved_begin_file();
	if (file == NULL)
		return;
	for (int i = 0; i < queue_slot_count() && is_good; i++)
	{
		QueueSlot  *slot = queue_slot_at(i);

		if (slot != NULL && queue_counters_save(slot, &saved))
			is_good = queue_saved_write(file, &saved);
	}
	left = queue_saved_all(&nleft);
	for (int i = 0; i < nleft && is_good; i++)
	{
		if (!queue_saved_is_taken(i))
			is_good = queue_saved_write(file, &left[i]);
	}
	queue_saved_end_file(file, is_good);
}

/*-------------------------------------------------------------------------
 *
 * failure.c
 *		Failed attempts: how long to back off, and what went wrong.
 *
 * The text that a consumer gives with nack() waits in shared memory for the
 * worker, which writes it to the row together with the count.  All messages of
 * a call share one slot, and so do consecutive calls with the same text.  The
 * slots are used in turn.  After a thousand more texts within that time a text
 * may be gone, and the row then has none.  The generation of a slot tells
 * whether it still has the text that an entry refers to.
 *
 * Failures without a text from a consumer have a fixed one, and no slot.
 *
 * Lock: one LWLock, held while a text is copied.  No other lock is taken under
 * it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "shared/failure.h"

#define NUM_TEXTS			1024
#define TEXT_SIZE			504

typedef struct TextSlot
{
	uint32		generation;
	char		string[TEXT_SIZE];
} TextSlot;

typedef struct FailureShared
{
	uint32		next;
	TextSlot	slots[NUM_TEXTS];
} FailureShared;

static FailureShared *shared = NULL;
static LWLock *lock = NULL;

/*
 * queue_failure_shmem_size
 *		Shared memory needed for the texts of failures.
 */
Size
queue_failure_shmem_size(void)
{
	return sizeof(FailureShared);
}

/*
 * queue_failure_shmem_init
 *		Create or attach to the texts of failures.
 *
 * The caller holds AddinShmemInitLock.
 */
void
queue_failure_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("queue failures", queue_failure_shmem_size(),
							 &found);
	if (!found)
		memset(shared, 0, queue_failure_shmem_size());
	lock = &GetNamedLWLockTranche("queue_failure")->lock;
}

/*
 * queue_failure_delay
 *		Microseconds to back off after this many failures.
 *
 * The n-th failure waits delay * 2^(n-1), and up to a half more at random, so
 * that messages that failed together do not come back together.  The result is
 * never longer than max_delay, nor shorter than the smaller of delay and
 * max_delay.
 */
int64
queue_failure_delay(const RetryPolicy *retry, int failures)
{
	int64		least = Min(retry->delay, retry->max_delay);
	double		low = (double) least;
	double		high;
	int			i;

	for (i = 1; i < failures && low < (double) retry->max_delay; i++)
		low *= 2;
	high = Min(low * 1.5, (double) retry->max_delay);
	low = Max((double) least, high / 1.5);
	if (high <= low)
		return least;
	return (int64) (low + (high - low) * pg_prng_double(&pg_global_prng_state));
}

/*
 * queue_failure_note_text
 *		Store a text of a failure, and return where it lies.
 *
 * The text is cut to the room of a slot.  If the slot filled last has the same
 * text, that one is returned.  NULL gives FAILURE_NO_TEXT and stores nothing.
 */
FailureText
queue_failure_note_text(const char *text)
{
	FailureText where = {FAILURE_NO_TEXT, 0};
	TextSlot   *slot;
	int			len;

	if (text == NULL)
		return where;
	len = pg_mbcliplen(text, strlen(text), TEXT_SIZE - 1);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	where.slot = (shared->next - 1) % NUM_TEXTS;
	slot = &shared->slots[where.slot];
	if (slot->generation == 0 || strncmp(slot->string, text, len) != 0 ||
		slot->string[len] != '\0')
	{
		where.slot = shared->next++ % NUM_TEXTS;
		slot = &shared->slots[where.slot];
		slot->generation++;
		memcpy(slot->string, text, len);
		slot->string[len] = '\0';
	}
	where.generation = slot->generation;
	LWLockRelease(lock);
	return where;
}

/*
 * queue_failure_text
 *		Return the text of a failure, palloc'd.
 *
 * Returns NULL if there was no text, or if its slot has been reused.
 */
char *
queue_failure_text(const FailureText *where)
{
	char		copy[TEXT_SIZE];
	bool		found = false;

	switch (where->slot)
	{
		case FAILURE_NO_TEXT:
			return NULL;
		case FAILURE_ROLLED_BACK:
			return pstrdup("rolled back");
		case FAILURE_LEASE_RAN_OUT:
			return pstrdup("lease ran out");
	}
	LWLockAcquire(lock, LW_SHARED);
	if (shared->slots[where->slot].generation == where->generation)
	{
		strlcpy(copy, shared->slots[where->slot].string, sizeof(copy));
		found = true;
	}
	LWLockRelease(lock);
	return found ? pstrdup(copy) : NULL;
}

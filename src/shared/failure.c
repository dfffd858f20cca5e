/*-------------------------------------------------------------------------
 *
 * failure.c
 *		Failed attempts: how long to back off, and what went wrong.
 *
 * The text that a consumer gives with nack() waits in shared memory for the
 * worker, which writes it to the row together with the count.  All messages of
 * a call share one slot, and so do calls that say the same one after the other.
 * The slots are used in turn: after a thousand more texts within that time one
 * may be gone, and the row just lacks it.  A generation tells whether a slot
 * still has the text that somebody remembers to have put there.
 *
 * Failures without a text of a consumer's have a fixed one, and no slot.
 *
 * Lock: one LWLock, held while a text is copied, with nothing below it.
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

Size
queue_failure_shmem_size(void)
{
	return sizeof(FailureShared);
}

/* Called with AddinShmemInitLock held. */
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
 * The n-th failure waits delay * 2^(n-1), up to a half more, so that messages
 * that failed together do not come back together; never longer than max_delay,
 * nor shorter than delay unless that is the longer one.
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
 * Put a text, cut to what there is room for, into the next slot, unless the
 * last one has it.
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

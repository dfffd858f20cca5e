/*-------------------------------------------------------------------------
 *
 * failure.c
 *		Failed attempts: how long to back off, and what went wrong.
 *
 * What is known of a failure waits in shared memory for the worker, which
 * writes it to the row together with the count.  An entry of the in-flight
 * table has room for little: when it was, in which way, and in which slot the
 * rest is.  That is the text, the SQLSTATE, the role by its oid, and the name
 * of the application.  All messages that fail at once share a slot, and so do
 * failures of the same kind that follow each other closely, as those of a
 * pool of consumers do.
 *
 * The slots are used in turn.  After a thousand more reasons within the second
 * that a failure waits for the worker, what was in a slot may be gone.  Then
 * the row has when it was, and the text that is common to its kind.  The
 * generation of a slot tells whether it still has what a note refers to.  So
 * there is always room, and if memory is lost, the rest is what the row tells.
 *
 * Lock: one LWLock, held while a slot is copied.  No other lock is taken under
 * it; it is taken under that of a partition of the in-flight table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "shared/failure.h"

#define NUM_SLOTS			1024

/* So many of the slots filled last are looked at for the same */
#define NUM_LOOKED_AT		16

/* What a slot says; bytes that are not used are zero */
typedef struct FailureText
{
	int			sqlstate;
	Oid			role;
	bool		has_string;
	char		application[FAILURE_NAME_SIZE];
	char		string[FAILURE_TEXT_SIZE];
} FailureText;

typedef struct FailureSlot
{
	uint32		generation;		/* 0: not used yet */
	uint32		hash;
	FailureText text;
} FailureSlot;

typedef struct FailureShared
{
	uint32		next;
	FailureSlot slots[NUM_SLOTS];
} FailureShared;

static FailureShared *shared = NULL;
static LWLock *lock = NULL;

static void clip(char *to, const char *from, int size);
static FailureSlot *find_same(const FailureText *text, uint32 hash);
static FailureSlot *fill_next(const FailureText *text, uint32 hash);
static const char *text_of_kind(FailureKind kind);

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
 * queue_failure_note
 *		Note a failure, of now, and return the note.
 *
 * Texts are cut to the room of a slot.  Without anything to say there is no
 * slot.  Callable from callbacks: no allocation, no error.
 */
FailureNote
queue_failure_note(FailureKind kind, const char *string, int sqlstate,
				   Oid role, const char *application)
{
	FailureNote note = {GetCurrentTimestamp(), 0, 0, kind, 0};
	FailureText text;
	FailureSlot *slot;
	uint32		hash;

	if (string == NULL && sqlstate == 0 && !OidIsValid(role))
		return note;
	memset(&text, 0, sizeof(text));
	text.		sqlstate = sqlstate;
	text.		role = role;
	text.		has_string = string != NULL;

	if (application != NULL)
		clip(text.application, application, FAILURE_NAME_SIZE);
	if (string != NULL)
		clip(text.string, string, FAILURE_TEXT_SIZE);
	hash = hash_bytes((unsigned char *) &text,
					  offsetof(FailureText, string) + strlen(text.string));

	LWLockAcquire(lock, LW_EXCLUSIVE);
	slot = find_same(&text, hash);
	if (slot == NULL)
		slot = fill_next(&text, hash);
	note.slot = slot - shared->slots;
	note.generation = slot->generation;
	LWLockRelease(lock);
	return note;
}

/*
 * queue_failure_note_own
 *		The same by the role and the application of this session.
 */
FailureNote
queue_failure_note_own(FailureKind kind, const char *string, int sqlstate)
{
	return queue_failure_note(kind, string, sqlstate, GetOuterUserId(),
							  application_name);
}

/* Copy a text, cut between two characters; the rest of the room is zero. */
static void
clip(char *to, const char *from, int size)
{
	memcpy(to, from, pg_mbcliplen(from, strlen(from), size - 1));
}

/* Find the same among the slots filled last.  They are locked, as below. */
static FailureSlot *
find_same(const FailureText *text, uint32 hash)
{
	for (int i = 1; i <= NUM_LOOKED_AT; i++)
	{
		FailureSlot *slot = &shared->slots[(shared->next - i) % NUM_SLOTS];

		if (slot->generation != 0 && slot->hash == hash &&
			memcmp(&slot->text, text, sizeof(FailureText)) == 0)
			return slot;
	}
	return NULL;
}

/* Fill the slot that was filled longest ago. */
static FailureSlot *
fill_next(const FailureText *text, uint32 hash)
{
	FailureSlot *slot = &shared->slots[shared->next++ % NUM_SLOTS];

	if (++slot->generation == 0)
		slot->generation = 1;
	slot->hash = hash;
	slot->text = *text;
	return slot;
}

/*
 * queue_failure_read
 *		Tell what is known of a failure.
 *
 * If its slot has been filled anew, that is little.
 */
void
queue_failure_read(const FailureNote *note, Failure *failure)
{
	FailureText text;
	bool		found = false;
	const char *common = text_of_kind(note->kind);

	if (note->generation != 0)
	{
		const FailureSlot *slot = &shared->slots[note->slot];

		LWLockAcquire(lock, LW_SHARED);
		found = slot->generation == note->generation;
		if (found)
			text = slot->text;

		LWLockRelease(lock);
	}
	failure->at = note->at;
	failure->batch = note->batch;
	failure->sqlstate = found ? text.sqlstate : 0;
	failure->role = found ? text.role : InvalidOid;
	failure->application = found && text.application[0] != '\0' ?
				pstrdup(text.application) : NULL;

	if (found && text.has_string)
		failure->message = pstrdup(text.string);
	else
		failure->message = common == NULL ? NULL : pstrdup(common);
}

/* The text of failures of which nothing else is known; NULL: none */
static const char *
text_of_kind(FailureKind kind)
{
	switch (kind)
	{
		case FAILURE_NACKED:
		case FAILURE_NACKED_SILENTLY:
			return NULL;
		case FAILURE_ROLLED_BACK:
			return "rolled back";
		case FAILURE_CONNECTION_LOST:
			return "connection lost";
		case FAILURE_LEASE_RAN_OUT:
			return "lease ran out";
	}
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * announce.c
 *		What a transaction has sent and looked at, for its end to announce.
 *
 * The ids of messages that a transaction sends are noted, one note a queue.  A
 * transaction that has notes is registered (announcer.c) before it writes its
 * first row, and struck off after the announcement, or when it has been passed
 * to the registry of prepared transactions.
 *
 * What a transaction has looked at after it has written something is noted by
 * queue and subtransaction.  Rows that a subtransaction has deleted are back
 * when it is rolled back.  Only its own looks, made after it had written
 * something itself, have not seen them, so only these windows are looked at
 * again.  All of its looks become its parent's when it ends, either way,
 * because they have not seen what the parent has deleted.  So a look in a
 * savepoint that begins with it, as most do, costs a rollback nothing, and the
 * cover does not keep what all earlier savepoints have looked at.
 *
 * What was sent becomes part of the cover when the transaction has left the
 * process array; waiters are woken a little later, when locks are released.
 * Nothing of that allocates or throws.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "shared/counters.h"
#include "shared/cover.h"
#include "shared/database.h"
#include "shared/expiry.h"
#include "shared/topic_slot.h"
#include "shared/usage.h"
#include "shared/waiter.h"
#include "table/definition.h"
#include "transaction/announce.h"
#include "transaction/announcer.h"

#define FIRST_NOTES			4

/* What this transaction has to announce */
static PendingAnnounce *notes = NULL;
static int	nnotes = 0;
static int	max_notes = 0;
static bool noted_database = false;

/*
 * ... and what it has looked at; looks of a subtransaction are the last ones
 */
static LookNote *looks = NULL;
static int	nlooks = 0;
static int	max_looks = 0;

/* The transaction has ended: wake waiters when its locks are released */
static bool wakes_pending = false;

static PendingAnnounce *find_note(Oid relid);
static LookNote *find_look(Oid relid);
static void *grow(void *array, int *max, Size size);

/* Return the note about a queue, made if need be.  May throw. */
static PendingAnnounce *
find_note(Oid relid)
{
	PendingAnnounce *note;
	int			i;

	queue_is_used = true;
	for (i = nnotes - 1; i >= 0; i--)
		if (notes[i].relid == relid)
			return &notes[i];

	if (nnotes == max_notes)
	{
		notes = grow(notes, &max_notes, sizeof(PendingAnnounce));

		/* they have moved */
		for (i = 0; i < nnotes; i++)
			notes[i].sent.ranges = notes[i].ranges;
	}
	note = &notes[nnotes];
	note->relid = relid;
	note->queue = queue_slot_find(relid);
	note->is_all = false;
	note->nmessages = 0;
	note->keys.is_any = false;
	note->keys.n = 0;
	note->later.ranks = 0;
	note->later.due = note->later.expires_at = TIMESTAMP_INFINITY;
	queue_ranges_init(&note->sent, note->ranges, NOTE_ROOM);
	nnotes++;
	return note;
}

/* The same about looks by the current subtransaction */
static LookNote *
find_look(Oid relid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	bool		is_writer =
		TransactionIdIsValid(GetCurrentTransactionIdIfAny());
	LookNote   *look;
	int			i;

	for (i = nlooks - 1; i >= 0 && looks[i].subid == subid; i--)
		if (looks[i].relid == relid && looks[i].is_writer == is_writer)
			return &looks[i];

	if (nlooks == max_looks)
	{
		looks = grow(looks, &max_looks, sizeof(LookNote));
		for (i = 0; i < nlooks; i++)
			looks[i].ids.ranges = looks[i].ranges;
	}
	look = &looks[nlooks];
	look->relid = relid;
	look->subid = subid;
	look->is_writer = is_writer;
	look->queue = queue_slot_find(relid);
	queue_ranges_init(&look->ids, look->ranges, NOTE_ROOM);
	nlooks++;
	return look;
}

/* Make room for twice as many elements, or the first.  May throw. */
static void *
grow(void *array, int *max, Size size)
{
	int			n = *max == 0 ? FIRST_NOTES : 2 * *max;

	if (array == NULL)
		array = MemoryContextAlloc(TopMemoryContext, n * size);
	else
		array = repalloc_huge(array, n * size);
	*max = n;
	return array;
}

/*
 * queue_announce_all
 *		Note that any message of this queue may be available when this
 *		transaction commits, and that its waiters are to look at its settings.
 *		May throw.
 */
void
queue_announce_all(Oid relid)
{
	find_note(relid)->is_all = true;
}

/*
 * queue_announce_sent
 *		Note messages that are to be announced when this transaction commits.
 *
 * To be called before a row is written, because it registers the transaction.
 * Assigns a transaction id.  May throw.
 */
void
queue_announce_sent(Oid relid, int priority, int64 low, int64 high)
{
	find_note(relid)->keys.is_any = true;
	queue_announce_keyed(relid, priority, low, high);
}

/* The same, if the caller tells the correlation_ids of these messages. */
void
queue_announce_keyed(Oid relid, int priority, int64 low, int64 high)
{
	PendingAnnounce *note;

	/* no scan can ever find it: replica role is not checked */
	if (priority < 0 || priority > QUEUE_MAX_PRIORITY)
		return;
	note = find_note(relid);
	queue_announcer_publish(relid, low, high);
	queue_announcer_register();
	note->nmessages += (int) Min(high - low + 1, INT_MAX / 2 - note->nmessages);
	queue_ranges_add(&note->sent, queue_rank(priority), low, high);
}

/*
 * queue_announce_key
 *		Tell the correlation_id of a message that is to be announced.
 *
 * If there are too many, everybody is woken.
 */
void
queue_announce_key(Oid relid, Datum correlation_id)
{
	WakeKeys   *keys = &find_note(relid)->keys;
	uint32		hash = queue_announce_hash(correlation_id);

	for (int i = 0; i < keys->n; i++)
		if (keys->hashes[i] == hash)
			return;
	if (keys->n < MAX_WAKE_KEYS)
		keys->hashes[keys->n++] = hash;
	else
		keys->is_any = true;
}

/* Return the hash of a correlation_id, by which others wait for it; not 0. */
uint32
queue_announce_hash(Datum correlation_id)
{
	text	   *key = DatumGetTextPP(correlation_id);
	uint32		hash = hash_bytes((unsigned char *) VARDATA_ANY(key),
								  VARSIZE_ANY_EXHDR(key));

	return hash != 0 ? hash : 1;
}

/*
 * queue_announce_delayed
 *		Note that a message which is not due before "due" is to be announced
 *		when this transaction commits.
 *
 * As queue_announce_sent().  The index by due time tells which message it is.
 */
void
queue_announce_delayed(Oid relid, int priority, TimestampTz due)
{
	PendingAnnounce *note;

	if (priority < 0 || priority > QUEUE_MAX_PRIORITY)
		return;
	note = find_note(relid);
	queue_announcer_register();
	note->later.ranks |= 1 << queue_rank(priority);
	note->later.due = Min(note->later.due, due);
}

/* Note a message that is to be announced, now or when it is due. */
void
queue_announce_row(Oid relid, const MessageDraft *draft)
{
	TimestampTz due = draft->visible_at.isnull ? 0 :
		DatumGetTimestampTz(draft->visible_at.value);

	if (due != 0 && due > GetCurrentTimestamp())
		queue_announce_delayed(relid, draft->priority, due);
	else
	{
		queue_announce_keyed(relid, draft->priority, draft->id, draft->id);
		if (!draft->correlation_id.isnull)
			queue_announce_key(relid, draft->correlation_id.value);
	}
	if (!draft->expires_at.isnull)
		queue_announce_expiry(relid,
							  DatumGetTimestampTz(draft->expires_at.value));
}

/*
 * queue_announce_expiry
 *		Note when messages expire that this transaction sends.  May throw.
 */
void
queue_announce_expiry(Oid relid, TimestampTz expires_at)
{
	PendingAnnounce *note = find_note(relid);

	note->later.expires_at = Min(note->later.expires_at, expires_at);
}

/*
 * queue_announce_undone
 *		Note that a transaction that has written something looks at this
 *		window.
 *
 * What it does not see may be back when it, or a part of it, is rolled back.
 * May throw.
 */
void
queue_announce_undone(Oid relid, const QueueRange *window)
{
	LookNote   *look = find_look(relid);

	queue_announcer_register();
	queue_ranges_add(&look->ids, window->rank, window->low, window->high);
}

/*
 * queue_announce_changed
 *		Note that this transaction has deleted or changed a message.
 *
 * A consumer that meets it meanwhile finds it busy and will look again, but a
 * rollback says at once that it is back.  May throw.
 */
void
queue_announce_changed(Oid relid, int priority, int64 id)
{
	QueueRange	range = {0};

	/* a row that no consumer would find */
	if (priority < 0 || priority > QUEUE_MAX_PRIORITY)
		return;
	range.rank = queue_rank(priority);
	range.low = range.high = id;
	queue_announce_undone(relid, &range);
}

/*
 * queue_xact_note_database
 *		Note that the leader is told about this database when this transaction
 *		commits.
 */
void
queue_xact_note_database(void)
{
	noted_database = true;
}

/* ----------------------------------------------------------------
 *		Ends of transactions
 * ----------------------------------------------------------------
 */

/* Is there something to be announced, or looked at again? */
bool
queue_announce_has_notes(void)
{
	return nnotes > 0 || nlooks > 0;
}

/* Is the leader to be told about this database? */
bool
queue_announce_has_database(void)
{
	return noted_database;
}

/* Are waiters to be woken when locks are released? */
bool
queue_announce_is_pending(void)
{
	return wakes_pending;
}

/* The notes of this transaction, and their number */
const PendingAnnounce *
queue_announce_notes(int *n)
{
	*n = nnotes;
	return notes;
}

/* The looks of this transaction, and their number */
const LookNote *
queue_announce_looks(int *n)
{
	*n = nlooks;
	return looks;
}

/* Others can see now what this transaction has sent: add it to the cover. */
void
queue_announce_commit(void)
{
	int			i;

	for (i = 0; i < nnotes; i++)
	{
		queue_cover_add_set(notes[i].queue, MyDatabaseId, notes[i].relid,
							&notes[i].sent, 0, NULL);
		queue_announce_later(MyDatabaseId, notes[i].relid, notes[i].queue,
							 &notes[i].later);
	}
	wakes_pending = true;
}

/*
 * queue_announce_later
 *		The same for what is due later, or expires.  No allocation, no error.
 */
void
queue_announce_later(Oid dbid, Oid relid, QueueSlot *hint,
					 const LaterNote *later)
{
	if (later->ranks != 0)
	{
		queue_cover_add_delayed_set(hint, dbid, relid, later->ranks,
									later->due);

		/* to count it as due then, if no consumer looks */
		queue_database_wake_by(dbid, later->due);
	}
	if (later->expires_at != TIMESTAMP_INFINITY)
		queue_expiry_note(hint, dbid, relid, later->expires_at);
}

/*
 * queue_announce_abort
 *		What a subtransaction, or all (InvalidSubTransactionId), has deleted
 *		is back: look again where it looked.
 *
 * A transaction that has deleted rows by plain SQL does not see them when it
 * looks for messages.
 */
void
queue_announce_abort(SubTransactionId subid)
{
	int			i;

	for (i = nlooks - 1; i >= 0; i--)
	{
		if (subid != InvalidSubTransactionId)
		{
			if (looks[i].subid != subid)
				break;
			if (!looks[i].is_writer)
				continue;
		}
		queue_cover_add_set(looks[i].queue, MyDatabaseId, looks[i].relid,
							&looks[i].ids,
							queue_ranges_count(&looks[i].ids, MAX_WAKES),
							NULL);
	}
}

/*
 * queue_announce_pass_on
 *		Pass the looks of a subtransaction that has ended, either way, to its
 *		parent, which may have written something before.
 */
void
queue_announce_pass_on(SubTransactionId subid, SubTransactionId parent)
{
	int			first = nlooks;
	int			nkept;
	int			i;

	while (first > 0 && looks[first - 1].subid == subid)
		first--;
	nkept = first;
	for (i = first; i < nlooks; i++)
	{
		int			j;

		for (j = nkept - 1; j >= 0 && looks[j].subid == parent; j--)
			if (looks[j].relid == looks[i].relid && looks[j].is_writer)
				break;
		if (j >= 0 && looks[j].subid == parent)
		{
			queue_ranges_add_set(&looks[j].ids, &looks[i].ids);
			continue;
		}
		if (nkept != i)
		{
			looks[nkept] = looks[i];
			looks[nkept].ids.ranges = looks[nkept].ranges;
		}
		looks[nkept].subid = parent;
		looks[nkept++].is_writer = true;
	}
	nlooks = nkept;
}

/* Wake the waiters, which find everything in order now. */
void
queue_announce_wake(void)
{
	int			i;

	for (i = 0; i < nnotes; i++)
	{
		RangeSet	none = {0};

		if (notes[i].is_all)
		{
			queue_cover_add_all(MyDatabaseId, notes[i].relid);
			queue_usage_forget(notes[i].queue, MyDatabaseId, notes[i].relid);
			if (notes[i].queue != NULL)
				queue_counters_doubt(notes[i].queue);
			queue_topic_slot_note_gone(MyDatabaseId, notes[i].relid);
		}
		else if (notes[i].nmessages > 0)
			queue_cover_add_set(notes[i].queue, MyDatabaseId, notes[i].relid,
								&none, notes[i].nmessages, &notes[i].keys);
	}
	if (noted_database)
		queue_database_announce(MyDatabaseId);
}

/* Forget all notes. */
void
queue_announce_reset(void)
{
	nnotes = 0;
	nlooks = 0;
	noted_database = false;
	wakes_pending = false;

	/* notes of a transaction with many queues should not stay */
	if (max_notes > 16 * FIRST_NOTES)
	{
		pfree(notes);
		notes = NULL;
		max_notes = 0;
	}
	if (max_looks > 16 * FIRST_NOTES)
	{
		pfree(looks);
		looks = NULL;
		max_looks = 0;
	}
}

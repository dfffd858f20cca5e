/*-------------------------------------------------------------------------
 *
 * send.c
 *		Messages that go into a queue, one or many at a time.
 *
 * What enqueue() and the topics that a queue is bound to have in common.  A
 * message is inserted in the transaction that sends it; the queue is noted, so
 * that its waiters are woken when that transaction commits.
 *
 * A message whose dedup key another one has is not sent, and nothing is noted
 * for it; its id, which was drawn before, is never used.
 *
 * Locks: the queue as its caller opened it, then its sequence, its key table,
 * its indexes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/ranges.h"
#include "dispatch/send.h"
#include "table/dedup.h"
#include "table/dedup_batch.h"
#include "table/ids.h"
#include "table/insert.h"
#include "transaction/announce.h"
#include "transaction/charge.h"

static void insert_many(Relation rel, QueueDef *def, const SendTerms *terms,
						MessageDraft *drafts, int n, const int64 *ids);
static int64 *find_duplicates(Relation rel, QueueDef *def,
							  const SendTerms *terms,
							  const MessageDraft *drafts, int n,
							  const int64 *ids);
static bool have_keys(const MessageDraft *drafts, int n);
static void note_sent(Relation rel, QueueDef *def, const SendTerms *terms,
					  const MessageDraft *drafts, int n);
static int64 bytes_of(const MessageDraft *drafts, int n);
static TimestampTz expiry_of(const SendTerms *terms);
static void apply_terms(MessageDraft *draft, const SendTerms *terms);
static void take_back(QueueDef *def, const MessageDraft *draft);


/* Send one message, unless it is a duplicate. */
bool
queue_send_one(Relation rel, QueueDef *def, const SendTerms *terms,
			   MessageDraft *draft)
{
	QueueInsert *insert;
	int64		first = 0;

	queue_next_ids(def, 1, &draft->id);
	apply_terms(draft, terms);
	queue_draft_check_size(draft);

	if (!draft->dedup_key.isnull)
		first = queue_dedup_one(rel, def, draft);
	if (first != 0)
	{
		take_back(def, draft);
		draft->id = first;
		return false;
	}
	note_sent(rel, def, terms, draft, 1);
	insert = queue_insert_begin(rel, def);
	queue_insert_row(insert, draft);
	queue_insert_end(insert);
	return true;
}

/* Send many messages. */
void
queue_send_many(Relation rel, QueueDef *def, const SendTerms *terms,
				MessageDraft *drafts, int n)
{
	int64	   *ids;

	if (n == 0)
		return;
	ids = palloc(n * sizeof(int64));
	queue_next_ids(def, n, ids);
	for (int i = 0; i < n; i++)
	{
		drafts[i].id = ids[i];
		apply_terms(&drafts[i], terms);
	}
	insert_many(rel, def, terms, drafts, n, ids);
	pfree(ids);
}

/*
 * insert_many
 *		Send messages with these ids; a duplicate has that of the first one
 *		afterwards.
 */
static void
insert_many(Relation rel, QueueDef *def, const SendTerms *terms,
			MessageDraft *drafts, int n, const int64 *ids)
{
	int64	   *firsts = NULL;
	QueueInsert *insert;

	if (have_keys(drafts, n))
		firsts = find_duplicates(rel, def, terms, drafts, n, ids);
	else
		note_sent(rel, def, terms, drafts, n);
	insert = queue_insert_begin(rel, def);
	for (int i = 0; i < n; i++)
	{
		if (firsts != NULL && firsts[i] != 0)
		{
			drafts[i].id = firsts[i];
			continue;
		}
		queue_draft_check_size(&drafts[i]);
		queue_insert_row(insert, &drafts[i]);
	}
	queue_insert_end(insert);
	if (firsts != NULL)
		pfree(firsts);
}

/*
 * find_duplicates
 *		Remember the keys of messages, and note those that are no duplicates,
 *		a run of them at a time.
 *
 * Returns the ids of the first messages where they are duplicates, and else
 * zeros.
 */
static int64 *
find_duplicates(Relation rel, QueueDef *def, const SendTerms *terms,
				const MessageDraft *drafts, int n, const int64 *ids)
{
	Datum	   *keys = palloc(n * sizeof(Datum));
	bool	   *nulls = palloc(n * sizeof(bool));
	int64	   *firsts = palloc(n * sizeof(int64));
	KeyedMessages messages = {n, keys, nulls, ids, terms->sent_at};
	int			next;

	for (int i = 0; i < n; i++)
	{
		keys[i] = drafts[i].dedup_key.value;
		nulls[i] = drafts[i].dedup_key.isnull;
	}
	queue_dedup_many(rel, def, &messages, firsts);
	for (int i = 0; i < n; i = next)
	{
		next = i + 1;
		if (firsts[i] != 0)
		{
			take_back(def, &drafts[i]);
			continue;
		}
		while (next < n && firsts[next] == 0)
			next++;
		note_sent(rel, def, terms, &drafts[i], next - i);
	}
	pfree(keys);
	pfree(nulls);
	return firsts;
}

/* Has any of them a dedup key? */
static bool
have_keys(const MessageDraft *drafts, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!drafts[i].dedup_key.isnull)
			return true;
	}
	return false;
}

/*
 * Note ids to be counted and announced at the commit, one range of consecutive
 * ids at a time; of those that are not due then, the due time is enough.
 */
static void
note_sent(Relation rel, QueueDef *def, const SendTerms *terms,
		  const MessageDraft *drafts, int n)
{
	int			first;
	int			next;

	if (terms->expires_in != 0)
		queue_announce_expiry(RelationGetRelid(rel), expiry_of(terms));
	queue_charge_sent(def, n, bytes_of(drafts, n), terms->due, 0);
	if (terms->due != 0)
	{
		queue_announce_delayed(RelationGetRelid(rel), terms->priority,
							   terms->due);
		return;
	}
	for (first = 0; first < n; first = next)
	{
		for (next = first + 1;
			 next < n && drafts[next].id == drafts[next - 1].id + 1;)
			next++;
		queue_announce_keyed(RelationGetRelid(rel), terms->priority,
							 drafts[first].id, drafts[next - 1].id);
	}
	for (int i = 0; i < n; i++)
		if (!drafts[i].correlation_id.isnull)
			queue_announce_key(RelationGetRelid(rel),
							   drafts[i].correlation_id.value);
}

/* Return how many bytes they have. */
static int64
bytes_of(const MessageDraft *drafts, int n)
{
	int64		bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += queue_draft_bytes(&drafts[i]);
	return bytes;
}

/* Return when the messages expire, which is counted from when they are due. */
static TimestampTz
expiry_of(const SendTerms *terms)
{
	return (terms->due != 0 ? terms->due : terms->sent_at) + terms->expires_in;
}

/* Let a message have what the call says of all. */
static void
apply_terms(MessageDraft *draft, const SendTerms *terms)
{
	draft->enqueued_at = terms->sent_at;
	draft->priority = terms->priority;
	draft->visible_at.isnull = terms->due == 0;
	draft->visible_at.value = TimestampTzGetDatum(terms->due);
	draft->expires_at.isnull = terms->expires_in == 0;
	draft->expires_at.value = TimestampTzGetDatum(expiry_of(terms));
}

/* A duplicate is not sent, and takes no room. */
static void
take_back(QueueDef *def, const MessageDraft *draft)
{
	Amount		amount = {1, queue_draft_bytes(draft)};

	queue_charge_undo(def, &amount);
}

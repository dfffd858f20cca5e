/*-------------------------------------------------------------------------
 *
 * fan_out.c
 *		Copies of what is published, for the queues that are bound.
 *
 * In the publisher's transaction a message is put into each queue that at least
 * one binding wants it for, once, as enqueue() would put it there: with an id
 * of the queue's, counted, announced, a duplicate left out.  It has one header
 * more, "published", which says where it comes from.  All that are published
 * together go into a queue together; the queues are taken in the order of their
 * OIDs.
 *
 * No privilege on the queue is asked for: its owner has bound it.  If it does
 * not take a message (bound_queue.c), or has no room for it, the publish fails,
 * or goes on without, as the binding says.  Nobody waits for room here, because
 * the publisher has written something by then (api/room.c).
 *
 * A dedup key is for the queues that remember keys, and nothing to others.
 *
 * Locks: the topic as its publisher opened it, so that bindings stay; then one
 * queue after the other, without waiting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/ranges.h"
#include "common/relation_name.h"
#include "dispatch/send.h"
#include "table/dedup.h"
#include "table/settings.h"
#include "topic/bindings.h"
#include "topic/bound_queue.h"
#include "topic/copy.h"
#include "topic/fan_out.h"
#include "transaction/admit.h"

/* What is published together */
typedef struct FanOut
{
	Oid			topic;
	char	   *name;			/* of the topic, qualified */
	const TopicDraft *drafts;
	int			n;
	const FanOutTerms *terms;
	Datum	   *headers;		/* those of the copies; 0: not made yet */
} FanOut;

/* Which of it one queue gets */
typedef struct Share
{
	Oid			relid;
	int			n;
	int		   *places;			/* among all drafts */
	bool	   *fails;			/* must it get this one? */
} Share;

const FanOutTerms queue_plain_terms = {.priority = QUEUE_DEFAULT_PRIORITY};

static void choose(const FanOut *out, const BoundQueue *queue, Share *share);
static void send_share(FanOut *out, const Share *share);
static void refuse(const FanOut *out, const Share *share, int first, int n,
				   Refusal refusal);
static int	make_copies(FanOut *out, const Share *share, int first, int n,
						const QueueDef *def, MessageDraft *copies);
static int	admit(const FanOut *out, const Share *share, int first,
				  Relation rel, QueueDef *def, MessageDraft *copies, int n);
static bool is_known(Relation rel, QueueDef *def, const MessageDraft *copy);
static Datum copy_headers(FanOut *out, int place);


/* Send the copies of messages, which have their ids and partitions. */
void
queue_fan_out(TopicDef *topic, Relation rel, const TopicDraft *drafts, int n,
			  const FanOutTerms *terms)
{
	const TopicBindings *bindings = queue_bindings(topic->relid);
	FanOut		out = {topic->relid, NULL, drafts, n, terms, NULL};
	Share		share;

	if (bindings->n == 0 || n == 0)
		return;
	share.places = MemoryContextAllocHuge(CurrentMemoryContext,
										  n * sizeof(int));
	share.fails = MemoryContextAllocHuge(CurrentMemoryContext, n);
	for (int i = 0; i < bindings->n; i++)
	{
		choose(&out, &bindings->queues[i], &share);
		if (share.n > 0)
			send_share(&out, &share);
	}
	pfree(share.places);
	pfree(share.fails);
}

/* Choose what the queue gets. */
static void
choose(const FanOut *out, const BoundQueue *queue, Share *share)
{
	share->relid = queue->relid;
	share->n = 0;
	for (int i = 0; i < out->n; i++)
	{
		bool		fails = false;

		if (!queue_bindings_want(queue, &out->drafts[i], out->terms->priority,
								 &fails))
			continue;
		share->places[share->n] = i;
		share->fails[share->n++] = fails;
	}
}

/* Put into the queue what it gets. */
static void
send_share(FanOut *out, const Share *share)
{
	const FanOutTerms *terms = out->terms;
	SendTerms	send = {terms->priority, 0, terms->due, terms->expires_in};
	Refusal		refusal;
	QueueDef   *def;
	Relation	rel = queue_bound_open(share->relid,
									   terms->dedup_keys != NULL, &def,
									   &refusal);
	MessageDraft *copies;

	if (rel == NULL)
	{
		refuse(out, share, 0, share->n, refusal);
		return;
	}
	/* a delay counts from when the call began; an owner may give any time */
	send.sent_at = terms->due != 0 ? out->drafts[0].published_at :
		GetCurrentTimestamp();
	if (send.expires_in == 0)
		send.expires_in = def->expires_in;
	copies = palloc(Min(share->n, SEND_MANY) * sizeof(MessageDraft));
	for (int i = 0; i < share->n; i += SEND_MANY)
	{
		int			n = make_copies(out, share, i,
									Min(share->n - i, SEND_MANY), def, copies);

		n = admit(out, share, i, rel, def, copies, n);
		queue_send_many(rel, def, &send, copies, n);
	}
	pfree(copies);
	table_close(rel, NoLock);
}

/*
 * refuse
 *		The queue does not take these: fail if one of them must get there, and
 *		else count them.
 */
static void
refuse(const FanOut *out, const Share *share, int first, int n,
	   Refusal refusal)
{
	if (refusal == REFUSAL_NONE)
		return;					/* it is gone */
	for (int i = first; i < first + n; i++)
		if (share->fails[i])
			queue_bound_report(out->topic, share->relid, refusal);
	queue_bound_skip(queue_slot_find(share->relid), share->relid, n, refusal);
}

/* Make the drafts of the copies. */
static int
make_copies(FanOut *out, const Share *share, int first, int n,
			const QueueDef *def, MessageDraft *copies)
{
	for (int i = 0; i < n; i++)
	{
		MessageDraft *copy = &copies[i];
		int			place = share->places[first + i];
		const TopicDraft *draft = &out->drafts[place];

		queue_draft_init(copy, 0, 0);
		copy->group_key = draft->group_key;
		copy->correlation_id = draft->correlation_id;
		copy->content_type = draft->content_type;
		copy->headers.value = copy_headers(out, place);
		copy->headers.isnull = false;
		copy->payload = draft->payload;
		copy->body = draft->body;
		if (out->terms->dedup_keys != NULL && def->dedup_window >= 0)
			copy->dedup_key = out->terms->dedup_keys[place];
	}
	return n;
}

/*
 * admit
 *		Count the copies in a queue with limits, and return how many are to be
 *		sent, which come first then.
 *
 * If there is no room for all of them, each is tried by itself.
 */
static int
admit(const FanOut *out, const Share *share, int first, Relation rel,
	  QueueDef *def, MessageDraft *copies, int n)
{
	Amount		all = {0, 0};
	int			nadmitted = 0;

	if (!queue_def_is_limited(def))
		return n;
	for (int i = 0; i < n; i++)
	{
		Amount		one = {1, queue_draft_bytes(&copies[i])};

		queue_amount_add(&all, &one);
	}
	if (queue_admit(rel, def, &all))
		return n;
	for (int i = 0; i < n; i++)
	{
		Amount		one = {1, queue_draft_bytes(&copies[i])};

		if (queue_admit(rel, def, &one))
			copies[nadmitted++] = copies[i];
		else if (!is_known(rel, def, &copies[i]))
			refuse(out, share, first + i, 1, REFUSAL_FULL);
	}
	return nadmitted;
}

/* Is it a duplicate, which needs no room? */
static bool
is_known(Relation rel, QueueDef *def, const MessageDraft *copy)
{
	return !copy->dedup_key.isnull &&
		queue_dedup_find(rel, def, copy->dedup_key.value) != 0;
}

/*
 * copy_headers
 *		Return the headers of a message's copies, the same for all queues.
 */
static Datum
copy_headers(FanOut *out, int place)
{
	if (out->headers == NULL)
	{
		out->headers = MemoryContextAllocExtended(CurrentMemoryContext,
												  out->n * sizeof(Datum),
												  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		out->name = queue_qualified_name(out->topic);
	}
	if (out->headers[place] == 0)
		out->headers[place] = queue_copy_headers(&out->drafts[place],
												 out->name);
	return out->headers[place];
}

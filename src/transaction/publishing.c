/*-------------------------------------------------------------------------
 *
 * publishing.c
 *		What a transaction has published, and how far topics can be read.
 *
 * A transaction registers in shared memory (topic_slot.c) before it draws ids,
 * and what it has registered is noted here, one note a topic.  It is struck off
 * when it has left the process array, so that a reader that is told a stable
 * id sees what is below it.  A savepoint that is rolled back changes nothing,
 * because ids that were drawn before it count from the same first one.
 *
 * PREPARE passes what is registered to the transaction id.  The ProcessUtility
 * hook strikes it off after COMMIT PREPARED or ROLLBACK PREPARED; so does the
 * worker, for ends that pass no hook, and a reader that is held back by one
 * that has ended.  After a restart it is found on disk (publishing_note.c), by
 * the process that uses the topic first.
 *
 * What if this process dies here?  By an error or exit, the callbacks strike it
 * off; by kill -9, memory is new, and so are the slots of topics.  What if the
 * message commits here?  It stays registered until its session comes to the
 * callback.  What if memory is full?  A note is made before anything is drawn.
 * Without a slot for the topic, or a registration, nothing is drawn: 53400.
 *
 * Locks: those of the slots.  The sequence, the rows and the notes on disk are
 * looked at without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/database.h"
#include "shared/waiter.h"
#include "table/topic_ids.h"
#include "table/topic_settings.h"
#include "transaction/publishing.h"
#include "transaction/publishing_note.h"

#define FIRST_NOTES			4

StaticAssertDecl(MAX_PARTITIONS <= TOPIC_MAX_PARTITIONS,
				 "partitions of topics");

/* What this transaction has registered */
static Publishing *notes = NULL;
static int	nnotes = 0;
static int	max_notes = 0;

static bool has_partition(TopicDef *topic, int partition);
static Publishing *find_note(TopicDef *topic);
static TopicSlot *open_slot(TopicDef *topic, bool missing_ok);
static void place_is_lost(TopicDef *topic, Publishing *note);
static void no_room(TopicDef *topic);
static bool has_ended(const TopicLimit *limit);
static void next_block(TopicDef *topic, Publishing *note, Oid *file);

/*
 * queue_publishing_draw
 *		Draw ids of a topic, after registering this transaction.
 *
 * The topic is locked against DDL to the end of the transaction.
 */
void
queue_publishing_draw(TopicDef *topic, int n, int *partitions, int64 *ids)
{
	TopicDraw	draw = {topic->sequence_file, n, partitions, ids, 0,
		ANY_PARTITION, 0};
	Publishing *note;

	/* in replica role a row may say anything */
	for (int i = 0; i < n; i++)
		if (partitions[i] != ANY_PARTITION && !has_partition(topic, partitions[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("topic \"%s\" has no partition %d",
							get_rel_name(topic->relid), partitions[i])));
	note = find_note(topic);
	for (;;)
	{
		switch (queue_topic_draw(note, &draw))
		{
			case TOPIC_NO_IDS:
				next_block(topic, note, &draw.file);
				break;
			case TOPIC_ALTERED:
				queue_topic_pass_rows(note->slot, note->relid,
									  queue_topic_last_in_table(topic),
									  draw.naltered);
				break;
			case TOPIC_NO_ROOM:
				no_room(topic);
				break;
			case TOPIC_GONE:
				place_is_lost(topic, note);
				note->slot = open_slot(topic, false /* raises */ );
				break;
			default:
				return;
		}
	}
}

/* Is this a partition of the topic? */
static bool
has_partition(TopicDef *topic, int partition)
{
	return partition >= 0 && partition < topic->partitions;
}

/* Take another block of the sequence, of that file from now on. */
static void
next_block(TopicDef *topic, Publishing *note, Oid *file)
{
	TopicBlock	block;
	int64		highest;

	queue_topic_next_block(topic, &block);
	*file = block.file;
	if (queue_topic_add_block(note->slot, note->relid, block.file,
							  block.first, block.last, &highest) ==
		TOPIC_NO_IDS)
	{
		/* another was quicker, or the sequence was set back */
		queue_topic_pass_id(topic, highest, &block);
		INJECTION_POINT("queue-block-dropped", NULL);
	}
}

/*
 * queue_publishing_given
 *		Register this transaction for an id that is given by hand.
 *
 * Ids go on beyond it.  If it is not to be refused, and readers may have passed
 * it or a publisher has drawn it, it is stored all the same, as rows are in
 * replica role.
 *
 * The table may be no topic yet, because it is being restored.  Nobody can read
 * it then, and memory knows nothing of it.
 */
void
queue_publishing_given(TopicDef *topic, int partition, int64 id,
					   bool may_refuse)
{
	Publishing *note;
	TopicOutcome outcome;
	int64		stable_id;
	bool		moves_sequence = false;
	TopicBlock	block;

	if (id == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("id " INT64_FORMAT " of topic \"%s\" is out of range",
						id, get_rel_name(topic->relid)),
				 errdetail("There must be an id after it.")));
	if (!topic->is_topic)
	{
		if (OidIsValid(topic->sequence))
			queue_topic_pass_id(topic, id, &block);
		if (partition >= 0 && partition < TOPIC_MAX_PARTITIONS)
			queue_topic_note_given(topic->relid, partition, id);
		return;
	}

	/* in replica role a row may say anything, and this one is never read */
	if (!has_partition(topic, partition))
		return;
	note = find_note(topic);
	while ((outcome = queue_topic_admit(note, partition, id,
										topic->sequence_file, &stable_id,
										&moves_sequence)) == TOPIC_GONE)
	{
		place_is_lost(topic, note);
		note->slot = open_slot(topic, false /* raises */ );
	}
	if (outcome == TOPIC_NO_ROOM)
		no_room(topic);
	if (outcome == TOPIC_PASSED && may_refuse)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("readers may have passed id " INT64_FORMAT " of topic \"%s\"",
						id, get_rel_name(topic->relid)),
				 errdetail("Nothing is added to partition %d below its stable id, " INT64_FORMAT ".",
						   partition, stable_id),
				 errhint("Leave the id to the topic.")));
	if (may_refuse && queue_topic_is_drawn(note, partition, id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("id " INT64_FORMAT " of topic \"%s\" may be in use",
						id, get_rel_name(topic->relid)),
				 errdetail("Another transaction that has not ended has drawn ids for partition %d, among which it is.",
						   partition),
				 errhint("Leave the id to the topic.")));
	if (!moves_sequence)
		return;
	queue_topic_pass_id(topic, id, &block);
	queue_topic_reserve(note->slot, note->relid, block.file, block.last);
}

/* Return the note about a topic, made if need be, with its slot.  May throw. */
static Publishing *
find_note(TopicDef *topic)
{
	Publishing *note;
	TopicSlot  *slot;

	for (int i = nnotes - 1; i >= 0; i--)
		if (notes[i].relid == topic->relid)
			return &notes[i];

	slot = open_slot(topic, false /* raises */ );
	if (nnotes == max_notes)
	{
		int			n = max_notes == 0 ? FIRST_NOTES : 2 * max_notes;

		if (notes == NULL)
			notes = MemoryContextAlloc(TopMemoryContext,
									   n * sizeof(Publishing));
		else
			notes = repalloc_huge(notes, n * sizeof(Publishing));
		max_notes = n;
	}
	note = &notes[nnotes++];
	note->relid = topic->relid;
	note->slot = slot;
	note->n = 0;
	return note;
}

/*
 * open_slot
 *		Return the slot of a topic, made and opened if need be.
 *
 * If there is no room for it, NULL or 53400.
 */
static TopicSlot *
open_slot(TopicDef *topic, bool missing_ok)
{
	Oid			relid = topic->relid;

	for (;;)
	{
		TopicSlot  *slot = queue_topic_slot_make(relid, topic->partitions);
		RecoveredPublisher *recovered;
		TopicOutcome outcome;
		uint64		generation;
		int64		highest;
		int			n;

		if (slot == NULL && missing_ok)
			return NULL;
		if (slot == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("no room in shared memory for topic \"%s\"",
							get_rel_name(topic->relid)),
					 errdetail("It can be neither published to nor read."),
					 errhint("Increase queue.max_topics (currently %d), which needs a restart, or drop topics.",
							 queue_max_topics)));
		if (queue_topic_slot_is_open(slot, relid, &generation))
			return slot;

		highest = queue_topic_highest_id(topic);
		recovered = queue_publishing_note_read(relid, &n);
		outcome = queue_topic_slot_open(slot, relid, generation, highest,
										recovered, n);
		if (recovered != NULL)
			pfree(recovered);
		if (outcome == TOPIC_NO_ROOM && missing_ok)
			return NULL;
		if (outcome == TOPIC_NO_ROOM)
			no_room(topic);

		/* they may have ended since; and the worker is to write it down */
		(void) queue_publishing_resolve();
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
	}
}

/*
 * place_is_lost
 *		The slot of a topic is another's by now.
 *
 * That happens if the extension is dropped, and if the topic was made in a
 * transaction that has not ended, and nobody was registered.
 */
static void
place_is_lost(TopicDef *topic, Publishing *note)
{
	if (note->n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"queue\" was dropped while topic \"%s\" was published to",
					get_rel_name(topic->relid))));
}

/* 53400: too many have registered. */
static void
no_room(TopicDef *topic)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many open transactions have published to topics"),
			 errdetail("There is no room in shared memory for one more that publishes to topic \"%s\".",
					   get_rel_name(topic->relid)),
			 errhint("Publish to fewer topics in a transaction, end prepared transactions, or increase max_connections.")));
}

/*
 * queue_publishing_limit
 *		Find how far a partition, or all of them, can be read.
 *
 * The publishers of what is below have left the process array.
 */
bool
queue_publishing_limit(TopicDef *topic, int partition, TopicLimit *limit,
					   bool missing_ok)
{
	for (;;)
	{
		TopicSlot  *slot = open_slot(topic, missing_ok);

		if (slot == NULL)
			return false;
		if (queue_topic_limit(slot, topic->relid, partition, limit) ==
			TOPIC_GONE)
			continue;
		if (!has_ended(limit))
			return true;

		/* a prepared one has ended, and nobody has noticed */
		(void) queue_publishing_resolve();
	}
}

/* Has the prepared transaction ended that holds a partition back? */
static bool
has_ended(const TopicLimit *limit)
{
	return TransactionIdIsValid(limit->xid) &&
		!TransactionIdIsInProgress(limit->xid);
}

/*
 * queue_publishing_limits
 *		Find how far each partition can be read.
 *
 * Many readers do that at once, when something was published.
 */
void
queue_publishing_limits(TopicDef *topic, TopicLimit *limits)
{
	bool		is_done = false;

	while (!is_done)
	{
		TopicSlot  *slot = open_slot(topic, false /* raises */ );

		if (queue_topic_limits(slot, topic->relid, topic->partitions,
							   limits) == TOPIC_GONE)
			continue;
		is_done = true;
		for (int i = 0; i < topic->partitions && is_done; i++)
			is_done = !has_ended(&limits[i]);
		if (!is_done)
			(void) queue_publishing_resolve();
	}
}

/*
 * queue_publishing_resolve
 *		Strike off prepared transactions that have ended.
 *
 * Returns how many registrations of others are left.  The server is asked about
 * them without a lock.
 */
int
queue_publishing_resolve(void)
{
	int			nleft = 0;

	for (int i = 0; queue_topic_slot_has_prepared() &&
		 i < queue_registration_count(); i++)
	{
		TransactionId xid = queue_registration_at(i)->xid;
		Oid			dbid;
		Oid			relid;

		if (!TransactionIdIsValid(xid))
			continue;
		if (TransactionIdIsInProgress(xid))
			nleft++;
		else
		{
			if (queue_topic_end_prepared(i, xid, &dbid, &relid))
				queue_database_wake_by(dbid, GetCurrentTimestamp() +
									   STABLE_ID_DELAY);
			if (OidIsValid(relid))
				queue_waiter_wake_all(dbid, relid);
		}
	}
	return nleft;
}

/* ----------------------------------------------------------------
 *		Ends of transactions
 * ----------------------------------------------------------------
 */

/* Has this transaction registered in a topic? */
bool
queue_publishing_has_any(void)
{
	return nnotes > 0;
}

/* The transaction is about to be prepared.  May throw. */
void
queue_publishing_before_prepare(void)
{
	if (nnotes > 0)
		queue_publishing_note_write(notes, nnotes);
}

/*
 * queue_publishing_pass
 *		The transaction is prepared: what it has registered stays.
 */
void
queue_publishing_pass(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();

	for (int i = 0; i < nnotes && TransactionIdIsValid(xid); i++)
		queue_topic_pass(&notes[i], xid);
	queue_publishing_end();

	/* the worker looks now and then whether it has ended */
	queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp());
}

/*
 * queue_publishing_end
 *		The transaction has left the process array: strike it off.
 *
 * Allocates nothing and throws nothing.
 */
void
queue_publishing_end(void)
{
	bool		is_news = false;

	for (int i = 0; i < nnotes; i++)
	{
		is_news |= queue_topic_strike_off(&notes[i]);
		queue_waiter_wake_all(MyDatabaseId, notes[i].relid);
	}
	nnotes = 0;
	if (is_news)
		queue_database_wake_by(MyDatabaseId, GetCurrentTimestamp() +
							   STABLE_ID_DELAY);
}

/*-------------------------------------------------------------------------
 *
 * retain.c
 *		Retention of topics: when messages are deleted.
 *
 * The worker goes over topics that have a retention or a max_bytes, in steps,
 * each a transaction of its own (oldest.c), and has a round between two of
 * them.  It remembers how far it has come in each partition, so that what is
 * dead is not passed over again; from time to time, and when a row was left, it
 * begins at the beginning.
 *
 * By time: the worker that finds a message that is to stay knows when it is to
 * go, and looks again then; or in a hundredth of the retention, whichever is
 * later, so that many go at once.  What is published meanwhile has as much
 * time.
 *
 * By size: a second after somebody has published, the files of the topic are
 * looked at.  If they are longer than max_bytes, it is found out how much of that
 * live messages take (live_size.c), because deleting makes no file shorter
 * at once.  What they take too much goes, the oldest first.
 *
 * All of this is in the memory of the worker.  A worker that begins goes over
 * all topics.  A change of settings is noticed within a second, if there is a
 * round; nothing is deleted by settings that have not been committed.
 *
 * Nothing here waits: a topic that is locked is left for later, and so is one
 * beyond the white list, which is logged.  Nothing waits for this, but a
 * statement that wants a lock on the table that excludes a DELETE: for a step.
 * The worker acts with the rights of the topic's owner.
 *
 * Commits are not waited for: after a crash the messages of the last moment may
 * be there again, together with what is known of them (removed_id.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/progress.h"
#include "common/relation.h"
#include "shared/queue_slot.h"
#include "shared/topic_slot.h"
#include "table/setting_row.h"
#include "table/topic.h"
#include "worker/duties.h"
#include "worker/oldest.h"
#include "worker/retain.h"
#include "worker/round.h"

/* How often to see which topics there are, if there is a round at all */
#define LIST_INTERVAL		(USECS_PER_SEC / 2)

/* Between two looks, but for a step that follows another */
#define MIN_REST			USECS_PER_SEC
#define MAX_REST			(60 * USECS_PER_SEC)
#define REST_PART			100 /* of the retention */

/* When to look again although nothing is known to be due */
#define IDLE_REST			(10 * 60 * USECS_PER_SEC)

/* How soon after a message was published the size is looked at */
#define SIZE_INTERVAL		USECS_PER_SEC

/* When to begin at the beginning: after a row was left, that doubles */
#define MIN_LEFT_DELAY		USECS_PER_SEC
#define PASS_INTERVAL		(10 * 60 * USECS_PER_SEC)

/* What steps may take of the time that delete nothing: a twentieth */
#define VAIN_SHARE			20

/* One topic */
typedef struct Retained
{
	Oid			relid;			/* hash key */
	bool		is_listed;
	bool		has_problem;	/* which was logged */
	int			npartitions;	/* in the arrays; 0: there are none */
	int64	   *after;			/* in each: how far it has come */
	ItemPointerData *tids;
	bool		is_full;		/* the last step has left something to do */
	int64		ndeleted;		/* since the last one that had not */
	LiveSize	size;			/* when it was looked at last */
	int64		excess;			/* what it was too much, less what has gone */

	/* settings, when they were looked at last */
	int64		retention;
	int64		max_bytes;
	bool		keep_unread;

	uint64		nends;			/* of publishers, at that time */
	TimestampTz seen_at;
	TimestampTz pass_at;		/* when to begin at the beginning */
	bool		has_left;		/* a row, since it last began there */
	int64		left_delay;
	TimestampTz looked_at;
	TimestampTz turn_at;		/* when the turn began in which it had a step */
	TimestampTz look_at;
	bool		is_wanted;		/* the worker is to wake for that */
} Retained;

static HTAB *topics = NULL;		/* by relid */
static TimestampTz listed_at = 0;
static Retained *present = NULL;	/* the one that is looked at, or was last */

static void list_topics(TimestampTz now);
static void make_table(void);
static void list_topic(Oid relid, TimestampTz now);
static void forget_topic(Retained *retained);
static bool has_changed(const Retained *retained);
static bool is_due(const Retained *retained, TimestampTz now);
static TimestampTz news_due(const Retained *retained);
static void look_at_topic(Retained *retained, TimestampTz now);
static void make_step(Retained *retained, Relation rel, TopicDef *topic,
					  TimestampTz now);
static void begin_pass(Retained *retained, TopicDef *topic, TimestampTz now);
static void look_at_size(Retained *retained, Relation rel, TopicDef *topic,
						 TimestampTz now);
static void end_step(Retained *retained, TopicDef *topic,
					 const OldestStep *step, TimestampTz began_at);
static void report_problem(Retained *retained, Relation rel, TopicDef *topic);
static void put_off(Retained *retained, int64 delay);

/*
 * queue_retain_due
 *		Return when the duty is due by what others have done since.
 */
TimestampTz
queue_retain_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = TIMESTAMP_INFINITY;
	HASH_SEQ_STATUS status;
	Retained   *retained;

	if (topics == NULL || listed_at > now || listed_at + LIST_INTERVAL <= now)
		return DT_NOBEGIN;
	hash_seq_init(&status, topics);
	while ((retained = hash_seq_search(&status)) != NULL)
	{
		if (is_due(retained, now))
			due = DT_NOBEGIN;
		due = Min(due, news_due(retained));
	}
	return due;
}

/*
 * queue_retain
 *		Make a step in a topic that is due.
 *
 * Each has a transaction of its own, because what is remembered of it is true
 * only if that commits.  When all that are due have had a step, others have
 * their turn.
 */
TimestampTz
queue_retain(void)
{
	static TimestampTz turn_at = 0;
	static bool is_again = false;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TIMESTAMP_INFINITY;
	Retained   *first = NULL;
	bool		has_more = false;
	HASH_SEQ_STATUS status;
	Retained   *retained;

	present = NULL;
	if (topics == NULL || listed_at > now || listed_at + LIST_INTERVAL <= now)
		list_topics(now);
	if (!is_again)
		turn_at = now;
	hash_seq_init(&status, topics);
	while ((retained = hash_seq_search(&status)) != NULL)
	{
		if (!is_due(retained, now))
		{
			if (retained->is_wanted)
				next = Min(next, retained->look_at);
		}
		else if (is_again && retained->turn_at == turn_at)
			next = now;
		else
		{
			has_more = first != NULL;
			first = retained;
		}
	}
	is_again = has_more;
	if (first == NULL)
		return next;
	first->turn_at = turn_at;
	look_at_topic(first, now);
	if (has_more)
		return DUTY_AGAIN;
	return first->is_wanted ? Min(next, first->look_at) : next;
}

/* After an error: leave that topic for a while. */
void
queue_retain_failed(void)
{
	if (present != NULL)
	{
		put_off(present, ROUND_RETRY_DELAY);

		/* what was done since may not have been committed */
		present->npartitions = 0;
	}
	present = NULL;
}

/* See which topics there are. */
static void
list_topics(TimestampTz now)
{
	List	   *relids = queue_setting_list(MEMBER_TOPIC, NULL, 0, NULL);
	HASH_SEQ_STATUS status;
	Retained   *retained;
	ListCell   *lc;

	if (topics == NULL)
		make_table();
	hash_seq_init(&status, topics);
	while ((retained = hash_seq_search(&status)) != NULL)
		retained->is_listed = false;
	foreach(lc, relids)
		list_topic(lfirst_oid(lc), now);
	hash_seq_init(&status, topics);
	while ((retained = hash_seq_search(&status)) != NULL)
	{
		if (!retained->is_listed)
			forget_topic(retained);
	}
	list_free(relids);
	listed_at = now;
}

static void
make_table(void)
{
	HASHCTL		ctl = {0};

	ctl.hcxt = TopMemoryContext;
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Retained);
	topics = hash_create("retention of topics", 32, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* One that is new is looked at at once, and so is one that has changed. */
static void
list_topic(Oid relid, TimestampTz now)
{
	bool		found;
	Retained   *retained = hash_search(topics, &relid, HASH_ENTER, &found);

	if (!found)
	{
		memset(retained, 0, sizeof(*retained));
		retained->relid = relid;
	}
	else if (!retained->has_problem && has_changed(retained))
		retained->look_at = Min(retained->look_at, now);
	retained->is_listed = true;
}

/* Have its settings changed, as far as is known? */
static bool
has_changed(const Retained *retained)
{
	TopicDef   *topic = queue_topic_def_known(retained->relid);

	return topic == NULL || topic->retention != retained->retention ||
		topic->max_bytes != retained->max_bytes ||
		topic->keep_unread != retained->keep_unread;
}

/* The topic has been dropped. */
static void
forget_topic(Retained *retained)
{
	if (retained->after != NULL)
	{
		pfree(retained->after);
		pfree(retained->tids);
	}
	hash_search(topics, &retained->relid, HASH_REMOVE, NULL);
}

/* Is it to be looked at?  The clock may have been set back. */
static bool
is_due(const Retained *retained, TimestampTz now)
{
	return retained->look_at <= now || retained->looked_at > now ||
		news_due(retained) <= now;
}

/*
 * news_due
 *		Return when to look at it because somebody has published since.
 */
static TimestampTz
news_due(const Retained *retained)
{
	if (queue_topic_slot_nends(retained->relid) == retained->nends)
		return TIMESTAMP_INFINITY;
	return retained->max_bytes > 0 ?
		Min(retained->seen_at + SIZE_INTERVAL, retained->look_at) :
		retained->look_at;
}

/*
 * look_at_topic
 *		Make a step in one topic, unless that takes a wait.
 */
static void
look_at_topic(Retained *retained, TimestampTz now)
{
	bool		is_locked = false;
	Relation	rel = NULL;
	TopicDef   *topic;

	present = retained;
	if (retained->looked_at > now)
		retained->pass_at = now;
	retained->looked_at = now;
	if (get_rel_relkind(retained->relid) == RELKIND_RELATION)
		rel = queue_open_unless_locked(retained->relid, RowExclusiveLock,
									   &is_locked);
	if (rel == NULL)
	{
		put_off(retained, is_locked ? ROUND_LOCKED_DELAY : IDLE_REST);
		return;
	}
	topic = queue_topic_def(rel);
	retained->retention = topic->retention;
	retained->max_bytes = topic->max_bytes;
	retained->keep_unread = topic->keep_unread;
	if (topic->is_topic && topic->problem != NULL)
		report_problem(retained, rel, topic);
	else
		retained->has_problem = false;
	if (topic->is_topic && topic->problem == NULL &&
		(topic->retention > 0 || topic->max_bytes > 0))
		make_step(retained, rel, topic, now);
	else
		put_off(retained, retained->has_problem ? ROUND_RETRY_DELAY :
				IDLE_REST);
	table_close(rel, NoLock);
}

/* Say, once, why nothing is deleted from this topic. */
static void
report_problem(Retained *retained, Relation rel, TopicDef *topic)
{
	if (!retained->has_problem)
		ereport(LOG,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("old messages of topic \"%s\" are not deleted",
						RelationGetRelationName(rel)),
				 errdetail_internal("%s", topic->problem)));
	retained->has_problem = true;
}

/* Make a step in a topic that is open, as its owner. */
static void
make_step(Retained *retained, Relation rel, TopicDef *topic, TimestampTz now)
{
	OldestStep	step = {0};
	Oid			save_userid;
	int			save_sec_context;

	if (retained->npartitions != topic->partitions || retained->pass_at <= now)
		begin_pass(retained, topic, now);

	/* it is as well if this is lost in a crash, and no standby is waited for */
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   save_sec_context | SECURITY_RESTRICTED_OPERATION);
	(void) queue_slot_make(topic->relid, SLOT_TOPIC);
	if (!retained->is_full)
		look_at_size(retained, rel, topic, now);
	step.cutoff = topic->retention > 0 ? now - topic->retention : DT_NOBEGIN;
	step.size = retained->size;
	step.excess = retained->excess;
	step.after = retained->after;
	step.tids = retained->tids;
	step.is_full = retained->is_full;
	if (!step.is_full)
		retained->ndeleted = 0;
	queue_progress_begin(PROGRESS_OF_RETENTION, topic->relid, -1);
	queue_progress_update(retained->ndeleted);
	queue_oldest_delete(rel, topic, &step);
	retained->ndeleted += step.ndeleted;
	queue_progress_end();
	retained->excess = step.excess;
	SetUserIdAndSecContext(save_userid, save_sec_context);

	/* let its dead rows be looked at */
	if (step.ndeleted > 0)
		queue_slot_note_purge(topic->relid);
	end_step(retained, topic, &step, now);
}

/* Begin at the beginning of each partition. */
static void
begin_pass(Retained *retained, TopicDef *topic, TimestampTz now)
{
	int			n = topic->partitions;

	if (retained->npartitions != n)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		if (retained->after != NULL)
		{
			pfree(retained->after);
			pfree(retained->tids);
		}
		retained->after = NULL;
		retained->tids = palloc0(n * sizeof(ItemPointerData));
		retained->after = palloc(n * sizeof(int64));
		MemoryContextSwitchTo(old);
		for (int i = 0; i < n; i++)
			ItemPointerSetInvalid(&retained->tids[i]);
		retained->npartitions = n;
		retained->is_full = false;
	}
	for (int i = 0; i < n; i++)
		retained->after[i] = PG_INT64_MIN;
	retained->pass_at = now + PASS_INTERVAL;
	if (!retained->has_left)
		retained->left_delay = MIN_LEFT_DELAY;
	retained->has_left = false;
}

/* Find out how many bytes are to go. */
static void
look_at_size(Retained *retained, Relation rel, TopicDef *topic,
			 TimestampTz now)
{
	retained->nends = queue_topic_slot_nends(topic->relid);
	retained->seen_at = now;
	retained->excess = 0;
	if (topic->max_bytes == 0 ||
		queue_live_size_of_files(rel) <= topic->max_bytes)
		return;
	queue_live_size(rel, &retained->size);
	retained->excess = retained->size.bytes - topic->max_bytes;
}

/*
 * end_step
 *		Say when the next one is to be.
 *
 * It is at once if there is more to do, after a round, in which others have
 * their turn.
 */
static void
end_step(Retained *retained, TopicDef *topic, const OldestStep *step,
		 TimestampTz began_at)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz look_at = TIMESTAMP_INFINITY;
	int64		rest = topic->retention == 0 ? MIN_REST :
		Max(MIN_REST, Min(topic->retention / REST_PART, MAX_REST));

	retained->is_full = step->is_full;
	if (step->has_left)
	{
		retained->has_left = true;
		retained->pass_at = Min(retained->pass_at, now + retained->left_delay);
		retained->left_delay = Min(2 * retained->left_delay, PASS_INTERVAL);
	}
	if (step->is_full)
	{
		retained->look_at = step->ndeleted > 0 ? now :
			now + VAIN_SHARE * Max(now - began_at, 0);
		retained->is_wanted = true;
		return;
	}

	/* what is published from now on has time for as long */
	if (topic->retention > 0)
		look_at = Min(step->first_kept, now) + topic->retention;
	if (step->is_held)
		look_at = now;
	look_at = Max(look_at, now + rest);
	if (step->has_left)
		look_at = Min(look_at, retained->pass_at);
	retained->is_wanted = step->is_held || step->has_left ||
		(topic->retention > 0 && step->first_kept < TIMESTAMP_INFINITY);
	retained->look_at = Min(look_at, now + IDLE_REST);
}

/* Look again after that time. */
static void
put_off(Retained *retained, int64 delay)
{
	retained->look_at = GetCurrentTimestamp() + delay;
	retained->is_wanted = delay < IDLE_REST;
	retained->is_full = false;
}

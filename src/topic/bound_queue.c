/*-------------------------------------------------------------------------
 *
 * bound_queue.c
 *		A queue that is bound to a topic, opened to take a copy.
 *
 * A publisher has nothing to do with the queues that others have bound: it
 * needs no privilege on them, and waits for none of them.  If a lock on the
 * queue is not to be had at once the queue does not take the message, and
 * its binding says what that means.  So publishers never wait for each other
 * here, in whatever order they meet the queues.
 *
 * The one exception is the worker that cuts the end off a table, which has it
 * locked for some milliseconds: no message is to be lost for the sake of space
 * (shared/bound.c).
 *
 * Locks: RowExclusiveLock on the queue, which stays, and on its key table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"

#include "common/clock.h"
#include "common/errcodes.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "table/key_table.h"
#include "table/settings.h"
#include "topic/bound_queue.h"

/* How long a worker that cuts the table is waited for */
#define CUT_PATIENCE	(200 * INT64CONST(1000))

static Relation open_at_once(Oid relid, bool *is_locked);
static Refusal judge(QueueDef *def, bool has_keys);


/*
 * queue_bound_open
 *		Open a queue to send it a copy, of which some may have dedup keys.
 *
 * Returns NULL, with nothing locked, if it does not take any: *refusal says
 * why.  A queue that is gone refuses nothing, because its bindings are going,
 * too.  Whether there is room is not asked.
 */
Relation
queue_bound_open(Oid relid, bool has_keys, QueueDef **def, Refusal *refusal)
{
	bool		is_locked;
	Relation	rel = open_at_once(relid, &is_locked);

	*refusal = is_locked ? REFUSAL_LOCKED : REFUSAL_NONE;
	if (rel == NULL)
		return NULL;
	queue_is_used = true;
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		*refusal = REFUSAL_ALTERED;
	else
	{
		*def = queue_def(rel);
		*refusal = judge(*def, has_keys);
	}
	if (*refusal == REFUSAL_NONE)
		return rel;
	table_close(rel, RowExclusiveLock);
	return NULL;
}

/* Lock and open it, unless somebody else is in the way or it is gone. */
static Relation
open_at_once(Oid relid, bool *is_locked)
{
	QueueSlot  *slot = queue_slot_find(relid);
	TimestampTz give_up_at = 0;

	for (;;)
	{
		uint32		ncuts = queue_bound_ncuts(slot);
		Relation	rel = queue_open_unless_locked(relid, RowExclusiveLock,
												   is_locked);

		if (!*is_locked || !queue_bound_was_cut(slot, ncuts))
			return rel;
		if (give_up_at == 0)
			give_up_at = queue_clock() + CUT_PATIENCE;
		if (queue_clock() >= give_up_at)
			return NULL;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/* Does it take messages? */
static Refusal
judge(QueueDef *def, bool has_keys)
{
	Relation	keys;

	if (!def->is_queue || def->problem != NULL)
		return REFUSAL_ALTERED;
	if (def->enqueue_paused)
		return REFUSAL_PAUSED;
	if (has_keys && def->dedup_window >= 0)
	{
		keys = queue_key_table_open(def, true /* altered_ok */ );
		if (keys == NULL)
			return REFUSAL_ALTERED;
		table_close(keys, NoLock);
	}
	return REFUSAL_NONE;
}

/*
 * queue_bound_report
 *		Raise the error of a publish that fails because this queue does not
 *		take the message.
 *
 * The SQLSTATE is the one that enqueue() would raise.
 */
void
queue_bound_report(Oid topic, Oid relid, Refusal refusal)
{
	static const struct
	{
		int			sqlstate;
		const char *detail;
	}			reasons[] = {
		[REFUSAL_NONE] = {ERRCODE_INTERNAL_ERROR, ""},
		[REFUSAL_LOCKED] = {
			ERRCODE_LOCK_NOT_AVAILABLE,
			"Another transaction has it locked, or waits for such a lock."
		},
		[REFUSAL_ALTERED] = {
			ERRCODE_WRONG_OBJECT_TYPE,
			"It has been altered so that it cannot be used as a queue; queue.problem() says what is wrong."
		},
		[REFUSAL_PAUSED] = {ERRCODE_QUEUE_PAUSED, "Enqueue on it is paused."},
		[REFUSAL_FULL] = {ERRCODE_QUEUE_FULL, "It has no room for it."}
	};

	ereport(ERROR,
			(errcode(reasons[refusal].sqlstate),
			 errmsg("bound queue \"%s\" does not take what is published to topic \"%s\"",
					queue_shown_name(relid), queue_shown_name(topic)),
			 errdetail_internal("%s", reasons[refusal].detail),
			 errhint("Try again later; or bind the queue with on_refusal => 'skip' to have the topic go on without it.")));
}

/* Return the refusal as a word, for views; NULL: there is none. */
const char *
queue_bound_word(Refusal refusal)
{
	static const char *const words[] = {
		[REFUSAL_NONE] = NULL,
		[REFUSAL_LOCKED] = "locked",
		[REFUSAL_ALTERED] = "altered",
		[REFUSAL_PAUSED] = "paused",
		[REFUSAL_FULL] = "full"
	};

	return words[refusal];
}

/*-------------------------------------------------------------------------
 *
 * redrive.c
 *		Dead letters go back to where they came from: redrive(),
 *		redrive_all().
 *
 * The row of the dead letter is deleted and a new one inserted into the queue
 * it came from, in the caller's transaction.  Other sessions find the dead
 * letter busy until that ends, as with cancel(); it is claimed for the moment
 * of the change only, so a hundred thousand need no room in memory, and a
 * rollback only says where to look again.  What others hold, or are just
 * changing, is skipped, but for a step of the worker, which is waited for: calls
 * that run at the same time share the work.
 *
 * Where a message came from is what the row says that the server wrote
 * (origin.c), not its header.  It has its old id again, unless a message of the
 * queue has that; then, and in another queue, a new one.  It is another row
 * than the one that died, by its enqueued_at, so no receipt of its former life
 * settles it.
 *
 * The cover of the queue learns of the id at the commit, as of any that the
 * owner gives to a plain INSERT, and so does its group.
 *
 * Dead letters go in the order in which they died, that of their ids, which
 * takes a scan for each priority.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "api/change.h"
#include "api/room.h"
#include "common/compat.h"
#include "common/progress.h"
#include "common/relation_name.h"
#include "common/sql.h"
#include "dispatch/lease.h"
#include "dispatch/turn.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/ids.h"
#include "table/insert.h"
#include "table/origin.h"
#include "table/scan.h"
#include "table/selector.h"
#include "table/settings.h"
#include "transaction/announce.h"
#include "transaction/admit.h"
#include "transaction/charge.h"

/* Messages and bytes that wait for one multi-insert */
#define CHUNK_MESSAGES		1000
#define CHUNK_BYTES			(4 * 1024 * 1024)

#define NUM_PRIORITIES		(QUEUE_MAX_PRIORITY + 1)

/* A queue that dead letters go to */
typedef struct Target
{
	Oid			relid;
	Relation	rel;
	QueueDef   *def;
	QueueInsert *insert;		/* NULL: none wait */
	struct Target *next;
} Target;

/* Dead letters in the order of their ids */
typedef struct LetterScan
{
	QueueScan  *scans[NUM_PRIORITIES];
	MessageRow *rows[NUM_PRIORITIES];	/* the next of each; NULL: none */
	int			current;		/* the one returned last; -1: none */
} LetterScan;

typedef struct Redrive
{
	/* what is asked for */
	Oid			relid;			/* of the dead letters */
	int64		max;
	QueueSelector *selector;	/* NULL: all */
	Oid			to_queue;		/* InvalidOid: where they came from */
	bool		is_one;			/* the one from "low" to "high" */
	int			per_second;		/* 0: all at once */

	/* how far it is */
	TimestampTz begun_at;
	bool		is_bounded;		/* are these known? */
	int64		low;			/* ids from here on are to be looked at ... */
	int64		high;			/* ... up to here */
	int64		ntotal;			/* sent back, in earlier transactions too */
	int64		nhomeless;		/* skipped: no queue to go to */

	/* of this transaction */
	Relation	rel;
	QueueDef   *def;
	MemoryContext context;
	int64		count;
	Target	   *targets;

	/* messages that wait to be inserted */
	MemoryContext chunk;
	int			nwaiting;
	Size		nbytes;
	Target	   *waiting[CHUNK_MESSAGES];
	int64		waiting_ids[CHUNK_MESSAGES];
} Redrive;

PG_FUNCTION_INFO_V1(queue_redrive);
PG_FUNCTION_INFO_V1(queue_redrive_all);

static void begin_redrive(Redrive *redrive, FunctionCallInfo fcinfo,
						  int first);
static int64 count_argument(int64 value, const char *name);
static void check_rights(Redrive *redrive);
static bool redrive_some(Redrive *redrive);
static void begin_letters(LetterScan *letters, Redrive *redrive);
static MessageRow *next_letter(LetterScan *letters);
static void end_letters(LetterScan *letters);
static bool is_wanted(Redrive *redrive, MessageRow *row);
static void send_back(Redrive *redrive, MessageRow *row);
static void take_room(Target *target, const MessageDraft *draft);
static Target *find_target(Redrive *redrive, MessageRow *row, Origin *origin);
static Target *open_target(Redrive *redrive, Oid relid);
static void make_draft(Redrive *redrive, Target *target, MessageRow *row,
					   const Origin *origin, MessageDraft *draft);
static int64 choose_id(Redrive *redrive, Target *target, const Origin *origin);
static bool is_taken(Redrive *redrive, Target *target, int64 id);
static void strip_headers(MessageDraft *draft, const Origin *origin);
static void insert_waiting(Redrive *redrive);
static void require_target(const Redrive *redrive);
static void report_homeless(const Redrive *redrive);
pg_noreturn static void refuse_homeless(const Redrive *redrive,
										const Origin *origin);

/* redrive(dead_queue, max, selector, to_queue, id, per_second) */
Datum
queue_redrive(PG_FUNCTION_ARGS)
{
	Redrive    *redrive = palloc0(sizeof(Redrive));

	queue_call_begin(fcinfo, "queue.redrive()", CALL_WRITES, "dead_queue");
	redrive->max = PG_ARGISNULL(1) ? PG_INT64_MAX :
		count_argument(PG_GETARG_INT64(1), "max");
	begin_redrive(redrive, fcinfo, 2);
	queue_progress_begin(PROGRESS_OF_REDRIVE, redrive->relid,
						 Min(redrive->max,
							 queue_progress_estimate(redrive->relid)));
	if (!PG_ARGISNULL(4))
	{
		redrive->is_one = redrive->is_bounded = true;
		redrive->low = redrive->high = PG_GETARG_INT64(4);
	}
	if (!PG_ARGISNULL(5))
		redrive->per_second = count_argument(PG_GETARG_INT32(5), "per_second");
	(void) redrive_some(redrive);
	queue_progress_end();
	report_homeless(redrive);
	PG_RETURN_INT64(redrive->count);
}

/*
 * redrive_all(dead_queue, batch, selector, to_queue, per_second)
 *
 * Each batch is a transaction.  What has been skipped is not looked at again,
 * nor what died since the call began, so it ends, whatever becomes of what it
 * sends back.
 */
Datum
queue_redrive_all(PG_FUNCTION_ARGS)
{
	Redrive    *redrive;
	QueueDef   *def;
	bool		is_done = false;

	queue_call_begin(fcinfo, "queue.redrive_all()", CALL_WRITES,
					 "dead_queue", "batch");
	table_close(queue_open(PG_GETARG_OID(0), QUEUE_OWN, &def), NoLock);
	if (queue_call_is_atomic(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("queue.redrive_all() cannot run inside a transaction block"),
				 errdetail("It commits after each batch."),
				 errhint("Call it outside, or call queue.redrive(), which is part of the transaction.")));

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	redrive = palloc0(sizeof(Redrive));
	redrive->max = count_argument(PG_GETARG_INT32(1), "batch");
	begin_redrive(redrive, fcinfo, 2);
	if (!PG_ARGISNULL(4))
		redrive->per_second = count_argument(PG_GETARG_INT32(4), "per_second");
	queue_progress_begin(PROGRESS_OF_REDRIVE, redrive->relid,
						 queue_progress_estimate(redrive->relid));
	while (!is_done)
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		is_done = redrive_some(redrive);
		PopActiveSnapshot();
		SPI_commit();
	}
	queue_progress_end();
	report_homeless(redrive);
	queue_sql_end();
	PG_RETURN_VOID();
}

/*
 * begin_redrive
 *		Read the arguments that both have: dead_queue, and from the one with
 *		this number on selector and to_queue.
 */
static void
begin_redrive(Redrive *redrive, FunctionCallInfo fcinfo, int first)
{
	redrive->relid = PG_GETARG_OID(0);
	if (!PG_ARGISNULL(first))
		redrive->selector = queue_selector_make(PG_GETARG_DATUM(first), false);
	if (!PG_ARGISNULL(first + 1))
		redrive->to_queue = PG_GETARG_OID(first + 1);
	if (redrive->to_queue == redrive->relid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("to_queue is the queue of the dead letters itself"),
				 errhint("Name the queue that is to have them.")));
	redrive->begun_at = GetCurrentTimestamp();
}

/* Return a number of messages, which must be at least 1. */
static int64
count_argument(int64 value, const char *name)
{
	if (value < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at least 1", name),
				 errdetail("The value given is " INT64_FORMAT ".", value)));
	return value;
}

/*
 * check_rights
 *		Ask for the right to send to the queue that was named, which is an
 *		error even if there is no dead letter.
 */
static void
check_rights(Redrive *redrive)
{
	if (OidIsValid(redrive->to_queue))
		(void) open_target(redrive, redrive->to_queue);
}

/*
 * redrive_some
 *		Send up to "max" dead letters back, in this transaction.
 *
 * Returns true if there are no more.
 */
static bool
redrive_some(Redrive *redrive)
{
	LetterScan	letters;
	MessageRow *row = NULL;
	MemoryContext old;

	redrive->context = AllocSetContextCreate(CurrentMemoryContext,
											 "queue redrive",
											 ALLOCSET_DEFAULT_SIZES);
	redrive->chunk = AllocSetContextCreate(redrive->context,
										   "queue redrive chunk",
										   ALLOCSET_DEFAULT_SIZES);
	redrive->targets = NULL;
	redrive->count = 0;
	old = MemoryContextSwitchTo(redrive->context);
	redrive->rel = queue_open(redrive->relid, QUEUE_OWN, &redrive->def);
	check_rights(redrive);
	queue_lease_load();
	begin_letters(&letters, redrive);

	while (redrive->count < redrive->max &&
		   (row = next_letter(&letters)) != NULL)
	{
		if (row->id < PG_INT64_MAX)
			redrive->low = row->id + 1;
		MemoryContextSwitchTo(redrive->chunk);
		if (is_wanted(redrive, row))
			send_back(redrive, row);
		if (redrive->nwaiting == CHUNK_MESSAGES ||
			redrive->nbytes >= CHUNK_BYTES)
			insert_waiting(redrive);
		else if (redrive->nwaiting == 0)
			MemoryContextReset(redrive->chunk);
		queue_progress_update(redrive->ntotal + redrive->count);

		/* the scans have their memory where they are called */
		MemoryContextSwitchTo(redrive->context);
	}
	insert_waiting(redrive);

	end_letters(&letters);
	for (Target *target = redrive->targets; target; target = target->next)
		table_close(target->rel, NoLock);
	table_close(redrive->rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(redrive->context);
	redrive->ntotal += redrive->count;
	return row == NULL;
}

/* ----------------------------------------------------------------
 *		Dead letters, in the order of their ids
 * ----------------------------------------------------------------
 */

static void
begin_letters(LetterScan *letters, Redrive *redrive)
{
	letters->current = -1;
	for (int i = 0; i < NUM_PRIORITIES; i++)
	{
		QueueRange	range = {0};

		letters->scans[i] = queue_scan_begin(redrive->rel, redrive->def);
		if (!redrive->is_bounded)
		{
			redrive->is_bounded = true;
			redrive->low = PG_INT64_MIN;
			redrive->high = queue_scan_last_id(letters->scans[i]);
		}
		range.rank = i;
		range.low = redrive->low;
		range.high = redrive->high;
		letters->rows[i] = NULL;
		if (range.low > range.high)
			continue;
		/* what the worker is just rewriting is waited for */
		letters->scans[i]->wants_busy = true;
		letters->scans[i]->wants_versions = true;
		queue_scan_range(letters->scans[i], &range);
		letters->rows[i] = queue_scan_next(letters->scans[i]);
	}
}

static MessageRow *
next_letter(LetterScan *letters)
{
	int			next = -1;

	if (letters->current >= 0)
		letters->rows[letters->current] =
			queue_scan_next(letters->scans[letters->current]);
	for (int i = 0; i < NUM_PRIORITIES; i++)
	{
		if (letters->rows[i] != NULL &&
			(next < 0 || letters->rows[i]->id < letters->rows[next]->id))
			next = i;
	}
	letters->current = next;
	return next < 0 ? NULL : letters->rows[next];
}

static void
end_letters(LetterScan *letters)
{
	for (int i = 0; i < NUM_PRIORITIES; i++)
		queue_scan_end(letters->scans[i]);
}

/*
 * is_wanted
 *		Does the selector match?
 *
 * As with purge(), the present state counts, but in a transaction that keeps
 * its snapshot, what that does not see is left alone.
 */
static bool
is_wanted(Redrive *redrive, MessageRow *row)
{
	int			attempt = 0;

	if (IsolationUsesXactSnapshot() &&
		!queue_row_is_visible(redrive->rel, row, GetActiveSnapshot()))
		return false;
	if (redrive->selector == NULL)
		return true;
	if (queue_selector_wants_attempt(redrive->selector))
	{
		MessageKey	key;
		InflightEntry entry;
		MessageStatus status;
		bool		has_entry;

		queue_message_key(&key, redrive->relid, row->id);
		has_entry = queue_inflight_peek(&key, row->enqueued_at, &entry);
		queue_row_status(redrive->def, row, has_entry ? &entry : NULL,
						 redrive->begun_at, &status);
		attempt = status.failures + 1;
	}
	return queue_selector_matches(redrive->selector, row, attempt);
}

/* ----------------------------------------------------------------
 *		One of them
 * ----------------------------------------------------------------
 */

/*
 * send_back
 *		Delete a dead letter, and let its message wait to be inserted.
 *
 * Does nothing if somebody else has it.
 */
static void
send_back(Redrive *redrive, MessageRow *row)
{
	Change		change = {0};
	Origin		origin = {0};
	Target	   *target = find_target(redrive, row, &origin);
	MessageDraft draft;

	if (target == NULL)
	{
		redrive->nhomeless++;
		return;
	}
	change.rel = redrive->rel;
	change.def = redrive->def;
	change.row = row;
	queue_message_key(&change.key, redrive->relid, row->id);
	if (queue_change_begin(&change, row->enqueued_at))
	{
		make_draft(redrive, target, row, &origin, &draft);
		change.is_done = queue_charge_delete(redrive->rel, redrive->def, row,
											 GONE_REMOVED);
	}
	queue_change_unclaim(&change);
	if (!change.is_done)
		return;

	queue_announce_changed(redrive->relid, row->priority, row->id);
	/* not for each of millions: a consumer that has met it looks again soon */
	if (row->visible_at != 0 && queue_row_was_delivered(redrive->rel, row))
		queue_turn_note_end(redrive->def, row);
	take_room(target, &draft);
	draft.id = choose_id(redrive, target, &origin);
	queue_announce_row(target->relid, &draft);
	queue_charge_sent_draft(target->def, &draft);
	if (target->insert == NULL)
		target->insert = queue_insert_begin(target->rel, target->def);
	queue_insert_row(target->insert, &draft);
	redrive->waiting[redrive->nwaiting] = target;
	redrive->waiting_ids[redrive->nwaiting++] = draft.id;
	if (!draft.payload.isnull)
		redrive->nbytes += toast_raw_datum_size(draft.payload.value);
	if (!draft.body.isnull)
		redrive->nbytes += toast_raw_datum_size(draft.body.value);
	redrive->count++;
}

/*
 * take_room
 *		Count the message, and raise QU003 if its queue has no room for it.
 *
 * It cannot wait for room: this transaction has written.
 */
static void
take_room(Target *target, const MessageDraft *draft)
{
	Amount		amount;

	if (!queue_def_is_limited(target->def))
		return;
	amount.messages = 1;
	amount.bytes = queue_draft_bytes(draft);
	if (!queue_admit(target->rel, target->def, &amount))
		queue_raise_full(target->def, &amount,
						 target->def->on_full == FULL_ERROR ?
						 ROOM_OF_SETTINGS : ROOM_OF_TRANSACTION);
}

/*
 * find_target
 *		Return the queue that a dead letter goes to, opened; NULL if it has
 *		none.  That is an error if this one was asked for.
 */
static Target *
find_target(Redrive *redrive, MessageRow *row, Origin *origin)
{
	Oid			relid = redrive->to_queue;

	if (!queue_origin_read(queue_row_failure_log(row), origin))
	{
		origin->expires_at = row->expires_at;
		origin->had_headers = true;
	}
	if (!OidIsValid(relid))
		relid = origin->relid;
	if (OidIsValid(relid) && relid != redrive->relid)
		return open_target(redrive, relid);
	if (redrive->is_one)
		refuse_homeless(redrive, origin);
	return NULL;
}

/* Return a queue to send to, opened, if need be, with all checks. */
static Target *
open_target(Redrive *redrive, Oid relid)
{
	MemoryContext old;
	Target	   *target;

	for (target = redrive->targets; target; target = target->next)
	{
		if (target->relid == relid)
			return target;
	}
	old = MemoryContextSwitchTo(redrive->context);
	target = palloc0(sizeof(Target));
	target->relid = relid;
	target->rel = queue_open(relid, QUEUE_ENQUEUE, &target->def);
	target->next = redrive->targets;
	redrive->targets = target;
	MemoryContextSwitchTo(old);
	return target;
}

/*
 * make_draft
 *		Make the message that a dead letter was, but for its id.
 *
 * It is due at once, or when its turn is among so many a second.  If it had an
 * end that is still to come it keeps that; if not, the queue's own applies,
 * counted from when it is due.
 */
static void
make_draft(Redrive *redrive, Target *target, MessageRow *row,
		   const Origin *origin, MessageDraft *draft)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = now;

	/* a clock that was set back must not make it the row that it was */
	queue_draft_init(draft, 0, Max(now, row->enqueued_at + 1));
	queue_draft_copy(draft, row->slot);
	strip_headers(draft, origin);
	if (redrive->per_second > 0)
		due = redrive->begun_at + (redrive->ntotal + redrive->count) *
			USECS_PER_SEC / redrive->per_second;
	if (due > now)
	{
		draft->visible_at.value = TimestampTzGetDatum(due);
		draft->visible_at.isnull = false;
	}
	if (origin->expires_at > Max(now, due))
	{
		draft->expires_at.value = TimestampTzGetDatum(origin->expires_at);
		draft->expires_at.isnull = false;
	}
	else if (target->def->expires_in > 0)
		queue_draft_expire(draft, target->def->expires_in);
}

/* Return the id that the message gets: its old one, if that is free. */
static int64
choose_id(Redrive *redrive, Target *target, const Origin *origin)
{
	int64		id = origin->id;

	if (id > 0 && origin->relid == target->relid &&
		!is_taken(redrive, target, id))
		queue_advance_id(target->def, id);
	else
		queue_next_ids(target->def, 1, &id);
	return id;
}

/*
 * is_taken
 *		Returns true if the queue has a message with this id, or will have,
 *		whatever its priority.
 */
static bool
is_taken(Redrive *redrive, Target *target, int64 id)
{
	for (int i = 0; i < redrive->nwaiting; i++)
	{
		if (redrive->waiting_ids[i] == id && redrive->waiting[i] == target)
			return true;
	}
	return !queue_id_is_new(target->def, id) &&
		queue_row_has_twin(target->rel, target->def, id, -1 /* any */ );
}

/* Take the header of dead letters away. */
static void
strip_headers(MessageDraft *draft, const Origin *origin)
{
	Jsonb	   *headers;

	if (draft->headers.isnull)
		return;
	headers = DatumGetJsonbP(draft->headers.value);
	if (!JB_ROOT_IS_OBJECT(headers))
		return;					/* replica role is not checked */
	draft->headers.value =
		DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(headers),
							CStringGetTextDatum("dead_letter"));
	draft->headers.isnull = !origin->had_headers &&
		JB_ROOT_COUNT(DatumGetJsonbP(draft->headers.value)) == 0;
}

/* Insert the messages that wait, and forget all about them. */
static void
insert_waiting(Redrive *redrive)
{
	for (Target *target = redrive->targets; target; target = target->next)
	{
		if (target->insert != NULL)
			queue_insert_end(target->insert);
		target->insert = NULL;
	}
	redrive->nwaiting = 0;
	redrive->nbytes = 0;
	MemoryContextReset(redrive->chunk);
}

/* ----------------------------------------------------------------
 *		Those that have nowhere to go
 * ----------------------------------------------------------------
 */

/* None went back, of a queue that subscriptions alone send to: 22023. */
static void
require_target(const Redrive *redrive)
{
	if (queue_dead_letter_subscriptions(redrive->relid) == NIL ||
		queue_dead_letter_sources(redrive->relid) != NIL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("redrive of the dead letters of a subscription needs to_queue"),
			 errdetail("Those of queue \"%s\" are copies of messages of a topic, and have no queue to go back to.",
					   queue_shown_name(redrive->relid)),
			 errhint("Name a queue for them in to_queue.")));
}

static void
report_homeless(const Redrive *redrive)
{
	if (redrive->nhomeless > 0 && redrive->ntotal == 0)
		require_target(redrive);
	if (redrive->nhomeless > 0)
		ereport(NOTICE,
				(errmsg_plural("redrive skipped %lld message that has no queue to go back to",
							   "redrive skipped %lld messages that have no queue to go back to",
							   (unsigned long) redrive->nhomeless,
							   (long long) redrive->nhomeless),
				 errdetail("They were sent to \"%s\" directly, come from a subscription, or their queue is gone.",
						   queue_shown_name(redrive->relid)),
				 errhint("Name a queue for them in to_queue.")));
}

static void
refuse_homeless(const Redrive *redrive, const Origin *origin)
{
	if (origin->name == NULL)
		require_target(redrive);
	if (origin->name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message " INT64_FORMAT " of queue \"%s\" has no queue to go back to",
						redrive->high, queue_shown_name(redrive->relid)),
				 errdetail("It was sent to that queue directly, or comes from a subscription, whatever its headers say."),
				 errhint("Name a queue for it in to_queue.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist any more", origin->name),
			 errdetail("Message " INT64_FORMAT " of queue \"%s\" comes from there.",
					   redrive->high, queue_shown_name(redrive->relid)),
			 errhint("Name a queue for it in to_queue.")));
}

/*-------------------------------------------------------------------------
 *
 * ids.c
 *		Ids of messages: from the queue's sequence, in blocks.
 *
 * The sequence counts in blocks (its INCREMENT says how long they are), so
 * one call of nextval() serves for many messages.  The block in use is in
 * shared memory, for all sessions to draw from, so that ids rise with time.
 * What is left of it when the server stops is lost; no id is given twice,
 * since the sequence has moved beyond the block before it is used.
 *
 * A queue that has no state in shared memory takes a block for each call.  So
 * does who finds that another has been quicker with the next block; ids that
 * he does not need are lost then.
 *
 * Locks: that of the queue's state, for a few instructions; the sequence is
 * asked without it.  Those who give ids by hand wait for each other for a
 * moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"

#include "compat.h"
#include "ids.h"
#include "mutant.h"

/* an allocator this near to a given id is moved there step by step */
#define NEAR_IDS			1000

/* lock "subobject" by which movers of an allocator exclude each other */
#define LOCK_ADVANCE		1

static int	draw(QueueDef *def, int n, int64 *ids);
static int64 next_block(QueueDef *def, int64 *last);
static int64 catch_up(QueueDef *def, QueueState *state);
static void keep_block(QueueDef *def, int64 next, int64 last);
static bool advance_in_memory(QueueDef *def, int64 id);
static void move_sequence(Oid sequence, int64 id);

/* The right to enqueue is INSERT on the table; the sequence is part of it. */
void
queue_next_ids(QueueDef *def, int n, int64 *ids)
{
	while (n > 0)
	{
		int			ndrawn = draw(def, n, ids);
		int64		next;
		int64		last;

		ids += ndrawn;
		n -= ndrawn;
		if (n == 0)
			break;
		for (next = next_block(def, &last); n > 0 && next <= last; n--)
			*ids++ = next++;
		keep_block(def, next, last);
	}
}

/* From the block in shared memory; how many it had */
static int
draw(QueueDef *def, int n, int64 *ids)
{
	QueueState *state = queue_state_lock(queue_def_state(def), MyDatabaseId,
										 def->relid);
	int			i;

	if (state == NULL)
		return 0;
	for (i = 0; i < n && state->next_id <= state->last_id; i++)
		ids[i] = state->next_id++;
	if (MUTANT_SOMETIMES(ID_TWICE, 500) && i > 0)
		state->next_id--;
	LWLockRelease(state->lock);
	return i;
}

/*
 * Another block of the sequence: its first id, and its last.  Somebody may
 * have set the sequence back; the ids that were given since then are behind
 * us all the same.
 */
static int64
next_block(QueueDef *def, int64 *last)
{
	QueueState *state = queue_def_state(def);
	int64		first = nextval_internal(def->sequence, false);

	/* an unlocked look */
	if (state != NULL && state->relid == def->relid &&
		first <= state->highest_id)
		first = catch_up(def, state);
	*last = first <= PG_INT64_MAX - def->id_block ?
		first + def->id_block - 1 : PG_INT64_MAX;
	return first;
}

/*
 * Another may have been quicker with a higher block, so what looks as if the
 * sequence was set back is looked at again.  Was it, then whoever draws comes
 * by here, and setval() cannot take a block back from anybody.
 */
static int64
catch_up(QueueDef *def, QueueState *state)
{
	int64		first;
	int			tries = 0;

	LockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
					   ExclusiveLock);
	do
	{
		first = nextval_internal(def->sequence, false);
	} while (first <= state->highest_id && ++tries < 3);
	if (first <= state->highest_id)
	{
		move_sequence(def->sequence, state->highest_id);
		first = nextval_internal(def->sequence, false);
	}
	UnlockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
						 ExclusiveLock);
	return first;
}

/* What is left of a block is for all, unless there is another already. */
static void
keep_block(QueueDef *def, int64 next, int64 last)
{
	QueueState *state;

	state = queue_state_lock(queue_def_state(def), MyDatabaseId, def->relid);
	if (state == NULL)
		return;
	state->highest_id = Max(state->highest_id, last);
	if (next <= last && state->next_id > state->last_id)
	{
		state->next_id = next;
		state->last_id = last;
	}
	LWLockRelease(state->lock);
}

void
queue_forget_ids(Oid relid, bool starts_over)
{
	QueueState *state = queue_state_find(relid);

	if (state != NULL)
		state = queue_state_lock(state, MyDatabaseId, relid);
	if (state == NULL)
		return;
	state->last_id = state->next_id - 1;
	if (starts_over)
		state->highest_id = 0;
	LWLockRelease(state->lock);
}

/*
 * Move the allocator beyond an id that the owner gave.  Those who move it
 * exclude each other by a lock held for a moment.  Those who only draw ids do
 * not take it, so near ids are reached by drawing, which cannot go backwards;
 * for setval() to do that, others would have to draw NEAR_IDS ids between the
 * two calls.
 */
void
queue_advance_id(QueueDef *def, int64 id)
{
	if (advance_in_memory(def, id))
		return;
	LockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
					   ExclusiveLock);
	if (!advance_in_memory(def, id))
	{
		int64		next;
		int64		last;

		do
		{
			next = next_block(def, &last);
		} while (last < id && id - last < NEAR_IDS);
		if (last < id)
			move_sequence(def->sequence, id);
		else if (id < PG_INT64_MAX)
			keep_block(def, Max(next, id + 1), last);
	}
	UnlockDatabaseObject(RelationRelationId, def->sequence, LOCK_ADVANCE,
						 ExclusiveLock);
}

/*
 * Is the block in shared memory beyond the id, or can it be?  If not, its ids
 * are not to be used any more.
 */
static bool
advance_in_memory(QueueDef *def, int64 id)
{
	QueueState *state = queue_state_lock(queue_def_state(def), MyDatabaseId,
										 def->relid);
	bool		is_beyond;

	if (state == NULL)
		return false;
	is_beyond = id <= state->last_id;
	if (is_beyond)
		state->next_id = Max(state->next_id, id + 1);
	else
		state->last_id = state->next_id - 1;
	LWLockRelease(state->lock);
	return is_beyond;
}

/*
 * setval() without regard to the privileges on the sequence: those on the table
 * have decided, as for nextval_internal() above, and the owner may have lost
 * his own.  It runs no code of anybody, and whoever is served here cannot
 * choose where the sequence goes: beyond ids that were given, or to one that
 * the owner himself gives.  An error gives the user back with the end of the
 * (sub)transaction.
 */
static void
move_sequence(Oid sequence, int64 id)
{
	Oid			save_userid;
	int			save_sec_context;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, save_sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
						Int64GetDatum(id));
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

/*-------------------------------------------------------------------------
 *
 * sequence.c
 *		Sequences that ids come from, without regard to privileges on them.
 *
 * The right to send is INSERT on the table; the sequence is a part of that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "common/compat.h"
#include "table/sequence.h"

/* Lock "subobject" by which sessions that move a sequence exclude each other */
#define LOCK_ADVANCE		1

static void explain_end(void *arg);

/*
 * queue_sequence_next
 *		Call nextval(); its error says more when ids have come to their end.
 */
int64
queue_sequence_next(Oid sequence, const char *what)
{
	ErrorContextCallback callback;
	int64		value;

	callback.callback = explain_end;
	callback.arg = unconstify(char *, what);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	value = nextval_internal(sequence, false);
	error_context_stack = callback.previous;
	return value;
}

/*
 * Error context callback of that.  The page of the sequence is locked, so
 * there is no look into the catalogs.
 */
static void
explain_end(void *arg)
{
	if (geterrcode() != ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED)
		return;
	errdetail("The %s has no more ids, since one at the end of their range was given or set by hand.",
			  (char *) arg);
	errhint("Set the sequence back to the highest of the other ids, with setval().");
}

/*
 * queue_sequence_last
 *		Return what SELECT last_value would, without its privilege: the last
 *		id that was drawn, or the one that will be the first.
 */
int64
queue_sequence_last(Oid sequence, bool *is_called)
{
	Relation	rel = relation_open(sequence, AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL, 0);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		isnull;
	int64		result;

	if (!table_scan_getnextslot(scan, ForwardScanDirection, slot))
		elog(ERROR, "sequence %u has no row", sequence);
	result = DatumGetInt64(slot_getattr(slot, SEQ_COL_LASTVAL, &isnull));
	*is_called = DatumGetBool(slot_getattr(slot, SEQ_COL_CALLED, &isnull));
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	relation_close(rel, NoLock);
	return result;
}

/*
 * queue_sequence_move
 *		setval() without regard to the privileges on the sequence.
 *
 * Those on the table have decided, as for nextval_internal() above, and the
 * owner may have lost its own.  It runs no code of any user.  A caller cannot
 * choose where the sequence goes: beyond ids that were given, or to one that
 * the owner itself gives, or has in its table.  An error restores the user
 * with the end of the (sub)transaction.
 */
void
queue_sequence_move(Oid sequence, int64 id)
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

/* Exclude other sessions that move the sequence. */
void
queue_sequence_lock(Oid sequence)
{
	LockDatabaseObject(RelationRelationId, sequence, LOCK_ADVANCE,
					   ExclusiveLock);
}

void
queue_sequence_unlock(Oid sequence)
{
	UnlockDatabaseObject(RelationRelationId, sequence, LOCK_ADVANCE,
						 ExclusiveLock);
}

/*
 * queue_sequence_pass
 *		Let a sequence go on beyond an id that its table has.
 *
 * That table is no queue yet, and is locked against writers.
 */
void
queue_sequence_pass(Oid sequence, int64 id)
{
	bool		is_called;

	if (id > 0 && id >= queue_sequence_last(sequence, &is_called))
		queue_sequence_move(sequence, id);
}

/*-------------------------------------------------------------------------
 *
 * branch.c
 *		Branches of global transactions, as sessions prepare and finish them.
 *
 * A branch is a prepared transaction with a name of the form
 *		queue:DECIDING_DATABASE:PARTICIPANT:GID
 * Its owner tells which participant it belongs to, not its name, which any
 * role can take first.
 *
 * To PostgreSQL a PREPARE TRANSACTION of a block that has failed is a
 * rollback, and without a block it is a warning.  Neither is an error, and
 * drivers report success.  A coordinator that believes that decides to commit
 * what does not exist.  So these are errors, for a branch, and for any other
 * transaction that has used a queue.  The statement is executed first, so that
 * the block ends, and the session can go on as after any PREPARE TRANSACTION
 * that fails.
 *
 * A branch writes a row into queue.committed_branch before it is prepared.
 * Its own commit makes the row visible, whatever session does that and
 * whatever crashes.  Where the row is missing the branch was never committed
 * here.  The resolver compares that with the decision, and removes the row
 * when it has reported the branch.
 *
 * A session that finishes a branch by COMMIT PREPARED or ROLLBACK PREPARED
 * leaves a row in queue.outcome, because it cannot be found out afterwards how
 * a prepared transaction has ended.  The resolver compares that with what was
 * decided, and removes the row if the owner did what it should (resolver.c).
 * The row belongs to the transaction around the statement: if that fails, it
 * is not there.  It is lost if the server crashes between the end of the
 * branch and the end of the statement.  It is also lost if the table is
 * locked, or if it cannot be written for another reason.  It is a record for
 * administrators, and nothing relies on it.
 *
 * Locks: those of a plain INSERT; to finish a branch, only if they can be had
 * at once.  A branch keeps that on queue.committed_branch until it is
 * finished.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/extension.h"
#include "common/relation.h"
#include "common/sql.h"
#include "common/standby.h"
#include "global/branch.h"
#include "shared/attach.h"
#include "table/member.h"
#include "transaction/xact.h"

#define OUTCOME				"outcome"

#define COMMITTED_BRANCH	"committed_branch"

#define Natts_outcome		6
#define Natts_committed		3

PG_FUNCTION_INFO_V1(queue_identity);

static const char *branch_of(Node *stmt, bool finishes);
static bool is_prepare(Node *stmt);
static void note_outcome(const char *branch, bool is_commit);
static void note_commit(const char *branch);
static Relation open_member(const char *name, LOCKMODE lockmode,
							bool is_patient);
static Oid	owner_of_branch(const char *name, bool is_patient);
static bool is_prepared_by(const char *name, Oid owner);

/*
 * branch_of
 *		Return the branch that the statement prepares or finishes, going by
 *		its name.
 *
 * Returns NULL if it does nothing of the kind.  Most prepared transactions are
 * no branches, and do not matter here.  With "finishes", PREPARE does not
 * count.
 */
static const char *
branch_of(Node *stmt, bool finishes)
{
	TransactionStmt *xact_stmt;

	if (!IsA(stmt, TransactionStmt))
		return NULL;
	xact_stmt = (TransactionStmt *) stmt;
	if (xact_stmt->kind != TRANS_STMT_COMMIT_PREPARED &&
		xact_stmt->kind != TRANS_STMT_ROLLBACK_PREPARED &&
		(finishes || xact_stmt->kind != TRANS_STMT_PREPARE))
		return NULL;
	return strncmp(xact_stmt->gid, QUEUE_BRANCH_PREFIX,
				   strlen(QUEUE_BRANCH_PREFIX)) == 0 ? xact_stmt->gid : NULL;
}

/* Is this a PREPARE TRANSACTION? */
static bool
is_prepare(Node *stmt)
{
	return IsA(stmt, TransactionStmt) &&
		((TransactionStmt *) stmt)->kind == TRANS_STMT_PREPARE;
}

/*
 * open_member
 *		Open a table of the extension, to read or write rows of it.
 *
 * Returns NULL if this database has no such table, if the table of this name
 * is not the extension's, or, unless the caller is patient, if it is locked.
 * Rows may have to be detoasted, so the caller has a snapshot, because at a
 * TransactionStmt the server has none.
 */
static Relation
open_member(const char *name, LOCKMODE lockmode, bool is_patient)
{
	Oid			relid = queue_catalog_relid(name);
	Oid			extension = get_extension_oid(QUEUE_EXTENSION, true);
	bool		is_locked;

	Assert(ActiveSnapshotSet());
	if (!OidIsValid(relid) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		return NULL;
	if (is_patient)
		return try_table_open(relid, lockmode);
	return queue_open_unless_locked(relid, lockmode, &is_locked);
}

/*
 * queue_branch_note_outcome
 *		Before a COMMIT PREPARED or ROLLBACK PREPARED of a branch: write down
 *		how it ends, and by which role.
 *
 * For the ProcessUtility hook.  Whatever is wrong with that, the statement
 * goes on, because it may be what gets transaction ids, or this very table,
 * out of trouble.
 */
void
queue_branch_note_outcome(Node *stmt)
{
	const char *branch = branch_of(stmt, true);
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner resource_owner = CurrentResourceOwner;

	/* in a transaction block the server is about to refuse it */
	if (branch == NULL || RecoveryInProgress() || IsTransactionBlock())
		return;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		note_outcome(branch, ((TransactionStmt *) stmt)->kind ==
					 TRANS_STMT_COMMIT_PREPARED);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = resource_owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = resource_owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		ereport(LOG,
				(errmsg("could not note who finished branch \"%s\": %s",
						branch, error->message)));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

/* Insert the row into queue.outcome.  May throw. */
static void
note_outcome(const char *branch, bool is_commit)
{
	Relation	rel;
	Oid			owner;
	NameData	role;
	Datum		values[Natts_outcome];
	bool		nulls[Natts_outcome] = {0};
	HeapTuple	tuple;

	/*
	 * not the transaction's own: if it is deferrable, that waits for prepared
	 * ones
	 */
	PushActiveSnapshot(GetCatalogSnapshot(RelationRelationId));
	owner = owner_of_branch(branch, false);
	if (!OidIsValid(owner) || !is_prepared_by(branch, owner) ||
		(rel = open_member(OUTCOME, RowExclusiveLock, false)) == NULL)
	{
		PopActiveSnapshot();
		return;
	}
	queue_member_check(rel, MEMBER_OUTCOME);

	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	values[0] = CStringGetTextDatum(branch);
	values[1] = CStringGetTextDatum(is_commit ? "commit" : "abort");
	values[2] = NameGetDatum(&role);
	values[3] = BoolGetDatum(GetUserId() == owner);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[5] = (Datum) 0;
	nulls[5] = true;
	tuple = queue_member_form(rel, MEMBER_OUTCOME, values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	PopActiveSnapshot();
}

/*
 * note_commit
 *		Write a row that says, when it is visible, that the branch is
 *		committed.
 *
 * Its owner will be the current user, which need not be the registered one.
 */
static void
note_commit(const char *branch)
{
	Relation	rel;

	PushActiveSnapshot(GetCatalogSnapshot(RelationRelationId));
	if (OidIsValid(owner_of_branch(branch, true)) &&
		(rel = open_member(COMMITTED_BRANCH, RowExclusiveLock, true)) != NULL)
	{
		Datum		values[Natts_committed];
		bool		nulls[Natts_committed] = {0};

		queue_member_check(rel, MEMBER_COMMITTED_BRANCH);
		values[0] = CStringGetTextDatum(branch);
		values[1] = ObjectIdGetDatum(GetUserId());
		values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
		CatalogTupleInsert(rel, queue_member_form(rel, MEMBER_COMMITTED_BRANCH,
												  values, nulls));
		table_close(rel, NoLock);
	}
	PopActiveSnapshot();
}

/*
 * Return the registered owner of branches of this name, InvalidOid if they are
 * not registered here.
 */
static Oid
owner_of_branch(const char *name, bool is_patient)
{
	Relation	rel = open_member(DECIDING_DATABASE, AccessShareLock,
								  is_patient);
	Oid			owner = InvalidOid;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (rel == NULL)
		return InvalidOid;
	queue_member_check(rel, MEMBER_DECIDING_DATABASE);

	/* there are only a few rows */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!OidIsValid(owner) &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		char	   *prefix;

		prefix = psprintf(QUEUE_BRANCH_PREFIX "%s:%s:",
						  TextDatumGetCString(heap_getattr(tuple,
														   Anum_deciding_name,
														   RelationGetDescr(rel),
														   &isnull)),
						  NameStr(*DatumGetName(heap_getattr(tuple,
															 Anum_deciding_participant,
															 RelationGetDescr(rel),
															 &isnull))));
		if (strncmp(name, prefix, strlen(prefix)) == 0)
			owner = DatumGetObjectId(heap_getattr(tuple, Anum_deciding_owner,
												  RelationGetDescr(rel),
												  &isnull));
		pfree(prefix);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

/*
 * is_prepared_by
 *		Returns true if the branch exists, and is not another role's
 *		transaction of that name, which is of no interest.
 */
static bool
is_prepared_by(const char *name, Oid owner)
{
	Oid			types[] = {TEXTOID, OIDOID};
	Datum		values[] = {CStringGetTextDatum(name), ObjectIdGetDatum(owner)};
	bool		result;

	result = queue_sql_ask("SELECT FROM pg_catalog.pg_prepared_xact() p"
						   " WHERE p.gid OPERATOR(pg_catalog.=) $1"
						   " AND p.ownerid OPERATOR(pg_catalog.=) $2",
						   2, types, values) > 0;
	queue_sql_end();
	return result;
}

/*
 * queue_branch_prepare_error
 *		Before a PREPARE TRANSACTION that the server is going to turn into a
 *		rollback, or a warning, without an error: return the SQLSTATE that it
 *		should have had.
 *
 * Returns 0 if all is well, or if neither a branch nor a queue is concerned.
 * For the ProcessUtility hook.
 */
int
queue_branch_prepare_error(Node *stmt)
{
	if (!is_prepare(stmt))
		return 0;
	if (IsAbortedTransactionBlockState())
		return branch_of(stmt, false) != NULL ||
			queue_xact_failed_used_queue() ?
			ERRCODE_IN_FAILED_SQL_TRANSACTION : 0;
	return branch_of(stmt, false) != NULL && !IsTransactionBlock() ?
		ERRCODE_NO_ACTIVE_SQL_TRANSACTION : 0;
}

/* After it: raise that error. */
void
queue_branch_report_unprepared(Node *stmt, int sqlstate)
{
	const char *gid = ((TransactionStmt *) stmt)->gid;

	if (sqlstate == ERRCODE_NO_ACTIVE_SQL_TRANSACTION)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("there is no transaction to be prepared as \"%s\"",
						gid),
				 errhint("Begin a transaction block, and prepare it in the same session.")));
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("could not prepare transaction \"%s\"", gid),
			 errdetail("A statement of it has failed, so it is rolled back."),
			 errhint("Let the whole transaction be rolled back, wherever it has other parts.")));
}

/*
 * queue_branch_before_prepare
 *		Before any other PREPARE TRANSACTION: let that of a branch wait for
 *		standbys, and write the row that shows when it is committed.
 *
 * What a branch has promised must not be lost.  One that the server is about to
 * refuse, for lack of max_prepared_transactions, is noted for queue.health().
 */
void
queue_branch_before_prepare(Node *stmt)
{
	const char *branch = branch_of(stmt, false);

	if (is_prepare(stmt) && max_prepared_xacts == 0)
		queue_database_note_refused();
	if (branch == NULL || !is_prepare(stmt) || !IsTransactionState() ||
		RecoveryInProgress())
		return;
	queue_standby_wait();
	note_commit(branch);
}

/*
 * queue_branch_wake_resolver
 *		After any statement: call the resolver if it has prepared or finished
 *		a branch.
 */
void
queue_branch_wake_resolver(Node *stmt)
{
	if (branch_of(stmt, false) != NULL)
		queue_database_want_resolver(MyDatabaseId);
}

/*
 * queue_branch_identity
 *		Return the name of this installation, as queue.identity() tells.
 *
 * A copy of the database, made by a template or by dump and restore, and one
 * whose records went with the extension, all have another name.
 */
char *
queue_branch_identity(void)
{
	return psprintf(UINT64_FORMAT "-%u-%u", GetSystemIdentifier(),
					MyDatabaseId, get_extension_oid(QUEUE_EXTENSION, true));
}

/* identity() */
Datum
queue_identity(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(queue_branch_identity()));
}

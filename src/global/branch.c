/*-------------------------------------------------------------------------
 *
 * branch.c
 *		Branches of global transactions, as sessions prepare and finish them.
 *
 * A branch is a prepared transaction with a name of the form
 *		queue:DECIDING_DATABASE:PARTICIPANT:GID
 * Whose it is says its owner, not its name, which anybody can take first.
 *
 * To PostgreSQL a PREPARE TRANSACTION of a block that has failed is a rollback,
 * and without a block it is a warning; neither is an error, and drivers report
 * success.  A coordinator who believes that decides to commit what is not there.
 * So these are errors, for a branch, and for any other transaction that has used
 * a queue.  The statement has its way first: so the block ends, and the session
 * can go on as after any PREPARE TRANSACTION that fails.
 *
 * A branch writes a row into queue.committed_branch before it is prepared.  Its
 * own commit makes the row visible, whoever does that and whatever crashes:
 * where it is missing the branch was never committed here.  The resolver compares
 * that with the decision, and removes the row when it has reported the branch.
 *
 * Whoever finishes a branch by COMMIT PREPARED or ROLLBACK PREPARED leaves a
 * row in queue.outcome, since nobody can tell afterwards how a prepared
 * transaction has ended.  The resolver compares that with what was decided, and
 * removes it if the owner did what he should (resolver.c).  The row belongs to
 * the transaction around the statement: if that fails, it is not there.  If
 * the server crashes between the end of the branch and the end of the
 * statement, it is lost, and so it is if somebody has the table locked or
 * anything else is wrong with writing it; this is a memory for people, nothing
 * relies on it.
 *
 * Locks: those of a plain INSERT; to finish a branch, only if they can be had at
 * once.  A branch keeps that on queue.committed_branch until it is finished.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/extension.h"
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
 * The branch that the statement prepares or finishes, going by its name; NULL
 * if it does nothing of the kind.  Most prepared transactions are somebody
 * else's, and none of our business.
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

static bool
is_prepare(Node *stmt)
{
	return IsA(stmt, TransactionStmt) &&
		((TransactionStmt *) stmt)->kind == TRANS_STMT_PREPARE;
}

/*
 * Open a table of the extension, to read or write rows of it; NULL if this
 * database has no such table, somebody has a table of this name of his own, or,
 * unless the caller is patient, it is locked.  Rows may have to be detoasted, so
 * the caller has a snapshot; at a TransactionStmt the server has none for us.
 */
static Relation
open_member(const char *name, LOCKMODE lockmode, bool is_patient)
{
	Oid			relid = queue_catalog_relid(name);
	Oid			extension = get_extension_oid(QUEUE_EXTENSION, true);
	Relation	rel;

	Assert(ActiveSnapshotSet());
	if (!OidIsValid(relid) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		return NULL;
	if (is_patient)
		return try_table_open(relid, lockmode);
	if (!ConditionalLockRelationOid(relid, lockmode))
		return NULL;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, lockmode);
	return rel;
}

/*
 * Whatever is wrong with that, the statement goes on: it may be what gets
 * transaction ids, or this very table, out of trouble.
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

static void
note_outcome(const char *branch, bool is_commit)
{
	Relation	rel;
	Oid			owner;
	NameData	role;
	Datum		values[Natts_outcome];
	bool		nulls[Natts_outcome] = {0};
	HeapTuple	tuple;

	/* one of a deferrable transaction would wait for those that are prepared */
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
 * Write down that the branch is committed: true when it is.  Its owner will be
 * the current user, who need not be the registered one.
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

/* The registered owner of branches of this name, if they are registered here */
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

	/* there are a few */
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
 * Is it a branch, and not somebody else's transaction of that name?  What he
 * does with it is of no interest.
 */
static bool
is_prepared_by(const char *name, Oid owner)
{
	Oid			types[] = {TEXTOID, OIDOID};
	Datum		values[] = {CStringGetTextDatum(name), ObjectIdGetDatum(owner)};
	bool		result;

	SPI_connect();
	result = SPI_execute_with_args("SELECT FROM pg_catalog.pg_prepared_xact() p"
								   " WHERE p.gid OPERATOR(pg_catalog.=) $1"
								   " AND p.ownerid OPERATOR(pg_catalog.=) $2",
								   2, types, values, NULL, true, 1) ==
		SPI_OK_SELECT && SPI_processed > 0;
	SPI_finish();
	return result;
}

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

/* What a branch has promised must not be lost. */
void
queue_branch_before_prepare(Node *stmt)
{
	const char *branch = branch_of(stmt, false);

	if (branch == NULL || !is_prepare(stmt) || !IsTransactionState() ||
		RecoveryInProgress())
		return;
	queue_standby_wait();
	note_commit(branch);
}

void
queue_branch_expect(Node *stmt)
{
	if (branch_of(stmt, false) != NULL)
		queue_database_want_resolver(MyDatabaseId);
}

/*
 * A copy of the database, made by a template or by dump and restore, and one
 * whose records went with the extension, are all known by another name.
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

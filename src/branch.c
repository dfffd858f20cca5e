/*-------------------------------------------------------------------------
 *
 * branch.c
 *		Branches of global transactions, as sessions prepare and finish them.
 *
 * A branch is a prepared transaction with a name of the form
 *		queue:DECIDING_DATABASE:PARTICIPANT:GID
 * Whose it is says its owner, not its name, which anybody can take first.
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
 * Locks: those of a plain INSERT, if they can be had at once.
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

#include "branch.h"
#include "catalog.h"
#include "database.h"
#include "decision.h"
#include "member.h"
#include "queue.h"

#define OUTCOME				"outcome"

#define Natts_outcome		6

PG_FUNCTION_INFO_V1(queue_identity);

static const char *branch_of(Node *stmt, bool finishes);
static void note_outcome(const char *branch, bool is_commit);
static Relation open_member(const char *name, LOCKMODE lockmode);
static Oid	owner_of_branch(const char *name);
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

/*
 * Open a table of the extension; NULL if this database has no such table,
 * somebody has a table of this name of his own, or it is locked.
 */
static Relation
open_member(const char *name, LOCKMODE lockmode)
{
	Oid			relid = queue_catalog_relid(name);
	Oid			extension = get_extension_oid(QUEUE_EXTENSION, true);
	Relation	rel;

	if (!OidIsValid(relid) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, relid) != extension ||
		!ConditionalLockRelationOid(relid, lockmode))
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

	owner = owner_of_branch(branch);
	if (!OidIsValid(owner) || !is_prepared_by(branch, owner))
		return;
	rel = open_member(OUTCOME, RowExclusiveLock);
	if (rel == NULL)
		return;
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
}

/* The registered owner of branches of this name, if they are registered here */
static Oid
owner_of_branch(const char *name)
{
	Relation	rel = open_member(DECIDING_DATABASE, AccessShareLock);
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

	/* one of a deferrable transaction would wait for those that are prepared */
	PushActiveSnapshot(GetCatalogSnapshot(RelationRelationId));
	SPI_connect();
	result = SPI_execute_with_args("SELECT FROM pg_catalog.pg_prepared_xact() p"
								   " WHERE p.gid OPERATOR(pg_catalog.=) $1"
								   " AND p.ownerid OPERATOR(pg_catalog.=) $2",
								   2, types, values, NULL, true, 1) ==
		SPI_OK_SELECT && SPI_processed > 0;
	SPI_finish();
	PopActiveSnapshot();
	return result;
}

/* What a branch has promised must not be lost. */
void
queue_branch_require_durable(Node *stmt)
{
	if (branch_of(stmt, false) != NULL &&
		((TransactionStmt *) stmt)->kind == TRANS_STMT_PREPARE &&
		IsTransactionState())
		queue_decision_wait_for_standbys();
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

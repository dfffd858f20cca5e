/*-------------------------------------------------------------------------
 *
 * in_doubt.c
 *		Prepared transactions, for those who would have to wait for one.
 *
 * A prepared transaction keeps its locks until somebody ends it, over restarts
 * too, and that may be never.  A statement that needs a lock which conflicts
 * would wait without a word; so it is refused, with the name of the transaction
 * and the commands that end it.  This is a look beforehand and takes no lock
 * itself: a transaction that is prepared between the look and the lock is
 * waited for, under lock_timeout, as one that is still open.
 *
 * The heavyweight locks tell who is in the way, since they are there after a
 * restart, when the registry of xact.c is not.  What that knows besides is the
 * numbers of messages, for view queue.in_doubt.
 *
 * The worker warns of old ones.  Which it has warned of it notes in its own
 * memory, so that a new worker, after a restart at least, does so again.
 *
 * Locks: those of the lock table and of the prepared transactions, each for the
 * time of one look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/guc.h"
#include "table/catalog.h"
#include "transaction/in_doubt.h"

/* the worker looks after them this often at most */
#define WARN_INTERVAL		USECS_PER_SEC

/* those that the worker has warned of, in TopMemoryContext */
static TransactionId *warned = NULL;
static int	nwarned = 0;

static TransactionId prepared_xid(VirtualTransactionId vxid);
static void refuse_xid(const char *name, TransactionId xid);
static void refuse_part(List *names);
static void refuse_index(RangeVar *name, LOCKMODE mode);
static void refuse_named(RangeVar *name, LOCKMODE mode, bool truncates);
static void refuse_owned(Oid relid, LOCKMODE mode, bool truncates);
static void refuse_schema(const char *name);
static bool is_warned(TransactionId xid);
static void warn_of(TransactionId xid);

void
queue_in_doubt_refuse(Oid relid, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	queue_in_doubt_refuse_lock(&tag, mode, queue_qualified_name(relid));
}

void
queue_in_doubt_refuse_lock(const LOCKTAG *tag, LOCKMODE mode,
						   const char *name)
{
	VirtualTransactionId *holders;
	int			nholders;

	if (max_prepared_xacts == 0)
		return;
	holders = GetLockConflicts(tag, mode, &nholders);
	for (int i = 0; i < nholders; i++)
	{
		TransactionId xid = prepared_xid(holders[i]);

		if (TransactionIdIsValid(xid))
			refuse_xid(name, xid);
	}
	pfree(holders);
}

/* InvalidTransactionId unless it is prepared. */
static TransactionId
prepared_xid(VirtualTransactionId vxid)
{
	bool		have_more;

	/* of one from before a restart there is no virtual transaction */
	if (VirtualTransactionIdIsRecoveredPreparedXact(vxid))
		return vxid.localTransactionId;
	return TwoPhaseGetXidByVirtualXID(vxid, &have_more);
}

void
queue_in_doubt_refuse_xid(Oid relid, TransactionId xid)
{
	refuse_xid(queue_qualified_name(relid), xid);
}

static void
refuse_xid(const char *name, TransactionId xid)
{
	Oid			argtypes[] = {XIDOID};
	Datum		args[1];
	char	   *gid = NULL;
	char	   *owner = NULL;
	char	   *command;

	if (max_prepared_xacts == 0 || !TransactionIdIsInProgress(xid))
		return;
	args[0] = TransactionIdGetDatum(SubTransGetTopmostTransaction(xid));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT p.gid, pg_catalog.pg_get_userbyid(p.ownerid)"
							  " FROM pg_catalog.pg_prepared_xact() p"
							  " WHERE p.transaction OPERATOR(pg_catalog.=) $1",
							  1, argtypes, args, NULL, false,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a prepared transaction");
	if (SPI_processed > 0)
	{
		/* SPI gives its memory back with the error */
		gid = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		owner = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
		command = quote_literal_cstr(gid);
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("queue \"%s\" is in use by prepared transaction \"%s\"",
						name, gid),
				 errdetail("Role \"%s\" has prepared it, and nobody has ended it.",
						   owner),
				 errhint("Run COMMIT PREPARED %s or ROLLBACK PREPARED %s, as its transaction manager decided, and try again; see view queue.in_doubt.",
						 command, command)));
	}
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * Only what takes a lock for good, on what is a queue and the user's: the
 * server has its own words for the rest.
 */
void
queue_in_doubt_refuse_ddl(Node *stmt)
{
	ListCell   *lc;

	if (max_prepared_xacts == 0)
		return;
	switch (nodeTag(stmt))
	{
		case T_DropStmt:
			foreach(lc, ((DropStmt *) stmt)->objects)
			{
				switch (((DropStmt *) stmt)->removeType)
				{
					case OBJECT_TABLE:
						refuse_named(makeRangeVarFromNameList(lfirst(lc)),
									 AccessExclusiveLock, false);
						break;
					case OBJECT_INDEX:
						refuse_index(makeRangeVarFromNameList(lfirst(lc)),
									 AccessExclusiveLock);
						break;
					case OBJECT_TRIGGER:
					case OBJECT_RULE:
					case OBJECT_POLICY:
						refuse_part(lfirst(lc));
						break;
					case OBJECT_SCHEMA:
						refuse_schema(strVal(lfirst(lc)));
						break;
					default:
						break;
				}
			}
			break;
		case T_TruncateStmt:
			foreach(lc, ((TruncateStmt *) stmt)->relations)
				refuse_named(lfirst(lc), AccessExclusiveLock, true);
			break;
		case T_AlterTableStmt:
			refuse_named(((AlterTableStmt *) stmt)->relation,
						 AlterTableGetLockLevel(((AlterTableStmt *) stmt)->cmds),
						 false);
			break;
		case T_RenameStmt:
			switch (((RenameStmt *) stmt)->renameType)
			{
				case OBJECT_TABLE:
				case OBJECT_COLUMN:
				case OBJECT_TABCONSTRAINT:
				case OBJECT_TRIGGER:
				case OBJECT_RULE:
				case OBJECT_POLICY:
					refuse_named(((RenameStmt *) stmt)->relation,
								 AccessExclusiveLock, false);
					break;
				default:
					break;
			}
			break;
		case T_CreateTrigStmt:
			refuse_named(((CreateTrigStmt *) stmt)->relation,
						 ShareRowExclusiveLock, false);
			break;
		case T_IndexStmt:
			/* if concurrently, it waits for those in the way of the other kind */
			refuse_named(((IndexStmt *) stmt)->relation, ShareLock, false);
			break;
		case T_ReindexStmt:
			if (((ReindexStmt *) stmt)->kind == REINDEX_OBJECT_TABLE)
				refuse_named(((ReindexStmt *) stmt)->relation, ShareLock,
							 false);
			else if (((ReindexStmt *) stmt)->kind == REINDEX_OBJECT_INDEX)
				refuse_index(((ReindexStmt *) stmt)->relation, ShareLock);
			break;
		case T_ClusterStmt:
			if (((ClusterStmt *) stmt)->relation != NULL)
				refuse_named(((ClusterStmt *) stmt)->relation,
							 AccessExclusiveLock, false);
			break;
		case T_AlterObjectSchemaStmt:
			if (((AlterObjectSchemaStmt *) stmt)->objectType == OBJECT_TABLE)
				refuse_named(((AlterObjectSchemaStmt *) stmt)->relation,
							 AccessExclusiveLock, false);
			break;
		default:
			break;
	}
}

/* The object is named by that of its table, and its own. */
static void
refuse_part(List *names)
{
	refuse_named(makeRangeVarFromNameList(list_truncate(list_copy(names),
														list_length(names) - 1)),
				 AccessExclusiveLock, false);
}

/* The table of an index */
static void
refuse_index(RangeVar *name, LOCKMODE mode)
{
	Oid			index = RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(index) && get_rel_relkind(index) == RELKIND_INDEX)
		refuse_owned(IndexGetRelation(index, true), mode, false);
}

static void
refuse_named(RangeVar *name, LOCKMODE mode, bool truncates)
{
	refuse_owned(RangeVarGetRelid(name, NoLock, true), mode, truncates);
}

static void
refuse_owned(Oid relid, LOCKMODE mode, bool truncates)
{
	if (OidIsValid(relid) &&
		(object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		 (truncates && pg_class_aclcheck(relid, GetUserId(),
										 ACL_TRUNCATE) == ACLCHECK_OK)) &&
		queue_settings_exist(relid, NULL))
		queue_in_doubt_refuse(relid, mode);
}

/*
 * The queues in a schema that is to be dropped: the server locks them before it
 * says that they are in the way.  There is no index to find them; GRANT ... IN
 * SCHEMA reads all of pg_class as well.
 */
static void
refuse_schema(const char *name)
{
	Oid			schema = get_namespace_oid(name, true);
	Relation	rel;
	ScanKeyData key;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *relids = NIL;
	ListCell   *lc;

	if (!OidIsValid(schema) ||
		!object_ownercheck(NamespaceRelationId, schema, GetUserId()))
		return;
	ScanKeyInit(&key, Anum_pg_class_relnamespace, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(schema));
	rel = table_open(RelationRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 1, &key);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_RELATION)
			relids = lappend_oid(relids, form->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	foreach(lc, relids)
	{
		if (queue_settings_exist(lfirst_oid(lc), NULL))
			queue_in_doubt_refuse(lfirst_oid(lc), AccessExclusiveLock);
	}
	list_free(relids);
}

TimestampTz
queue_in_doubt_warn(void)
{
	TimestampTz next = TIMESTAMP_INFINITY;
	TimestampTz now = GetCurrentTimestamp();
	int			nkept = 0;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute("SELECT transaction, gid, owner, prepared_at, queues::text,"
					" deciding_database"
					" FROM queue.in_doubt"
					" WHERE database = pg_catalog.current_database()",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for prepared transactions");

	/* those that have ended are forgotten */
	for (int i = 0; i < nwarned; i++)
		if (TransactionIdIsInProgress(warned[i]))
			warned[nkept++] = warned[i];
	nwarned = nkept;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		TransactionId xid =
			DatumGetTransactionId(SPI_getbinval(tuple, desc, 1, &isnull));
		TimestampTz prepared_at =
			DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
		TimestampTz due = prepared_at +
			(int64) queue_in_doubt_warning * USECS_PER_SEC;
		char	   *gid = SPI_getvalue(tuple, desc, 2);
		char	   *queues = SPI_getvalue(tuple, desc, 5);
		char	   *decider = SPI_getvalue(tuple, desc, 6);
		char	   *command = quote_literal_cstr(gid);

		if (is_warned(xid))
			continue;
		if (due > now)
		{
			next = Min(next, due);
			continue;
		}
		warn_of(xid);
		ereport(WARNING,
				(errmsg("prepared transaction \"%s\" of role \"%s\" is in doubt since %s",
						gid, SPI_getvalue(tuple, desc, 3),
						timestamptz_to_str(prepared_at)),
				 queues ? errdetail("It has used queues: %s", queues) : 0,
				 decider ?
				 errhint("The resolver ends it as deciding database \"%s\" decides; see queue.deciding_database for what keeps it from that.",
						 decider) :
				 errhint("If its transaction manager does not end it, run COMMIT PREPARED %s or ROLLBACK PREPARED %s in this database.",
						 command, command)));
	}
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	return Max(next, now + WARN_INTERVAL);
}

static bool
is_warned(TransactionId xid)
{
	for (int i = 0; i < nwarned; i++)
		if (warned[i] == xid)
			return true;
	return false;
}

/* There are no more than the server allows prepared transactions. */
static void
warn_of(TransactionId xid)
{
	if (warned == NULL)
		warned = MemoryContextAlloc(TopMemoryContext,
									max_prepared_xacts * sizeof(*warned));
	if (nwarned < max_prepared_xacts)
		warned[nwarned++] = xid;
}

/*-------------------------------------------------------------------------
 *
 * decision.c
 *		Decisions about global transactions, in the database that makes them.
 *
 * Two-phase commit blocks when the coordinator is gone, because it alone knows
 * what was decided.  Here the decision is a row: the first to set it has
 * decided, and it never changes again.  The coordinator sets it to "commit" if
 * its deadline has not passed.  After that, any participant that waits may set
 * it to "abort".  So none ever has to guess.
 *
 * What is written is in SQL functions (queue_internal.write_...).  What they
 * are told about the caller must be true, so they are called from here only,
 * with the privileges of the tables' owner.  A row belongs to the role that
 * began it, so no role can take a gid of another, nor decide about it.
 *
 * A participant that asks acts upon the answer at once, and cannot take that
 * back.  So each of these procedures commits by itself, with
 * synchronous_commit = on at least, and returns only when that commit is
 * durable.  Each answer is written by the transaction that gives it, even if
 * it only writes what was there.  With synchronous replication a server that
 * was replaced by another cannot answer, because no standby confirms its
 * commits any more.  A session that is cancelled while it waits for that gets
 * an error here, because the server itself only warns.  For the record itself
 * that is not needed: if it is lost together with this server, there is none,
 * and that means abort.
 *
 * Locks: those of plain statements.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/sql.h"
#include "common/standby.h"
#include "table/call.h"
#include "table/member.h"
#include "table/settings.h"

/* Leaves room for the longest names beside it in a gid of the server */
#define MAX_GID_LEN			64

PG_FUNCTION_INFO_V1(queue_begin_global);
PG_FUNCTION_INFO_V1(queue_decide_commit);
PG_FUNCTION_INFO_V1(queue_decide_abort);
PG_FUNCTION_INFO_V1(queue_ask_decision);
PG_FUNCTION_INFO_V1(queue_report_finished);

static void require_top_level(FunctionCallInfo fcinfo, const char *name);
static char *gid_arg(FunctionCallInfo fcinfo, int argno);
static Oid	role_arg(FunctionCallInfo fcinfo, int argno, const char *argname);
static ArrayType *participants_arg(FunctionCallInfo fcinfo, int argno);
static Datum database_arg(FunctionCallInfo fcinfo, int argno, char *null);
static char *decide(FunctionCallInfo fcinfo, const char *wish);
static char *write_record(const char *sql, int nargs, Oid *types,
						  Datum *values, const char *nulls);

/* CALL begin_global(gid, timeout, participants) */
Datum
queue_begin_global(PG_FUNCTION_ARGS)
{
	Oid			types[] = {OIDOID, TEXTOID, INTERVALOID, OIDARRAYOID};
	Datum		values[4];

	require_top_level(fcinfo, "queue.begin_global()");
	queue_require_arg(fcinfo, 1, "timeout");
	values[0] = ObjectIdGetDatum(GetUserId());
	values[1] = CStringGetTextDatum(gid_arg(fcinfo, 0));
	if (queue_interval_usec(PG_GETARG_INTERVAL_P(1), "timeout") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must be longer than zero")));
	values[2] = PG_GETARG_DATUM(1);
	values[3] = PointerGetDatum(participants_arg(fcinfo, 2));
	(void) write_record("SELECT queue_internal.write_begin($1, $2, $3, $4)",
						4, types, values, NULL);
	PG_RETURN_VOID();
}

/* CALL decide_commit(gid) */
Datum
queue_decide_commit(PG_FUNCTION_ARGS)
{
	require_top_level(fcinfo, "queue.decide_commit()");
	if (strcmp(decide(fcinfo, "commit"), "commit") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_TRANSACTION_ROLLBACK),
				 errmsg("global transaction \"%s\" is rolled back",
						gid_arg(fcinfo, 0)),
				 errdetail("Its deadline has passed, or that was decided before.")));
	PG_RETURN_VOID();
}

/* CALL decide_abort(gid) */
Datum
queue_decide_abort(PG_FUNCTION_ARGS)
{
	require_top_level(fcinfo, "queue.decide_abort()");
	if (strcmp(decide(fcinfo, "abort"), "abort") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("global transaction \"%s\" is committed",
						gid_arg(fcinfo, 0)),
				 errdetail("What is decided does not change any more.")));
	PG_RETURN_VOID();
}

/* CALL ask_decision(coordinator, gid, decision, database) */
Datum
queue_ask_decision(PG_FUNCTION_ARGS)
{
	Oid			types[] = {OIDOID, OIDOID, TEXTOID, TEXTOID};
	Datum		values[4];
	char		nulls[] = "    ";
	TupleDesc	desc;
	Datum		result = (Datum) 0;
	bool		isnull = true;
	char	   *decision;

	require_top_level(fcinfo, "queue.ask_decision()");
	desc = queue_call_row_type(fcinfo);
	BlessTupleDesc(desc);
	values[0] = ObjectIdGetDatum(GetUserId());
	values[1] = ObjectIdGetDatum(role_arg(fcinfo, 0, "coordinator"));
	values[2] = CStringGetTextDatum(gid_arg(fcinfo, 1));
	values[3] = database_arg(fcinfo, 3, &nulls[3]);
	decision = write_record("SELECT queue_internal.write_answer($1, $2, $3, $4)",
							4, types, values, nulls);
	queue_standby_require_durable(XactLastCommitEnd);
	if (decision != NULL)
	{
		result = CStringGetTextDatum(decision);
		isnull = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, &result, &isnull)));
}

/* CALL report_finished(coordinator, gids, database) */
Datum
queue_report_finished(PG_FUNCTION_ARGS)
{
	Oid			types[] = {OIDOID, OIDOID, TEXTARRAYOID, TEXTOID};
	Datum		values[4];
	char		nulls[] = "    ";

	require_top_level(fcinfo, "queue.report_finished()");
	queue_require_arg(fcinfo, 1, "gids");
	values[0] = ObjectIdGetDatum(GetUserId());
	values[1] = ObjectIdGetDatum(role_arg(fcinfo, 0, "coordinator"));
	values[2] = PointerGetDatum(PG_GETARG_ARRAYTYPE_P_COPY(1));
	values[3] = database_arg(fcinfo, 2, &nulls[3]);
	(void) write_record("SELECT queue_internal.write_finished($1, $2, $3, $4)",
						4, types, values, nulls);
	PG_RETURN_VOID();
}

/*
 * decide
 *		Commit or abort, as long as that is open; returns the decision that
 *		stands.
 *
 * Throws if it is not known to be durable.
 */
static char *
decide(FunctionCallInfo fcinfo, const char *wish)
{
	Oid			types[] = {OIDOID, TEXTOID, TEXTOID};
	Datum		values[3];
	char	   *stands;

	values[0] = ObjectIdGetDatum(GetUserId());
	values[1] = CStringGetTextDatum(gid_arg(fcinfo, 0));
	values[2] = CStringGetTextDatum(wish);
	stands = write_record("SELECT queue_internal.write_decision($1, $2, $3)",
						  3, types, values, NULL);
	queue_standby_require_durable(XactLastCommitEnd);
	return stands;
}

/* ----------------------------------------------------------------
 *		Arguments
 * ----------------------------------------------------------------
 */

/*
 * require_top_level
 *		Raise an error inside a transaction block, because a transaction that
 *		goes on afterwards could be rolled back.
 */
static void
require_top_level(FunctionCallInfo fcinfo, const char *name)
{
	queue_require_preload();
	PreventCommandDuringRecovery(name);
	if (queue_call_is_atomic(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block", name)));
}

/* Read argument "gid". */
static char *
gid_arg(FunctionCallInfo fcinfo, int argno)
{
	char	   *gid;

	queue_require_arg(fcinfo, argno, "gid");
	gid = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (gid[0] == '\0' || strlen(gid) > MAX_GID_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("gid must have 1 to %d bytes", MAX_GID_LEN)));
	return gid;
}

/* Read an argument that names a role; returns its OID. */
static Oid
role_arg(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	queue_require_arg(fcinfo, argno, argname);
	return get_role_oid(NameStr(*PG_GETARG_NAME(argno)), false);
}

/*
 * Read argument "participants": names of roles, each of them once; returns
 * OIDs.
 */
static ArrayType *
participants_arg(FunctionCallInfo fcinfo, int argno)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
	ArrayType  *array;

	queue_require_arg(fcinfo, argno, "participants");
	array = PG_GETARG_ARRAYTYPE_P(argno);
	deconstruct_array(array, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &values, &nulls, &n);
	if (n == 0 || ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("participants must be a one-dimensional array with at least one element")));
	for (int i = 0; i < n; i++)
	{
		char	   *name;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("participant must not be null")));
		name = NameStr(*DatumGetName(values[i]));
		if (strchr(name, ':') != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("name of participant \"%s\" contains a colon",
							name)));
		values[i] = ObjectIdGetDatum(get_role_oid(name, false));
		for (int j = 0; j < i; j++)
			if (values[j] == values[i])
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("participant \"%s\" is there twice", name)));
	}
	return construct_array(values, n, OIDOID, sizeof(Oid), true,
						   TYPALIGN_INT);
}

/* Read the argument that says which database asks; may be null. */
static Datum
database_arg(FunctionCallInfo fcinfo, int argno, char *null)
{
	if (PG_ARGISNULL(argno))
	{
		*null = 'n';
		return (Datum) 0;
	}
	return PointerGetDatum(PG_GETARG_TEXT_P_COPY(argno));
}

/* ----------------------------------------------------------------
 *		Transactions
 * ----------------------------------------------------------------
 */

/*
 * write_record
 *		Run a function of the extension as the owner of the tables, in a
 *		transaction of its own.
 *
 * That is on disk here when this returns, and on synchronous standbys unless
 * the wait for them is cancelled.  Returns what the function returned, in the
 * caller's context.
 *
 * The transaction is READ COMMITTED whatever the session prefers: if it meets
 * another one that decides, it waits for that and obeys, instead of failing.
 */
static char *
write_record(const char *sql, int nargs, Oid *types, Datum *values,
			 const char *nulls)
{
	MemoryContext caller_context = CurrentMemoryContext;
	Oid			save_userid;
	int			save_sec_context;
	Relation	rel;
	Oid			owner;
	char	   *result;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	XactIsoLevel = XACT_READ_COMMITTED;
	queue_standby_wait();

	rel = queue_settings_open(AccessShareLock);
	owner = rel->rd_rel->relowner;
	table_close(rel, AccessShareLock);
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(owner, save_sec_context |
						   SECURITY_LOCAL_USERID_CHANGE);
	if (queue_sql_run(sql, nargs, types, values, nulls) != 1)
		elog(ERROR, "\"%s\" has not one row", sql);
	result = queue_sql_text(0, 1, caller_context);
	SetUserIdAndSecContext(save_userid, save_sec_context);

	SPI_commit();
	queue_sql_end();
	return result;
}

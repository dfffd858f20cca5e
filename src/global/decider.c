/*-------------------------------------------------------------------------
 *
 * decider.c
 *		Deciding databases: what they are registered as, and what they say.
 *
 * A deciding database is this one or another.  Another is not believed before
 * it has proved to be the one that was registered, and that what is called
 * there belongs to the extension.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "common/extension.h"
#include "common/guc.h"
#include "common/process.h"
#include "global/branch.h"
#include "global/decider.h"
#include "global/query.h"

static void prepare_session(RemoteConnection *conn);
static void check_identity(Decider *decider, RemoteConnection *conn);
static char *checked_decision(char *decision);

/*
 * queue_decider_read_all
 *		Return all deciding databases that are registered, a List of Decider.
 *
 * Strings go to this context.
 */
List *
queue_decider_read_all(MemoryContext result_context)
{
	List	   *rows;
	List	   *deciders = NIL;
	ListCell   *lc;

	/* DROP EXTENSION may be faster than the news of it */
	if (queue_query_here("SELECT FROM pg_extension WHERE extname = '" QUEUE_EXTENSION "'",
						 0, NULL) == NIL)
		return NIL;
	rows = queue_query_here("SELECT name, participant, coordinator, owner::oid,"
							" connection, password_required, registered_in, identity,"
							" last_error FROM queue.deciding_database", 0, NULL);
	foreach(lc, rows)
	{
		char	  **row = lfirst(lc);
		Decider    *decider = palloc0(sizeof(Decider));

		decider->name = row[0];
		decider->participant = row[1];
		decider->coordinator = row[2];
		decider->owner = atooid(row[3]);
		decider->connection = row[4];
		decider->password_required = row[5][0] == 't';
		decider->identity = row[7];
		decider->last_error = row[8];
		decider->prefix = psprintf(QUEUE_BRANCH_PREFIX "%s:%s:", row[0],
								   row[1]);
		queue_process_begin("looking at the identity of this database");
		decider->here = MemoryContextStrdup(result_context,
											queue_branch_identity());
		decider->is_registered_here = strcmp(row[6], decider->here) == 0;
		queue_process_commit();
		deciders = lappend(deciders, decider);
	}
	return deciders;
}

/*
 * queue_decider_connect
 *		Connect to a deciding database that is not this one, and check that it
 *		is what it should be.
 *
 * *conn is set as soon as there is a connection, for the caller to close.
 */
void
queue_decider_connect(Decider *decider, RemoteConnection **conn)
{
	queue_query_begin_wait("connecting to a deciding database");
	*conn = queue_remote_connect(decider->connection, decider->participant,
								 decider->password_required);
	queue_query_end_wait();
	prepare_session(*conn);
	check_identity(decider, *conn);
}

/*
 * prepare_session
 *		Set its statement_timeout, and check that what is going to be called
 *		belongs to the extension.
 *
 * Otherwise a role that may create objects over there, such as the owner of
 * the database, could decide in the place of the coordinator.  It could also
 * act with the rights of the participant.  Superusers over there are trusted.
 */
static void
prepare_session(RemoteConnection *conn)
{
	List	   *rows;
	char	   *stranger;

	(void) queue_query_there(conn,
							 "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),"
							 " pg_catalog.set_config('statement_timeout', '"
							 STATEMENT_TIMEOUT "', false)", 0, NULL);
	rows = queue_query_there(conn,
							 "WITH extension AS ("
							 "    SELECT e.oid, e.extnamespace FROM pg_extension e"
							 "      JOIN pg_roles r ON r.oid = e.extowner"
							 "     WHERE e.extname = '" QUEUE_EXTENSION "' AND r.rolsuper"
							 "), used AS ("
							 "    SELECT 'pg_proc'::regclass AS classid, p.oid,"
							 "           p.proowner AS owner, p.proname AS name"
							 "      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
							 "     WHERE n.nspname = 'queue' AND p.proname IN"
							 "           ('identity', 'ask_decision', 'report_finished')"
							 "    UNION ALL"
							 "    SELECT 'pg_class'::regclass, c.oid, c.relowner, c.relname"
							 "      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
							 "     WHERE n.nspname = 'queue'"
							 "       AND c.relname = 'global_transactions'"
							 ")"
							 " SELECT CASE WHEN NOT EXISTS (SELECT FROM extension)"
							 "             THEN '' ELSE min(u.name) END"
							 "   FROM used u JOIN pg_roles r ON r.oid = u.owner"
							 "  WHERE NOT r.rolsuper OR NOT EXISTS ("
							 "        SELECT FROM pg_depend d JOIN extension e"
							 "            ON d.refobjid = e.oid"
							 "         WHERE d.refclassid = 'pg_extension'::regclass"
							 "           AND d.deptype = 'e'"
							 "           AND d.classid = u.classid AND d.objid = u.oid)",
							 0, NULL);
	if (rows == NIL || (stranger = ((char **) linitial(rows))[0]) == NULL)
		return;
	if (stranger[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the deciding database has no extension \"%s\" that belongs to a superuser",
						QUEUE_EXTENSION)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("object \"%s.%s\" of the deciding database is not its superusers'",
					QUEUE_EXTENSION, stranger)));
}

/*
 * Raise an error unless it is the database that it was at the first contact.
 */
static void
check_identity(Decider *decider, RemoteConnection *conn)
{
	const char *params[] = {decider->name, decider->participant, NULL,
		decider->connection};
	List	   *rows;
	char	   *identity;

	rows = queue_query_there(conn, "SELECT queue.identity()", 0, NULL);
	identity = rows == NIL ? NULL : ((char **) linitial(rows))[0];
	if (identity == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("the deciding database does not say which it is")));

	if (decider->identity == NULL)
	{
		params[2] = identity;
		if (queue_query_here("UPDATE queue.deciding_database SET identity = $3"
							 " WHERE name = $1 AND participant = $2::name"
							 " AND identity IS NULL AND connection = $4"
							 " RETURNING name", 4, params) == NIL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("registration of the deciding database was changed meanwhile")));
		decider->identity = identity;
	}
	if (strcmp(identity, decider->identity) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("connection leads to another database than at first contact")));
}

/*
 * queue_decider_read_records
 *		Return the records that name this participant and wait for it.
 *
 * "conn" is NULL if the deciding database is this one.
 */
List *
queue_decider_read_records(Decider *decider, RemoteConnection *conn)
{
	const char *params[] = {decider->coordinator, decider->participant,
		psprintf("%d ms", queue_resolve_interval)};
	List	   *rows;
	List	   *records = NIL;
	ListCell   *lc;

	if (conn != NULL)
		rows = queue_query_there(conn,
								 "SELECT gid, decision, is_over,"
								 " decided_at OPERATOR(pg_catalog.+) $3::pg_catalog.interval"
								 " OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()"
								 " FROM queue.global_transactions"
								 " WHERE coordinator OPERATOR(pg_catalog.=) $1::pg_catalog.name"
								 " AND $2::pg_catalog.name OPERATOR(pg_catalog.=) ANY (unfinished)",
								 3, params);
	else
		rows = queue_query_here("SELECT gid, decision, is_over,"
								" decided_at + $3::interval <= clock_timestamp()"
								" FROM queue.global_transactions"
								" WHERE coordinator = $1::name AND $2::name = ANY (unfinished)",
								3, params);
	foreach(lc, rows)
	{
		char	  **row = lfirst(lc);
		Record	   *record = palloc(sizeof(Record));

		/* another server may say anything */
		if (row[0] == NULL || row[2] == NULL ||
			(row[1] != NULL && row[3] == NULL))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_EXCEPTION),
					 errmsg("a record of the deciding database is incomplete")));
		record->gid = row[0];
		record->decision = checked_decision(row[1]);
		record->is_over = row[2][0] == 't';
		record->is_due = record->decision == NULL ? record->is_over :
			row[3][0] == 't';
		records = lappend(records, record);
	}
	return records;
}

/*
 * queue_decider_ask
 *		Ask for a decision; returns what is decided, now and for ever, or
 *		NULL.
 *
 * The answer counts only when the transaction that gives it is committed,
 * which it is when this returns.
 */
char *
queue_decider_ask(Decider *decider, RemoteConnection *conn, const char *gid)
{
	const char *params[] = {decider->coordinator, gid, decider->here,
		decider->participant};
	List	   *rows;

	if (conn != NULL)
		rows = queue_query_there(conn, "CALL queue.ask_decision($1, $2, NULL, $3)",
								 3, params);
	else
	{
		rows = queue_query_here("SELECT queue_internal.write_answer(p.oid, c.oid, $2, $3)"
								" FROM pg_roles p, pg_roles c"
								" WHERE p.rolname = $4::name AND c.rolname = $1::name",
								4, params);
		queue_query_require_durable(XactLastCommitEnd);
	}
	if (rows == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("coordinator \"%s\" or participant \"%s\" does not exist",
						decider->coordinator, decider->participant)));
	return checked_decision(((char **) linitial(rows))[0]);
}

/*
 * Raise an error for an answer that is not known, so that it is not taken for
 * one.
 */
static char *
checked_decision(char *decision)
{
	if (decision != NULL && strcmp(decision, "commit") != 0 &&
		strcmp(decision, "abort") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("unknown decision \"%s\"", decision)));
	return decision;
}

/* Report that nothing is left to do here for these global transactions. */
void
queue_decider_report(Decider *decider, RemoteConnection *conn, List *gids)
{
	const char *params[] = {decider->coordinator, queue_query_text_array(gids),
		decider->here, decider->participant};

	if (conn != NULL)
		(void) queue_query_there(conn, "CALL queue.report_finished($1, $2, $3)",
								 3, params);
	else
		(void) queue_query_here("SELECT queue_internal.write_finished(p.oid, c.oid, $2::text[], $3)"
								" FROM pg_roles p, pg_roles c"
								" WHERE p.rolname = $4::name AND c.rolname = $1::name",
								4, params);
}

/*
 * queue_decider_note_error
 *		Remember why this one cannot be obeyed; decider->error is NULL if it
 *		can.
 *
 * The log gets one warning until it can again, however often the reason
 * changes.
 */
void
queue_decider_note_error(Decider *decider)
{
	const char *error = decider->error;
	const char *params[] = {decider->name, decider->participant, error};

	if (error == NULL ? decider->last_error == NULL :
		decider->last_error != NULL && strcmp(error, decider->last_error) == 0)
		return;
	if (error == NULL)
		ereport(LOG,
				(errmsg("deciding database \"%s\" answers again",
						decider->name)));
	else if (decider->last_error == NULL)
		ereport(WARNING,
				(errmsg("could not get the decisions of deciding database \"%s\": %s",
						decider->name, error),
				 errdetail("Branches of its global transactions stay in doubt.")));
	(void) queue_query_here("UPDATE queue.deciding_database SET last_error = $3"
							" WHERE name = $1 AND participant = $2::name",
							3, params);
}

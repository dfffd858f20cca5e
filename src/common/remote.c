/*-------------------------------------------------------------------------
 *
 * remote.c
 *		Connections to deciding databases.
 *
 * They use libpq, with the server's own wrappers around it, which can be
 * interrupted while they wait.
 *
 * The process that connects is the server's.  It must not lend its identity in
 * the operating system, nor the passwords in a file of that user, to a
 * connection string.  So unless a superuser says otherwise the string has to
 * contain a password, and the other side must have asked for it.  dblink and
 * postgres_fdw demand the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "libpq/libpq-be-fe-helpers.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "common/compat.h"
#include "common/remote.h"

static void check_password(const char *conninfo);
static PGresult *run_statement(RemoteConnection *conn, const char *sql,
							   int nparams, const char *const *params);
static uint32 wait_event(void);

/*
 * queue_remote_connect
 *		Connect as this user.
 *
 * Throws if that fails, or if a password is required but not in the string or
 * not asked for.  The connection must be disconnected, after an error too.
 */
RemoteConnection *
queue_remote_connect(const char *conninfo, const char *user,
					 bool password_required)
{
	/* what follows the string takes precedence over it */
	const char *keywords[] = {"target_session_attrs", "dbname", "user",
		"application_name", "client_encoding", NULL};
	const char *values[] = {"read-write", conninfo, user,
		"queue resolver", GetDatabaseEncodingName(), NULL};
	PGconn	   *conn;

	if (password_required)
		check_password(conninfo);
	conn = libpqsrv_connect_params(keywords, values, 1 /* expand dbname */ ,
								   wait_event());
	if (conn == NULL || PQstatus(conn) != CONNECTION_OK)
	{
		char	   *message = conn == NULL ? pstrdup("out of memory") :
			pchomp(PQerrorMessage(conn));

		libpqsrv_disconnect(conn);
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not connect: %s", message)));
	}
	if (password_required && !PQconnectionUsedPassword(conn))
	{
		libpqsrv_disconnect(conn);
		ereport(ERROR,
				(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
				 errmsg("password is required, but the deciding database did not ask for one")));
	}
	return conn;
}

/* Returns true if the connection has not broken. */
bool
queue_remote_is_connected(RemoteConnection *conn)
{
	return PQstatus(conn) == CONNECTION_OK;
}

/* Disconnect; NULL is allowed. */
void
queue_remote_disconnect(RemoteConnection *conn)
{
	libpqsrv_disconnect(conn);
}

/* Raise an error unless the connection string contains a password. */
static void
check_password(const char *conninfo)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	bool		has_password = false;

	if (options == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("invalid connection string")));
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, "password") == 0 &&
			option->val != NULL && option->val[0] != '\0')
			has_password = true;
	}
	PQconninfoFree(options);
	if (!has_password)
		ereport(ERROR,
				(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
				 errmsg("password is required, but the connection string has none")));
}

/*
 * queue_remote_query
 *		Run a statement, and return its rows, each an array of char *.
 *
 * They are in the current context; a null is NULL.  Throws if the statement
 * fails, or the connection does.
 */
List *
queue_remote_query(RemoteConnection *conn, const char *sql, int nparams,
				   const char *const *params)
{
	PGresult   *result = run_statement(conn, sql, nparams, params);
	List	   *volatile rows = NIL;

	PG_TRY();
	{
		if (PQresultStatus(result) != PGRES_TUPLES_OK &&
			PQresultStatus(result) != PGRES_COMMAND_OK)
		{
			char	   *message = PQresultErrorField(result,
													 PG_DIAG_MESSAGE_PRIMARY);

			/* none: it does not come from the other server */
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("%s", message != NULL ? pstrdup(message) :
							pchomp(PQerrorMessage(conn)))));
		}
		for (int i = 0; i < PQntuples(result); i++)
		{
			int			n = PQnfields(result);
			char	  **row = palloc(n * sizeof(char *));

			for (int j = 0; j < n; j++)
				row[j] = PQgetisnull(result, i, j) ? NULL :
					pstrdup(PQgetvalue(result, i, j));
			rows = lappend(rows, row);
		}
	}
	PG_FINALLY();
	{
		PQclear(result);
	}
	PG_END_TRY();
	return rows;
}

/* Not part of the caller, because its variables would not outlive longjmp(). */
static pg_noinline PGresult *
run_statement(RemoteConnection *conn, const char *sql, int nparams,
			  const char *const *params)
{
	return libpqsrv_exec_params(conn, sql, nparams, NULL, params, NULL, NULL,
								0, wait_event());
}

/* The wait event that is shown while the other server is waited for */
static uint32
wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = WaitEventExtensionNew("QueueResolverRemote");
	return event;
}

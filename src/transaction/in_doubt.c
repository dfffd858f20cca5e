/*-------------------------------------------------------------------------
 *
 * in_doubt.c
 *		Prepared transactions that a statement on a queue would have to wait
 *		for.
 *
 * DDL on a queue that would wait for one is refused (blocker.c).  What the
 * registry of prepared.c knows of them is shown by view queue.in_doubt.
 *
 * The worker warns of old ones.  It notes in its own memory which it has
 * warned of, so a new worker, after a restart at least, warns again.
 *
 * Locks: those of the lock table and of the prepared transactions, each for
 * the time of one look.
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

#include "common/blocker.h"
#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "common/relation_name.h"
#include "common/sql.h"
#include "table/form.h"
#include "table/setting_row.h"
#include "transaction/in_doubt.h"

/* The worker looks for them this often at most */
#define WARN_INTERVAL		USECS_PER_SEC

/* Those that the worker has warned of, in TopMemoryContext */
static TransactionId *warned = NULL;
static int	nwarned = 0;

/* The setting at the last look; -2: there was none */
static int	warned_of_age = -2;

/* if there is a round, when to look again at the latest; a time of clock.h */
static TimestampTz look_by = 0;

static bool is_warned(TransactionId xid);
static void warn_of(TransactionId xid);

/*
 * queue_in_doubt_refuse
 *		Raise 55006 if a prepared transaction holds a lock on this queue, topic
 *		or subscription that conflicts with this one.
 */
void
queue_in_doubt_refuse(Oid relid, LOCKMODE mode)
{
	const TableForm *form = queue_form_of(relid);
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	queue_blocker_refuse_lock(&tag, mode, form != NULL ? form->noun : "queue",
							  queue_shown_name(relid));
}

/* Is the worker to warn of prepared transactions? */
bool
queue_in_doubt_is_wanted(void)
{
	return queue_in_doubt_warning >= 0 && max_prepared_xacts > 0;
}

/* Has the setting changed since the last look? */
bool
queue_in_doubt_is_urgent(void)
{
	return warned_of_age != queue_in_doubt_warning || look_by <= queue_clock();
}

/*
 * queue_in_doubt_warn
 *		Warn of prepared transactions that are older than
 *		queue.in_doubt_warning, each once.
 *
 * A duty of the worker; returns when to look again.  One that is prepared
 * after a look is not due before the age at which it is warned of.  If there
 * is none, that is not worth a round of its own.
 */
TimestampTz
queue_in_doubt_warn(void)
{
	TimestampTz next = TIMESTAMP_INFINITY;
	TimestampTz now = GetCurrentTimestamp();
	int			nkept = 0;
	uint64		nrows;

	/* now, because an error is not to be met again in each round */
	warned_of_age = queue_in_doubt_warning;
	look_by = queue_clock() + Max(warned_of_age, 1) * USECS_PER_SEC;

	nrows = queue_sql_ask("SELECT transaction, gid, owner, prepared_at,"
						  " queues::text, deciding_database"
						  " FROM queue.in_doubt"
						  " WHERE database = pg_catalog.current_database()",
						  0, NULL, NULL);

	/* those that have ended are forgotten */
	for (int i = 0; i < nwarned; i++)
		if (TransactionIdIsInProgress(warned[i]))
			warned[nkept++] = warned[i];
	nwarned = nkept;

	for (uint64 i = 0; i < nrows; i++)
	{
		bool		isnull;
		TransactionId xid =
			DatumGetTransactionId(queue_sql_value(i, 1, &isnull));
		TimestampTz prepared_at = queue_sql_time(i, 4);
		TimestampTz due = prepared_at +
			(int64) queue_in_doubt_warning * USECS_PER_SEC;
		char	   *gid = queue_sql_text(i, 2, CurrentMemoryContext);
		char	   *queues = queue_sql_text(i, 5, CurrentMemoryContext);
		char	   *decider = queue_sql_text(i, 6, CurrentMemoryContext);
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
				(errmsg("prepared transaction \"%s\" of role \"%s\" has been in doubt since %s",
						gid, queue_sql_text(i, 3, CurrentMemoryContext),
						timestamptz_to_str(prepared_at)),
				 queues ? errdetail("It has used queues: %s.", queues) : 0,
				 decider ?
				 errhint("The resolver ends it as deciding database \"%s\" decides; see queue.deciding_database for what keeps it from that.",
						 decider) :
				 errhint("If its transaction manager does not end it, run COMMIT PREPARED %s or ROLLBACK PREPARED %s in this database.",
						 command, command)));
	}
	queue_sql_end();
	return Max(next, now + WARN_INTERVAL);
}

/* Has this transaction been warned of? */
static bool
is_warned(TransactionId xid)
{
	for (int i = 0; i < nwarned; i++)
		if (warned[i] == xid)
			return true;
	return false;
}

/*
 * warn_of
 *		Note that it has been warned of.
 *
 * There are no more than the server allows prepared transactions.
 */
static void
warn_of(TransactionId xid)
{
	if (warned == NULL)
		warned = MemoryContextAlloc(TopMemoryContext,
									max_prepared_xacts * sizeof(*warned));
	if (nwarned < max_prepared_xacts)
		warned[nwarned++] = xid;
}

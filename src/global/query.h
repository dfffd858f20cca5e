/*-------------------------------------------------------------------------
 *
 * query.h
 *		Statements of the resolver, here and in other databases, that end in
 *		time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_QUERY_H
#define QUEUE_QUERY_H

#include "access/xlogdefs.h"
#include "nodes/pg_list.h"

#include "common/remote.h"

/*
 * The statement_timeout in a deciding database, so that it does not go on when
 * the resolver has given up
 */
#define STATEMENT_TIMEOUT	"8s"

/* Rows go to this memory context; the wait event is shown while waiting */
extern void queue_query_init(MemoryContext context, uint32 event);

/* Run a statement here, in a transaction of its own, or there */
extern List *queue_query_here(const char *sql, int nparams,
							  const char *const *params);
extern List *queue_query_there(RemoteConnection *conn, const char *sql,
							   int nparams, const char *const *params);

/* The array as a literal; NULL for a NULL */
extern char *queue_query_text_array(List *texts);

/* Between these, anything that takes too long is cancelled */
extern void queue_query_begin(void);
extern void queue_query_begin_wait(const char *activity);
extern void queue_query_end_wait(void);

/* After an error: was that the reason? */
extern bool queue_query_is_timed_out(void);

/* Wait for synchronous standbys; 08007 if they take too long */
extern void queue_query_require_durable(XLogRecPtr lsn);

#endif							/* QUEUE_QUERY_H */
